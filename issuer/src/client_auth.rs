//! Who asks for a token (RFC 6749 §2.3).
//!
//! 1. [`Credentials::from_request`] finds the one method that was used;
//! 2. [`authenticate`] proves who it is, or says no.
//!
//! Every no is the same, whatever the reason: the same answer, the same work,
//! and at the same time after the question, so that nobody can learn which
//! devices there are.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};

use crate::app::App;
use crate::error::TokenError;
use crate::form::Form;
use crate::metrics::Started;
use crate::store::DeviceRecord;

mod secret;

/// How long after a question a no is answered: longer than to read a device
/// from the database, short enough for people.
const REFUSAL_DELAY: Duration = Duration::from_millis(10);

/// What a client presents to prove who it is.
pub(crate) enum Credentials {
    /// A client secret (RFC 6749 §2.3.1).
    Secret(secret::SecretCredentials),
    /// Nothing, or nothing that is accepted here.
    None,
}

impl Credentials {
    /// Finds the credentials of a request.
    ///
    /// # Errors
    /// [`TokenError::InvalidRequest`] if they are malformed, or more than one
    /// method is used.
    pub(crate) fn from_request(headers: &HeaderMap, form: &Form<'_>) -> Result<Self, TokenError> {
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
        let credentials = match authorization {
            Some(authorization) => secret::from_header(authorization)?,
            None => secret::from_form(form),
        };
        match (&credentials, form.get("client_id")) {
            (Some(credentials), Some(client_id)) if credentials.client_id != client_id => {
                Err(TokenError::InvalidRequest("client_id differs from the authenticated one".into()))
            }
            _ => Ok(credentials.map_or(Self::None, Self::Secret)),
        }
    }
}

/// A device that has proven who it is. Only [`authenticate`] makes one.
pub(crate) struct AuthenticatedDevice(Arc<DeviceRecord>);

impl std::ops::Deref for AuthenticatedDevice {
    type Target = DeviceRecord;

    fn deref(&self) -> &DeviceRecord {
        &self.0
    }
}

/// Proves who asks.
///
/// # Errors
/// [`TokenError::InvalidClient`]; [`TokenError::ServerError`] if the database
/// fails.
pub(crate) async fn authenticate(
    app: &App,
    credentials: &Credentials,
) -> Result<AuthenticatedDevice, TokenError> {
    let asked = Started::now();
    let device = match credentials {
        Credentials::Secret(credentials) => secret::verify(app, credentials).await?,
        Credentials::None => None,
    };
    match device {
        Some(device) => Ok(AuthenticatedDevice(device)),
        None => {
            wait(asked).await;
            Err(TokenError::InvalidClient)
        }
    }
}

/// Waits until [`REFUSAL_DELAY`] after `asked`. Tokio's own timer wakes whole
/// milliseconds after its thread went to sleep: the fraction would tell how
/// long the work took.
async fn wait(asked: Started) {
    let sleep = move || std::thread::sleep(REFUSAL_DELAY.saturating_sub(asked.elapsed()));
    // Fails only when the server ends.
    let _ = tokio::task::spawn_blocking(sleep).await;
}
