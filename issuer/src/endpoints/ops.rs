//! `/healthz`, `/readyz` and `/metrics`, for whoever watches the server.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fleetbadge_validator::jwk::Algorithm;
use http::{StatusCode, header};

use crate::app::App;

/// The process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tokens can be issued: the database answers, and a key is active.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    if let Err(error) = app.store.ping().await {
        app.store_failed(&error);
        return (StatusCode::SERVICE_UNAVAILABLE, "the database fails\n").into_response();
    }
    if app.keys.current().ring.active(Algorithm::ES256, app.now()).is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no signing key is active\n").into_response();
    }
    "ok\n".into_response()
}

/// Prometheus' text format.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render())
}
