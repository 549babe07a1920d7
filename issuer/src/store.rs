//! What is kept: devices with their secrets, groups and signing keys.
//!
//! One trait, the same for every database; `contract` holds what each of them
//! must do. A write is durable when it returns. To add to a record: change it
//! here, add a migration, then each database's file of that name, then the
//! contract.

use std::fmt;

use async_trait::async_trait;
use fleetbadge_validator::ids::{DeviceName, GroupName, MqttClientId};
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::policy::PolicyDocument;
use crate::secret::SecretHash;
use crate::signing_keys::Schedule;

#[cfg(test)]
mod contract;
pub mod sqlite;

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
    pub mqtt_client_ids: Box<[MqttClientId]>,
    /// What it proves itself with.
    pub secrets: Box<[SecretRecord]>,
    /// When it was added.
    pub created_at: UnixSeconds,
}

/// Whether a device may have tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceStatus {
    /// It may.
    Enabled,
    /// It may not, until enabled again.
    Disabled,
}

impl DeviceStatus {
    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
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

/// A secret as it is kept. A device may have several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRecord {
    /// Its keyed hash.
    pub hash: SecretHash,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// From when on it is no longer good, if ever.
    pub expires_at: Option<UnixSeconds>,
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

/// A signing key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyRecord {
    /// Its thumbprint.
    pub kid: String,
    /// The private key, encrypted under the root key.
    pub sealed: Vec<u8>,
    /// When it does what.
    pub schedule: Schedule,
}

/// A database of an issuer.
#[async_trait]
pub trait Store: Send + Sync {
    /// Adds a device. All its names are taken for ever, or none is.
    async fn add_device(&self, device: &DeviceRecord) -> Result<(), AddDeviceError>;
    /// The device of this name.
    async fn device(&self, name: &str) -> Result<Option<DeviceRecord>, StoreError>;
    /// The first `limit` devices whose names come after `after`, in the order
    /// of their names' bytes.
    async fn devices(&self, after: Option<&str>, limit: u32) -> Result<Vec<DeviceRecord>, StoreError>;
    /// Sets the status of a device; false if there is no such device.
    async fn set_device_status(&self, name: &str, status: DeviceStatus) -> Result<bool, StoreError>;
    /// Removes a device and its secrets; its names stay taken. False if there
    /// is no such device.
    async fn remove_device(&self, name: &str) -> Result<bool, StoreError>;

    /// All groups, in the order of their names' bytes.
    async fn groups(&self) -> Result<Vec<GroupRecord>, StoreError>;
    /// Adds a group, or replaces the policy of the one of this name; the time
    /// at which that was first set stays.
    async fn set_group(&self, group: &GroupRecord) -> Result<(), StoreError>;

    /// All signing keys, the oldest first.
    async fn signing_keys(&self) -> Result<Vec<SigningKeyRecord>, StoreError>;
    /// Adds keys, or sets the schedules of those that are there: all or none.
    async fn set_signing_keys(&self, keys: &[SigningKeyRecord]) -> Result<(), StoreError>;
    /// Deletes a key, private half and all.
    async fn delete_signing_key(&self, kid: &str) -> Result<(), StoreError>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// The database does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It was written by a newer version of this program.
    #[error(
        "the database has the schema {found}, this program knows {known} and older; run the program that \
         wrote it, or a newer one"
    )]
    NewerSchema {
        /// The schema's version in the database.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A value in it is not one that this program has written.
    #[error("the database has a {what} that cannot be read: {reason}")]
    Corrupt {
        /// What it is.
        what: &'static str,
        /// Why it cannot be read.
        reason: String,
    },
    /// The database or the way to it failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A migration failed.
    #[error("the database's schema cannot be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// A device cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AddDeviceError {
    /// One of its names is, or was, another device's.
    #[error("{name} is taken by device {device}")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        device: String,
        /// Whether that device still exists.
        removed: bool,
    },
    /// There is no such group.
    #[error("there is no group {group}")]
    NoSuchGroup {
        /// Its name.
        group: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for AddDeviceError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
