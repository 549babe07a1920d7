//! What is kept: devices, groups, brokers, enrolments, signing keys and
//! revocations.
//!
//! Several issuers may share a database. What the others must hear of is a row
//! of its log of changes, written with the change itself; they follow it, see
//! [`crate::node`].
//!
//! One trait, the same for every database; `contract` holds what each of them
//! must do. A write is durable when it returns. To add to a record: change it
//! in `record`; if it is not part of a document, add a migration for each
//! database, then `row`, then each database's file of that name; then the
//! contract.

use async_trait::async_trait;
use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::reports::sessions::{SessionsKept, SessionsPart};
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::time::UnixSeconds;

use crate::credentials::CredentialId;
use crate::root_key::RootKeyId;

#[cfg(test)]
pub(crate) mod contract;
mod error;
mod log;
mod migrations;
pub mod postgres;
mod record;
mod row;
mod session_list;
pub mod sqlite;
pub mod tables;

pub use error::{
    BrokerNotAdded, BrokerNotUpdated, DeviceNotEnrolled, DeviceNotUpdated, DeviceNotWritten, NameTaken,
    NotImported, SettingsNotChanged, SigningKeysNotChanged, StoreError,
};
use tables::{ImportedRow, Row};
use tokio::sync::mpsc;

pub(crate) use log::target_key;
pub use log::{
    Change, ChangeLog, ChangedSubject, NeededRootKeys, NewEpoch, NumberedRevocation, SettingSet,
    SigningKeyChange, SigningKeySet,
};
pub use record::{
    Attributes, BrokerRecord, CredentialUse, DeviceQuery, DeviceRecord, DeviceStatus, EnrolledBy,
    EnrolmentRecord, EnrolmentTerms, FleetTerms, GroupRecord, MqttClientIds, NotEnabled, ReportRecord,
    SessionRecord, SigningKeyRecord, UsedJti,
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
    /// credentials that it no longer has were used is forgotten. With it,
    /// tokens may be taken back.
    async fn update_device(
        &self,
        device: &DeviceRecord,
        revoke: Option<&Revocation>,
    ) -> Result<(), DeviceNotUpdated>;
    /// Removes a device and its credentials, and takes back its tokens; its
    /// names stay taken. False if there is no such device.
    async fn remove_device(&self, name: &str, revoke: &Revocation) -> Result<bool, StoreError>;

    /// Whose a name is, or was for ever: of a device or broker, of one that was
    /// removed too, or an MQTT client identifier.
    async fn owner_of_name(&self, name: &str) -> Result<Option<Box<str>>, StoreError>;

    /// All groups and brokers of one moment.
    async fn settings(&self) -> Result<SettingSet, StoreError>;
    /// Adds a group, or replaces the policy of the one of this name; the time
    /// at which that was first set stays. `revision` is that of the settings
    /// that it was checked against.
    async fn set_group(&self, revision: u64, group: &GroupRecord) -> Result<(), SettingsNotChanged>;
    /// Adds a broker that was checked against the settings of `revision`. Its
    /// name is taken for ever.
    async fn add_broker(&self, revision: u64, broker: &BrokerRecord) -> Result<(), BrokerNotAdded>;
    /// Replaces a broker by what was made of the same revision of it; the new
    /// one has the next. When the secrets that it no longer has were used is
    /// forgotten.
    async fn update_broker(&self, broker: &BrokerRecord) -> Result<(), BrokerNotUpdated>;
    /// Removes a broker, which was checked against the settings of `revision`;
    /// its name stays taken. False if there is no such broker.
    async fn remove_broker(&self, revision: u64, name: &str) -> Result<bool, SettingsNotChanged>;

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
    /// the first of its kind; not if it ends before
    /// [`ChangeLog::statements_after`].
    async fn use_jtis(&self, jtis: &[UsedJti]) -> Result<Vec<bool>, StoreError>;
    /// Forgets the statements that ended before `now`.
    async fn forget_jtis(&self, now: UnixSeconds) -> Result<(), StoreError>;

    /// Remembers when credentials were last used, all in one write. A time
    /// never goes back, and forward only by
    /// [`USE_PRECISION_S`](crate::devices::USE_PRECISION_S) or more: others are
    /// no write.
    async fn record_uses(&self, uses: &[CredentialUse]) -> Result<(), StoreError>;
    /// When each credential of a client was last used, in no order.
    async fn credential_uses(&self, client: &str) -> Result<Vec<CredentialUse>, StoreError>;

    /// All signing keys.
    async fn signing_keys(&self) -> Result<SigningKeySet, StoreError>;
    /// Adds keys, sets the schedules and private halves of those that are
    /// there, deletes some, and takes back what they signed: all or none, and none if the keys were
    /// changed since they were read.
    async fn change_signing_keys(&self, change: &SigningKeyChange<'_>) -> Result<(), SigningKeysNotChanged>;

    /// Takes back tokens: all of these or none. Of two of one target, the
    /// wider stays.
    async fn revoke(&self, revocations: &[Revocation]) -> Result<(), StoreError>;
    /// The revocations with an id above `after`, in the order of their ids, at
    /// most so many.
    async fn revocations(&self, after: u64, limit: u32) -> Result<Vec<NumberedRevocation>, StoreError>;
    /// Forgets the revocations whose tokens have all died before `now`.
    async fn forget_revocations(&self, now: UnixSeconds) -> Result<(), StoreError>;

    /// What was committed after a change, and how far that is: the newest
    /// state of everything when this was called, or a newer one.
    async fn changes(&self, after: u64) -> Result<ChangeLog, StoreError>;
    /// Forgets all but the newest so many changes.
    async fn forget_changes(&self, kept: u64) -> Result<(), StoreError>;
    /// Ends soon after somebody has changed something, and sometimes without
    /// that. Whoever needs every change asks from time to time as well.
    async fn changed(&self);

    /// Keeps what a validator says, in place of what it said before. Of each
    /// broker so many instances are kept: for one more, the one that was heard
    /// of longest ago gives way. Nothing is kept for a broker that there is not.
    async fn set_report(&self, report: &ReportRecord, kept: u32) -> Result<(), StoreError>;
    /// What validators said since a moment, by broker and instance.
    async fn reports(&self, since: UnixSeconds) -> Result<Vec<ReportRecord>, StoreError>;
    /// Forgets what was said before a moment, and who was connected then.
    async fn forget_reports(&self, before: UnixSeconds) -> Result<(), StoreError>;

    /// Keeps a part of what an instance tells of who is connected, if it goes on
    /// from what there is. Nothing is kept if all instances of the broker together
    /// would then have more than `most` clients, or for one that has not reported.
    async fn keep_sessions(
        &self,
        broker: &str,
        instance: &str,
        part: &SessionsPart,
        most: u64,
    ) -> Result<SessionsKept, StoreError>;
    /// How many clients are connected to each instance of a broker that tells.
    async fn sessions_online(&self, broker: &str) -> Result<Vec<(Box<str>, u64)>, StoreError>;
    /// Where clients are connected, by broker, instance and client; at most so
    /// many.
    async fn sessions_of_clients(
        &self,
        client_ids: &[MqttClientId],
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError>;
    /// Who is connected to a broker after this instance and client, in the order
    /// of their bytes; at most so many.
    async fn sessions_of_broker(
        &self,
        broker: &str,
        after: (&str, &str),
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError>;

    /// Remembers that it was worked at this time; it never goes back.
    async fn reach_clock(&self, now: UnixSeconds) -> Result<(), StoreError>;
    /// Takes an earlier time for the right one, since when nobody knows what
    /// was forgotten: see [`NewEpoch`]. The signing keys stay.
    async fn accept_clock(&self, now: UnixSeconds, epoch: &NewEpoch) -> Result<(), StoreError>;

    /// Remembers that tokens may live so long, in seconds; it never gets less.
    async fn allow_token_lifetime(&self, max_token_lifetime_s: u64) -> Result<(), StoreError>;

    /// Everything that is kept, as it was at one moment; ends early if nobody
    /// takes it.
    async fn export(&self, rows: mpsc::Sender<Row>) -> Result<(), StoreError>;
    /// Takes over everything that another store has kept: all of it, once the
    /// sender is done with [`ImportedRow::End`], or nothing. If it is an older
    /// state, see [`NewEpoch`]: its signing keys are not taken over.
    async fn import(
        &self,
        rows: mpsc::Receiver<ImportedRow>,
        epoch: Option<&NewEpoch>,
    ) -> Result<(), NotImported>;

    /// The root keys that something may be under, by the word of all nodes.
    /// None in a new database.
    async fn root_keys(&self) -> Result<Option<NeededRootKeys>, StoreError>;
    /// Makes a root key the current one, if `former` is at present, which is
    /// needed on. False, and nothing written, if it is not.
    async fn set_root_key(&self, id: RootKeyId, former: Option<RootKeyId>) -> Result<bool, StoreError>;
    /// Needs a root key no longer, unless it is the current one.
    async fn forget_root_key(&self, id: RootKeyId) -> Result<(), StoreError>;

    /// What all nodes have in common. None before the first has started.
    async fn terms(&self) -> Result<Option<FleetTerms>, StoreError>;
    /// Says it, if nobody has yet.
    async fn make_terms(&self, terms: &FleetTerms) -> Result<(), StoreError>;
    /// Says it anew. It is another database then (its epoch is): nodes that go
    /// by the former terms find out when they look.
    async fn change_terms(&self, terms: &FleetTerms) -> Result<(), StoreError>;

    /// Whether the way to the database is lost, which has been said.
    fn is_away(&self) -> bool {
        false
    }
    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
