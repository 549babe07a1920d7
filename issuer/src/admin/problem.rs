//! Errors of the admin API: problem details (RFC 9457).

use std::fmt::Display;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::brokers::BrokerError;
use crate::client_secrets::SecretError;
use crate::devices::DeviceError;
use crate::enrolments::EnrolmentError;
use crate::grants::explain::InvalidQuestion;
use crate::groups::GroupError;
use crate::keys::KeyError;
use crate::node::AcceptClockError;
use crate::random::NoRandomness;
use crate::root_key::RootKeyFileError;
use crate::root_keys::RootKeyError;
use crate::static_password::PasswordError;
use crate::store::StoreError;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// `urn:fleetbadge:problem:` and a code that does not change.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The same for every problem of this type.
    pub(crate) title: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What is wrong this time, and the way out.
    pub(crate) detail: String,
    /// The field that is wrong, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, code: &str, title: &str, detail: &dyn Display) -> Self {
        Self {
            kind: format!("urn:fleetbadge:problem:{code}"),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.to_string(),
            field: None,
        }
    }

    pub(super) fn invalid(field: Option<&str>, detail: &dyn Display) -> Self {
        let problem =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "A value cannot be used", detail);
        Self { field: field.map(Into::into), ..problem }
    }

    pub(super) fn not_found(detail: &dyn Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    pub(super) fn conflict(code: &str, title: &str, detail: &dyn Display) -> Self {
        Self::new(StatusCode::CONFLICT, code, title, detail)
    }

    fn name_taken(field: &str, detail: &dyn Display) -> Self {
        let problem = Self::conflict("name-taken", "The name is taken", detail);
        Self { field: Some(field.into()), ..problem }
    }

    /// A failure of this server. Operators may see what it is.
    pub(super) fn internal(detail: &dyn Display) -> Self {
        let problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed", detail);
        tracing::error!(error = %problem.detail, "an admin request failed");
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

pub(crate) async fn no_such_route() -> Problem {
    Problem::not_found(&"there is no such path; the API is at /admin/v1/")
}

pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "The method is not allowed",
        &"this path has other methods, see the header Allow",
    )
}

/// A JSON body; what is wrong with it is told as a [`Problem`].
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub(crate) struct Json<T>(pub(crate) T);

/// A query; what is wrong with it is told as a [`Problem`].
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(crate) struct Query<T>(pub(crate) T);

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::invalid(None, &rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(None, &rejection.body_text())
    }
}

impl From<DeviceError> for Problem {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Name(error) => Self::invalid(Some(error.field), &error),
            DeviceError::MisreadName(error) => Self::invalid(Some(error.field), &error),
            DeviceError::DuplicateMqttClientId { .. } | DeviceError::TooManyMqttClientIds { .. } => {
                Self::invalid(Some("mqtt_client_ids"), &error)
            }
            DeviceError::NoSuchGroup { .. } => Self::invalid(Some("group"), &error),
            DeviceError::TooManyAttributes { .. } | DeviceError::AttributeValue { .. } => {
                Self::invalid(Some("attributes"), &error)
            }
            DeviceError::Secret(error) => error.into(),
            DeviceError::ImportedSecret(_) => Self::invalid(Some("secret"), &error),
            DeviceError::SlowHash(_) => Self::internal(&error),
            DeviceError::CertificateSubject(error) => Self::invalid(Some(error.field()), &error),
            DeviceError::NameTaken { field, .. } => Self::name_taken(field, &error),
            DeviceError::InvalidKeys(_) | DeviceError::KeyNotAdded(_) => Self::invalid(Some("jwks"), &error),
            DeviceError::KeyTaken { .. } => Self::conflict("key-taken", "The key is taken", &error),
            DeviceError::Pending { .. } => Self::conflict("pending", "The device waits for approval", &error),
            DeviceError::NotPending { .. } => {
                Self::conflict("not-pending", "The device does not wait for approval", &error)
            }
            DeviceError::Busy { .. } => Self::conflict("busy", "Others are changing it", &error),
            DeviceError::NoSuchDevice { .. } | DeviceError::NoSuchCredential { .. } => {
                Self::not_found(&error)
            }
            DeviceError::Store(error) => error.into(),
        }
    }
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::TooMany => Self::invalid(Some("secrets"), &error),
            SecretError::TooManyImported => Self::invalid(Some("secret"), &error),
            SecretError::Lifetime { field, .. } => Self::invalid(Some(field), &error),
            SecretError::NoSuchSecret { .. } => Self::not_found(&error),
            SecretError::NoRandomness(NoRandomness) => Self::internal(&error),
        }
    }
}

impl From<NoRandomness> for Problem {
    fn from(error: NoRandomness) -> Self {
        Self::internal(&error)
    }
}

