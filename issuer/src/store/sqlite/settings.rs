//! Groups and brokers as a whole: each is checked against the others.

use sqlx::SqliteTransaction;
use sqlx::sqlite::SqlitePool;

use super::changes;
use crate::store::row::{BrokerRow, GroupRow, count_from_sql, count_to_sql, records};
use crate::store::{ChangedSubject, SettingSet, SettingsNotChanged, StoreError};

pub(super) async fn all(pool: &SqlitePool) -> Result<SettingSet, StoreError> {
    let mut transaction = pool.begin().await?;
    let revision = sqlx::query_scalar("SELECT settings FROM state").fetch_one(&mut *transaction).await?;
    let groups: Vec<GroupRow> =
        sqlx::query_as("SELECT name, policy, created_at, updated_at FROM groups ORDER BY name")
            .fetch_all(&mut *transaction)
            .await?;
    let brokers: Vec<BrokerRow> =
        sqlx::query_as("SELECT name, resource, revision, document, created_at FROM brokers ORDER BY name")
            .fetch_all(&mut *transaction)
            .await?;
    Ok(SettingSet {
        revision: count_from_sql("settings", revision)?,
        groups: records(groups)?,
        brokers: records(brokers)?,
    })
}

/// Counts up the revision, in the transaction of the change itself, and logs
/// it.
pub(super) async fn next(transaction: &mut SqliteTransaction<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE state SET settings = settings + 1").execute(&mut **transaction).await?;
    changes::log(transaction, &ChangedSubject::Settings).await?;
    Ok(())
}

/// The same, for a change that was checked against the settings of `revision`.
pub(super) async fn next_after(
    transaction: &mut SqliteTransaction<'_>,
    revision: u64,
) -> Result<(), SettingsNotChanged> {
    let is_newest: bool = sqlx::query_scalar("SELECT settings = ? FROM state")
        .bind(count_to_sql(revision))
        .fetch_one(&mut **transaction)
        .await?;
    if is_newest { Ok(next(transaction).await?) } else { Err(SettingsNotChanged::Conflict) }
}
