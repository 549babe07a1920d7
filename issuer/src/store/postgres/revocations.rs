//! Tokens that were taken back: a row for each target.

use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::time::UnixSeconds;
use sqlx::PgTransaction;
use sqlx::postgres::PgPool;

use super::changes;
use crate::store::log::target_key;
use crate::store::row::{RevocationRow, count_to_sql, records, time_to_sql, wider_revocation};
use crate::store::{ChangedSubject, NumberedRevocation, StoreError};

pub(super) async fn add(pool: &PgPool, revocations: &[Revocation]) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    for revocation in revocations {
        add_in(&mut transaction, revocation).await?;
    }
    Ok(transaction.commit().await?)
}

/// Adds one, in the transaction of what causes it. It takes the place of the
/// one of the same target, and is never narrower.
pub(super) async fn add_in(
    transaction: &mut PgTransaction<'_>,
    revocation: &Revocation,
) -> Result<(), StoreError> {
    // From here on nobody else adds one.
    let id = changes::log(transaction, &ChangedSubject::Revocation).await?;
    let target = target_key(&revocation.target);
    let former: Option<String> = sqlx::query_scalar("SELECT document FROM revocations WHERE target = $1")
        .bind(&target)
        .fetch_optional(&mut **transaction)
        .await?;
    let (document, expires_at) = wider_revocation(former.as_deref(), revocation)?;
    sqlx::query(
        "INSERT INTO revocations (id, target, document, expires_at) VALUES ($1, $2, $3, $4) \
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
    pool: &PgPool,
    after: u64,
    limit: u32,
) -> Result<Vec<NumberedRevocation>, StoreError> {
    let rows: Vec<RevocationRow> =
        sqlx::query_as("SELECT id, document FROM revocations WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(count_to_sql(after))
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?;
    records(rows)
}

pub(super) async fn forget(pool: &PgPool, now: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM revocations WHERE expires_at < $1").bind(time_to_sql(now)).execute(pool).await?;
    Ok(())
}
