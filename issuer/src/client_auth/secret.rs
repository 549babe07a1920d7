//! `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::app::App;
use crate::error::TokenError;
use crate::form::{Form, decode};
use crate::secret::ClientSecret;
use crate::store::{DeviceRecord, DeviceStatus};

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

/// The device whose secret this is, if it may have tokens. Why it may not is
/// for the log alone.
///
/// # Errors
/// [`TokenError::ServerError`] if the database fails.
pub(crate) async fn verify(
    app: &App,
    credentials: &SecretCredentials,
) -> Result<Option<Arc<DeviceRecord>>, TokenError> {
    let device = app.devices.find(&credentials.client_id).await.map_err(|error| app.store_failed(&error))?;
    // Made before it is known whether there is anything to compare it with.
    let presented = app.devices.hasher().hash(&credentials.client_id, &credentials.secret);
    let refused = |reason| {
        tracing::debug!(client_id = ?credentials.client_id, reason, "client authentication failed");
        Ok(None)
    };
    let Some(device) = device else {
        return refused("there is no such device");
    };
    let now = app.now();
    let mut secret_is_good = false;
    for secret in &device.secrets {
        let in_time = secret.expires_at.is_none_or(|end| now < end);
        secret_is_good |= (presented == secret.hash) & in_time;
    }
    match (secret_is_good, device.status) {
        (false, DeviceStatus::Enabled | DeviceStatus::Disabled) => {
            refused("the secret is wrong or has ended")
        }
        (true, DeviceStatus::Disabled) => refused("the device is disabled"),
        (true, DeviceStatus::Enabled) => Ok(Some(device)),
    }
}
