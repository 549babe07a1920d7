//! Errors of the token and introspection endpoints, as clients see them
//! (RFC 6749 §5.2, RFC 7662 §2.3).
//!
//! What a client sees says what it did wrong and nothing about others; what
//! went wrong inside is logged where it happened.

use std::borrow::Cow;
use std::fmt::Display;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::app::StoreFailed;
use crate::form::InvalidForm;
use crate::root_keys::{REFRESH_S, RootKeyMissing};

/// A request of a client is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// The request is malformed; why.
    InvalidRequest(Cow<'static, str>),
    /// The body has more bytes than are read.
    BodyTooLarge {
        /// How many are read.
        max: usize,
    },
    /// The client did not send its request in time.
    RequestTimeout,
    /// Whoever asks has not proven to be a device that may have tokens. Never
    /// says why: unknown, wrong secret and disabled look the same.
    InvalidClient,
    /// A grant that is not good: a wrong password, for instance. Never says
    /// why.
    InvalidGrant,
    /// The client may not do this; why.
    UnauthorizedClient(&'static str),
    /// A grant type that is not offered.
    UnsupportedGrantType,
    /// A scope that is malformed, unknown or not the device's; why.
    InvalidScope(String),
    /// A broker that is unknown, not the device's, or cannot do what the token
    /// would need (RFC 8707 §2); why.
    InvalidTarget(String),
    /// Too many failures; after how many seconds to try again.
    TooManyFailures {
        /// In seconds.
        retry_after_s: u64,
    },
    /// The client, or all together, take back too many tokens; after how many
    /// seconds to try again.
    TooManyRevocations {
        /// In seconds.
        retry_after_s: u64,
    },
    /// The broker follows the revocations too often at once.
    TooManyFeeds {
        /// How often it may.
        max: usize,
    },
    /// Not possible yet; after how many seconds to try again.
    TemporarilyUnavailable {
        /// In seconds.
        retry_after_s: u64,
    },
    /// Something failed here.
    ServerError,
}

impl TokenError {
    /// Every code that there is.
    pub(crate) const CODES: [&str; 10] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "slow_down",
        "temporarily_unavailable",
        "server_error",
    ];

    /// Logs a failure of this server. The client learns only that there is one.
    pub(crate) fn internal(error: &dyn Display) -> Self {
        tracing::error!(%error, "a token could not be issued");
        Self::ServerError
    }

    /// The `error` of the answer.
    #[must_use]
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) | Self::BodyTooLarge { .. } | Self::RequestTimeout => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient(_) => "unauthorized_client",
            Self::InvalidScope(_) => "invalid_scope",
            Self::InvalidTarget(_) => "invalid_target",
            Self::TooManyFailures { .. } | Self::TooManyFeeds { .. } => "slow_down",
            Self::TooManyRevocations { .. } | Self::TemporarilyUnavailable { .. } => {
                "temporarily_unavailable"
            }
            Self::ServerError => "server_error",
        }
    }

    /// The answer of an endpoint that some clients have no business at: 403
    /// tells them so. At the token endpoint, where RFC 6749 §5.2 has 400, the
    /// request is at fault; there it is who asks.
    pub(crate) fn into_response_to_wrong_client(self) -> Response {
        let is_wrong_client = matches!(self, Self::UnauthorizedClient(_));
        let mut response = self.into_response();
        if is_wrong_client {
            *response.status_mut() = StatusCode::FORBIDDEN;
        }
        response
    }

    /// The status of the answer.
    #[must_use]
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest(_)
            | Self::InvalidGrant
            | Self::UnauthorizedClient(_)
            | Self::UnsupportedGrantType
            | Self::InvalidScope(_)
            | Self::InvalidTarget(_) => StatusCode::BAD_REQUEST,
            Self::TooManyFailures { .. } | Self::TooManyFeeds { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TooManyRevocations { .. } | Self::TemporarilyUnavailable { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn description(&self) -> Cow<'_, str> {
        match self {
            Self::InvalidRequest(why) => Cow::Borrowed(why),
            Self::BodyTooLarge { max } => format!("the body has more than {max} bytes").into(),
            Self::RequestTimeout => "the request did not come in time".into(),
            Self::InvalidClient => "client authentication failed".into(),
            Self::InvalidGrant => "the user name or the password is wrong".into(),
            Self::UnauthorizedClient(why) => (*why).into(),
            Self::UnsupportedGrantType => "grant_type must be client_credentials or password".into(),
            Self::InvalidScope(why) | Self::InvalidTarget(why) => Cow::Borrowed(why),
            Self::TooManyFailures { retry_after_s } => {
                format!("too many wrong passwords; try again in {retry_after_s} s").into()
            }
            Self::TooManyRevocations { retry_after_s } => {
                format!("too many tokens taken back; try again in {retry_after_s} s").into()
            }
            Self::TooManyFeeds { max } => {
                format!("this broker follows the revocations {max} times already; end some of them").into()
            }
            Self::TemporarilyUnavailable { retry_after_s } => {
                format!("not ready yet; try again in {retry_after_s} s").into()
            }
            Self::ServerError => "the server failed; try again later".into(),
        }
    }
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        let mut response = wire_error(self.status(), self.code(), &self.description());
        if self == Self::InvalidClient {
            let challenge = HeaderValue::from_static("Basic realm=\"fleetbadge\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Self::TooManyFailures { retry_after_s }
        | Self::TooManyRevocations { retry_after_s }
        | Self::TemporarilyUnavailable { retry_after_s } = self
        {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after_s.into());
        }
        response
    }
}

impl From<StoreFailed> for TokenError {
    fn from(StoreFailed: StoreFailed) -> Self {
        Self::TemporarilyUnavailable { retry_after_s: 1 }
    }
}

impl From<RootKeyMissing> for TokenError {
    fn from(_: RootKeyMissing) -> Self {
        Self::TemporarilyUnavailable { retry_after_s: REFRESH_S }
    }
}

impl From<InvalidForm> for TokenError {
    fn from(error: InvalidForm) -> Self {
        Self::InvalidRequest(error.to_string().into())
    }
}

/// An error in the form that every OAuth endpoint has (RFC 6749 §5.2,
/// RFC 7591 §3.2.2).
pub(crate) fn wire_error(status: StatusCode, error: &'static str, description: &str) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'static str,
        error_description: &'a str,
    }

    let description: String = description.chars().map(describable).collect();
    (status, axum::Json(Body { error, error_description: &description })).into_response()
}

/// `error_description` is of `%x20-21 / %x23-5B / %x5D-7E`.
const fn describable(c: char) -> char {
    match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    }
}
