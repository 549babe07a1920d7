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
use crate::app::App;
use crate::credentials::{CredentialId, SecretRecord, SecretVerifier};
use crate::devices::{AddedSecret, RotatedSecret};
use crate::router::TOKEN_PATH;
use crate::secret::ClientSecret;

/// A secret, as the API shows it. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretDocument {
    /// What it is named by.
    pub(crate) id: CredentialId,
    /// Whether somebody chose it.
    pub(crate) imported: bool,
    /// When it was made.
    pub(crate) created_at: UnixSeconds,
    /// When it ends, if it does.
    pub(crate) expires_at: Option<UnixSeconds>,
    /// When a token was last issued for it; absent if never, and in lists of
    /// devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_at: Option<UnixSeconds>,
}

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

/// How to rotate.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateSecret {
    /// For how long the secrets that are there stay good, in seconds.
    pub(crate) overlap_s: u64,
}

/// A secret that was added. One that was made here is shown this once.
#[derive(Serialize, Deserialize)]
pub(crate) struct AddedSecretDocument {
    pub(crate) client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_secret: Option<Zeroizing<String>>,
    pub(crate) secret_id: CredentialId,
    /// When it ends, in seconds since 1970, if it does.
    pub(crate) expires_at: Option<UnixSeconds>,
    /// From when on the others are no longer good, after a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) others_end_at: Option<UnixSeconds>,
    /// Where the device asks for tokens.
    pub(crate) token_endpoint: String,
}

/// A secret that was removed.
#[derive(Serialize, Deserialize)]
pub(crate) struct RemovedSecretDocument {
    pub(crate) client_id: String,
    pub(crate) secret_id: CredentialId,
    pub(crate) removed: bool,
    /// Whether the device has anything left to prove itself with.
    pub(crate) has_credentials: bool,
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
    Ok(axum::Json(RemovedSecretDocument {
        client_id: name,
        secret_id: CredentialId::from_text(&id),
        removed: true,
        has_credentials: !device.credentials.is_empty(),
    }))
}

pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(RotateSecret { overlap_s }): Json<RotateSecret>,
) -> Result<(StatusCode, axum::Json<AddedSecretDocument>), Problem> {
    let rotated = app.devices.rotate_secret(&name, overlap_s, app.now()).await?;
    let RotatedSecret { added: AddedSecret { secret, record }, others_end_at } = rotated;
    tracing::info!(device = ?name, secret = %record.id, %others_end_at, "secret rotated");
    let document = added(&app, name, Some(secret), record, Some(others_end_at));
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
        secret_id: record.id,
        expires_at: record.expires_at,
        others_end_at,
        token_endpoint: app.issuer.endpoint(TOKEN_PATH),
    }
}

impl From<SecretRecord> for SecretDocument {
    fn from(secret: SecretRecord) -> Self {
        let SecretRecord { id, verifier, created_at, expires_at } = secret;
        let imported = match verifier {
            SecretVerifier::Imported(_) => true,
            SecretVerifier::Made(_) => false,
        };
        Self { id, imported, created_at, expires_at, last_used_at: None }
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
