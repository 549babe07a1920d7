//! `/admin/v1/revocations`: tokens that are taken back.

use std::sync::Arc;

use axum::extract::State;
use fleetbadge_validator::revocations::{MAX_REVOCATIONS, Revocation, RevocationTarget};
use fleetbadge_validator::verify::Verifier;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::problem::{Json, Problem, Query};
use crate::app::App;
use crate::endpoints::issued_token::IssuedToken;
use crate::mint::TokenId;
use crate::node::FollowError;

/// How many are listed at a time.
const PAGE: u32 = 1_000;

/// Whose tokens to take back: exactly one of these.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Revoke {
    /// What a device has, which may have been removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
    /// What the devices of a group have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// This token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The token of this `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jti: Option<String>,
    /// Everything.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) all: bool,
}

/// Which ones.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RevocationQuery {
    /// Only those after this id.
    pub(crate) after: u64,
}

/// Some of the revocations in force, the oldest first.
#[derive(Serialize, Deserialize)]
pub(crate) struct RevocationPage {
    pub(crate) revocations: Vec<Revocation>,
    /// What `after` is to be for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_after: Option<u64>,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Query(RevocationQuery { after }): Query<RevocationQuery>,
) -> Result<axum::Json<RevocationPage>, Problem> {
    let mut page = app.store.revocations(after, PAGE).await?;
    let next_after = page.last().map(|last| last.id).filter(|_| page.len() == PAGE as usize);
    let now = app.now();
    page.retain(|numbered| numbered.revocation.expires_at > now);
    let revocations = page.into_iter().map(|numbered| numbered.revocation).collect();
    Ok(axum::Json(RevocationPage { revocations, next_after }))
}

pub(crate) async fn add(
    State(app): State<Arc<App>>,
    Json(revoke): Json<Revoke>,
) -> Result<(StatusCode, axum::Json<Revocation>), Problem> {
    let revocation = revocation(&app, revoke).await?;
    match revocation.target {
        RevocationTarget::Token(_) | RevocationTarget::Device(_) => check_room_for_one(&app)?,
        // There are few of them, and they are the way out.
        RevocationTarget::Group(_) | RevocationTarget::Key(_) | RevocationTarget::All => {}
    }
    app.revoke(revocation.clone()).await?;
    tracing::info!(what = %revocation.target, before = revocation.before().map(|before| before.0), "tokens revoked");
    // It may have had to be made wider, or been so already.
    let target = &revocation.target;
    let in_force = app.revocations.current().iter().find(|found| found.target == *target);
    Ok((StatusCode::CREATED, axum::Json(in_force.unwrap_or(revocation))))
}

/// That validators would hold one more revocation.
pub(super) fn check_room_for_one(app: &App) -> Result<(), Problem> {
    if app.revocations.current().len() < MAX_REVOCATIONS {
        return Ok(());
    }
    Err(Problem::conflict(
        "too-many",
        "There are too many",
        &format_args!(
            "{MAX_REVOCATIONS} revocations are in force, and validators hold no more; they go as the tokens die \
             that they name. To take back many at once: fleetbadge-issuer revocation add --group GROUP, or --all"
        ),
    ))
}

async fn revocation(app: &App, revoke: Revoke) -> Result<Revocation, Problem> {
    match revoke {
        Revoke { device: Some(name), group: None, token: None, jti: None, all: false } => {
            let is_or_was = app.store.owner_of_name(&name).await?.is_some_and(|client| *client == *name);
            if !is_or_was || app.brokers.find(&name).is_some() {
                return Err(Problem::not_found(&format_args!("there is no device {name:?}, and was none")));
            }
            Ok(app.revoker.device(&name))
        }
        Revoke { device: None, group: Some(name), token: None, jti: None, all: false } => {
            Ok(app.revoker.group(app.groups.get(&name)?.name.as_str()))
        }
        Revoke { device: None, group: None, token: Some(token), jti: None, all: false } => {
            of_token(app, token.trim())
        }
        Revoke { device: None, group: None, token: None, jti: Some(jti), all: false } => {
            match jti.parse::<TokenId>() {
                Ok(id) => Ok(app.revoker.token_id(&id.to_string())),
                Err(error) => Err(Problem::invalid(Some("jti"), &format_args!("jti: {jti:?} {error}"))),
            }
        }
        Revoke { device: None, group: None, token: None, jti: None, all: true } => Ok(app.revoker.all()),
        _ => Err(Problem::invalid(None, &"exactly one of device, group, token, jti and all must be given")),
    }
}

/// What is said about a token never quotes it.
fn of_token(app: &App, token: &str) -> Result<Revocation, Problem> {
    let invalid =
        |why: &dyn std::fmt::Display| Problem::invalid(Some("token"), &format_args!("token: {why}"));
    let token = IssuedToken::read(app, token).map_err(|reason| invalid(&reason))?;
    let jti = token.claims.jti.as_deref().ok_or_else(|| invalid(&"it has no jti"))?;
    if app.now() >= token.claims.exp.plus(Verifier::MAX_SKEW_S) {
        return Err(invalid(&"it has died already"));
    }
    Ok(app.revoker.token(jti, token.claims.exp))
}

impl From<FollowError> for Problem {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Store(error) => error.into(),
            FollowError::Groups(_)
            | FollowError::Keys(_)
            | FollowError::Terms(_)
            | FollowError::TooSlow(_) => Self::internal(&format_args!(
                "it was written, but this node has not taken it up yet: {error}"
            )),
        }
    }
}

#[cfg(test)]
mod tests;
