//! `POST /oauth2/register`: a device brings its public key and becomes a
//! client (RFC 7591).
//!
//! 1. the enrolment token is good;
//! 2. read what the device says of itself;
//! 3. a proof that it has the private half of its key (RFC 9449), good once;
//! 4. the device and the use of the enrolment are written, both or none.
//!
//! A device that did not hear the answer asks again with the same token and
//! key, and another proof: it is told the same, and no other use is taken. So
//! a token that is used up is still looked at until it ends; to everybody but
//! the devices that used it, it is none.
//!
//! How it manages its keys afterwards is in [`own`].

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use fleetbadge_validator::time::UnixSeconds;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Request, StatusCode, header};
use serde::Serialize;

use super::body;
use crate::app::App;
use crate::dpop::{self, InvalidProof, ProvenRequest};
use crate::enrolments::{EnrolledDevice, EnrolmentError, EnrolmentToken};
use crate::registration::{AUTH_METHOD, ClientMetadata};
use crate::router::{REGISTER_PATH, TOKEN_PATH};
use crate::store::{DeviceRecord, DeviceStatus, EnrolmentRecord};
use crate::used_jtis::{JtiRefused, StatementKind};

mod error;
pub(crate) mod own;

use error::RegistrationError;

const DPOP: HeaderName = HeaderName::from_static("dpop");

/// What a device is told of itself (RFC 7591 §3.2.1).
#[derive(Serialize)]
pub(crate) struct ClientInformation {
    client_id: String,
    client_id_issued_at: UnixSeconds,
    token_endpoint_auth_method: &'static str,
    grant_types: [&'static str; 1],
    jwks: serde_json::Value,
    /// Where it manages its keys (RFC 7592 §3). There is no access token that
    /// lasts: it asks for one of a minute each time.
    registration_client_uri: String,
    issuer: String,
    token_endpoint: String,
    mqtt_client_ids: Vec<String>,
    group: String,
    /// Whether it may have tokens already.
    status: DeviceStatus,
}

impl ClientInformation {
    fn of(app: &App, device: DeviceRecord) -> Self {
        let keys: Vec<_> = device.credentials.keys.into_iter().map(|key| key.jwk).collect();
        Self {
            client_id_issued_at: device.created_at,
            token_endpoint_auth_method: AUTH_METHOD,
            grant_types: ["client_credentials"],
            jwks: serde_json::json!({ "keys": keys }),
            registration_client_uri: own::url(app, device.name.as_str()),
            issuer: app.issuer.as_str().into(),
            token_endpoint: app.issuer.endpoint(TOKEN_PATH),
            mqtt_client_ids: device.mqtt_client_ids.into_iter().map(String::from).collect(),
            group: device.group.into(),
            status: device.status,
            client_id: device.name.into(),
        }
    }
}

pub(crate) async fn post(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<(StatusCode, Json<ClientInformation>), RegistrationError> {
    let (parts, body) = request.into_parts();
    let token = EnrolmentToken::presented(bearer_token(&parts)?.into());
    let enrolment =
        app.enrolments.of_token(&token, app.now()).await.map_err(|error| app.store_failed(&error))?;
    let enrolment = enrolment.ok_or(RegistrationError::InvalidToken)?;
    let enrolled = enrol(&app, &parts.headers, body, &token, &enrolment).await;
    let is_used_up = enrolment.uses_left == 0;
    let device = enrolled.map_err(|refused| if is_used_up { refused.without_reason() } else { refused })?;
    Ok((StatusCode::CREATED, Json(ClientInformation::of(&app, device))))
}

/// Steps 2 to 4.
async fn enrol(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    token: &EnrolmentToken,
    enrolment: &EnrolmentRecord,
) -> Result<DeviceRecord, RegistrationError> {
    let metadata = read_metadata(app, headers, body, 1).await?;
    let [key] = <[_; 1]>::try_from(metadata.keys)
        .map_err(|_| RegistrationError::internal(&"one key was read, and is not one"))?;
    let url = app.issuer.endpoint(REGISTER_PATH);
    let request = ProvenRequest { method: "POST", url: &url, token: token.expose() };
    let proven = prove(app, headers, request).await?.ok_or(InvalidProof::Missing)?;
    if proven != key.id.as_str() {
        return Err(InvalidProof::OtherKey { proven, expected: key.id.to_string() }.into());
    }
    let EnrolledDevice { device, is_new } =
        app.enrolments.enrol(enrolment, metadata.client_name, key, app.now()).await?;
    let what = if is_new { "device enrolled" } else { "device had enrolled before, and is told again" };
    tracing::info!(device = %device.name, group = %device.group, status = %device.status,
                   enrolment = %enrolment.id, key = proven, "{what}");
    Ok(device)
}

/// The token of a request (RFC 6750 §2.1): in the header and nowhere else.
fn bearer_token(parts: &Parts) -> Result<&str, RegistrationError> {
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(RegistrationError::InvalidRequest("nothing belongs into the URL's query"));
    }
    let mut authorizations = parts.headers.get_all(header::AUTHORIZATION).iter();
    let authorization = match (authorizations.next(), authorizations.next()) {
        (None, _) => return Err(RegistrationError::NoToken),
        (Some(_), Some(_)) => {
            return Err(RegistrationError::InvalidRequest("there is more than one header Authorization"));
        }
        (Some(authorization), None) => authorization.to_str().unwrap_or_default(),
    };
    let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(RegistrationError::NoToken);
    }
    let token = token.trim_matches(' ');
    let is_b64token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(is_b64token) {
        return Err(RegistrationError::InvalidRequest("Authorization has no well-formed Bearer token"));
    }
    Ok(token)
}

