//! What devices and brokers ask over HTTP, one file for each endpoint.

use axum::response::Response;
use http::{HeaderValue, header};

pub(crate) mod body;
pub(crate) mod form_request;
pub(crate) mod introspect;
pub(crate) mod issued_token;
pub(crate) mod jwks;
pub(crate) mod metadata;
pub(crate) mod ops;
pub(crate) mod register;
pub(crate) mod reports;
pub(crate) mod revocations;
pub(crate) mod revoke;
pub(crate) mod token;

/// Says that an answer is not to be kept (RFC 6749 §5.1, RFC 7591 §3.2.1).
pub(crate) fn never_cached(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
