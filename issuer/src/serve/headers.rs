//! How much a request may say before its body.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

/// The most bytes of a request's first line and headers; more is answered with
/// 431 (RFC 6585 §5).
pub(super) const MAX_HEADER_LENGTH: usize = 64 * 1024;

/// Refuses headers that are too long. The HTTP library's own limit bounds what
/// is kept in memory; how exactly depends on how the bytes come in.
pub(super) async fn limit_headers(request: Request, next: Next) -> Response {
    // `: ` and the end of the line.
    let lines = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target + lines.sum::<usize>() > MAX_HEADER_LENGTH {
        return StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response();
    }
    next.run(request).await
}
