//! The ways to get a token (RFC 6749 §1.3), one file each, and what they have
//! in common: [`issue`].

use axum::response::{IntoResponse, Response};
use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::time::UnixSeconds;
use http::{HeaderValue, header};
use serde::Serialize;

use crate::app::App;
use crate::error::TokenError;
use crate::form::Form;
use crate::mint::{MintError, TokenId, jittered, mint};
use crate::node::CurrentMoment;
use crate::policy::{Refusal, Subject};
use crate::profile::{Content, Misread};
use crate::signing_keys::SigningKey;
use crate::store::DeviceRecord;

pub(crate) mod client_credentials;
mod decision;
mod device_self;
pub(crate) mod explain;
pub(crate) mod password;

pub(crate) use decision::{Decision, NotGranted, decide};

/// When to ask again if an external signer does not sign, in seconds.
const SIGNER_RETRY_AFTER_S: u64 = 2;

/// A grant type that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantType {
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 6749 §4.3, for static passwords alone.
    Password,
}

impl GrantType {
    /// Which one a request asks for.
    ///
    /// # Errors
    /// [`TokenError::InvalidRequest`] without one,
    /// [`TokenError::UnsupportedGrantType`] for another.
    pub(crate) fn from_form(form: &Form<'_>) -> Result<Self, TokenError> {
        match form.get("grant_type") {
            Some("client_credentials") => Ok(Self::ClientCredentials),
            Some("password") => Ok(Self::Password),
            Some(_) => Err(TokenError::UnsupportedGrantType),
            None => Err(TokenError::InvalidRequest("grant_type is missing".into())),
        }
    }
}

/// What a token is asked for with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenRequest<'a> {
    /// Which part of the group's scope; all of it by default.
    pub(crate) scope: Option<&'a str>,
    /// As whom to connect; the first registered identifier by default.
    pub(crate) mqtt_client_id: Option<&'a str>,
    /// For which broker (RFC 8707); the group's first audience by default.
    pub(crate) resource: Option<&'a str>,
    /// The SHA-256 of the certificate that the token is to be bound to.
    pub(crate) certificate: Option<[u8; 32]>,
}

/// A token, as it is answered (RFC 6749 §5.1). There is no refresh token
/// (§4.4.3).
pub(crate) struct TokenResponse {
    access_token: String,
    about: AboutToken,
}

/// What is said of it.
#[derive(Serialize)]
struct AboutToken {
    token_type: &'static str,
    expires_in: u64,
    scope: &'static str,
    /// As whom to connect: a token for the issuer itself has none of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt_client_id: Option<MqttClientId>,
    /// When an agent is to renew it, in seconds from now: not before,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_from_s: Option<u64>,
    /// and not after.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_to_s: Option<u64>,
}

impl TokenResponse {
    /// The JSON object. A token has nothing in it that is to be escaped: to look
    /// for it would cost as much as to write all of its claims.
    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = Vec::with_capacity(self.access_token.len() + ROOM_BESIDE_TOKEN);
        json.extend_from_slice(b"{\"access_token\":\"");
        json.extend_from_slice(self.access_token.as_bytes());
        json.push(b'"');
        let end = json.len();
        serde_json::to_writer(&mut json, &self.about)?;
        // It goes on where another object began.
        if let Some(brace) = json.get_mut(end) {
            *brace = b',';
        }
        Ok(json)
    }
}

