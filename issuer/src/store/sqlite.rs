//! The embedded database: one SQLite file in the data directory.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::reports::sessions::{SessionsKept, SessionsPart};
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::time::UnixSeconds;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection as _};

use tokio::sync::{Notify, mpsc};

use super::migrations::{self, SchemaChange};
use super::{
    BrokerNotAdded, BrokerNotUpdated, BrokerRecord, ChangeLog, CredentialUse, DeviceNotEnrolled,
    DeviceNotUpdated, DeviceNotWritten, DeviceQuery, DeviceRecord, EnrolmentRecord, FleetTerms, GroupRecord,
    NeededRootKeys, NewEpoch, NotImported, NumberedRevocation, ReportRecord, SessionRecord, SettingSet,
    SettingsNotChanged, SigningKeyChange, SigningKeySet, SigningKeysNotChanged, Store, StoreError, UsedJti,
};
use crate::credentials::CredentialId;
use crate::root_key::RootKeyId;
use crate::store::tables::{ImportedRow, Row};

mod brokers;
mod changes;
mod credential_uses;
mod devices;
mod enrolments;
mod groups;
mod names;
mod reports;
mod revocations;
mod root_keys;
mod rows;
mod sessions;
mod settings;
mod signing_keys;
mod state;
mod terms;
mod used_jtis;

/// Every change of the schema, in order. None is ever edited.
const MIGRATIONS: [SchemaChange; 1] =
    [(1, "initial", include_str!("../../migrations/sqlite/0001_initial.sql"))];

/// What `PRAGMA user_version` says of a database that has gone elsewhere: the
/// schema has its version in a table.
const MOVED: i64 = 1;
/// How long a write waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_READERS: u32 = 4;

/// A [`super::Store`] in an SQLite file.
pub struct SqliteStore {
    /// One connection, as SQLite lets one write at a time: whoever writes waits
    /// for his turn here, and not by asking the file again and again.
    writer: SqlitePool,
    /// They wait for nobody, and nobody for them.
    readers: SqlitePool,
    /// Told of every change that may have been committed.
    changed: Notify,
}

