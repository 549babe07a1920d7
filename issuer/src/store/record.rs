//! What is kept of a device, a group, a broker and the rest.

use std::collections::BTreeMap;
use std::fmt;

use fleetbadge_validator::ids::{
    AttributeName, AttributeValue, BrokerName, DeviceName, GroupName, MqttClientId,
};
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::credentials::{CertificateRecord, CredentialId, Credentials, SecretRecords};
use crate::enrolments::NamePattern;
use crate::policy::PolicyDocument;
use crate::profile::Profile;
use crate::signing_keys::{PrivateHalf, Schedule};
use fleetbadge_validator::reports::Report;
use fleetbadge_validator::reports::sessions::Online;

/// What is known of a device beside its credentials: goes into topics.
pub type Attributes = BTreeMap<AttributeName, AttributeValue>;
/// As whom a device may connect. Most have one, which is in place.
pub type MqttClientIds = SmallVec<[MqttClientId; 1]>;

/// A device as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Its name: its `client_id`.
    pub name: DeviceName,
    /// The group whose policy it has.
    pub group: GroupName,
    /// Whether it may have tokens.
    pub status: DeviceStatus,
    /// As whom it may connect; the first is the default. Never empty.
    pub mqtt_client_ids: MqttClientIds,
    /// What goes into topics for `${attr.NAME}`.
    pub attributes: Attributes,
    /// What it proves itself with.
    pub credentials: Credentials,
    /// How it enrolled, if it came by itself.
    pub enrolled_by: Option<EnrolledBy>,
    /// When it was added.
    pub created_at: UnixSeconds,
    /// Counted up with every change, so that none overwrites another.
    pub revision: u64,
}

impl DeviceRecord {
    /// That it may have tokens.
    ///
    /// # Errors
    /// [`NotEnabled`].
    pub const fn check_enabled(&self) -> Result<(), NotEnabled> {
        match self.status {
            DeviceStatus::Enabled => Ok(()),
            status @ (DeviceStatus::Pending | DeviceStatus::Disabled) => Err(NotEnabled(status)),
        }
    }

    /// The certificate that its tokens are bound to (RFC 8705 §3), if they are.
    #[must_use]
    pub fn bound_certificate(&self) -> Option<&CertificateRecord> {
        self.credentials.certificate.as_deref().filter(|record| record.bound_access_tokens)
    }
}

/// A device may have no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device is {0}")]
pub struct NotEnabled(pub DeviceStatus);

/// How a device enrolled: whoever proves both again is that device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledBy {
    /// The enrolment, which may have been removed since.
    pub enrolment: CredentialId,
    /// The thumbprint of the key that it brought, which may have been removed
    /// since.
    pub key: CredentialId,
}

/// Whether a device may have tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DeviceStatus {
    /// It enrolled, and an operator has yet to approve it.
    Pending,
    /// It may.
    Enabled,
    /// It may not, until enabled again.
    Disabled,
}

impl DeviceStatus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Enabled, Self::Disabled];

    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for DeviceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which devices, in the order of their names' bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceQuery<'a> {
    /// Only those whose names come after this one.
    pub after: Option<&'a str>,
    /// Only those of this group.
    pub group: Option<&'a str>,
    /// Only those of this status.
    pub status: Option<DeviceStatus>,
    /// At most so many.
    pub limit: u32,
}

/// A group as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its name.
    pub name: GroupName,
    /// What its devices may have.
    pub policy: PolicyDocument,
    /// When it was first set.
    pub created_at: UnixSeconds,
    /// When it was last set.
    pub updated_at: UnixSeconds,
}

/// A broker as it is kept: an OAuth resource server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRecord {
    /// Its name: its `client_id`.
    pub name: BrokerName,
    /// The `aud` of the tokens that are for it. Brokers that share one have
    /// the same profile and algorithm.
    pub audience: Box<str>,
    /// The URI that devices name it by (RFC 8707); of this broker alone.
    pub resource: Box<str>,
    /// How the permissions of its tokens are written.
    pub profile: Profile,
    /// What its tokens are signed with.
    pub algorithm: Algorithm,
    /// What it proves itself with.
    pub secrets: SecretRecords,
    /// When it was added.
    pub created_at: UnixSeconds,
    /// Counted up with every change, so that none overwrites another.
    pub revision: u64,
}

/// The right to enrol devices, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentRecord {
    /// What operators name it by.
    pub id: CredentialId,
    /// The SHA-256 of the token that has this right.
    pub token_hash: [u8; 32],
    /// How many devices it can still enrol.
    pub uses_left: u32,
    /// What it allows.
    pub terms: EnrolmentTerms,
    /// When it was made.
    pub created_at: UnixSeconds,
}

/// What an enrolment token allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentTerms {
    /// The group that the devices come into.
    pub group: GroupName,
    /// Which names they may have.
    pub name_pattern: NamePattern,
    /// How many devices it was made for.
    pub uses: u32,
    /// From when on it is no longer good.
    pub expires_at: UnixSeconds,
    /// Whether an operator has to approve each device.
    pub approval: bool,
}

/// A signed statement that is good once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedJti {
    /// The SHA-256 of what it is: its kind, who signed it, its `jti`.
    pub id: [u8; 32],
    /// From when on it would not be accepted anyway.
    pub expires_at: UnixSeconds,
}

/// A credential was good for a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialUse {
    /// The device or broker.
    pub client: Box<str>,
    /// Which of its credentials.
    pub credential: CredentialId,
    /// When.
    pub at: UnixSeconds,
}

/// A signing key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyRecord {
    /// Its thumbprint.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// Who keeps its private half.
    pub private: PrivateHalf,
    /// When it does what.
    pub schedule: Schedule,
}

/// What a validator said last, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRecord {
    /// The broker that it serves.
    pub broker: BrokerName,
    /// Which of that broker's processes: text that it keeps.
    pub instance: Box<str>,
    /// With which of the broker's secrets it came.
    pub secret: CredentialId,
    /// What it said.
    pub report: Report,
    /// When.
    pub reported_at: UnixSeconds,
}

/// A client that is connected, as a validator told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// To which broker.
    pub broker: BrokerName,
    /// To which of its processes.
    pub instance: Box<str>,
    /// As whom, and for how long.
    pub session: Online,
}

/// What all nodes over one database must have in common: tokens of another
/// issuer are none, and a revocation reaches as far ahead as the slowest node may
/// be behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FleetTerms {
    /// The issuer identifier.
    pub issuer: String,
    /// How long a node may go on that does not hear of the database, in seconds.
    pub propagation_bound_s: u64,
}
