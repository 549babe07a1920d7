//! Groups and brokers as a whole: each is checked against the others.

use sqlx::PgTransaction;
use sqlx::postgres::PgPool;

use super::changes;
use crate::store::row::{BrokerRow, GroupRow, count_from_sql, count_to_sql, records};
use crate::store::{ChangedSubject, SettingSet, SettingsNotChanged, StoreError};

/// How what must be of one moment is read.
pub(super) const ONE_MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

pub(super) async fn all(pool: &PgPool) -> Result<SettingSet, StoreError> {
    let mut transaction = pool.begin_with(ONE_MOMENT).await?;
    let revision = sqlx::query_scalar("SELECT settings FROM state").fetch_one(&mut *transaction).await?;
    let groups: Vec<GroupRow> =
        sqlx::query_as("SELECT name, policy, created_at, updated_at FROM groups ORDER BY name")
            .fetch_all(&mut *transaction)
            .await?;
    let brokers: Vec<BrokerRow> =
        sqlx::query_as("SELECT name, resource, revision, document, created_at FROM brokers ORDER BY name")
            .fetch_all(&mut *transaction)
            .await?;
    transaction.commit().await?;
    Ok(SettingSet {
        revision: count_from_sql("settings", revision)?,
        groups: records(groups)?,
        brokers: records(brokers)?,
    })
}

/// Logs a change, and counts up the revision, before the change itself.
pub(super) async fn next(transaction: &mut PgTransaction<'_>) -> Result<(), sqlx::Error> {
    changes::log(transaction, &ChangedSubject::Settings).await?;
    sqlx::query("UPDATE state SET settings = settings + 1").execute(&mut **transaction).await?;
    Ok(())
}

/// The same, for a change that was checked against the settings of `revision`.
pub(super) async fn next_after(
    transaction: &mut PgTransaction<'_>,
    revision: u64,
) -> Result<(), SettingsNotChanged> {
    changes::log(transaction, &ChangedSubject::Settings).await?;
    let next = sqlx::query("UPDATE state SET settings = settings + 1 WHERE settings = $1")
        .bind(count_to_sql(revision))
        .execute(&mut **transaction)
        .await?;
    if next.rows_affected() == 1 { Ok(()) } else { Err(SettingsNotChanged::Conflict) }
}
