//! `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleetbadge_validator::time::UnixSeconds;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::{AuthenticatedBroker, AuthenticatedDevice, Client, Method, Proven};
use crate::app::App;
use crate::credentials::{CredentialId, SecretRecord, SecretVerifier};
use crate::error::TokenError;
use crate::form::{Form, decode};
use crate::secret::{ClientSecret, SecretHash};
use crate::store::DeviceStatus;

/// A name and a secret that somebody presents.
pub(crate) struct SecretCredentials {
    pub(crate) client_id: String,
    secret: ClientSecret,
}

/// Reads an `Authorization` header. None for a scheme that is not `Basic`.
///
/// # Errors
/// [`TokenError::InvalidRequest`] if the credentials are malformed.
pub(crate) fn from_header(header: &HeaderValue) -> Result<Option<SecretCredentials>, TokenError> {
    let malformed = || {
        TokenError::InvalidRequest(
            "the Basic credentials are not base64 of form-urlencoded client_id:client_secret".into(),
        )
    };
    let (scheme, encoded) =
        header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let pair = STANDARD.decode(encoded.trim_matches(' ')).map(Zeroizing::new).map_err(|_| malformed())?;
    let pair = std::str::from_utf8(&pair).map_err(|_| malformed())?;
    let (client_id, secret) = pair.split_once(':').ok_or_else(malformed)?;
    Ok(Some(SecretCredentials {
        client_id: decode(client_id).ok_or_else(malformed)?.into_owned(),
        secret: ClientSecret::presented(decode(secret).ok_or_else(malformed)?.into_owned()),
    }))
}

/// Reads `client_id` and `client_secret`. None if one is missing.
pub(crate) fn from_form(form: &Form<'_>) -> Option<SecretCredentials> {
    Some(SecretCredentials {
        client_id: form.get("client_id")?.into(),
        secret: ClientSecret::presented(form.get("client_secret")?.into()),
    })
}

/// The client whose secret this is, if it may have tokens. Why it may not is
/// for the log alone.
///
/// # Errors
/// [`TokenError::ServerError`] if the database fails.
pub(super) async fn verify(app: &App, credentials: &SecretCredentials) -> Result<Option<Proven>, TokenError> {
    let SecretCredentials { client_id, secret } = credentials;
    let refused = |reason| {
        tracing::debug!(?client_id, reason, "client authentication failed");
        Ok(None)
    };
    // Made before it is known whether there is anything to compare it with.
    let presented = app.devices.hasher().hash(client_id, secret);
    let now = app.now();
    // A broker is always in memory: asking for one tells nothing of devices.
    if let Some(broker) = app.brokers.find(client_id) {
        return match good(&broker.secrets, &presented, now) {
            Some(credential) => {
                Ok(Some(Proven { client: Client::Broker(AuthenticatedBroker(broker)), credential }))
            }
            None => refused("the secret is wrong or has ended"),
        };
    }
    let device = app.devices.find(client_id).await.map_err(|error| app.store_failed(&error))?;
    let Some(device) = device else {
        return refused("there is no such client");
    };
    match (good(&device.credentials.secrets, &presented, now), device.status) {
        (None, _) => refused("the secret is wrong or has ended"),
        (Some(_), DeviceStatus::Disabled) => refused("the device is disabled"),
        (Some(_), DeviceStatus::Pending) => refused("the device waits for approval"),
        (Some(credential), DeviceStatus::Enabled) => {
            let device = AuthenticatedDevice { device, method: Method::Secret };
            Ok(Some(Proven { client: Client::Device(device), credential }))
        }
    }
}

/// Which of a client's secrets was presented, if it is one that is still good.
fn good(secrets: &[SecretRecord], presented: &SecretHash, now: UnixSeconds) -> Option<CredentialId> {
    let mut good = None;
    for secret in secrets {
        let is_right = match &secret.verifier {
            SecretVerifier::Made(hash) => hash == presented,
            SecretVerifier::Imported(_) => false,
        };
        if is_right & secret.is_in_time(now) {
            good = Some(secret.id.clone());
        }
    }
    good
}
