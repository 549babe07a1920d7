//! `/admin/v1/groups`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::problem::{self, Problem};
use crate::app::App;
use crate::groups::{Group, PolicyChange};
use crate::policy::PolicyDocument;

/// A group, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupDocument {
    /// Its name.
    pub(crate) name: String,
    /// What its devices may have.
    #[serde(flatten)]
    pub(crate) policy: PolicyDocument,
    /// When it was first set, in seconds since 1970.
    pub(crate) created_at: UnixSeconds,
    /// When it was last set, in seconds since 1970.
    pub(crate) updated_at: UnixSeconds,
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Vec<GroupDocument>> {
    Json(app.groups.all().iter().map(|group| GroupDocument::from(&**group)).collect())
}

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<GroupDocument>, Problem> {
    Ok(Json((&*app.groups.get(&name)?).into()))
}

pub(crate) async fn set(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    problem::Json(change): problem::Json<PolicyChange>,
) -> Result<Json<GroupDocument>, Problem> {
    let group = app.groups.set(&name, change, app.now()).await?;
    let policy = serde_json::to_string(&group.policy.to_document()).unwrap_or_default();
    tracing::info!(group = %group.name, %policy, "group set");
    Ok(Json((&*group).into()))
}

impl From<&Group> for GroupDocument {
    fn from(group: &Group) -> Self {
        Self {
            name: group.name.to_string(),
            policy: group.policy.to_document(),
            created_at: group.created_at,
            updated_at: group.updated_at,
        }
    }
}
