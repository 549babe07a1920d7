//! `GET` and `PUT /oauth2/register/{client_id}`: a device looks at its own
//! registration and replaces its keys (RFC 7592 §2).
//!
//! 1. the token is one of this issuer for this device ([`crate::self_token`]);
//! 2. the token was not taken back, the device is enabled, and still has the
//!    key that it asked for the token with;
//! 3. a key that it did not have before is proven to be its own;
//! 4. the new set of keys replaces the old one, whole.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::Request;
use http::request::Parts;

use super::error::RegistrationError;
use super::{ClientInformation, bearer_token, prove, read_metadata};
use crate::app::App;
use crate::credentials::MAX_KEYS;
use crate::dpop::{InvalidProof, ProvenRequest};
use crate::registration::{InvalidMetadata, replace_keys};
use crate::router::REGISTER_PATH;
use crate::self_token::{self, SelfGrant};
use crate::store::{DeviceRecord, DeviceStatus};

/// Where a device manages its keys.
pub(super) fn url(app: &App, client_id: &str) -> String {
    app.issuer.endpoint(&format!("{REGISTER_PATH}/{client_id}"))
}

pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(client_id): Path<String>,
    parts: Parts,
) -> Result<Json<ClientInformation>, RegistrationError> {
    let grant = authorize(&app, &client_id, &parts)?;
    let device = app.devices.find(&client_id).await.map_err(|error| app.store_failed(&error))?;
    let device =
        device.filter(|device| holds(&app, device, &grant)).ok_or(RegistrationError::InvalidToken)?;
    Ok(Json(ClientInformation::of(&app, DeviceRecord::clone(&device))))
}

pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Path(client_id): Path<String>,
    request: Request<Body>,
) -> Result<Json<ClientInformation>, RegistrationError> {
    let (parts, body) = request.into_parts();
    let grant = authorize(&app, &client_id, &parts)?;
    let device = app.devices.find(&client_id).await.map_err(|error| app.store_failed(&error))?;
    if !device.is_some_and(|device| holds(&app, &device, &grant)) {
        return Err(RegistrationError::InvalidToken);
    }
    let metadata = read_metadata(&app, &parts.headers, body, MAX_KEYS).await?;
    match metadata.client_id {
        Some(found) if found != client_id => return Err(InvalidMetadata::ClientId { found }.into()),
        Some(_) | None => {}
    }
    let url = url(&app, &client_id);
    let request = ProvenRequest { method: "PUT", url: &url, token: bearer_token(&parts)? };
    let proven = prove(&app, &parts.headers, request).await?;
    // Asked again of what the device is when it is written.
    let replace = |device: &mut DeviceRecord| {
        if !holds(&app, device, &grant) {
            return Ok(Err(RegistrationError::InvalidToken));
        }
        let replaced = match replace_keys(&device.credentials.keys, &metadata.keys) {
            Ok(replaced) => replaced,
            Err(error) => return Ok(Err(error.into())),
        };
        match (replaced.new_key, &proven) {
            (None, _) => {}
            (Some(new), Some(proven)) if new.as_str() == proven => {}
            (Some(new), Some(proven)) => {
                let (proven, expected) = (proven.clone(), new.to_string());
                return Ok(Err(InvalidProof::OtherKey { proven, expected }.into()));
            }
            (Some(_), None) => return Ok(Err(InvalidProof::Missing.into())),
        }
        device.credentials.keys = replaced.keys;
        Ok(Ok(()))
    };
    let (device, result) = app.devices.change(&client_id, replace).await?;
    result?;
    let keys: Vec<&str> = device.credentials.keys.iter().map(|key| key.id.as_str()).collect();
    tracing::info!(device = %device.name, ?keys, "a device replaced its keys");
    Ok(Json(ClientInformation::of(&app, device)))
}

/// Reads the token of a request to manage `client_id`. Why it is refused is
/// for the log alone.
fn authorize(app: &App, client_id: &str, parts: &Parts) -> Result<SelfGrant, RegistrationError> {
    let token = bearer_token(parts)?;
    let keys = app.keys.current();
    match self_token::verify(token, app.issuer.as_str(), &keys.key_set, app.now()) {
        Ok(grant) if grant.device.as_str() == client_id => Ok(grant),
        Ok(grant) => {
            tracing::debug!(device = %grant.device, ?client_id, "a device asked for another's registration");
            Err(RegistrationError::InvalidToken)
        }
        Err(error) => {
            tracing::debug!(%error, ?client_id, "a token to manage a device was refused");
            Err(RegistrationError::InvalidToken)
        }
    }
}

/// Whether a device may still do what it was granted.
fn holds(app: &App, device: &DeviceRecord, grant: &SelfGrant) -> bool {
    if let Some(revoked) = app.revocations.find(&grant.facts(), [device.group.as_str()]) {
        tracing::debug!(device = %device.name, revoked = %revoked.target, "a token to manage a device was taken back");
        return false;
    }
    device.status == DeviceStatus::Enabled
        && device.credentials.keys.iter().any(|key| key.id.as_str() == grant.client_key)
}

#[cfg(test)]
mod tests;
