//! `/admin/v1/devices`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use fleetbadge_validator::time::UnixSeconds;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::broker_status::{self, SessionDocument};
use super::device_certificate::{self, CertificateDocument};
use super::device_keys::{DeviceKeyDocument, set_last_used};
use super::problem::{Json, Problem, Query};
use super::revocations::check_room_for_one;
use super::secrets::{self, SecretDocument};
use super::static_password::PasswordDocument;
use crate::app::App;
use crate::device_keys::DeviceKey;
use crate::devices::{AddedDevice, DeviceChange, DeviceError, NewDevice};
use crate::router::TOKEN_PATH;
use crate::store::{DeviceQuery, DeviceRecord, DeviceStatus, StoreError};

/// The most devices of one page.
pub(crate) const MAX_PAGE: u32 = 1_000;

/// A device, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceDocument {
    pub(crate) client_id: String,
    pub(crate) mqtt_client_ids: Vec<String>,
    pub(crate) group: String,
    pub(crate) status: DeviceStatus,
    /// In seconds since 1970.
    pub(crate) created_at: UnixSeconds,
    pub(crate) secrets: Vec<SecretDocument>,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Its public keys; absent without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<DeviceKeyDocument>,
    /// Its static password, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<PasswordDocument>,
    /// Absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<CertificateDocument>,
    /// The id of the enrolment that it came in by; absent if an operator added
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enrolled_by: Option<String>,
    /// Where it is connected, as far as brokers tell; absent if nowhere, and in
    /// lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) online: Vec<SessionDocument>,
}

/// A device that was added, with its secret, if one was made: the only time
/// that it is shown.
#[derive(Serialize, Deserialize)]
pub(crate) struct AddedDeviceDocument {
    pub(crate) client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_secret: Option<String>,
    pub(crate) mqtt_client_ids: Vec<String>,
    pub(crate) group: String,
    /// Where it asks for tokens.
    pub(crate) token_endpoint: String,
}

/// What is needed to add a device.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddDevice {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(default)]
    pub(crate) mqtt_client_ids: Vec<String>,
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, String>,
    /// A JWK Set with its public keys (RFC 7517 §5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jwks: Option<serde_json::Value>,
    /// Whether a secret is made for it; if absent, one is if there is no
    /// `jwks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) make_secret: Option<bool>,
}

/// Which page of the devices.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// The last name of the page before.
    after: Option<String>,
    group: Option<String>,
    status: Option<DeviceStatus>,
    limit: Option<u32>,
}

/// A page of the devices.
#[derive(Serialize, Deserialize)]
pub(crate) struct DevicePage {
    /// The devices, by name.
    pub(crate) devices: Vec<DeviceDocument>,
    /// What to say as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_after: Option<String>,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<DevicePage>, Problem> {
    if let Some(group) = &query.group {
        app.groups.get(group)?;
    }
    let limit = query.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    // One more tells whether there is a next page.
    let query = DeviceQuery {
        after: query.after.as_deref(),
        group: query.group.as_deref(),
        status: query.status,
        limit: limit + 1,
    };
    let mut devices = app.devices.page(query).await?;
    let is_last = devices.len() <= limit as usize;
    devices.truncate(limit as usize);
    let last = devices.last().map(|device| device.name.to_string());
    Ok(axum::Json(DevicePage {
        devices: devices.into_iter().map(DeviceDocument::from).collect(),
        next_after: if is_last { None } else { last },
    }))
}