impl SqliteStore {
    /// Opens the database at `path`, makes it if there is none, and brings its
    /// schema up to date.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Moved`] whatever the file is called now.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self::open_as_it_is(path).await?;
        if store.is_moved().await? {
            store.readers.close().await;
            store.writer.close().await;
            return Err(StoreError::Moved);
        }
        migrations::run(&mut *store.writer.acquire().await?, &MIGRATIONS).await?;
        Ok(store)
    }

    async fn open_as_it_is(path: &Path) -> Result<Self, StoreError> {
        // What an operator was told is done must survive a power cut.
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            // One whose transaction could not be ended, since the disk is full,
            // would keep everybody from writing. The ping waits for its end.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options.clone())
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(MAX_READERS)
            .test_before_acquire(false)
            .connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self { writer, readers, changed: Notify::new() })
    }

    /// Writes into a database that nobody has open that it has gone elsewhere:
    /// from then on it cannot be opened but to be read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_moved(path: &Path) -> Result<(), StoreError> {
        let store = Self::open_as_it_is(path).await?;
        sqlx::query(AssertSqlSafe(format!("PRAGMA user_version = {MOVED}"))).execute(&store.writer).await?;
        store.close().await
    }

    /// Whether it has gone elsewhere.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_moved(&self) -> Result<bool, StoreError> {
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&self.writer).await?;
        Ok(version == MOVED)
    }

    /// Opens a database that was closed, and that nobody opens meanwhile, to be
    /// read: nothing is written, also not beside it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
        let one = SqlitePoolOptions::new().max_connections(1);
        let readers = one.clone().connect_with(options.clone()).await?;
        // It may not write either; whoever tries is told so.
        Ok(Self { writer: one.connect_lazy_with(options), readers, changed: Notify::new() })
    }

    /// Writes everything into the one file, and closes it.
    ///
    /// # Errors
    /// [`StoreError`]; then what is beside the file may still be needed.
    pub async fn close(self) -> Result<(), StoreError> {
        self.readers.close().await;
        let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.writer).await?;
        self.writer.close().await;
        if busy == 0 { Ok(()) } else { Err(StoreError::OpenElsewhere) }
    }

    /// What became of a change. Whether it was committed is not asked: to wake
    /// those who follow for nothing costs little.
    fn told<T>(&self, outcome: T) -> T {
        self.changed.notify_one();
        outcome
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn add_device(&self, device: &DeviceRecord) -> Result<(), DeviceNotWritten> {
        devices::add(&self.writer, device).await
    }

    async fn device(&self, name: &str) -> Result<Option<DeviceRecord>, StoreError> {
        devices::get(&self.readers, name).await
    }

    async fn device_of_key(&self, thumbprint: &CredentialId) -> Result<Option<DeviceRecord>, StoreError> {
        devices::of_key(&self.readers, thumbprint).await
    }

    async fn devices(&self, query: DeviceQuery<'_>) -> Result<Vec<DeviceRecord>, StoreError> {
        devices::page(&self.readers, query).await
    }

    async fn update_device(
        &self,
        device: &DeviceRecord,
        revoke: Option<&Revocation>,
    ) -> Result<(), DeviceNotUpdated> {
        self.told(devices::update(&self.writer, device, revoke).await)
    }

    async fn remove_device(&self, name: &str, revoke: &Revocation) -> Result<bool, StoreError> {
        self.told(devices::remove(&self.writer, name, revoke).await)
    }

    async fn owner_of_name(&self, name: &str) -> Result<Option<Box<str>>, StoreError> {
        names::owner(&self.readers, name).await
    }

    async fn settings(&self) -> Result<SettingSet, StoreError> {
        settings::all(&self.readers).await
    }

    async fn set_group(&self, revision: u64, group: &GroupRecord) -> Result<(), SettingsNotChanged> {
        self.told(groups::set(&self.writer, revision, group).await)
    }

    async fn add_broker(&self, revision: u64, broker: &BrokerRecord) -> Result<(), BrokerNotAdded> {
        self.told(brokers::add(&self.writer, revision, broker).await)
    }

    async fn update_broker(&self, broker: &BrokerRecord) -> Result<(), BrokerNotUpdated> {
        self.told(brokers::update(&self.writer, broker).await)
    }

    async fn remove_broker(&self, revision: u64, name: &str) -> Result<bool, SettingsNotChanged> {
        self.told(brokers::remove(&self.writer, revision, name).await)
    }

    async fn enrolments(&self) -> Result<Vec<EnrolmentRecord>, StoreError> {
        enrolments::all(&self.readers).await
    }

    async fn enrolment(&self, token_hash: &[u8; 32]) -> Result<Option<EnrolmentRecord>, StoreError> {
        enrolments::of_token(&self.readers, token_hash).await
    }

    async fn add_enrolment(&self, enrolment: &EnrolmentRecord) -> Result<(), StoreError> {
        enrolments::add(&self.writer, enrolment).await
    }

    async fn remove_enrolment(&self, id: &CredentialId) -> Result<bool, StoreError> {
        enrolments::remove(&self.writer, id).await
    }

    async fn enrol(&self, enrolment: &CredentialId, device: &DeviceRecord) -> Result<(), DeviceNotEnrolled> {
        enrolments::enrol(&self.writer, enrolment, device).await
    }

    async fn use_jtis(&self, jtis: &[UsedJti]) -> Result<Vec<bool>, StoreError> {
        used_jtis::use_up(&self.writer, jtis).await
    }

    async fn forget_jtis(&self, now: UnixSeconds) -> Result<(), StoreError> {
        used_jtis::forget(&self.writer, now).await
    }

    async fn record_uses(&self, uses: &[CredentialUse]) -> Result<(), StoreError> {
        credential_uses::record(&self.writer, uses).await
    }

    async fn credential_uses(&self, client: &str) -> Result<Vec<CredentialUse>, StoreError> {
        credential_uses::of_client(&self.readers, client).await
    }

    async fn signing_keys(&self) -> Result<SigningKeySet, StoreError> {
        signing_keys::all(&self.readers).await
    }

    async fn change_signing_keys(&self, change: &SigningKeyChange<'_>) -> Result<(), SigningKeysNotChanged> {
        self.told(signing_keys::change(&self.writer, change).await)
    }

    async fn revoke(&self, revocations: &[Revocation]) -> Result<(), StoreError> {
        self.told(revocations::add(&self.writer, revocations).await)
    }

    async fn revocations(&self, after: u64, limit: u32) -> Result<Vec<NumberedRevocation>, StoreError> {
        revocations::after(&self.readers, after, limit).await
    }

    async fn forget_revocations(&self, now: UnixSeconds) -> Result<(), StoreError> {
        revocations::forget(&self.writer, now).await
    }

    async fn changes(&self, after: u64) -> Result<ChangeLog, StoreError> {
        changes::since(&self.readers, after).await
    }

    async fn forget_changes(&self, kept: u64) -> Result<(), StoreError> {
        changes::forget(&self.writer, kept).await
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn set_report(&self, report: &ReportRecord, kept: u32) -> Result<(), StoreError> {
        reports::set(&self.writer, report, kept).await
    }

    async fn reports(&self, since: UnixSeconds) -> Result<Vec<ReportRecord>, StoreError> {
        reports::since(&self.readers, since).await
    }

    async fn forget_reports(&self, before: UnixSeconds) -> Result<(), StoreError> {
        reports::forget(&self.writer, before).await
    }

    async fn keep_sessions(
        &self,
        broker: &str,
        instance: &str,
        part: &SessionsPart,
        most: u64,
    ) -> Result<SessionsKept, StoreError> {
        sessions::keep(&self.writer, broker, instance, part, most).await
    }

    async fn sessions_online(&self, broker: &str) -> Result<Vec<(Box<str>, u64)>, StoreError> {
        sessions::online(&self.readers, broker).await
    }

    async fn sessions_of_clients(
        &self,
        client_ids: &[MqttClientId],
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        sessions::of_clients(&self.readers, client_ids, limit).await
    }

    async fn sessions_of_broker(
        &self,
        broker: &str,
        after: (&str, &str),
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        sessions::of_broker(&self.readers, broker, after, limit).await
    }

    async fn reach_clock(&self, now: UnixSeconds) -> Result<(), StoreError> {
        state::reach_clock(&self.writer, now).await
    }

    async fn accept_clock(&self, now: UnixSeconds, epoch: &NewEpoch) -> Result<(), StoreError> {
        self.told(state::accept_clock(&self.writer, now, epoch).await)
    }

    async fn allow_token_lifetime(&self, max_token_lifetime_s: u64) -> Result<(), StoreError> {
        state::allow_token_lifetime(&self.writer, max_token_lifetime_s).await
    }

    async fn export(&self, rows: mpsc::Sender<Row>) -> Result<(), StoreError> {
        rows::export(&self.readers, &rows).await
    }

    async fn import(
        &self,
        rows: mpsc::Receiver<ImportedRow>,
        epoch: Option<&NewEpoch>,
    ) -> Result<(), NotImported> {
        self.told(rows::import(&self.writer, rows, epoch).await)
    }

    async fn root_keys(&self) -> Result<Option<NeededRootKeys>, StoreError> {
        root_keys::get(&self.readers).await
    }

    async fn set_root_key(&self, id: RootKeyId, former: Option<RootKeyId>) -> Result<bool, StoreError> {
        root_keys::set(&self.writer, id, former).await
    }

    async fn forget_root_key(&self, id: RootKeyId) -> Result<(), StoreError> {
        root_keys::forget(&self.writer, id).await
    }

    async fn terms(&self) -> Result<Option<FleetTerms>, StoreError> {
        terms::get(&self.readers).await
    }

    async fn make_terms(&self, terms: &FleetTerms) -> Result<(), StoreError> {
        terms::make(&self.writer, terms).await
    }

    async fn change_terms(&self, terms: &FleetTerms) -> Result<(), StoreError> {
        self.told(terms::change(&self.writer, terms).await)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM groups LIMIT 1").execute(&self.readers).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;
    use crate::store::tables::TABLES;

    async fn open(folder: &tempfile::TempDir) -> SqliteStore {
        SqliteStore::open(&folder.path().join("issuer.sqlite3")).await.unwrap()
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::check(|| async {
            let folder = tempfile::tempdir().unwrap();
            let store = open(&folder).await;
            (store, folder)
        })
        .await;
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (99, 'later', 1, x'00', 0)",
        )
        .execute(&store.writer)
        .await
        .unwrap();
        let Err(error) = SqliteStore::open(&folder.path().join("issuer.sqlite3")).await else {
            panic!("a newer schema was accepted");
        };
        assert!(matches!(error, StoreError::NewerSchema { found: 99, known: 1 }), "{error}");
    }

    /// A table or column that is not in the list would not be in a backup.
    #[tokio::test]
    async fn every_table_and_column_is_copied_or_left_out_on_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let left_out = ["changes", "session_lists", "sessions"];
        let mut listed: Vec<(String, Vec<String>)> = TABLES
            .iter()
            .map(|table| {
                let mut columns: Vec<String> =
                    table.columns.iter().map(|column| column.name.to_owned()).collect();
                columns.sort();
                (table.name.to_owned(), columns)
            })
            .collect();
        listed.sort();
        let mut found = rows::schema(&store.readers).await;
        found.retain(|(name, _)| !left_out.contains(&name.as_str()));
        assert_eq!(found, listed);
    }

    #[tokio::test]
    async fn writes_are_durable() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        store.ping().await.unwrap();
        let pragma = |text: &'static str| sqlx::query_scalar::<_, String>(text).fetch_one(&store.writer);
        assert_eq!(pragma("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await.unwrap(), "2");
        assert_eq!(pragma("PRAGMA journal_mode").await.unwrap(), "wal");
    }
}
