//! Who asks (RFC 6749 §2.3): a device, or a registered broker.
//!
//! 1. [`PresentedCredentials::from_request`] finds the one method that was used;
//! 2. [`authenticate`] proves who it is, or says no.
//!
//! Every no is the same, whatever the reason: the same answer, the same work,
//! and at the same time after the question, so that nobody can learn which
//! devices there are.

use std::sync::Arc;

use http::{HeaderMap, header};

use crate::app::App;
use crate::credentials::CredentialId;
use crate::devices::KnownDevice;
use crate::error::TokenError;
use crate::form::Form;
use crate::peer::Peer;
use crate::store::{BrokerRecord, DeviceRecord, NotEnabled};

pub(crate) mod private_key_jwt;
mod question;
mod secret;
pub(crate) mod tls_client_auth;

pub(crate) use question::Question;

/// What a client presents to prove who it is.
pub(crate) enum PresentedCredentials {
    /// A client secret (RFC 6749 §2.3.1).
    Secret(secret::SecretCredentials),
    /// An assertion (RFC 7523 §2.2).
    Assertion(private_key_jwt::Assertion),
    /// A certificate in TLS, and whose it is said to be (RFC 8705 §2).
    Certificate(tls_client_auth::CertificateCredentials),
    /// Nothing, or nothing that is accepted here.
    None,
}

impl PresentedCredentials {
    /// Finds the credentials of a request. A certificate is one if there is
    /// nothing else: with a secret or an assertion it is no second method.
    ///
    /// # Errors
    /// [`TokenError::InvalidRequest`] if they are malformed, or more than one
    /// method is used.
    pub(crate) fn from_request(
        headers: &HeaderMap,
        form: &Form<'_>,
        peer: &Peer,
    ) -> Result<Self, TokenError> {
        let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
        let authorization = authorizations.next();
        let methods = [
            authorization.is_some(),
            authorizations.next().is_some(),
            form.get("client_secret").is_some(),
            form.get("client_assertion").is_some(),
        ];
        if methods.into_iter().filter(|used| *used).count() > 1 {
            return Err(TokenError::InvalidRequest("more than one client authentication method".into()));
        }
        if let Some(assertion) = private_key_jwt::from_form(form)? {
            return Ok(Self::Assertion(assertion));
        }
        let credentials = match authorization {
            Some(authorization) => secret::from_header(authorization)?,
            None => secret::from_form(form),
        };
        match (&credentials, form.get("client_id")) {
            (Some(credentials), Some(client_id)) if credentials.client_id != client_id => {
                Err(TokenError::InvalidRequest("client_id differs from the authenticated one".into()))
            }
            (Some(_), _) => Ok(credentials.map_or(Self::None, Self::Secret)),
            (None, _) if methods.contains(&true) => Ok(Self::None),
            (None, _) => Ok(tls_client_auth::from_request(form, peer).map_or(Self::None, Self::Certificate)),
        }
    }
}

/// Who has proven who they are. Only [`authenticate`] makes one.
pub(crate) enum Client {
    /// A device.
    Device(AuthenticatedDevice),
    /// A broker.
    Broker(AuthenticatedBroker),
}

/// A device that has proven who it is, and may have tokens.
pub(crate) struct AuthenticatedDevice {
    device: Arc<KnownDevice>,
    /// How it did so.
    pub(crate) method: Method,
}

impl AuthenticatedDevice {
    fn new(device: Arc<KnownDevice>, method: Method) -> Result<Self, NotEnabled> {
        device.check_enabled()?;
        Ok(Self { device, method })
    }
}

impl std::ops::Deref for AuthenticatedDevice {
    type Target = DeviceRecord;

    fn deref(&self) -> &DeviceRecord {
        &self.device
    }
}

/// A broker that has proven who it is.
pub(crate) struct AuthenticatedBroker {
    broker: Arc<BrokerRecord>,
    /// With which of its secrets.
    pub(crate) secret: CredentialId,
}

impl std::ops::Deref for AuthenticatedBroker {
    type Target = BrokerRecord;

    fn deref(&self) -> &BrokerRecord {
        &self.broker
    }
}

/// How a device has proven who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// With a secret (RFC 6749 §2.3.1).
    Secret,
    /// With an assertion that this key of it signed (RFC 7523 §2.2).
    PrivateKeyJwt {
        /// Which.
        key: CredentialId,
    },
    /// With a certificate of this SHA-256 (RFC 8705 §2).
    Certificate {
        /// The SHA-256 of its DER.
        sha256: [u8; 32],
    },
}

impl Client {
    /// The device, for what brokers have no use for.
    ///
    /// # Errors
    /// [`TokenError::UnauthorizedClient`].
    pub(crate) fn into_device(self) -> Result<AuthenticatedDevice, TokenError> {
        match self {
            Self::Device(device) => Ok(device),
            Self::Broker(_) => Err(TokenError::UnauthorizedClient("this is for devices, not for brokers")),
        }
    }

    /// The broker, for what is no concern of devices.
    ///
    /// # Errors
    /// [`TokenError::UnauthorizedClient`].
    pub(crate) fn into_broker(self) -> Result<AuthenticatedBroker, TokenError> {
        match self {
            Self::Broker(broker) => Ok(broker),
            Self::Device(_) => Err(TokenError::UnauthorizedClient("this is for brokers, not for devices")),
        }
    }
}

/// Who somebody has proven to be, and with which credential.
struct Proven {
    client: Client,
    credential: CredentialId,
}

/// Proves who asks.
///
/// # Errors
/// [`TokenError::InvalidClient`]; [`TokenError::ServerError`] if the database
/// fails.
pub(crate) async fn authenticate(
    app: &App,
    credentials: &PresentedCredentials,
) -> Result<Client, TokenError> {
    app.root_keys.check()?;
    let mut question = Question::begin();
    let proven = match credentials {
        PresentedCredentials::Secret(credentials) => secret::verify(app, &mut question, credentials).await?,
        PresentedCredentials::Assertion(assertion) => {
            private_key_jwt::verify(app, &mut question, assertion).await?
        }
        PresentedCredentials::Certificate(credentials) => {
            tls_client_auth::verify(app, &mut question, credentials).await?
        }
        PresentedCredentials::None => None,
    };
    match proven {
        Some(Proven { client, credential }) => {
            let now = app.now();
            match &client {
                Client::Device(device) => app.credential_uses.note(&device.device, &credential, now),
                Client::Broker(broker) => app.credential_uses.record(broker.name.as_str(), &credential, now),
            }
            Ok(client)
        }
        None => {
            question.until_refusal(app).await?;
            Err(TokenError::InvalidClient)
        }
    }
}

#[cfg(test)]
mod tests;
