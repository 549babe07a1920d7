//! `/admin/v1/root-keys`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::app::App;
use crate::root_key::RootKeyId;
use crate::root_keys::{RootKeyState, Usage};

/// A root key, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootKeyDocument {
    /// What it is named by; tells nothing of it.
    pub(crate) id: RootKeyId,
    /// What it is to the node that answers.
    pub(crate) state: RootKeyState,
    /// How many signing keys are under it.
    pub(crate) signing_keys: u64,
    /// How many secrets that have not ended.
    pub(crate) secrets: u64,
    /// How many static passwords that have not ended.
    pub(crate) passwords: u64,
}

/// A root key that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddedRootKeyDocument {
    pub(crate) id: RootKeyId,
    /// The file that other nodes need now.
    pub(crate) file: String,
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<RootKeyDocument>>, Problem> {
    let documents = app.root_keys.list(app.now()).await?.into_iter().map(|(id, state, usage)| {
        let Usage { signing_keys, secrets, passwords, client: _ } = usage;
        RootKeyDocument { id, state, signing_keys, secrets, passwords }
    });
    Ok(Json(documents.collect()))
}

pub(crate) async fn add(State(app): State<Arc<App>>) -> Result<Json<AddedRootKeyDocument>, Problem> {
    let id = app.root_keys.add().await?;
    tracing::info!(%id, "root key added");
    Ok(Json(AddedRootKeyDocument { id, file: app.root_keys.file().display().to_string() }))
}

pub(crate) async fn make_current(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Vec<RootKeyDocument>>, Problem> {
    let id = app.root_keys.make_current(&id).await?;
    tracing::info!(%id, "root key made the current one");
    app.seal_keys_again().await;
    list(State(app)).await
}

/// How to remove one.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Remove {
    /// Even if secrets and passwords are under it, which are refused then.
    pub(crate) although_needed: bool,
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(Remove { although_needed }): Query<Remove>,
) -> Result<StatusCode, Problem> {
    let id = app.root_keys.remove(&id, although_needed, app.now()).await?;
    tracing::warn!(%id, "root key removed");
    Ok(StatusCode::NO_CONTENT)
}
