//! The body of a request, bounded in size and time.

use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, header};

use crate::error::TokenError;

/// The most bytes of a body that are read.
pub(crate) const MAX_BODY_LENGTH: usize = 64 * 1024;

/// A body cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It has more than [`MAX_BODY_LENGTH`] bytes.
    TooLarge,
    /// It did not come in time.
    TooLate,
    /// The transport failed.
    Unreadable,
}

/// Reads a body.
///
/// # Errors
/// [`BodyError`].
pub(crate) async fn read(body: Body, timeout: Duration) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > MAX_BODY_LENGTH as u64 {
        return Err(BodyError::TooLarge);
    }
    let read = tokio::time::timeout(timeout, to_bytes(body, MAX_BODY_LENGTH));
    read.await.map_err(|_| BodyError::TooLate)?.map_err(|error| {
        // The limit is the only error of ours; the others are the transport's.
        match std::error::Error::source(&error) {
            Some(source) if source.is::<http_body_util::LengthLimitError>() => BodyError::TooLarge,
            Some(_) | None => BodyError::Unreadable,
        }
    })
}

/// Whether the one `Content-Type` is `kind`, in UTF-8 if it says in what.
pub(crate) fn has_content_type(headers: &HeaderMap, kind: &str) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    let is_kind = parts.next().is_some_and(|found| found.eq_ignore_ascii_case(kind));
    let is_utf_8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) | None => true,
    };
    is_kind && parts.all(is_utf_8)
}

/// That a body is of this kind, in UTF-8 and as it stands.
///
/// # Errors
/// [`TokenError::InvalidRequest`].
pub(crate) fn check_kind(headers: &HeaderMap, kind: &str) -> Result<(), TokenError> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(TokenError::InvalidRequest("Content-Encoding is not accepted".into()));
    }
    if !has_content_type(headers, kind) {
        return Err(TokenError::InvalidRequest(format!("Content-Type must be {kind}, in UTF-8").into()));
    }
    Ok(())
}

impl From<BodyError> for TokenError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::BodyTooLarge { max: MAX_BODY_LENGTH },
            BodyError::TooLate => Self::RequestTimeout,
            BodyError::Unreadable => Self::InvalidRequest("the body cannot be read".into()),
        }
    }
}
