//! What is known of the database as a whole.

use fleetbadge_validator::time::UnixSeconds;
use sqlx::PgTransaction;
use sqlx::postgres::PgPool;

use super::{changes, revocations};
use crate::store::row::time_to_sql;
use crate::store::{ChangedSubject, Restoration, StoreError};

pub(super) async fn reach_clock(pool: &PgPool, now: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query("UPDATE state SET clock_high = $1 WHERE clock_high < $1")
        .bind(time_to_sql(now))
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn accept_clock(
    pool: &PgPool,
    now: UnixSeconds,
    statements_after: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE state SET clock_high = $1, statements_after = $2")
        .bind(time_to_sql(now))
        .bind(time_to_sql(statements_after))
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn restored_in(
    transaction: &mut PgTransaction<'_>,
    Restoration { revoke, statements_after }: &Restoration,
) -> Result<(), StoreError> {
    changes::log(transaction, &ChangedSubject::SigningKeys).await?;
    sqlx::query(
        "UPDATE state SET epoch = replace(gen_random_uuid()::text, '-', ''), statements_after = $1, \
         signing_keys = signing_keys + 1",
    )
    .bind(time_to_sql(*statements_after))
    .execute(&mut **transaction)
    .await?;
    // Any of them may have been revoked, and every token is taken back anyway.
    sqlx::query("DELETE FROM signing_keys").execute(&mut **transaction).await?;
    revocations::add_in(transaction, revoke).await
}
