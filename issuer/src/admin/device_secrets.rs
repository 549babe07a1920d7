//! `/admin/v1/devices/{name}/secrets` and `/rotate-secret`.

use std::sync::Arc;

use axum::extract::{Path, State};
use fleetbadge_validator::time::UnixSeconds;
use http::StatusCode;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::devices::document;
use super::problem::{Json, Problem};
use super::secrets::{AddedSecretTerms, RemovedSecretDocument, RotateSecret, SecretDocument};
use crate::app::App;
use crate::client_secrets::{AddedSecret, RotatedSecret};
use crate::credentials::SecretRecord;
use crate::router::TOKEN_PATH;
use crate::secret::ClientSecret;

/// A secret to add.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddSecret {
    /// For how long it is good, in seconds; without an end if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_in_s: Option<u64>,
    /// The secret that somebody chose; one is made if absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "chosen")]
    pub(crate) secret: Option<Zeroizing<String>>,
}

/// A secret that was added. One that was made here is shown this once.
#[derive(Serialize, Deserialize)]
pub(crate) struct AddedSecretDocument {
    pub(crate) client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_secret: Option<Zeroizing<String>>,
    #[serde(flatten)]
    pub(crate) terms: AddedSecretTerms,
    /// Where the device asks for tokens.
    pub(crate) token_endpoint: String,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<Vec<SecretDocument>>, Problem> {
    let device = app.devices.get(&name).await?;
    Ok(axum::Json(document(&app, device).await?.secrets))
}

pub(crate) async fn add(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(AddSecret { expires_in_s, secret }): Json<AddSecret>,
) -> Result<(StatusCode, axum::Json<AddedSecretDocument>), Problem> {
    let now = app.now();
    let (secret, record) = match secret {
        None => {
            let AddedSecret { secret, record } = app.devices.add_secret(&name, expires_in_s, now).await?;
            (Some(secret), record)
        }
        Some(text) => {
            let chosen = ClientSecret::from(text);
            let slow = &app.imported_secrets;
            (None, app.devices.import_secret(&name, chosen, slow, expires_in_s, now).await?)
        }
    };
    tracing::info!(device = ?name, secret = %record.id, imported = secret.is_none(), "secret added");
    Ok((StatusCode::CREATED, axum::Json(added(&app, name, secret, record, None))))
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, String)>,
) -> Result<axum::Json<RemovedSecretDocument>, Problem> {
    let device = app.devices.remove_secret(&name, &id).await?;
    tracing::info!(device = ?name, secret = ?id, "secret removed");
    Ok(axum::Json(RemovedSecretDocument::new(name, &id, !device.credentials.is_empty())))
}

pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(RotateSecret { overlap_s }): Json<RotateSecret>,
) -> Result<(StatusCode, axum::Json<AddedSecretDocument>), Problem> {
    let rotated = app.devices.rotate_secret(&name, overlap_s, app.now()).await?;
    let RotatedSecret { added: AddedSecret { secret, record }, others_end_at } = rotated;
    tracing::info!(device = ?name, secret = %record.id, others_end_at = others_end_at.map(|end| end.0), "secret rotated");
    let document = added(&app, name, Some(secret), record, others_end_at);
    Ok((StatusCode::CREATED, axum::Json(document)))
}

fn added(
    app: &App,
    name: String,
    secret: Option<ClientSecret>,
    record: SecretRecord,
    others_end_at: Option<UnixSeconds>,
) -> AddedSecretDocument {
    AddedSecretDocument {
        client_id: name,
        client_secret: secret.map(ClientSecret::into_text),
        terms: AddedSecretTerms::new(record, others_end_at),
        token_endpoint: app.issuer.endpoint(TOKEN_PATH),
    }
}

/// Reads a string. What else it is stands in no error, as serde's own would
/// have it: a secret of digits alone may have lost its quotes.
fn chosen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    let serde_json::Value::String(text) = serde_json::Value::deserialize(deserializer)? else {
        return Err(D::Error::custom("secret: not a string"));
    };
    Ok(Some(Zeroizing::new(text)))
}
