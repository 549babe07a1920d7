//! `/admin/v1/keys`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::problem::{self, Problem};
use crate::app::App;
use crate::keys::KeyError;
use crate::signing_keys::holders::{Holders, WaitedFor, holders, waited_for};
use crate::signing_keys::plan::{earliest_at, rotation_due_at};
use crate::signing_keys::{KeyFetch, KeyState, RotationRefused, ScheduledKey};

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
    /// When its state changes next, as far as that is known.
    pub(crate) next_change_at: Option<UnixSeconds>,
    /// Whether that comes earlier if every instance is heard to hold the
    /// announced key.
    pub(crate) next_change_may_come_earlier: bool,
    /// When an announced key signs at the earliest, if that can be before
    /// `active_at`.
    pub(crate) earliest_at: Option<UnixSeconds>,
    /// Whose reports an announced key waits for until then.
    pub(crate) waits_for: Vec<WaitedFor>,
    /// When the successor of an active key is announced by itself.
    pub(crate) successor_announced_at: Option<UnixSeconds>,
    /// Which of the brokers whose validators are heard of hold it.
    pub(crate) held_by: Vec<Holders>,
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

pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<KeyDocument>>, Problem> {
    documents(&app).await
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
    if now {
        tracing::info!(
            alg = algorithm.map_or("all", Algorithm::as_str),
            "signing key rotated; the new one signs"
        );
    } else {
        let is_asked = |of: &Algorithm| algorithm.is_none_or(|asked| asked == *of);
        app.keys.tell_of_announced(is_asked, app.now());
    }
    documents(&app).await
}

pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Path(kid): Path<String>,
) -> Result<Json<Vec<KeyDocument>>, Problem> {
    app.keys.revoke(&kid, &app.revoker.key(&kid), app.now()).await?;
    tracing::warn!(kid, "signing key revoked: every token that it signed is good for nothing");
    documents(&app).await
}

async fn documents(app: &App) -> Result<Json<Vec<KeyDocument>>, Problem> {
    let (now, timing) = (app.now(), app.keys.timing());
    let reports = app.keys.heard_of(now).await?;
    let document = |ScheduledKey { key, schedule }: &ScheduledKey| {
        let (state, fetch) = (schedule.state(now), app.brokers.key_fetch(key.algorithm()));
        let next_change_at = schedule.next_change(now);
        let may_wait = state == KeyState::Announced && !timing.is_settled(schedule.active_at, now);
        let earliest_at = earliest_at(schedule, timing, fetch).filter(|_| may_wait);
        KeyDocument {
            kid: key.kid().into(),
            alg: key.algorithm().as_str().into(),
            state,
            announced_at: schedule.announced_at,
            active_at: schedule.active_at,
            retired_at: schedule.retired_at,
            dropped_at: schedule.dropped_at,
            next_change_at,
            next_change_may_come_earlier: match (state, fetch) {
                (KeyState::Announced | KeyState::Active, KeyFetch::Within(_)) => {
                    next_change_at.is_some_and(|next| !timing.is_settled(next, now))
                }
                (KeyState::Announced | KeyState::Active, KeyFetch::ByHand)
                | (KeyState::Retired | KeyState::Dropped, _) => false,
            },
            earliest_at,
            waits_for: match earliest_at {
                Some(_) => waited_for(key.kid(), &reports, timing.heard_everywhere_at(schedule)),
                None => Vec::new(),
            },
            successor_announced_at: match state {
                KeyState::Active => rotation_due_at(schedule, timing, fetch),
                KeyState::Announced | KeyState::Retired | KeyState::Dropped => None,
            },
            held_by: holders(key.kid(), &reports),
        }
    };
    Ok(Json(app.keys.current().ring.keys().iter().map(document).collect()))
}
