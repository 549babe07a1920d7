//! `/admin/v1/brokers/{name}/secrets` and `/rotate-secret`.

use std::sync::Arc;

use axum::extract::{Path, State};
use fleetbadge_validator::time::UnixSeconds;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::brokers::{AddedBrokerDocument, document};
use super::problem::{Json, Problem};
use super::secrets::{AddedSecretTerms, RemovedSecretDocument, RotateSecret, SecretDocument};
use crate::app::App;
use crate::client_secrets::{AddedSecret, RotatedSecret};
use crate::store::BrokerRecord;

/// A secret to make.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddBrokerSecret {
    /// For how long it is good, in seconds; without an end if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_in_s: Option<u64>,
}

/// A secret that was made, shown this once.
#[derive(Serialize, Deserialize)]
pub(crate) struct AddedBrokerSecretDocument {
    /// With it, what is saved as the credentials file.
    #[serde(flatten)]
    pub(crate) credentials: AddedBrokerDocument,
    #[serde(flatten)]
    pub(crate) terms: AddedSecretTerms,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<Vec<SecretDocument>>, Problem> {
    Ok(axum::Json(document(&app, name).await?.secrets))
}

pub(crate) async fn add(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(AddBrokerSecret { expires_in_s }): Json<AddBrokerSecret>,
) -> Result<(StatusCode, axum::Json<AddedBrokerSecretDocument>), Problem> {
    let maker = app.devices.secret_maker();
    let (broker, added) = app.brokers.add_secret(&name, expires_in_s, maker, app.now()).await?;
    tracing::info!(broker = %broker.name, secret = %added.record.id, "secret added");
    Ok((StatusCode::CREATED, axum::Json(added_document(&broker, added, None))))
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, String)>,
) -> Result<axum::Json<RemovedSecretDocument>, Problem> {
    let broker = app.brokers.remove_secret(&name, &id).await?;
    tracing::info!(broker = %broker.name, secret = ?id, "secret removed");
    Ok(axum::Json(RemovedSecretDocument::new(name, &id, !broker.secrets.is_empty())))
}

pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(RotateSecret { overlap_s }): Json<RotateSecret>,
) -> Result<(StatusCode, axum::Json<AddedBrokerSecretDocument>), Problem> {
    let maker = app.devices.secret_maker();
    let (broker, rotated) = app.brokers.rotate_secret(&name, overlap_s, maker, app.now()).await?;
    let RotatedSecret { added, others_end_at } = rotated;
    tracing::info!(broker = %broker.name, secret = %added.record.id, others_end_at = others_end_at.map(|end| end.0), "secret rotated");
    Ok((StatusCode::CREATED, axum::Json(added_document(&broker, added, others_end_at))))
}

fn added_document(
    broker: &BrokerRecord,
    AddedSecret { secret, record }: AddedSecret,
    others_end_at: Option<UnixSeconds>,
) -> AddedBrokerSecretDocument {
    AddedBrokerSecretDocument {
        credentials: AddedBrokerDocument::new(broker, &secret),
        terms: AddedSecretTerms::new(record, others_end_at),
    }
}

#[cfg(test)]
mod tests;
