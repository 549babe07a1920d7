//! `/admin/v1/devices/{name}/password`.

use std::sync::Arc;

use axum::extract::{Path, State};
use fleetbadge_validator::time::UnixSeconds;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::problem::{Json, Problem};
use crate::app::App;
use crate::credentials::{CredentialId, PasswordRecord};

/// The static password of a device, as the API shows it. Times are seconds
/// since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PasswordDocument {
    /// What it is named by.
    pub(crate) id: CredentialId,
    /// When it was made.
    pub(crate) created_at: UnixSeconds,
    /// When it ends, if it does.
    pub(crate) expires_at: Option<UnixSeconds>,
    /// When it was last good for a token; told where one device is shown.
    pub(crate) last_used_at: Option<UnixSeconds>,
}

impl From<PasswordRecord> for PasswordDocument {
    fn from(PasswordRecord { id, created_at, expires_at, hash: _ }: PasswordRecord) -> Self {
        Self { id, created_at, expires_at, last_used_at: None }
    }
}

/// What is needed to set a password.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SetPassword {
    /// After how many seconds it ends; never if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_in_s: Option<u64>,
}

/// A password that was set: the only time that it is shown.
#[derive(Serialize, Deserialize)]
pub(crate) struct SetPasswordDocument {
    /// What an MQTT client gives as user name: the device's name.
    pub(crate) username: String,
    /// What it gives as password.
    pub(crate) password: String,
    pub(crate) id: CredentialId,
    /// In seconds since 1970.
    pub(crate) created_at: UnixSeconds,
    /// In seconds since 1970, if it ends.
    pub(crate) expires_at: Option<UnixSeconds>,
}

pub(crate) async fn set(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(SetPassword { expires_in_s }): Json<SetPassword>,
) -> Result<axum::Json<SetPasswordDocument>, Problem> {
    let (device, record, password) =
        app.static_passwords.set(&app.devices, &app.groups, &name, expires_in_s, app.now()).await?;
    let PasswordRecord { id, created_at, expires_at, hash: _ } = record;
    tracing::info!(device = %device.name, %id, "static password set");
    Ok(axum::Json(SetPasswordDocument {
        username: device.name.into(),
        password: password.expose().into(),
        id,
        created_at,
        expires_at,
    }))
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.static_passwords.remove(&app.devices, &name).await?;
    tracing::info!(device = ?name, "static password removed");
    Ok(StatusCode::NO_CONTENT)
}
