//! Errors of the registration endpoint, as devices see them (RFC 7591 §3.2.2,
//! RFC 6750 §3, RFC 9449 §7.1).

use std::fmt::Display;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::app::StoreFailed;
use crate::devices::DeviceError;
use crate::dpop::InvalidProof;
use crate::endpoints::body::BodyError;
use crate::error::{TokenError, wire_error};
use crate::registration::InvalidMetadata;

/// A registration is refused.
#[derive(Debug)]
pub(crate) enum RegistrationError {
    /// The request is malformed; why.
    InvalidRequest(&'static str),
    /// The body cannot be had.
    Body(BodyError),
    /// Nobody says who asks.
    NoToken,
    /// A token that is not good. Never says why: unknown, ended and used up
    /// look the same.
    InvalidToken,
    /// What the device says of itself cannot be used; why.
    InvalidClientMetadata(String),
    /// The proof of possession is not good.
    InvalidProof(InvalidProof),
    /// Not possible yet; after how many seconds to try again.
    TemporarilyUnavailable {
        /// In seconds.
        retry_after_s: u64,
    },
    /// Something failed here.
    ServerError,
}

impl RegistrationError {
    /// Logs a failure of this server. The device learns only that there is one.
    pub(crate) fn internal(error: &dyn Display) -> Self {
        tracing::error!(%error, "a registration failed");
        Self::ServerError
    }

    /// What whoever has a token that is used up is told instead.
    pub(crate) fn without_reason(self) -> Self {
        match self {
            Self::InvalidRequest(_)
            | Self::Body(_)
            | Self::NoToken
            | Self::InvalidToken
            | Self::InvalidClientMetadata(_)
            | Self::InvalidProof(_) => Self::InvalidToken,
            Self::TemporarilyUnavailable { retry_after_s } => Self::TemporarilyUnavailable { retry_after_s },
            Self::ServerError => Self::ServerError,
        }
    }
}

impl IntoResponse for RegistrationError {
    fn into_response(self) -> Response {
        let bad_request = |code, description: &str| wire_error(StatusCode::BAD_REQUEST, code, description);
        match self {
            Self::InvalidRequest(why) => bad_request("invalid_request", why),
            Self::Body(error) => TokenError::from(error).into_response(),
            Self::TemporarilyUnavailable { retry_after_s } => {
                TokenError::TemporarilyUnavailable { retry_after_s }.into_response()
            }
            // Who sent no credentials is told no code (RFC 6750 §3.1).
            Self::NoToken => {
                with_challenge(StatusCode::UNAUTHORIZED.into_response(), "Bearer realm=\"fleetbadge\"")
            }
            Self::InvalidToken => with_challenge(
                wire_error(StatusCode::UNAUTHORIZED, "invalid_token", "the token is not good here"),
                "Bearer realm=\"fleetbadge\", error=\"invalid_token\"",
            ),
            Self::InvalidClientMetadata(why) => bad_request("invalid_client_metadata", &why),
            Self::InvalidProof(why) => bad_request("invalid_dpop_proof", &why.to_string()),
            Self::ServerError => wire_error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "the server failed; try again later",
            ),
        }
    }
}

fn with_challenge(mut response: Response, challenge: &'static str) -> Response {
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

impl From<StoreFailed> for RegistrationError {
    fn from(StoreFailed: StoreFailed) -> Self {
        Self::ServerError
    }
}

impl From<BodyError> for RegistrationError {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<InvalidMetadata> for RegistrationError {
    fn from(error: InvalidMetadata) -> Self {
        Self::InvalidClientMetadata(error.to_string())
    }
}

impl From<InvalidProof> for RegistrationError {
    fn from(error: InvalidProof) -> Self {
        Self::InvalidProof(error)
    }
}

impl From<DeviceError> for RegistrationError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::NameTaken { .. } => {
                tracing::info!(%error, "a device wished for a name that is taken");
                Self::InvalidClientMetadata("client_name: the name is, or was, another device's".into())
            }
            DeviceError::KeyTaken { .. } => {
                tracing::warn!(%error, "a device brought the key of another");
                Self::InvalidClientMetadata("jwks: the key is registered already; make a new one".into())
            }
            DeviceError::MisreadName(_) => {
                tracing::info!(%error, "a device came with a name that a broker of its group would misread");
                Self::InvalidClientMetadata("client_name: names of this group have no '.' and no ':'".into())
            }
            DeviceError::NoSuchDevice { .. } => Self::InvalidToken,
            DeviceError::Name(_)
            | DeviceError::DuplicateMqttClientId { .. }
            | DeviceError::TooManyMqttClientIds { .. }
            | DeviceError::TooManyAttributes { .. }
            | DeviceError::AttributeValue { .. }
            | DeviceError::NoSuchCredential { .. }
            | DeviceError::NoSuchGroup { .. }
            | DeviceError::Pending { .. }
            | DeviceError::NotPending { .. }
            | DeviceError::CertificateSubject(_)
            | DeviceError::InvalidKeys(_)
            | DeviceError::KeyNotAdded(_)
            | DeviceError::ImportedSecret(_)
            | DeviceError::SlowHash(_)
            | DeviceError::Secret(_)
            | DeviceError::Busy { .. }
            | DeviceError::Store(_) => Self::internal(&error),
        }
    }
}
