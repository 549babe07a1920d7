//! When credentials were last used: collected in memory, written in batches.
//!
//! A token costs no database write: of the uses of a credential within an hour,
//! the first is written. What a crash loses is that of the last
//! seconds, which only tells operators what is still in use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetbadge_validator::time::UnixSeconds;

use tokio::time::sleep;

use crate::credentials::CredentialId;
use crate::devices::KnownDevice;
use crate::store::{CredentialUse, Store, StoreError};

/// The most uses that wait to be written: then others wait for the next time
/// that they are used.
const MAX_WAITING: usize = 200_000;

/// How many are written at once, and how long then nothing is: whoever asks for
/// a token meanwhile must not wait for a core.
const MAX_AT_ONCE: usize = 500;
const PAUSE: Duration = Duration::from_millis(10);

type Key = (Box<str>, CredentialId);

/// The uses that are not written yet.
pub struct CredentialUses {
    store: Arc<dyn Store>,
    waiting: Mutex<HashMap<Key, UnixSeconds>>,
}

impl CredentialUses {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, waiting: Mutex::default() }
    }

    /// Remembers that a device's credential was good for something, to the
    /// hour.
    pub fn note(&self, device: &KnownDevice, credential: &CredentialId, now: UnixSeconds) {
        if device.notes_use(credential, now) {
            self.record(device.name.as_str(), credential, now);
        }
    }

    /// Remembers that a credential of a client was good for something.
    pub fn record(&self, client: &str, credential: &CredentialId, now: UnixSeconds) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (client.into(), credential.clone());
        if waiting.len() < MAX_WAITING || waiting.contains_key(&key) {
            waiting.insert(key, now);
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// [`StoreError`]; what was to be written waits again.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if batch.is_empty() {
            return Ok(());
        }
        let mut uses: Vec<CredentialUse> = batch
            .into_iter()
            .map(|((client, credential), at)| CredentialUse { client, credential, at })
            .collect();
        // As they lie in the database.
        uses.sort_unstable_by(|a, b| a.client.cmp(&b.client));
        let mut batches = uses.chunks(MAX_AT_ONCE);
        while let Some(batch) = batches.next() {
            if let Err(error) = self.store.record_uses(batch).await {
                [batch].into_iter().chain(batches).for_each(|batch| self.wait_again(batch));
                return Err(error);
            }
            if batches.len() > 0 {
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Lets uses wait that could not be written.
    fn wait_again(&self, uses: &[CredentialUse]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for CredentialUse { client, credential, at } in uses {
            let newest = waiting.entry((client.clone(), credential.clone())).or_insert(*at);
            *newest = (*newest).max(*at);
        }
    }

    /// When each credential of a client was last used: what is written, and
    /// what waits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn of_client(&self, client: &str) -> Result<HashMap<CredentialId, UnixSeconds>, StoreError> {
        let written = self.store.credential_uses(client).await?;
        let mut uses: HashMap<_, _> = written.into_iter().map(|used| (used.credential, used.at)).collect();
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for ((_, credential), at) in waiting.iter().filter(|((owner, _), _)| **owner == *client) {
            uses.insert(credential.clone(), *at);
        }
        Ok(uses)
    }
}

#[cfg(test)]
mod tests {
    use fleetbadge_tests::postgres::Postgres;
    use fleetbadge_validator::time::{Clock as _, SystemClock};

    use super::*;
    use crate::config::Options;
    use crate::store::sqlite::SqliteStore;
    use crate::test_support::{NOW, TestIssuer};

    async fn written(issuer: &TestIssuer) -> Vec<CredentialUse> {
        issuer.app().store.credential_uses("pump-1").await.unwrap()
    }

    #[tokio::test]
    async fn of_the_tokens_of_an_hour_the_first_is_written_by_a_tick() {
        let issuer = TestIssuer::new().await;
        let secret = issuer.add("pump-1", &[]).await;
        let app = issuer.app();
        let id = app.devices.get("pump-1").await.unwrap().credentials.secrets[0].id.clone();
        for _ in 0..5 {
            issuer.clock.advance(1);
            assert_eq!(issuer.token("pump-1", &secret, "").await.status, 200);
        }
        issuer.clock.advance(1);
        // Neither is a no a use.
        issuer.token("pump-1", "fbs_wrong", "").await;
        assert_eq!(written(&issuer).await, []);
        let used = HashMap::from([(id.clone(), NOW.plus(1))]);
        assert_eq!(app.credential_uses.of_client("pump-1").await.unwrap(), used);
        assert_eq!(app.credential_uses.waiting.lock().unwrap().len(), 1);

        app.tick().await;
        let expected = |s| CredentialUse { client: "pump-1".into(), credential: id.clone(), at: NOW.plus(s) };
        assert_eq!(written(&issuer).await, [expected(1)]);
        assert!(app.credential_uses.waiting.lock().unwrap().is_empty());
        assert_eq!(app.credential_uses.of_client("pump-1").await.unwrap(), used);

        for seconds in [3_600, 3_601] {
            issuer.clock.set(NOW.plus(seconds));
            assert_eq!(issuer.token("pump-1", &secret, "").await.status, 200);
            app.tick().await;
        }
        assert_eq!(written(&issuer).await, [expected(3_601)]);
    }