impl IntoResponse for TokenResponse {
    fn into_response(self) -> Response {
        match self.to_json() {
            Ok(json) => {
                let mut response = Response::new(json.into());
                response.headers_mut().insert(header::CONTENT_TYPE, JSON);
                response
            }
            Err(error) => TokenError::internal(&error).into_response(),
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What an answer has beside its token, in bytes.
const ROOM_BESIDE_TOKEN: usize = 320;

/// Issues a token to a device that may have one:
///
/// 1. that it is bound to a certificate, if the device's tokens are (RFC 8705
///    §3): whoever has promised that gets none that anybody may bear;
/// 2. which broker it is for;
/// 3. what the group's policy grants;
/// 4. that it is not taken back already;
/// 5. how that broker reads it, signed with what it verifies.
///
/// The device was looked at after `moment`, at which this node was current, and
/// the token is issued as of then: whoever shuts the device out, on whichever
/// node, either was seen or takes this token back.
///
/// # Errors
/// [`TokenError`].
pub(crate) fn issue(
    app: &App,
    device: &DeviceRecord,
    moment: CurrentMoment,
    request: &TokenRequest<'_>,
) -> Result<TokenResponse, TokenError> {
    if device.bound_certificate().is_some() && request.certificate.is_none() {
        return Err(TokenError::InvalidRequest(
            "the device's tokens are bound to its certificate; show it in TLS".into(),
        ));
    }
    let group = app
        .groups
        .find(device.group.as_str())
        .ok_or_else(|| TokenError::internal(&"the device's group is gone"))?;
    let Decision { target, grant } = decide(&app.brokers, &group.policy, &Subject::from(device), request)?;
    let now = moment.now();
    check_good(app, device, now)?;
    let keys = app.keys.current();
    let key = keys
        .ring
        .active(target.algorithm, now)
        .ok_or(TokenError::TemporarilyUnavailable { retry_after_s: 1 })?;
    let [token_id @ .., a, b, c, d]: [u8; 20] =
        app.random_stock.take().map_err(|error| TokenError::internal(&error))?;
    let content = Content {
        grant: &grant,
        issuer: app.issuer.as_str(),
        audience: target.audience,
        token_id: TokenId::from_bytes(token_id),
        now,
        lifetime_s: jittered(group.policy.token_lifetime_s, u32::from_ne_bytes([a, b, c, d])),
        certificate: request.certificate,
    };
    let access_token = mint(&content, &target.profile, key).map_err(|error| not_minted(key, &error))?;
    let (refresh_from_s, refresh_to_s) = group.policy.refresh_window.of_lifetime(content.lifetime_s);
    let about = AboutToken {
        token_type: "Bearer",
        // To prove who it is may have taken long.
        expires_in: content.lifetime_s.saturating_sub(app.now().since(now)),
        scope: grant.scope.as_str(),
        mqtt_client_id: Some(grant.mqtt_client_id.clone()),
        refresh_from_s: Some(refresh_from_s),
        refresh_to_s: Some(refresh_to_s),
    };
    Ok(TokenResponse { access_token, about })
}

/// That a token which is issued to a device now is not taken back already.
///
/// # Errors
/// [`TokenError::TemporarilyUnavailable`].
fn check_good(app: &App, device: &DeviceRecord, now: UnixSeconds) -> Result<(), TokenError> {
    match app.revocations.shut_out_for_s(device.name.as_str(), device.group.as_str(), now) {
        None => Ok(()),
        Some(retry_after_s) => {
            tracing::debug!(device = %device.name, retry_after_s, "tokens of now are taken back");
            Err(TokenError::TemporarilyUnavailable { retry_after_s })
        }
    }
}

/// What a client is told without a token. An external signer that is not there
/// has been logged once; it may be back in a moment.
fn not_minted(key: &SigningKey, error: &MintError) -> TokenError {
    match error {
        MintError::Signing(_) if key.is_external() => {
            tracing::debug!(kid = key.kid(), %error, "an external signer has not signed");
            TokenError::TemporarilyUnavailable { retry_after_s: SIGNER_RETRY_AFTER_S }
        }
        MintError::Signing(_) | MintError::TooLarge { .. } | MintError::Json(_) => {
            TokenError::internal(error)
        }
    }
}

impl From<NotGranted> for TokenError {
    fn from(reason: NotGranted) -> Self {
        let text = reason.to_string();
        match reason {
            NotGranted::Refused(Refusal::MqttClientIdNotRegistered) => Self::InvalidRequest(text.into()),
            NotGranted::Refused(Refusal::InvalidScope(_) | Refusal::ScopeNotGranted { .. })
            | NotGranted::Misread(Misread::NoConnect { .. }) => Self::InvalidScope(text),
            NotGranted::UnknownResource
            | NotGranted::OtherResource
            | NotGranted::Unbindable { .. }
            | NotGranted::Misread(Misread::OtherClientId { .. } | Misread::Name { .. }) => {
                Self::InvalidTarget(text)
            }
        }
    }
}

#[cfg(test)]
mod tests;
