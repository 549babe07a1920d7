//! `/admin/v1/keys`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::problem::{self, Problem};
use crate::app::App;
use crate::keys::KeyError;
use crate::signing_keys::{KeyState, RotationRefused, ScheduledKey};

/// A signing key, as the API shows it. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyDocument {
    pub(crate) kid: String,
    pub(crate) alg: String,
    pub(crate) state: KeyState,
    pub(crate) announced_at: UnixSeconds,
    pub(crate) active_at: UnixSeconds,
    pub(crate) retired_at: Option<UnixSeconds>,
    pub(crate) dropped_at: Option<UnixSeconds>,
}

/// How to rotate.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rotate {
    /// Whose key; of every algorithm that has one by default. The answer lists
    /// all keys: an algorithm without one is getting its first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) algorithm: Option<Algorithm>,
    /// Whether the new key signs at once, without having been announced.
    pub(crate) now: bool,
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Vec<KeyDocument>> {
    Json(documents(&app))
}

pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    problem::Json(Rotate { algorithm, now }): problem::Json<Rotate>,
) -> Result<Json<Vec<KeyDocument>>, Problem> {
    let rotated = app.keys.rotate(algorithm, now, app.now()).await;
    if let Err(KeyError::Refused(RotationRefused::NoKey { algorithm })) = rotated
        && app.algorithms().any(|wanted| wanted == algorithm)
    {
        return Err(KeyError::from(RotationRefused::BeingMade { algorithm }).into());
    }
    rotated?;
    tracing::info!(alg = algorithm.map_or("all", Algorithm::as_str), now, "signing key rotated");
    Ok(Json(documents(&app)))
}

fn documents(app: &App) -> Vec<KeyDocument> {
    let now = app.now();
    let document = |ScheduledKey { key, schedule }: &ScheduledKey| KeyDocument {
        kid: key.kid().into(),
        alg: key.algorithm().as_str().into(),
        state: schedule.state(now),
        announced_at: schedule.announced_at,
        active_at: schedule.active_at,
        retired_at: schedule.retired_at,
        dropped_at: schedule.dropped_at,
    };
    app.keys.current().ring.keys().iter().map(document).collect()
}
