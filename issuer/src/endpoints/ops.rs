//! `/healthz`, `/readyz` and `/metrics`, for whoever watches the server.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fleetbadge_validator::jwk::Algorithm;
use http::{StatusCode, header};
use tokio::time::timeout;

use crate::app::App;
use crate::metrics::NodeState;
use crate::node::NotCurrent;
use crate::store::StoreError;

/// How long the database may take: whoever probes waits a second, as a rule.
const PING: Duration = Duration::from_millis(800);

/// The process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tokens can be issued: the database answers, this node knows what the others
/// have changed, and an ES256 key is active.
///
/// Without the key that one broker wants the server is ready all the same: the
/// devices of the other brokers are served, and no other node is further on.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    // Without it nothing else that is new can be taken up either.
    if let Err(reason) = app.root_keys.check() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response();
    }
    if let Err(reason) = app.node.check_current(app.now()) {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response();
    }
    let failure = match timeout(PING, app.store.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some(StoreError::TooSlow(PING)),
    };
    if let Some(error) = failure {
        app.store_failed(&error);
        return (StatusCode::SERVICE_UNAVAILABLE, "the database fails\n").into_response();
    }
    let missing = app.algorithms_without_key();
    if missing.contains(&Algorithm::ES256) {
        return (StatusCode::SERVICE_UNAVAILABLE, "no signing key is active\n").into_response();
    }
    if app.keys.is_signer_missed(app.now()) {
        let text = "the PKCS #11 token that the signing keys are in is not there\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let waits = |algorithm: &Algorithm| format!("no {} key signs yet\n", algorithm.as_str());
    format!("ok\n{}", missing.iter().map(waits).collect::<String>()).into_response()
}

/// Prometheus' text format.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let current = app.node.check_current(app.now());
    app.metrics.node(&NodeState {
        is_current: current.is_ok(),
        is_clock_refused: match current {
            Err(NotCurrent::ClockDiffers | NotCurrent::ClockBehind { .. }) => true,
            Err(NotCurrent::Behind { .. }) | Ok(()) => false,
        },
        feeds: app.feeds.count(),
        revocations: app.revocations.current().len(),
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render())
}
