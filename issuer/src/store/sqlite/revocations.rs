//! Tokens that were taken back: a row for each target.

use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::time::UnixSeconds;
use sqlx::SqliteTransaction;
use sqlx::sqlite::SqlitePool;

use super::changes;
use crate::store::log::target_key;
use crate::store::row::{RevocationRow, count_to_sql, records, time_to_sql, wider_revocation};
use crate::store::{ChangedSubject, NumberedRevocation, StoreError};

pub(super) async fn add(pool: &SqlitePool, revocations: &[Revocation]) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    for revocation in revocations {
        add_in(&mut transaction, revocation).await?;
    }
    Ok(transaction.commit().await?)
}

/// Adds one, in the transaction of what causes it. It takes the place of the
/// one of the same target, and is never narrower.
pub(super) async fn add_in(
    transaction: &mut SqliteTransaction<'_>,
    revocation: &Revocation,
) -> Result<(), StoreError> {
    let target = target_key(&revocation.target);
    let former: Option<String> = sqlx::query_scalar("SELECT document FROM revocations WHERE target = ?")
        .bind(&target)
        .fetch_optional(&mut **transaction)
        .await?;
    let (document, expires_at) = wider_revocation(former.as_deref(), revocation)?;
    let id = changes::log(transaction, &ChangedSubject::Revocation).await?;
    sqlx::query(
        "INSERT INTO revocations (id, target, document, expires_at) VALUES (?, ?, ?, ?) \
         ON CONFLICT (target) DO UPDATE SET \
           id = excluded.id, document = excluded.document, expires_at = excluded.expires_at",
    )
    .bind(id)
    .bind(target)
    .bind(document)
    .bind(expires_at)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn after(
    pool: &SqlitePool,
    after: u64,
    limit: u32,
) -> Result<Vec<NumberedRevocation>, StoreError> {
    let rows: Vec<RevocationRow> =
        sqlx::query_as("SELECT id, document FROM revocations WHERE id > ? ORDER BY id LIMIT ?")
            .bind(count_to_sql(after))
            .bind(limit)
            .fetch_all(pool)
            .await?;
    records(rows)
}

pub(super) async fn forget(pool: &SqlitePool, now: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM revocations WHERE expires_at < ?").bind(time_to_sql(now)).execute(pool).await?;
    Ok(())
}
