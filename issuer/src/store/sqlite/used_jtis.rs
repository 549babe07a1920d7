//! The signed statements that are good once: used up in batches.

use fleetbadge_validator::time::UnixSeconds;
use sqlx::sqlite::SqlitePool;

use crate::store::row::time_to_sql;
use crate::store::{StoreError, UsedJti};

pub(super) async fn use_up(pool: &SqlitePool, jtis: &[UsedJti]) -> Result<Vec<bool>, StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let mut first = Vec::with_capacity(jtis.len());
    for UsedJti { id, expires_at } in jtis {
        let inserted = sqlx::query(
            "INSERT INTO used_jtis (id, expires_at) SELECT ?1, ?2 FROM state WHERE statements_after < ?2 \
             ON CONFLICT DO NOTHING",
        )
        .bind(id.as_slice())
        .bind(time_to_sql(*expires_at))
        .execute(&mut *transaction)
        .await?;
        first.push(inserted.rows_affected() == 1);
    }
    transaction.commit().await?;
    Ok(first)
}

pub(super) async fn forget(pool: &SqlitePool, now: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM used_jtis WHERE expires_at < ?").bind(time_to_sql(now)).execute(pool).await?;
    Ok(())
}