/// Reads what a device says of itself.
async fn read_metadata(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    max_keys: usize,
) -> Result<ClientMetadata, RegistrationError> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(RegistrationError::InvalidRequest("Content-Encoding is not accepted"));
    }
    if !body::has_content_type(headers, "application/json") {
        return Err(RegistrationError::InvalidRequest("Content-Type must be application/json, in UTF-8"));
    }
    let body = body::read(body, app.request_timeout).await?;
    Ok(ClientMetadata::read(&body, max_keys, app.now())?)
}

/// Which key a request proves to have, by its thumbprint, if it proves one.
/// The proof is used up.
async fn prove(
    app: &App,
    headers: &HeaderMap,
    request: ProvenRequest<'_>,
) -> Result<Option<String>, RegistrationError> {
    let mut proofs = headers.get_all(DPOP).iter();
    let proof = match (proofs.next(), proofs.next()) {
        (None, _) => return Ok(None),
        (Some(_), Some(_)) => return Err(InvalidProof::Repeated.into()),
        (Some(proof), None) => proof.to_str().unwrap_or_default(),
    };
    let proof = dpop::check(proof, request, app.now())?;
    let thumbprint = proof.key.thumbprint();
    let kind = StatementKind::ProofOfPossession;
    match app.used_jtis.use_once(kind, &thumbprint, &proof.jti, proof.expires_at).await {
        Ok(()) => Ok(Some(thumbprint)),
        Err(JtiRefused::Replayed) => Err(InvalidProof::Replayed.into()),
        Err(JtiRefused::Store(error)) => Err(app.store_failed(&error).into()),
        Err(JtiRefused::MayBeReplayed { retry_after_s }) => {
            Err(RegistrationError::TemporarilyUnavailable { retry_after_s })
        }
        Err(error @ JtiRefused::Ending) => Err(RegistrationError::internal(&error)),
    }
}

impl From<EnrolmentError> for RegistrationError {
    fn from(error: EnrolmentError) -> Self {
        match error {
            EnrolmentError::NameNotAllowed { .. } => {
                Self::InvalidClientMetadata(format!("client_name: {error}"))
            }
            // Somebody else took the last use meanwhile.
            EnrolmentError::UsedUp => Self::InvalidToken,
            EnrolmentError::Device(error) => error.into(),
            EnrolmentError::Name(error) => Self::InvalidClientMetadata(error.to_string()),
            EnrolmentError::NamePattern { .. }
            | EnrolmentError::Uses { .. }
            | EnrolmentError::Lifetime { .. }
            | EnrolmentError::NoSuchEnrolment { .. }
            | EnrolmentError::NoRandomness(_)
            | EnrolmentError::Store(_) => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests;