pub(crate) async fn add(
    State(app): State<Arc<App>>,
    Json(new): Json<AddDevice>,
) -> Result<(StatusCode, axum::Json<AddedDeviceDocument>), Problem> {
    let AddDevice { name, group, mqtt_client_ids, attributes, jwks, make_secret } = new;
    let keys = jwks.as_ref().map(DeviceKey::read_set).transpose().map_err(DeviceError::from)?;
    let make_secret = make_secret.unwrap_or(keys.is_none());
    let new = NewDevice { name, group, mqtt_client_ids, attributes, keys: keys.unwrap_or_default() };
    let (device, secret) = if make_secret {
        let AddedDevice { device, secret } = app.devices.add(new, app.now()).await?;
        (device, Some(secret))
    } else {
        (app.devices.add_without_secret(new, app.now()).await?, None)
    };
    tracing::info!(device = %device.name, group = %device.group, "device added");
    let document = DeviceDocument::from(device);
    Ok((
        StatusCode::CREATED,
        axum::Json(AddedDeviceDocument {
            client_id: document.client_id,
            client_secret: secret.map(|secret| secret.expose().into()),
            mqtt_client_ids: document.mqtt_client_ids,
            group: document.group,
            token_endpoint: app.issuer.endpoint(TOKEN_PATH),
        }),
    ))
}

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<DeviceDocument>, Problem> {
    Ok(axum::Json(document(&app, app.devices.get(&name).await?).await?))
}

pub(crate) async fn set(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(change): Json<DeviceChange>,
) -> Result<axum::Json<DeviceDocument>, Problem> {
    let device = app.devices.set(&name, change).await?;
    let document = document(&app, device).await?;
    let (ids, attributes) = (&document.mqtt_client_ids, &document.attributes);
    tracing::info!(device = ?name, group = ?document.group, mqtt_client_ids = ?ids, ?attributes, "device set");
    Ok(axum::Json(document))
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    check_room_for_one(&app)?;
    app.devices.remove(&name).await?;
    app.node.catch_up(&app).await?;
    tracing::info!(device = ?name, "device removed");
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn enable(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<DeviceDocument>, Problem> {
    set_status(&app, &name, DeviceStatus::Enabled).await
}

pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<DeviceDocument>, Problem> {
    let device = app.devices.approve(&name).await?;
    tracing::info!(device = %device.name, "device approved");
    Ok(axum::Json(device.into()))
}

pub(crate) async fn disable(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<DeviceDocument>, Problem> {
    set_status(&app, &name, DeviceStatus::Disabled).await
}

async fn set_status(
    app: &App,
    name: &str,
    status: DeviceStatus,
) -> Result<axum::Json<DeviceDocument>, Problem> {
    if status == DeviceStatus::Disabled {
        check_room_for_one(app)?;
    }
    let device = app.devices.set_status(name, status).await?;
    // Its tokens, too, are refused once this is answered.
    app.node.catch_up(app).await?;
    tracing::info!(device = %device.name, %status, "device changed");
    Ok(axum::Json(document(app, device).await?))
}

/// A device, when its credentials were last used, and where it is connected.
pub(crate) async fn document(app: &App, device: DeviceRecord) -> Result<DeviceDocument, StoreError> {
    let uses = app.credential_uses.of_client(device.name.as_str()).await?;
    let online = broker_status::sessions_of(app, &device.mqtt_client_ids).await?;
    let mut document = DeviceDocument::from(device);
    set_last_used(&mut document.keys, &uses);
    secrets::set_last_used(&mut document.secrets, &uses);
    if let Some(certificate) = &mut document.certificate {
        device_certificate::set_last_used(certificate, &uses);
    }
    if let Some(password) = &mut document.password {
        password.last_used_at = uses.get(&password.id).copied();
    }
    document.online = online;
    Ok(document)
}

impl From<DeviceRecord> for DeviceDocument {
    fn from(device: DeviceRecord) -> Self {
        Self {
            client_id: device.name.into(),
            mqtt_client_ids: device.mqtt_client_ids.into_iter().map(String::from).collect(),
            group: device.group.into(),
            status: device.status,
            created_at: device.created_at,
            secrets: device.credentials.secrets.into_iter().map(SecretDocument::from).collect(),
            attributes: device
                .attributes
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            keys: device.credentials.keys.into_iter().map(DeviceKeyDocument::from).collect(),
            password: device.credentials.password.map(|password| PasswordDocument::from(*password)),
            certificate: device.credentials.certificate.map(|record| CertificateDocument::from(*record)),
            enrolled_by: device.enrolled_by.map(|by| by.enrolment.to_string()),
            online: Vec::new(),
        }
    }
}
