//! Reads a request whose parameters are a form, strictly: the same for every
//! endpoint that takes credentials in one (RFC 6749 §3.2, RFC 7662 §2.1).

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http::request::Parts;

use super::body;
use crate::app::App;
use crate::error::TokenError;

/// Reads head and body, in time.
///
/// # Errors
/// [`TokenError::InvalidRequest`], [`TokenError::BodyTooLarge`],
/// [`TokenError::RequestTimeout`].
pub(crate) async fn read_form(app: &App, request: Request<Body>) -> Result<(Parts, Bytes), TokenError> {
    let (parts, body) = request.into_parts();
    check_head(&parts)?;
    Ok((parts, body::read(body, app.request_timeout).await?))
}

fn check_head(parts: &Parts) -> Result<(), TokenError> {
    // Credentials must not be in the URL (RFC 6749 §2.3.1), and nothing else
    // has a reason to be.
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(TokenError::InvalidRequest("parameters belong into the body, not into the URL".into()));
    }
    body::check_kind(&parts.headers, "application/x-www-form-urlencoded")
}
