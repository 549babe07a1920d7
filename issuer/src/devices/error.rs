//! Why a device cannot be added or changed.

use fleetbadge_validator::ids::{AttributeName, InvalidName};

use super::{MAX_ATTRIBUTES, MAX_MQTT_CLIENT_IDS};
use crate::certificate::InvalidSubject;
use crate::client_secrets::SecretError;
use crate::device_keys::{InvalidDeviceKeys, KeyNotAdded};
use crate::groups::MisreadName;
use crate::names::NameRefused;
use crate::secret::imported::{InvalidImportedSecret, SlowHashFailed};
use crate::store::{DeviceNotWritten, DeviceStatus, NameTaken, StoreError};

/// A device cannot be added or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameRefused),
    /// One MQTT client identifier twice.
    #[error("mqtt_client_ids: {found} is there twice")]
    DuplicateMqttClientId {
        /// Which.
        found: String,
    },
    /// More than [`MAX_MQTT_CLIENT_IDS`].
    #[error("mqtt_client_ids: has {count}; at most {MAX_MQTT_CLIENT_IDS} are allowed")]
    TooManyMqttClientIds {
        /// How many.
        count: usize,
    },
    /// More than [`MAX_ATTRIBUTES`].
    #[error("attributes: has {count}; at most {MAX_ATTRIBUTES} are allowed")]
    TooManyAttributes {
        /// How many.
        count: usize,
    },
    /// The value of an attribute that cannot be one.
    #[error("attributes: {attribute}: {found:?} {reason}")]
    AttributeValue {
        /// Of which.
        attribute: AttributeName,
        /// What was given.
        found: String,
        /// Why not.
        reason: InvalidName,
    },
    /// One of its names is, or was, another client's.
    #[error("{field}: {reason}")]
    NameTaken {
        /// The field that the name stands in.
        field: &'static str,
        /// Why it cannot be had.
        reason: NameTaken,
    },
    /// A broker of its group would take one of its names for another.
    #[error(transparent)]
    MisreadName(#[from] MisreadName),
    /// Its public keys cannot be used.
    #[error(transparent)]
    InvalidKeys(#[from] InvalidDeviceKeys),
    /// Public keys cannot be added to those that it has.
    #[error(transparent)]
    KeyNotAdded(#[from] KeyNotAdded),
    /// One of its public keys is another device's.
    #[error("jwks: the key {thumbprint} belongs to device {device}")]
    KeyTaken {
        /// Its thumbprint.
        thumbprint: String,
        /// Whose it is.
        device: String,
    },
    /// A name that no certificate can be found by.
    #[error(transparent)]
    CertificateSubject(#[from] InvalidSubject),
    /// Its secrets cannot be changed so.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A secret that cannot be imported.
    #[error("secret: {0}")]
    ImportedSecret(#[from] InvalidImportedSecret),
    /// The slow hash of a secret failed.
    #[error(transparent)]
    SlowHash(#[from] SlowHashFailed),
    /// It has no such credential.
    #[error("device {device} has no {what} {id}")]
    NoSuchCredential {
        /// The device.
        device: String,
        /// Which kind.
        what: &'static str,
        /// What was named.
        id: String,
    },
    /// There is no such group.
    #[error("group: there is no group {group}; make it with: fleetbadge-issuer group set {group}")]
    NoSuchGroup {
        /// Its name.
        group: String,
    },
    /// There is no such device.
    #[error("there is no device {name:?}")]
    NoSuchDevice {
        /// Its name.
        name: String,
    },
    /// It waits for approval.
    #[error(
        "device {name} enrolled and waits for approval; if it is one of yours: fleetbadge-issuer device approve \
         {name}"
    )]
    Pending {
        /// Its name.
        name: String,
    },
    /// It does not wait for approval.
    #[error("device {name} is {status}; only a pending one can be approved")]
    NotPending {
        /// Its name.
        name: String,
        /// What it is.
        status: DeviceStatus,
    },
    /// It was changed by others each time that it was tried.
    #[error("device {name} is being changed by others; try again")]
    Busy {
        /// Its name.
        name: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the store refused of a device of this name.
pub(crate) fn not_written(error: DeviceNotWritten, device: &str) -> DeviceError {
    match error {
        DeviceNotWritten::NameTaken(reason) => {
            let field = if reason.name == device { "name" } else { "mqtt_client_ids" };
            DeviceError::NameTaken { field, reason }
        }
        DeviceNotWritten::KeyTaken { thumbprint, device } => DeviceError::KeyTaken { thumbprint, device },
        DeviceNotWritten::NoSuchGroup { group } => DeviceError::NoSuchGroup { group },
        DeviceNotWritten::Store(error) => DeviceError::Store(error),
    }
}

pub(super) fn no_such_device(name: &str) -> DeviceError {
    DeviceError::NoSuchDevice { name: name.into() }
}
