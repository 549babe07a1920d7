//! What is kept: devices, groups, brokers, enrolments and signing keys.
//!
//! One trait, the same for every database; `contract` holds what each of them
//! must do. A write is durable when it returns. To add to a record: change it
//! in `record`; if it is not part of a document, add a migration, then each
//! database's file of that name; then the contract.

use async_trait::async_trait;
use fleetbadge_validator::time::UnixSeconds;

use crate::credentials::CredentialId;
use crate::root_key::RootKeyId;

#[cfg(test)]
mod contract;
mod error;
mod record;
pub mod sqlite;

pub use error::{
    BrokerNotAdded, BrokerNotUpdated, DeviceNotEnrolled, DeviceNotUpdated, DeviceNotWritten, NameTaken,
    StoreError,
};
pub use record::{
    Attributes, BrokerRecord, CredentialUse, DeviceQuery, DeviceRecord, DeviceStatus, EnrolledBy,
    EnrolmentRecord, EnrolmentTerms, GroupRecord, NotEnabled, SigningKeyRecord, UsedJti,
};

/// A database of an issuer.
#[async_trait]
pub trait Store: Send + Sync {
    /// Adds a device. All its names are taken for ever, or none is.
    async fn add_device(&self, device: &DeviceRecord) -> Result<(), DeviceNotWritten>;
    /// The device of this name.
    async fn device(&self, name: &str) -> Result<Option<DeviceRecord>, StoreError>;
    /// The device that has the public key of this thumbprint.
    async fn device_of_key(&self, thumbprint: &CredentialId) -> Result<Option<DeviceRecord>, StoreError>;
    /// Some devices, in the order of their names' bytes.
    async fn devices(&self, query: DeviceQuery<'_>) -> Result<Vec<DeviceRecord>, StoreError>;
    /// Replaces a device by what was made of the same revision of it; the new
    /// one has the next. Names that it did not have before are taken; when the
    /// credentials that it no longer has were used is forgotten.
    async fn update_device(&self, device: &DeviceRecord) -> Result<(), DeviceNotUpdated>;
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
    async fn add_broker(&self, broker: &BrokerRecord) -> Result<(), BrokerNotAdded>;
    /// Replaces a broker by what was made of the same revision of it; the new
    /// one has the next. When the secrets that it no longer has were used is
    /// forgotten.
    async fn update_broker(&self, broker: &BrokerRecord) -> Result<(), BrokerNotUpdated>;
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
    async fn enrol(&self, enrolment: &CredentialId, device: &DeviceRecord) -> Result<(), DeviceNotEnrolled>;

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
    /// Adds keys, or sets the schedules and private halves of those that are
    /// there: all or none.
    async fn set_signing_keys(&self, keys: &[SigningKeyRecord]) -> Result<(), StoreError>;
    /// Deletes a key, private half and all.
    async fn delete_signing_key(&self, kid: &str) -> Result<(), StoreError>;

    /// The root key that everything new is under, by the word of all nodes.
    /// None in a new database.
    async fn root_key(&self) -> Result<Option<RootKeyId>, StoreError>;
    /// Makes a root key the current one, if `former` is at present. False, and
    /// nothing written, if it is not.
    async fn set_root_key(&self, id: RootKeyId, former: Option<RootKeyId>) -> Result<bool, StoreError>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
