//! PostgreSQL, which several issuers share.
//!
//! Every write that others must hear of counts up `state.last_change` before it
//! locks anything that a write of another kind locks: it then has the only lock
//! that such writes wait for, so that ids and commits have one order, and no two
//! of them wait for each other.

use std::sync::Arc;

use async_trait::async_trait;
use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::reports::sessions::{SessionsKept, SessionsPart};
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::time::UnixSeconds;
use sqlx::postgres::{PgConnectOptions, PgPool};
use tokio::sync::{Notify, mpsc};

use super::migrations::SchemaChange;
use super::{
    BrokerNotAdded, BrokerNotUpdated, BrokerRecord, ChangeLog, CredentialUse, DeviceNotEnrolled,
    DeviceNotUpdated, DeviceNotWritten, DeviceQuery, DeviceRecord, EnrolmentRecord, FleetTerms, GroupRecord,
    NeededRootKeys, NewEpoch, NotImported, NumberedRevocation, ReportRecord, SessionRecord, SettingSet,
    SettingsNotChanged, SigningKeyChange, SigningKeySet, SigningKeysNotChanged, Store, StoreError, UsedJti,
};
use crate::credentials::CredentialId;
use crate::root_key::RootKeyId;
use crate::store::error::MayBeStoreError;
use crate::store::tables::{ImportedRow, Row};

mod brokers;
mod changes;
mod connection;
mod credential_uses;
mod devices;
mod enrolments;
mod groups;
mod listener;
mod names;
mod reach;
mod reports;
mod revocations;
mod root_keys;
mod rows;
mod sessions;
mod settings;
mod signing_keys;
mod state;
mod terms;
#[cfg(test)]
mod tests;
mod used_jtis;

use listener::Listener;
use reach::Reach;

/// Every change of the schema, in order. None is ever edited.
const MIGRATIONS: [SchemaChange; 1] =
    [(1, "initial", include_str!("../../migrations/postgres/0001_initial.sql"))];

/// A [`super::Store`] in a PostgreSQL database.
pub struct PostgresStore {
    pool: PgPool,
    /// Told of every change that may have been committed, by whomever.
    changed: Arc<Notify>,
    reach: Arc<Reach>,
    _listener: Listener,
}