    /// Issues tokens within an hour. `commits` says something else after every
    /// commit that has changed anything.
    async fn check_that_tokens_are_not_written(issuer: &TestIssuer, mut commits: impl AsyncFnMut() -> i64) {
        const DEVICES: usize = 50;
        const TOKENS: usize = 1_000;
        let mut devices = Vec::new();
        for name in (0..DEVICES).map(|number| format!("pump-{number}")) {
            devices.push((issuer.add(&name, &[]).await, name));
        }
        let app = issuer.app();
        app.tick().await;
        for (round, noted, is_written) in [
            ("first", DEVICES, true),
            ("again", 0, false),
            // As after a restart, or with more devices than memory has room for.
            ("not in memory", DEVICES, false),
        ] {
            if round == "not in memory" {
                app.devices.forget_all();
            }
            let before = commits().await;
            for (secret, name) in devices.iter().cycle().take(TOKENS) {
                // PostgreSQL knows what time it is.
                issuer.clock.set(SystemClock.now());
                assert_eq!(issuer.token(name, secret, "").await.status, 200);
            }
            assert_eq!(commits().await, before, "{round}: a token was written");
            assert_eq!(app.credential_uses.waiting.lock().unwrap().len(), noted, "{round}");
            app.flush().await;
            assert_eq!(commits().await != before, is_written, "{round}: uses");
        }
    }

    #[tokio::test]
    async fn no_token_is_written_to_sqlite() {
        let issuer = TestIssuer::at(SystemClock.now(), Options::default()).await;
        let mut connection = issuer.database().await.acquire().await.unwrap();
        // Changes when another connection has changed the database.
        let commits =
            async || sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut *connection).await.unwrap();
        check_that_tokens_are_not_written(&issuer, commits).await;
    }

    #[tokio::test]
    #[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
    async fn no_token_is_written_to_postgresql() {
        let postgres = Postgres::start();
        // It would write as well.
        let _ = postgres.sql("postgres", "ALTER SYSTEM SET autovacuum = off");
        let _ = postgres.sql("postgres", "SELECT pg_reload_conf()");
        let database = postgres.database();
        let options = Options { database: Some(database.parse().unwrap()), ..Options::default() };
        let issuer = TestIssuer::at(SystemClock.now(), options).await;
        // Only a transaction that changes something gets an id.
        let next_id = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
        let commits = async || postgres.sql(&database, next_id).parse().unwrap();
        check_that_tokens_are_not_written(&issuer, commits).await;
    }

    #[tokio::test]
    async fn what_cannot_be_written_waits_and_the_newest_stays() {
        const FAIL: &str = "CREATE TRIGGER fail BEFORE INSERT ON credential_uses \
                            BEGIN SELECT RAISE(ABORT, 'no room'); END";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).await.unwrap());
        let behind_its_back = sqlx::SqlitePool::connect(path.to_str().unwrap()).await.unwrap();
        let uses = CredentialUses::new(Arc::clone(&store));
        let id = CredentialId::from_text("0badcafe");
        uses.record("pump-1", &id, NOW);
        sqlx::query(FAIL).execute(&behind_its_back).await.unwrap();
        uses.flush().await.unwrap_err();
        uses.record("pump-1", &id, NOW.plus(2));
        uses.flush().await.unwrap_err();
        assert_eq!(uses.of_client("pump-1").await.unwrap(), HashMap::from([(id.clone(), NOW.plus(2))]));
        sqlx::query("DROP TRIGGER fail").execute(&behind_its_back).await.unwrap();
        uses.flush().await.unwrap();
        let written = store.credential_uses("pump-1").await.unwrap();
        assert_eq!(written, [CredentialUse { client: "pump-1".into(), credential: id, at: NOW.plus(2) }]);
    }

    #[tokio::test]
    async fn uses_of_others_are_not_shown_and_memory_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("db")).await.unwrap();
        let uses = CredentialUses::new(Arc::new(store));
        for n in 0..=MAX_WAITING {
            uses.record("pump-1", &CredentialId::from_text(&n.to_string()), NOW);
        }
        assert_eq!(uses.waiting.lock().unwrap().len(), MAX_WAITING);
        // One that waits already still gets newer.
        uses.record("pump-1", &CredentialId::from_text("0"), NOW.plus(1));
        let of_pump = uses.of_client("pump-1").await.unwrap();
        assert_eq!(of_pump.get(&CredentialId::from_text("0")), Some(&NOW.plus(1)));
        assert!(uses.of_client("pump-2").await.unwrap().is_empty());
    }
}
