//! `POST /oauth2/token`: the token endpoint (RFC 6749 §3.2).
//!
//! 1. read the request, strictly;
//! 2. find the credentials, authenticate the device;
//! 3. let the grant issue the token;
//! 4. answer, never to be cached (§5.1).

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, header};

use crate::app::App;
use crate::client_auth::{Credentials, authenticate};
use crate::error::TokenError;
use crate::form::Form;
use crate::grants::{GrantType, TokenResponse, client_credentials};
use crate::metrics::Started;
use crate::peer::Peer;

/// The most bytes of a body that are read.
const MAX_BODY_LENGTH: usize = 64 * 1024;

pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let started = Started::now();
    let result = issue(&app, request).await;
    app.metrics.token_request(started, result.as_ref().map(|_| ()));
    match result {
        Ok(token) => Json(token).into_response(),
        Err(error) => error.into_response(),
    }
}

/// Whatever the answer is, also one for another method: it is not to be kept.
pub(crate) async fn never_cached(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

async fn issue(app: &App, request: Request<Body>) -> Result<TokenResponse, TokenError> {
    let (parts, body) = request.into_parts();
    check_head(&parts)?;
    let body = tokio::time::timeout(app.request_timeout, read(body))
        .await
        .map_err(|_| TokenError::RequestTimeout)??;
    let form = Form::parse(&body).map_err(|error| TokenError::InvalidRequest(error.to_string().into()))?;
    let peer = Peer::of(&parts.extensions);
    let credentials = Credentials::from_request(&parts.headers, &form, &peer)?;
    let client = authenticate(app, &credentials).await?;
    match GrantType::from_form(&form)? {
        GrantType::ClientCredentials => client_credentials::issue(app, &client.into_device()?, &form, &peer),
    }
}

fn check_head(parts: &Parts) -> Result<(), TokenError> {
    // Credentials must not be in the URL (RFC 6749 §2.3.1), and nothing else
    // has a reason to be.
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(TokenError::InvalidRequest("parameters belong into the body, not into the URL".into()));
    }
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(TokenError::InvalidRequest("Content-Encoding is not accepted".into()));
    }
    if !has_form_content_type(&parts.headers) {
        return Err(TokenError::InvalidRequest(
            "Content-Type must be application/x-www-form-urlencoded, in UTF-8".into(),
        ));
    }
    Ok(())
}

fn has_form_content_type(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    let is_form =
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    let is_utf_8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) | None => true,
    };
    is_form && parts.all(is_utf_8)
}

async fn read(body: Body) -> Result<Bytes, TokenError> {
    let too_large = TokenError::BodyTooLarge { max: MAX_BODY_LENGTH };
    let is_too_large = |length: u64| length > MAX_BODY_LENGTH as u64;
    if is_too_large(body.size_hint().lower()) {
        return Err(too_large);
    }
    to_bytes(body, MAX_BODY_LENGTH).await.map_err(|error| {
        // The limit is the only error of ours; the others are the transport's.
        match std::error::Error::source(&error) {
            Some(source) if source.is::<http_body_util::LengthLimitError>() => too_large,
            Some(_) | None => TokenError::InvalidRequest("the body cannot be read".into()),
        }
    })
}

#[cfg(test)]
mod tests;
