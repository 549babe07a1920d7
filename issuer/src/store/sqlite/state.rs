//! What is known of the database as a whole.

use fleetbadge_validator::time::UnixSeconds;
use sqlx::SqliteTransaction;
use sqlx::sqlite::SqlitePool;

use super::{changes, revocations};
use crate::store::row::{count_from_sql, count_to_sql, time_to_sql};
use crate::store::{ChangedSubject, NewEpoch, StoreError};

pub(super) async fn reach_clock(pool: &SqlitePool, now: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query("UPDATE state SET clock_high = ?1 WHERE clock_high < ?1")
        .bind(time_to_sql(now))
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn allow_token_lifetime(
    pool: &SqlitePool,
    max_token_lifetime_s: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE state SET max_token_lifetime_s = ?1 WHERE max_token_lifetime_s < ?1")
        .bind(count_to_sql(max_token_lifetime_s))
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn accept_clock(
    pool: &SqlitePool,
    now: UnixSeconds,
    epoch: &NewEpoch,
) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("UPDATE state SET clock_high = ?").bind(time_to_sql(now)).execute(&mut *transaction).await?;
    begin_in(&mut transaction, epoch, &[]).await?;
    Ok(transaction.commit().await?)
}

/// Begins an epoch in a database that was restored.
pub(super) async fn restored_in(
    transaction: &mut SqliteTransaction<'_>,
    epoch: &NewEpoch,
) -> Result<(), StoreError> {
    changes::log(transaction, &ChangedSubject::SigningKeys).await?;
    sqlx::query("UPDATE state SET signing_keys = signing_keys + 1").execute(&mut **transaction).await?;
    // Any of them may have been revoked, and every token is taken back anyway.
    let kids: Vec<String> =
        sqlx::query_scalar("DELETE FROM signing_keys RETURNING kid").fetch_all(&mut **transaction).await?;
    begin_in(transaction, epoch, &kids).await
}

async fn begin_in(
    transaction: &mut SqliteTransaction<'_>,
    epoch: &NewEpoch,
    kids: &[String],
) -> Result<(), StoreError> {
    let max_token_lifetime_s: i64 = sqlx::query_scalar(
        "UPDATE state SET epoch = lower(hex(randomblob(16))), statements_after = ? \
         RETURNING max_token_lifetime_s",
    )
    .bind(time_to_sql(epoch.statements_after))
    .fetch_one(&mut **transaction)
    .await?;
    // The one of all says the same, and if one of these reaches further, then
    // by a wrong clock: nobody could come back until then.
    sqlx::query(
        "DELETE FROM revocations WHERE target = 'all' OR target LIKE 'device %' OR target LIKE 'group %'",
    )
    .execute(&mut **transaction)
    .await?;
    for revocation in epoch.revocations(count_from_sql("lifetime", max_token_lifetime_s)?, kids) {
        revocations::add_in(transaction, &revocation).await?;
    }
    Ok(())
}
