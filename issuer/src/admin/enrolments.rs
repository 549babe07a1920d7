//! `/admin/v1/enrolments`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use fleetbadge_validator::time::UnixSeconds;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::problem::{self, Problem};
use crate::app::App;
use crate::credentials::CredentialId;
use crate::enrolments::{CreatedEnrolment, NewEnrolment};
use crate::router::REGISTER_PATH;
use crate::store::{EnrolmentRecord, EnrolmentTerms};

/// An enrolment, as the API shows it. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnrolmentDocument {
    pub(crate) id: CredentialId,
    pub(crate) group: String,
    pub(crate) name_pattern: String,
    pub(crate) uses: u32,
    pub(crate) uses_left: u32,
    pub(crate) created_at: UnixSeconds,
    pub(crate) expires_at: UnixSeconds,
    pub(crate) approval: bool,
}

/// An enrolment that was made, with its token: the only time that it is shown.
#[derive(Serialize, Deserialize)]
pub(crate) struct CreatedEnrolmentDocument {
    #[serde(flatten)]
    pub(crate) enrolment: EnrolmentDocument,
    pub(crate) enrolment_token: String,
    /// Where devices register with it.
    pub(crate) registration_endpoint: String,
}

/// What is needed to make an enrolment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateEnrolment {
    pub(crate) group: String,
    pub(crate) name_pattern: String,
    pub(crate) uses: u32,
    /// How long it is good, in seconds.
    pub(crate) expires_in_s: u64,
    #[serde(default)]
    pub(crate) approval: bool,
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<EnrolmentDocument>>, Problem> {
    Ok(Json(app.enrolments.all().await?.into_iter().map(EnrolmentDocument::from).collect()))
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    problem::Json(new): problem::Json<CreateEnrolment>,
) -> Result<(StatusCode, Json<CreatedEnrolmentDocument>), Problem> {
    let CreateEnrolment { group, name_pattern, uses, expires_in_s, approval } = new;
    let new = NewEnrolment { group, name_pattern, uses, expires_in_s, approval };
    let CreatedEnrolment { enrolment, token } = app.enrolments.create(new, app.now()).await?;
    tracing::info!(enrolment = %enrolment.id, terms = ?enrolment.terms, "enrolment made");
    Ok((
        StatusCode::CREATED,
        Json(CreatedEnrolmentDocument {
            enrolment: enrolment.into(),
            enrolment_token: token.expose().into(),
            registration_endpoint: app.issuer.endpoint(REGISTER_PATH),
        }),
    ))
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    app.enrolments.remove(&id).await?;
    tracing::info!(enrolment = ?id, "enrolment removed");
    Ok(StatusCode::NO_CONTENT)
}

impl From<EnrolmentRecord> for EnrolmentDocument {
    fn from(enrolment: EnrolmentRecord) -> Self {
        let EnrolmentRecord { id, uses_left, terms, created_at, .. } = enrolment;
        let EnrolmentTerms { group, name_pattern, uses, expires_at, approval } = terms;
        Self {
            id,
            group: group.into(),
            name_pattern: name_pattern.into(),
            uses,
            uses_left,
            created_at,
            expires_at,
            approval,
        }
    }
}