impl PostgresStore {
    /// Opens a database, and brings its schema up to date. A server that is not
    /// there is waited for, for ten seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(options: PgConnectOptions) -> Result<Self, StoreError> {
        connection::prepare(&options).await?;
        let changed = Arc::new(Notify::new());
        let reach = Arc::new(Reach::new(connection::address(&options)));
        let listener = Listener::start(&options, Arc::clone(&changed), Arc::clone(&reach));
        Ok(Self { pool: connection::pool(options), changed, reach, _listener: listener })
    }

    /// What became of a change, which is waited for only so long. Whether it
    /// was committed is not asked: to wake those who follow for nothing costs
    /// little.
    async fn change<T, E: MayBeStoreError>(
        &self,
        change: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let outcome = self.bounded(change).await;
        self.changed.notify_one();
        outcome
    }

    /// See [`connection::bounded`].
    async fn bounded<T, E: MayBeStoreError>(
        &self,
        operation: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let outcome = connection::bounded(operation).await;
        outcome.map_err(|error| error.map_store_error(|error| self.reach.explain(error)))
    }

    /// See [`connection::again_if_lost`].
    async fn again_if_lost<T, F: Future<Output = Result<T, StoreError>> + Send>(
        &self,
        operation: impl Fn() -> F + Send + Sync,
    ) -> Result<T, StoreError> {
        connection::again_if_lost(operation).await.map_err(|error| self.reach.explain(error))
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn add_device(&self, device: &DeviceRecord) -> Result<(), DeviceNotWritten> {
        self.bounded(devices::add(&self.pool, device)).await
    }

    async fn device(&self, name: &str) -> Result<Option<DeviceRecord>, StoreError> {
        self.again_if_lost(|| devices::get(&self.pool, name)).await
    }

    async fn device_of_key(&self, thumbprint: &CredentialId) -> Result<Option<DeviceRecord>, StoreError> {
        self.again_if_lost(|| devices::of_key(&self.pool, thumbprint)).await
    }

    async fn devices(&self, query: DeviceQuery<'_>) -> Result<Vec<DeviceRecord>, StoreError> {
        self.again_if_lost(|| devices::page(&self.pool, query)).await
    }

    async fn update_device(
        &self,
        device: &DeviceRecord,
        revoke: Option<&Revocation>,
    ) -> Result<(), DeviceNotUpdated> {
        self.change(devices::update(&self.pool, device, revoke)).await
    }

    async fn remove_device(&self, name: &str, revoke: &Revocation) -> Result<bool, StoreError> {
        self.change(devices::remove(&self.pool, name, revoke)).await
    }

    async fn owner_of_name(&self, name: &str) -> Result<Option<Box<str>>, StoreError> {
        self.again_if_lost(|| names::owner(&self.pool, name)).await
    }

    async fn settings(&self) -> Result<SettingSet, StoreError> {
        self.again_if_lost(|| settings::all(&self.pool)).await
    }

    async fn set_group(&self, revision: u64, group: &GroupRecord) -> Result<(), SettingsNotChanged> {
        self.change(groups::set(&self.pool, revision, group)).await
    }

    async fn add_broker(&self, revision: u64, broker: &BrokerRecord) -> Result<(), BrokerNotAdded> {
        self.change(brokers::add(&self.pool, revision, broker)).await
    }

    async fn update_broker(&self, broker: &BrokerRecord) -> Result<(), BrokerNotUpdated> {
        self.change(brokers::update(&self.pool, broker)).await
    }

    async fn remove_broker(&self, revision: u64, name: &str) -> Result<bool, SettingsNotChanged> {
        self.change(brokers::remove(&self.pool, revision, name)).await
    }

    async fn enrolments(&self) -> Result<Vec<EnrolmentRecord>, StoreError> {
        self.again_if_lost(|| enrolments::all(&self.pool)).await
    }

    async fn enrolment(&self, token_hash: &[u8; 32]) -> Result<Option<EnrolmentRecord>, StoreError> {
        self.again_if_lost(|| enrolments::of_token(&self.pool, token_hash)).await
    }

    async fn add_enrolment(&self, enrolment: &EnrolmentRecord) -> Result<(), StoreError> {
        self.bounded(enrolments::add(&self.pool, enrolment)).await
    }

    async fn remove_enrolment(&self, id: &CredentialId) -> Result<bool, StoreError> {
        self.bounded(enrolments::remove(&self.pool, id)).await
    }

    async fn enrol(&self, enrolment: &CredentialId, device: &DeviceRecord) -> Result<(), DeviceNotEnrolled> {
        self.bounded(enrolments::enrol(&self.pool, enrolment, device)).await
    }

    async fn use_jtis(&self, jtis: &[UsedJti]) -> Result<Vec<bool>, StoreError> {
        // If they were written and only the answer was lost, they count as used
        // before: that errs on the safe side.
        self.again_if_lost(|| used_jtis::use_up(&self.pool, jtis)).await
    }

    async fn forget_jtis(&self, now: UnixSeconds) -> Result<(), StoreError> {
        self.bounded(used_jtis::forget(&self.pool, now)).await
    }

    async fn record_uses(&self, uses: &[CredentialUse]) -> Result<(), StoreError> {
        self.again_if_lost(|| credential_uses::record(&self.pool, uses)).await
    }

    async fn credential_uses(&self, client: &str) -> Result<Vec<CredentialUse>, StoreError> {
        self.again_if_lost(|| credential_uses::of_client(&self.pool, client)).await
    }

    async fn signing_keys(&self) -> Result<SigningKeySet, StoreError> {
        self.again_if_lost(|| signing_keys::all(&self.pool)).await
    }

    async fn change_signing_keys(&self, change: &SigningKeyChange<'_>) -> Result<(), SigningKeysNotChanged> {
        self.change(signing_keys::change(&self.pool, change)).await
    }

    async fn revoke(&self, revocations: &[Revocation]) -> Result<(), StoreError> {
        self.change(revocations::add(&self.pool, revocations)).await
    }

    async fn revocations(&self, after: u64, limit: u32) -> Result<Vec<NumberedRevocation>, StoreError> {
        self.again_if_lost(|| revocations::after(&self.pool, after, limit)).await
    }

    async fn forget_revocations(&self, now: UnixSeconds) -> Result<(), StoreError> {
        self.bounded(revocations::forget(&self.pool, now)).await
    }

    async fn changes(&self, after: u64) -> Result<ChangeLog, StoreError> {
        self.again_if_lost(|| changes::since(&self.pool, after)).await
    }

    async fn forget_changes(&self, kept: u64) -> Result<(), StoreError> {
        self.bounded(changes::forget(&self.pool, kept)).await
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn set_report(&self, report: &ReportRecord, kept: u32) -> Result<(), StoreError> {
        self.bounded(reports::set(&self.pool, report, kept)).await
    }

    async fn reports(&self, since: UnixSeconds) -> Result<Vec<ReportRecord>, StoreError> {
        self.again_if_lost(|| reports::since(&self.pool, since)).await
    }

    async fn forget_reports(&self, before: UnixSeconds) -> Result<(), StoreError> {
        self.bounded(reports::forget(&self.pool, before)).await
    }

    async fn keep_sessions(
        &self,
        broker: &str,
        instance: &str,
        part: &SessionsPart,
        most: u64,
    ) -> Result<SessionsKept, StoreError> {
        self.bounded(sessions::keep(&self.pool, broker, instance, part, most)).await
    }

    async fn sessions_online(&self, broker: &str) -> Result<Vec<(Box<str>, u64)>, StoreError> {
        self.again_if_lost(|| sessions::online(&self.pool, broker)).await
    }

    async fn sessions_of_clients(
        &self,
        client_ids: &[MqttClientId],
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        self.again_if_lost(|| sessions::of_clients(&self.pool, client_ids, limit)).await
    }

    async fn sessions_of_broker(
        &self,
        broker: &str,
        after: (&str, &str),
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        self.again_if_lost(|| sessions::of_broker(&self.pool, broker, after, limit)).await
    }

    async fn reach_clock(&self, now: UnixSeconds) -> Result<(), StoreError> {
        self.bounded(state::reach_clock(&self.pool, now)).await
    }

    async fn accept_clock(&self, now: UnixSeconds, epoch: &NewEpoch) -> Result<(), StoreError> {
        self.bounded(state::accept_clock(&self.pool, now, epoch)).await
    }

    async fn allow_token_lifetime(&self, max_token_lifetime_s: u64) -> Result<(), StoreError> {
        self.bounded(state::allow_token_lifetime(&self.pool, max_token_lifetime_s)).await
    }

    // As long as it takes: nobody waits for these two.
    async fn export(&self, rows: mpsc::Sender<Row>) -> Result<(), StoreError> {
        rows::export(&self.pool, &rows).await.map_err(|error| self.reach.explain(error))
    }

    async fn import(
        &self,
        rows: mpsc::Receiver<ImportedRow>,
        epoch: Option<&NewEpoch>,
    ) -> Result<(), NotImported> {
        let outcome = rows::import(&self.pool, rows, epoch).await;
        self.changed.notify_one();
        outcome.map_err(|error| error.map_store_error(|error| self.reach.explain(error)))
    }

    async fn root_keys(&self) -> Result<Option<NeededRootKeys>, StoreError> {
        self.again_if_lost(|| root_keys::get(&self.pool)).await
    }

    async fn set_root_key(&self, id: RootKeyId, former: Option<RootKeyId>) -> Result<bool, StoreError> {
        self.bounded(root_keys::set(&self.pool, id, former)).await
    }

    async fn forget_root_key(&self, id: RootKeyId) -> Result<(), StoreError> {
        self.bounded(root_keys::forget(&self.pool, id)).await
    }

    async fn terms(&self) -> Result<Option<FleetTerms>, StoreError> {
        self.again_if_lost(|| terms::get(&self.pool)).await
    }

    async fn make_terms(&self, terms: &FleetTerms) -> Result<(), StoreError> {
        self.bounded(terms::make(&self.pool, terms)).await
    }

    async fn change_terms(&self, terms: &FleetTerms) -> Result<(), StoreError> {
        self.bounded(terms::change(&self.pool, terms)).await
    }

    fn is_away(&self) -> bool {
        self.reach.is_away()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.again_if_lost(|| async {
            sqlx::query("SELECT 1 FROM groups LIMIT 1").execute(&self.pool).await?;
            Ok(())
        })
        .await
    }
}
