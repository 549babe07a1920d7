//! `GET /oauth2/jwks`: the public keys (RFC 7517 §5).

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};

use crate::app::App;

/// A node that may be behind gives nobody keys: a validator could lose one that
/// it has from another node, and has reported.
pub(crate) async fn get(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if let Err(error) = app.moment() {
        return error.into_response();
    }
    let keys = app.keys.current();
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| *tag == *keys.etag);
    let cache = [(header::CACHE_CONTROL, app.jwks_cache_control.clone()), (header::ETAG, keys.etag.clone())];
    if known {
        return (StatusCode::NOT_MODIFIED, cache).into_response();
    }
    (cache, [(header::CONTENT_TYPE, "application/json")], keys.jwks.clone()).into_response()
}
