//! A device asks for itself (RFC 6749 §4.4).

use serde::Serialize;

use crate::app::App;
use crate::client_auth::AuthenticatedDevice;
use crate::error::TokenError;
use crate::form::Form;
use crate::mint::{TokenId, mint};
use crate::policy::{Refusal, Request, Subject};

/// A token, as it is answered (RFC 6749 §5.1). There is no refresh token
/// (§4.4.3).
#[derive(Serialize)]
pub(crate) struct TokenResponse {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
    mqtt_client_id: String,
}

/// Issues a token.
///
/// # Errors
/// [`TokenError`].
pub(crate) fn issue(
    app: &App,
    device: &AuthenticatedDevice,
    form: &Form<'_>,
) -> Result<TokenResponse, TokenError> {
    let now = app.now();
    let group = app
        .groups
        .find(device.group.as_str())
        .ok_or_else(|| TokenError::internal(&"the device's group is gone"))?;
    let subject =
        Subject { device: &device.name, group: &device.group, mqtt_client_ids: &device.mqtt_client_ids };
    let request = Request { scope: form.get("scope"), mqtt_client_id: form.get("mqtt_client_id") };
    let grant = group.policy.grant(&subject, &request)?;
    let keys = app.keys.current();
    let key = keys
        .ring
        .active(now)
        .ok_or_else(|| TokenError::internal(&"no signing key is active; is the clock right?"))?;
    let token_id = TokenId::generate(&*app.random).map_err(|error| TokenError::internal(&error))?;
    let access_token = mint(&grant, app.issuer.as_str(), key, token_id, now)
        .map_err(|error| TokenError::internal(&error))?;
    Ok(TokenResponse {
        access_token,
        token_type: "Bearer",
        expires_in: grant.lifetime_s,
        scope: grant.scope.to_string(),
        mqtt_client_id: grant.mqtt_client_id.to_string(),
    })
}

impl From<Refusal> for TokenError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::MqttClientIdNotRegistered => Self::InvalidRequest(refusal.to_string().into()),
            Refusal::InvalidScope(_) | Refusal::ScopeNotGranted { .. } => {
                Self::InvalidScope(refusal.to_string())
            }
        }
    }
}
