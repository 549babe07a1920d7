//! `/admin/v1/clock`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::app::App;
use crate::node::Node;

/// The clock, as the API shows it. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockDocument {
    /// What this node's clock shows.
    pub(crate) now: UnixSeconds,
    /// The latest time at which any node has worked.
    pub(crate) latest: UnixSeconds,
    /// Why this node issues nothing, if so.
    pub(crate) refused: Option<String>,
    /// Who gets no token though this node issues some, and until when: named
    /// by revocations that were made while the clock was ahead.
    #[serde(default)]
    pub(crate) held_up: Vec<HeldUp>,
}

/// One that a revocation of a later time names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldUp {
    /// What it takes back.
    pub(crate) target: String,
    /// Until when there is no new one.
    pub(crate) until: UnixSeconds,
}

pub(crate) async fn show(State(app): State<Arc<App>>) -> Result<Json<ClockDocument>, Problem> {
    document(&app).await.map(Json)
}

pub(crate) async fn accept(State(app): State<Arc<App>>) -> Result<Json<ClockDocument>, Problem> {
    app.node.accept_clock(&app).await?;
    tracing::warn!(now = %app.now(), "an operator says that the clock is right");
    document(&app).await.map(Json)
}

async fn document(app: &App) -> Result<ClockDocument, Problem> {
    let latest = app.store.changes(u64::MAX).await?.clock_high;
    let refused = app.node.check_current(app.now()).err().map(|reason| reason.to_string());
    let held_up = Node::held_up(app).into_iter();
    let held_up = held_up.map(|(target, until)| HeldUp { target: target.to_string(), until }).collect();
    Ok(ClockDocument { now: app.now(), latest, refused, held_up })
}
