//! What is kept: devices, groups, brokers, enrolments and signing keys.
//!
//! One trait, the same for every database; `contract` holds what each of them
//! must do. A write is durable when it returns. To add to a record: change it
//! in `record`; if it is not part of a document, add a migration, then each
//! database's file of that name; then the contract.

use async_trait::async_trait;
use fleetbadge_validator::time::UnixSeconds;

use crate::credentials::CredentialId;

#[cfg(test)]
mod contract;
mod record;
pub mod sqlite;

pub use record::{
    Attributes, BrokerRecord, CredentialUse, DeviceQuery, DeviceRecord, DeviceStatus, EnrolledBy,
    EnrolmentRecord, EnrolmentTerms, GroupRecord, NotEnabled, SigningKeyRecord, UsedJti,
};

/// A database of an issuer.
#[async_trait]
pub trait Store: Send + Sync {
    /// Adds a device. All its names are taken for ever, or none is.
    async fn add_device(&self, device: &DeviceRecord) -> Result<(), WriteError>;
    /// The device of this name.
    async fn device(&self, name: &str) -> Result<Option<DeviceRecord>, StoreError>;
    /// The device that has the public key of this thumbprint.
    async fn device_of_key(&self, thumbprint: &CredentialId) -> Result<Option<DeviceRecord>, StoreError>;
    /// Some devices, in the order of their names' bytes.
    async fn devices(&self, query: DeviceQuery<'_>) -> Result<Vec<DeviceRecord>, StoreError>;
    /// Replaces a device by what was made of the same revision of it; the new
    /// one has the next. Names that it did not have before are taken; when the
    /// credentials that it no longer has were used is forgotten.
    async fn update_device(&self, device: &DeviceRecord) -> Result<(), WriteError>;
    /// Removes a device and its credentials; its names stay taken. False if
    /// there is no such device.
    async fn remove_device(&self, name: &str) -> Result<bool, StoreError>;

    /// All groups, in the order of their names' bytes.
    async fn groups(&self) -> Result<Vec<GroupRecord>, StoreError>;
    /// Adds a group, or replaces the policy of the one of this name; the time
    /// at which that was first set stays.
    async fn set_group(&self, group: &GroupRecord) -> Result<(), StoreError>;

    /// All brokers, in the order of their names' bytes.
    async fn brokers(&self) -> Result<Vec<BrokerRecord>, StoreError>;
    /// Adds a broker. Its name is taken for ever.
    async fn add_broker(&self, broker: &BrokerRecord) -> Result<(), WriteError>;
    /// Replaces a broker by what was made of the same revision of it; the new
    /// one has the next. When the secrets that it no longer has were used is
    /// forgotten.
    async fn update_broker(&self, broker: &BrokerRecord) -> Result<(), WriteError>;
    /// Removes a broker; its name stays taken. False if there is no such
    /// broker.
    async fn remove_broker(&self, name: &str) -> Result<bool, StoreError>;

    /// All enrolments, the oldest first.
    async fn enrolments(&self) -> Result<Vec<EnrolmentRecord>, StoreError>;
    /// The enrolment whose token has this SHA-256.
    async fn enrolment(&self, token_hash: &[u8; 32]) -> Result<Option<EnrolmentRecord>, StoreError>;
    /// Adds an enrolment.
    async fn add_enrolment(&self, enrolment: &EnrolmentRecord) -> Result<(), StoreError>;
    /// Removes an enrolment. False if there is none of this name.
    async fn remove_enrolment(&self, id: &CredentialId) -> Result<bool, StoreError>;
    /// Adds a device and takes one use from an enrolment: both or none.
    async fn enrol(&self, enrolment: &CredentialId, device: &DeviceRecord) -> Result<(), WriteError>;

    /// Remembers signed statements, all in one write. For each, whether it is
    /// the first of its kind.
    async fn use_jtis(&self, jtis: &[UsedJti]) -> Result<Vec<bool>, StoreError>;
    /// Forgets the statements that ended before `now`.
    async fn forget_jtis(&self, now: UnixSeconds) -> Result<(), StoreError>;

    /// Remembers when credentials were last used, all in one write. A time
    /// never goes back.
    async fn record_uses(&self, uses: &[CredentialUse]) -> Result<(), StoreError>;
    /// When each credential of a client was last used, in no order.
    async fn credential_uses(&self, client: &str) -> Result<Vec<CredentialUse>, StoreError>;

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

/// A client cannot be added or changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// One of its names is, or was, another client's, or differs from such a
    /// one only by case.
    #[error("{name} is taken: {taken} belongs to {client}")]
    NameTaken {
        /// The name.
        name: String,
        /// The name that is in its way: the same, or its twin by case.
        taken: String,
        /// Whose it is.
        client: String,
        /// Whether that client has been removed.
        removed: bool,
    },
    /// One of its public keys is another device's.
    #[error("the key {thumbprint} belongs to device {device}")]
    KeyTaken {
        /// Its thumbprint.
        thumbprint: String,
        /// Whose it is.
        device: String,
    },
    /// Its resource URI is another broker's.
    #[error("the resource {resource} belongs to another broker")]
    ResourceTaken {
        /// The URI.
        resource: String,
    },
    /// There is no such group.
    #[error("there is no group {group}")]
    NoSuchGroup {
        /// Its name.
        group: String,
    },
    /// The enrolment has no use left, or is gone.
    #[error("the enrolment has no use left")]
    EnrolmentUsedUp,
    /// There is no such client any more.
    #[error("it is gone")]
    Gone,
    /// Somebody else changed it meanwhile.
    #[error("it was changed meanwhile")]
    Conflict,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
