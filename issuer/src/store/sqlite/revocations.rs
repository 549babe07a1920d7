//! Tokens that were taken back: a row for each target.

use fleetbadge_validator::revocations::{Revocation, Revocations};
use fleetbadge_validator::time::UnixSeconds;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, SqliteTransaction};

use super::{changes, counter_from_sql, counter_to_sql, from_json, to_json, to_sql};
use crate::store::log::target_key;
use crate::store::{ChangedSubject, NumberedRevocation, StoreError};

const WHAT: &str = "revocation";

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
    let former = former.map(|json| from_json::<Revocation>(WHAT, &json)).transpose()?;
    let wider = Revocations::from_iter(former.into_iter().chain([revocation.clone()]));
    let id = changes::log(transaction, &ChangedSubject::Revocation).await?;
    for revocation in wider.iter() {
        sqlx::query(
            "INSERT INTO revocations (id, target, document, expires_at) VALUES (?, ?, ?, ?) \
             ON CONFLICT (target) DO UPDATE SET \
               id = excluded.id, document = excluded.document, expires_at = excluded.expires_at",
        )
        .bind(id)
        .bind(&target)
        .bind(to_json(WHAT, &revocation)?)
        .bind(to_sql(revocation.expires_at))
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

pub(super) async fn after(
    pool: &SqlitePool,
    after: u64,
    limit: u32,
) -> Result<Vec<NumberedRevocation>, StoreError> {
    let rows = sqlx::query("SELECT id, document FROM revocations WHERE id > ? ORDER BY id LIMIT ?")
        .bind(counter_to_sql(after))
        .bind(limit)
        .fetch_all(pool)
        .await?;
    rows.iter().map(from_row).collect()
}

pub(super) async fn forget(pool: &SqlitePool, now: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM revocations WHERE expires_at < ?").bind(to_sql(now)).execute(pool).await?;
    Ok(())
}

fn from_row(row: &SqliteRow) -> Result<NumberedRevocation, StoreError> {
    Ok(NumberedRevocation {
        id: counter_from_sql(WHAT, row.try_get("id")?)?,
        revocation: from_json(WHAT, row.try_get("document")?)?,
    })
}
