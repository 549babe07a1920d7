//! The embedded database: one SQLite file in the data directory.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use fleetbadge_validator::time::UnixSeconds;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::{
    BrokerNotAdded, BrokerNotUpdated, BrokerRecord, CredentialUse, DeviceNotEnrolled, DeviceNotUpdated,
    DeviceNotWritten, DeviceQuery, DeviceRecord, EnrolmentRecord, GroupRecord, SigningKeyRecord, Store,
    StoreError, UsedJti,
};
use crate::credentials::CredentialId;
use crate::root_key::RootKeyId;

mod brokers;
mod credential_uses;
mod devices;
mod enrolments;
mod groups;
mod names;
mod root_key;
mod signing_keys;
mod used_jtis;

/// Every change of the schema, in order. None is ever edited.
const MIGRATIONS: [(i64, &str, &str); 1] =
    [(1, "initial", include_str!("../../migrations/sqlite/0001_initial.sql"))];

/// How long a write waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: u32 = 4;

/// A [`super::Store`] in an SQLite file.
pub struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    /// Opens the database at `path`, makes it if there is none, and brings its
    /// schema up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        // What an operator was told is done must survive a power cut.
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        let store = Self { pool };
        store.migrate().await?;
        Ok(store)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let migrations = MIGRATIONS.map(|(version, description, sql)| {
            Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
        });
        let known = MIGRATIONS.map(|(version, ..)| version).into_iter().max().unwrap_or_default();
        match Migrator::with_migrations(migrations.into()).run(&self.pool).await {
            Err(MigrateError::VersionMissing(found)) => Err(StoreError::NewerSchema { found, known }),
            other => Ok(other?),
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn add_device(&self, device: &DeviceRecord) -> Result<(), DeviceNotWritten> {
        devices::add(&self.pool, device).await
    }

    async fn device(&self, name: &str) -> Result<Option<DeviceRecord>, StoreError> {
        devices::get(&self.pool, name).await
    }

    async fn device_of_key(&self, thumbprint: &CredentialId) -> Result<Option<DeviceRecord>, StoreError> {
        devices::of_key(&self.pool, thumbprint).await
    }

    async fn devices(&self, query: DeviceQuery<'_>) -> Result<Vec<DeviceRecord>, StoreError> {
        devices::page(&self.pool, query).await
    }

    async fn update_device(&self, device: &DeviceRecord) -> Result<(), DeviceNotUpdated> {
        devices::update(&self.pool, device).await
    }

    async fn remove_device(&self, name: &str) -> Result<bool, StoreError> {
        devices::remove(&self.pool, name).await
    }

    async fn groups(&self) -> Result<Vec<GroupRecord>, StoreError> {
        groups::all(&self.pool).await
    }

    async fn set_group(&self, group: &GroupRecord) -> Result<(), StoreError> {
        groups::set(&self.pool, group).await
    }

    async fn brokers(&self) -> Result<Vec<BrokerRecord>, StoreError> {
        brokers::all(&self.pool).await
    }

    async fn add_broker(&self, broker: &BrokerRecord) -> Result<(), BrokerNotAdded> {
        brokers::add(&self.pool, broker).await
    }

    async fn update_broker(&self, broker: &BrokerRecord) -> Result<(), BrokerNotUpdated> {
        brokers::update(&self.pool, broker).await
    }

    async fn remove_broker(&self, name: &str) -> Result<bool, StoreError> {
        brokers::remove(&self.pool, name).await
    }

    async fn enrolments(&self) -> Result<Vec<EnrolmentRecord>, StoreError> {
        enrolments::all(&self.pool).await
    }

    async fn enrolment(&self, token_hash: &[u8; 32]) -> Result<Option<EnrolmentRecord>, StoreError> {
        enrolments::of_token(&self.pool, token_hash).await
    }

    async fn add_enrolment(&self, enrolment: &EnrolmentRecord) -> Result<(), StoreError> {
        enrolments::add(&self.pool, enrolment).await
    }

    async fn remove_enrolment(&self, id: &CredentialId) -> Result<bool, StoreError> {
        enrolments::remove(&self.pool, id).await
    }

    async fn enrol(&self, enrolment: &CredentialId, device: &DeviceRecord) -> Result<(), DeviceNotEnrolled> {
        enrolments::enrol(&self.pool, enrolment, device).await
    }

    async fn use_jtis(&self, jtis: &[UsedJti]) -> Result<Vec<bool>, StoreError> {
        used_jtis::use_up(&self.pool, jtis).await
    }

    async fn forget_jtis(&self, now: UnixSeconds) -> Result<(), StoreError> {
        used_jtis::forget(&self.pool, now).await
    }

    async fn record_uses(&self, uses: &[CredentialUse]) -> Result<(), StoreError> {
        credential_uses::record(&self.pool, uses).await
    }

    async fn credential_uses(&self, client: &str) -> Result<Vec<CredentialUse>, StoreError> {
        credential_uses::of_client(&self.pool, client).await
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKeyRecord>, StoreError> {
        signing_keys::all(&self.pool).await
    }

    async fn set_signing_keys(&self, keys: &[SigningKeyRecord]) -> Result<(), StoreError> {
        signing_keys::set(&self.pool, keys).await
    }

    async fn delete_signing_key(&self, kid: &str) -> Result<(), StoreError> {
        signing_keys::delete(&self.pool, kid).await
    }

    async fn root_key(&self) -> Result<Option<RootKeyId>, StoreError> {
        root_key::get(&self.pool).await
    }

    async fn set_root_key(&self, id: RootKeyId, former: Option<RootKeyId>) -> Result<bool, StoreError> {
        root_key::set(&self.pool, id, former).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM groups LIMIT 1").execute(&self.pool).await?;
        Ok(())
    }
}

/// SQLite's integers have a sign. A time after the year 292 billion stays
/// there.
fn to_sql(time: UnixSeconds) -> i64 {
    time.0.try_into().unwrap_or(i64::MAX)
}

fn time_from_sql(what: &'static str, time: i64) -> Result<UnixSeconds, StoreError> {
    time.try_into().map(UnixSeconds).map_err(|_| corrupt(what, &format_args!("the time {time}")))
}

/// A counter that SQLite's signed integers are good enough for.
fn counter_to_sql(count: u64) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn counter_from_sql(what: &'static str, count: i64) -> Result<u64, StoreError> {
    count.try_into().map_err(|_| corrupt(what, &format_args!("the count {count}")))
}

fn to_json(what: &'static str, value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt(what, &error))
}

fn from_json<'a, T: serde::Deserialize<'a>>(what: &'static str, json: &'a str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| corrupt(what, &error))
}

fn corrupt(what: &'static str, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

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
        .execute(&store.pool)
        .await
        .unwrap();
        let Err(error) = SqliteStore::open(&folder.path().join("issuer.sqlite3")).await else {
            panic!("a newer schema was accepted");
        };
        assert!(matches!(error, StoreError::NewerSchema { found: 99, known: 1 }), "{error}");
    }

    #[tokio::test]
    async fn writes_are_durable() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        store.ping().await.unwrap();
        let pragma = |text: &'static str| sqlx::query_scalar::<_, String>(text).fetch_one(&store.pool);
        assert_eq!(pragma("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await.unwrap(), "2");
        assert_eq!(pragma("PRAGMA journal_mode").await.unwrap(), "wal");
    }
}
