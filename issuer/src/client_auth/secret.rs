//! `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleetbadge_validator::time::UnixSeconds;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::question::{CHOSEN_REFUSAL_DELAY, wait};
use super::{AuthenticatedBroker, AuthenticatedDevice, Client, Method, Proven, Question};
use crate::app::App;
use crate::credentials::{CredentialId, SecretRecord, SecretVerifier};
use crate::devices::KnownDevice;
use crate::error::TokenError;
use crate::form::{Form, decode};
use crate::imported_secrets::Crowded;
use crate::root_key::PresentedHashes;
use crate::secret::ClientSecret;
use crate::store::{BrokerRecord, NotEnabled};

/// When to try again if too many guess, in seconds.
const CROWDED_RETRY_AFTER_S: u64 = 5;

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
/// [`TokenError::ServerError`] if the database fails;
/// [`TokenError::TemporarilyUnavailable`] if too many guess at secrets that
/// people chose.
pub(super) async fn verify(
    app: &App,
    question: &mut Question,
    credentials: &SecretCredentials,
) -> Result<Option<Proven>, TokenError> {
    let SecretCredentials { client_id, secret } = credentials;
    // Made before it is known whether there is anything to compare it with.
    let presented = app.devices.hasher().presented(client_id, secret);
    let now = app.now();
    let candidate = Candidate::find(app, question, client_id).await?;
    let secrets = candidate.secrets();
    let right = find_made(secrets, &presented, now)
        .or_else(|| app.imported_secrets.find_known(secrets, &presented, now));
    let prove = |right: Option<CredentialId>| {
        candidate.prove(right).map_err(|reason| {
            tracing::debug!(?client_id, %reason, "client authentication failed");
        })
    };
    if right.is_some()
        && let Ok(proven) = prove(right.clone())
    {
        app.rehashes.secret(client_id, secrets, &proven.credential, &presented);
        return Ok(Some(proven));
    }
    if secret.has_our_prefix() {
        return Ok(prove(right).ok());
    }
    // Somebody may have chosen it. From here on all that is refused takes the
    // same way: unknown, wrong and disabled must not differ.
    question.even_out(app).await?;
    let turn = app.imported_secrets.turn().await.map_err(|Crowded| {
        tracing::debug!(?client_id, "too many wait for a slow hash");
        TokenError::TemporarilyUnavailable { retry_after_s: CROWDED_RETRY_AFTER_S }
    })?;
    let right = app.imported_secrets.find(&turn, secrets, &presented, now).await;
    let proven = prove(right.map_err(|error| TokenError::internal(&error))?).ok();
    match &proven {
        Some(proven) => app.rehashes.secret(client_id, secrets, &proven.credential, &presented),
        None => wait(turn.began, CHOSEN_REFUSAL_DELAY).await,
    }
    Ok(proven)
}

/// Why a secret proves nothing: for the log alone.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no such client")]
    NoSuchClient,
    #[error("the secret is wrong or has ended")]
    Secret,
    #[error(transparent)]
    NotEnabled(#[from] NotEnabled),
}

/// Whom somebody claims to be.
enum Candidate {
    Broker(Arc<BrokerRecord>),
    Device(Arc<KnownDevice>),
    Nobody,
}

impl Candidate {
    async fn find(app: &App, question: &mut Question, client_id: &str) -> Result<Self, TokenError> {
        if let Some(broker) = app.brokers.find(client_id) {
            question.was_in_memory();
            return Ok(Self::Broker(broker));
        }
        let device = question.find_device(app, client_id).await?;
        Ok(device.map_or(Self::Nobody, Self::Device))
    }

    fn secrets(&self) -> &[SecretRecord] {
        match self {
            Self::Broker(broker) => &broker.secrets,
            Self::Device(device) => &device.credentials.secrets,
            Self::Nobody => &[],
        }
    }

    /// Who it is, with the secret that was `right`; or why that is not proven.
    fn prove(&self, right: Option<CredentialId>) -> Result<Proven, Refused> {
        match (self, right) {
            (Self::Nobody, _) => Err(Refused::NoSuchClient),
            (Self::Broker(_) | Self::Device(_), None) => Err(Refused::Secret),
            (Self::Broker(broker), Some(credential)) => {
                let broker = AuthenticatedBroker { broker: Arc::clone(broker), secret: credential.clone() };
                Ok(Proven { client: Client::Broker(broker), credential })
            }
            (Self::Device(device), Some(credential)) => {
                let device = AuthenticatedDevice::new(Arc::clone(device), Method::Secret)?;
                Ok(Proven { client: Client::Device(device), credential })
            }
        }
    }
}

/// Which of the secrets that were made here was presented, if it is one that
/// is still good.
fn find_made(
    secrets: &[SecretRecord],
    presented: &PresentedHashes,
    now: UnixSeconds,
) -> Option<CredentialId> {
    let mut good = None;
    for secret in secrets {
        let is_right = match &secret.verifier {
            SecretVerifier::Made(hash) => presented.is(hash),
            SecretVerifier::Imported(_) => false,
        };
        if is_right & secret.is_in_time(now) {
            good = Some(secret.id.clone());
        }
    }
    good
}

#[cfg(test)]
mod tests;
