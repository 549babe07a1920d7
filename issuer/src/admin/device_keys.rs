//! `/admin/v1/devices/{name}/keys`: the public keys of a device.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use fleetbadge_validator::time::UnixSeconds;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::{Json, Problem};
use crate::app::App;
use crate::credentials::{CredentialId, KeyRecord};
use crate::device_keys::DeviceKey;
use crate::devices::DeviceError;
use crate::store::DeviceRecord;

/// A public key of a device, as the API shows it. Times are seconds since
/// 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceKeyDocument {
    /// What it is named by (RFC 7638).
    pub(crate) thumbprint: CredentialId,
    /// What the device may call it, beside its thumbprint.
    pub(crate) kid: String,
    pub(crate) alg: String,
    /// When it was added.
    pub(crate) created_at: UnixSeconds,
    /// When a token was last issued for it; absent if never, and in lists of
    /// devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_at: Option<UnixSeconds>,
}

/// Keys to add.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddKeys {
    /// A JWK Set (RFC 7517 §5).
    pub(crate) jwks: Value,
}

/// A key that was removed.
#[derive(Serialize, Deserialize)]
pub(crate) struct RemovedKeyDocument {
    pub(crate) client_id: String,
    pub(crate) thumbprint: CredentialId,
    pub(crate) removed: bool,
    /// Whether the device has anything left to prove itself with.
    pub(crate) has_credentials: bool,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<Vec<DeviceKeyDocument>>, Problem> {
    Ok(axum::Json(documents(&app, app.devices.get(&name).await?).await?))
}

pub(crate) async fn add(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(AddKeys { jwks }): Json<AddKeys>,
) -> Result<(StatusCode, axum::Json<Vec<DeviceKeyDocument>>), Problem> {
    let keys = DeviceKey::read_set(&jwks).map_err(DeviceError::from)?;
    let device = app.devices.add_keys(&name, &keys, app.now()).await?;
    for key in &keys {
        tracing::info!(device = %device.name, key = %key.thumbprint(), "key added");
    }
    Ok((StatusCode::CREATED, axum::Json(documents(&app, device).await?)))
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path((name, thumbprint)): Path<(String, String)>,
) -> Result<axum::Json<RemovedKeyDocument>, Problem> {
    let device = app.devices.remove_key(&name, &thumbprint).await?;
    tracing::info!(device = %device.name, key = %thumbprint, "key removed");
    Ok(axum::Json(RemovedKeyDocument {
        client_id: device.name.into(),
        thumbprint: CredentialId::from_text(&thumbprint),
        removed: true,
        has_credentials: !device.credentials.is_empty(),
    }))
}

async fn documents(app: &App, device: DeviceRecord) -> Result<Vec<DeviceKeyDocument>, Problem> {
    let uses = app.credential_uses.of_client(device.name.as_str()).await?;
    let mut keys: Vec<_> = device.credentials.keys.into_iter().map(DeviceKeyDocument::from).collect();
    set_last_used(&mut keys, &uses);
    Ok(keys)
}

/// Says when each key was last used.
pub(super) fn set_last_used(keys: &mut [DeviceKeyDocument], uses: &HashMap<CredentialId, UnixSeconds>) {
    for key in keys {
        key.last_used_at = uses.get(&key.thumbprint).copied();
    }
}

impl From<KeyRecord> for DeviceKeyDocument {
    fn from(key: KeyRecord) -> Self {
        let KeyRecord { id, jwk, created_at } = key;
        Self {
            kid: jwk.kid.unwrap_or_else(|| id.to_string()),
            alg: jwk.alg.unwrap_or_default(),
            thumbprint: id,
            created_at,
            last_used_at: None,
        }
    }
}

#[cfg(test)]
mod tests;
