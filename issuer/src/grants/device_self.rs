//! A device asks for the token with which it manages its own keys
//! ([`crate::self_token`]): `client_credentials` with the scope `device.self`
//! alone.
//!
//! Only a device that has proven itself with a key gets one. With a secret or
//! a certificate it could put in a key, which would outlive them.

use fleetbadge_validator::jwk::Algorithm;

use super::{AboutToken, TokenResponse, check_good};
use crate::app::App;
use crate::client_auth::{AuthenticatedDevice, Method};
use crate::error::TokenError;
use crate::form::Form;
use crate::mint::TokenId;
use crate::node::CurrentMoment;
use crate::self_token::{LIFETIME_S, SCOPE, SelfContent, mint};

/// Whether a request is for such a token.
///
/// # Errors
/// [`TokenError::InvalidScope`] if it is for something else, too.
pub(super) fn is_wanted(form: &Form<'_>) -> Result<bool, TokenError> {
    let mut words = form.get("scope").unwrap_or_default().split(' ');
    if !words.any(|word| word == SCOPE) {
        return Ok(false);
    }
    if form.get("scope") == Some(SCOPE) {
        return Ok(true);
    }
    Err(TokenError::InvalidScope(format!(
        "{SCOPE} is for the issuer, the other words are for brokers; ask for two tokens"
    )))
}

/// Issues one.
///
/// # Errors
/// [`TokenError`].
pub(super) fn issue(
    app: &App,
    device: &AuthenticatedDevice,
    moment: CurrentMoment,
    form: &Form<'_>,
) -> Result<TokenResponse, TokenError> {
    if form.get("resource").is_some() {
        return Err(TokenError::InvalidTarget(format!("{SCOPE} is for the issuer; leave resource out")));
    }
    if form.get("mqtt_client_id").is_some() {
        return Err(TokenError::InvalidRequest(
            format!("{SCOPE} connects nobody; leave mqtt_client_id out").into(),
        ));
    }
    let client_key = match &device.method {
        Method::PrivateKeyJwt { key } => key,
        Method::Secret | Method::Certificate { .. } => {
            return Err(TokenError::UnauthorizedClient(
                "device.self is for devices that authenticate with private_key_jwt",
            ));
        }
    };
    let now = moment.now();
    check_good(app, device, now)?;
    let keys = app.keys.current();
    let key = keys
        .ring
        .active(Algorithm::ES256, now)
        .ok_or(TokenError::TemporarilyUnavailable { retry_after_s: 1 })?;
    let content = SelfContent {
        issuer: app.issuer.as_str(),
        device: &device.name,
        client_key: client_key.as_str(),
        token_id: TokenId::generate(&*app.random).map_err(|error| TokenError::internal(&error))?,
        now,
    };
    let access_token = mint(content, key).map_err(|error| super::not_minted(key, &error))?;
    let about = AboutToken {
        token_type: "Bearer",
        expires_in: LIFETIME_S,
        scope: SCOPE,
        mqtt_client_id: None,
        refresh_from_s: None,
        refresh_to_s: None,
    };
    Ok(TokenResponse { access_token, about })
}

#[cfg(test)]
mod tests;
