//! The signed statements that are good once: used up in batches.

use std::collections::HashSet;

use fleetbadge_validator::time::UnixSeconds;
use sqlx::postgres::PgPool;

use crate::store::row::time_to_sql;
use crate::store::{StoreError, UsedJti};

pub(super) async fn use_up(pool: &PgPool, jtis: &[UsedJti]) -> Result<Vec<bool>, StoreError> {
    let ids: Vec<&[u8]> = jtis.iter().map(|jti| jti.id.as_slice()).collect();
    let ends: Vec<i64> = jtis.iter().map(|jti| time_to_sql(jti.expires_at)).collect();
    // What another node is just using up is waited for; in one order, so that
    // no two nodes wait for each other.
    let inserted: Vec<Vec<u8>> = sqlx::query_scalar(
        "INSERT INTO used_jtis (id, expires_at) \
         SELECT id, max(expires_at) FROM unnest($1::bytea[], $2::bigint[]) AS used (id, expires_at), state \
         WHERE expires_at > statements_after \
         GROUP BY id ORDER BY id \
         ON CONFLICT DO NOTHING RETURNING id",
    )
    .bind(ids)
    .bind(ends)
    .fetch_all(pool)
    .await?;
    // Of those in one batch, the first is let in.
    let mut inserted: HashSet<Vec<u8>> = inserted.into_iter().collect();
    Ok(jtis.iter().map(|jti| inserted.remove(jti.id.as_slice())).collect())
}

pub(super) async fn forget(pool: &PgPool, now: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM used_jtis WHERE expires_at < $1").bind(time_to_sql(now)).execute(pool).await?;
    Ok(())
}