impl From<EnrolmentError> for Problem {
    fn from(error: EnrolmentError) -> Self {
        match error {
            EnrolmentError::Name(error) => Self::invalid(Some(error.field), &error),
            EnrolmentError::NamePattern { .. } => Self::invalid(Some("name_pattern"), &error),
            EnrolmentError::Uses { .. } => Self::invalid(Some("uses"), &error),
            EnrolmentError::Lifetime { .. } => Self::invalid(Some("expires_in_s"), &error),
            EnrolmentError::NoSuchEnrolment { .. } => Self::not_found(&error),
            EnrolmentError::Device(error) => error.into(),
            EnrolmentError::NameNotAllowed { .. }
            | EnrolmentError::UsedUp
            | EnrolmentError::NoRandomness(NoRandomness) => Self::internal(&error),
            EnrolmentError::Store(error) => error.into(),
        }
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::NotAllowed { .. } => Self::invalid(Some("static_passwords"), &error),
            PasswordError::Lifetime { .. } => Self::invalid(Some("expires_in_s"), &error),
            PasswordError::NoPassword { .. } => Self::not_found(&error),
            PasswordError::NoRandomness(NoRandomness) => Self::internal(&error),
            PasswordError::Device(error) => error.into(),
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Name(error) => Self::invalid(Some(error.field), &error),
            BrokerError::Profile(error) => Self::invalid(Some(error.field()), &error),
            BrokerError::Resource { .. } => Self::invalid(Some("resource"), &error),
            BrokerError::Algorithm { .. } => Self::invalid(Some("algorithm"), &error),
            BrokerError::UnboundPublishers { .. } | BrokerError::NoUnboundPublishers { .. } => {
                Self::invalid(Some("accept_unbound_publishers"), &error)
            }
            BrokerError::Audience { .. }
            | BrokerError::IssuerAudience { .. }
            | BrokerError::AudienceShared { .. }
            | BrokerError::Group { .. } => Self::invalid(Some("audience"), &error),
            BrokerError::NameTaken(_) => Self::name_taken("name", &error),
            BrokerError::ResourceTaken { .. } => {
                Self::conflict("resource-taken", "The resource URI is taken", &error)
            }
            BrokerError::Busy { .. } => Self::conflict("busy", "Others are changing it", &error),
            BrokerError::NoSuchBroker { .. } => Self::not_found(&error),
            BrokerError::Reload(_) => Self::internal(&error),
            BrokerError::Secret(error) => error.into(),
            BrokerError::Store(error) => error.into(),
        }
    }
}

impl From<InvalidQuestion<'_>> for Problem {
    fn from(error: InvalidQuestion<'_>) -> Self {
        Self::invalid(Some(error.field()), &error)
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Name(error) => Self::invalid(Some(error.field), &error),
            GroupError::Policy(error) => Self::invalid(Some(error.field()), &error),
            GroupError::DeviceMisread { .. } => Self::invalid(Some("audiences"), &error),
            GroupError::NoSuchGroup { .. } => Self::not_found(&error),
            GroupError::Busy { .. } => Self::conflict("busy", "Others are changing it", &error),
            GroupError::Stored { .. } | GroupError::Mint(_) => Self::internal(&error),
            GroupError::Store(error) => error.into(),
        }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Refused(_) => {
                Self::conflict("rotation-refused", "The key cannot be rotated now", &error)
            }
            KeyError::NoSuchKey { .. } => Self::not_found(&error),
            KeyError::Unusable(_)
            | KeyError::KeySet(_)
            | KeyError::Json(_)
            | KeyError::Ending
            | KeyError::TooSlow(_) => Self::internal(&error),
            KeyError::Store(error) => error.into(),
        }
    }
}

impl From<AcceptClockError> for Problem {
    fn from(error: AcceptClockError) -> Self {
        match error {
            AcceptClockError::Differs(_) => Self::conflict("clock-differs", "One clock is wrong", &error),
            AcceptClockError::Keys(error) => error.into(),
            AcceptClockError::Store(error) => error.into(),
            AcceptClockError::Follow(error) => error.into(),
        }
    }
}

impl From<RootKeyError> for Problem {
    fn from(error: RootKeyError) -> Self {
        match error {
            RootKeyError::Id { .. } | RootKeyError::Unknown(_) => Self::not_found(&error),
            RootKeyError::Current(_)
            | RootKeyError::Needed { .. }
            | RootKeyError::Missing(_)
            | RootKeyError::SigningKey { .. } => {
                Self::conflict("root-key-needed", "The root key is needed", &error)
            }
            RootKeyError::TooMany => Self::conflict("too-many", "There are too many", &error),
            RootKeyError::File(RootKeyFileError::ReadOnly { .. }) => {
                Self::conflict("read-only", "The file cannot be changed from here", &error)
            }
            RootKeyError::Busy => Self::conflict("busy", "Others are changing it", &error),
            RootKeyError::File(_) | RootKeyError::OtherDatabase { .. } | RootKeyError::Ending => {
                Self::internal(&error)
            }
            RootKeyError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if !matches!(error, StoreError::Away { .. } | StoreError::TooSlow(_)) {
            return Self::internal(&error);
        }
        let title = "The database cannot be reached";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database-away", title, &error)
    }
}
