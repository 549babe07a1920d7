//! The log of changes. A writer has the database for itself, so that ids and
//! commits have one order.

use sqlx::sqlite::SqlitePool;
use sqlx::{Row as _, SqliteTransaction};

use crate::store::row::{ChangeRow, count_from_sql, count_to_sql, records, time_from_sql};
use crate::store::{ChangeLog, ChangedSubject, StoreError};

const WHAT: &str = "change";

/// Adds to the log, in the transaction of the change itself. Returns the id.
pub(super) async fn log(
    transaction: &mut SqliteTransaction<'_>,
    subject: &ChangedSubject,
) -> Result<i64, sqlx::Error> {
    let id: i64 = sqlx::query_scalar("UPDATE state SET last_change = last_change + 1 RETURNING last_change")
        .fetch_one(&mut **transaction)
        .await?;
    sqlx::query("INSERT INTO changes (id, kind, name) VALUES (?, ?, ?)")
        .bind(id)
        .bind(subject.kind())
        .bind(subject.name())
        .execute(&mut **transaction)
        .await?;
    Ok(id)
}

pub(super) async fn since(pool: &SqlitePool, after: u64) -> Result<ChangeLog, StoreError> {
    let mut transaction = pool.begin().await?;
    let state = sqlx::query("SELECT * FROM state").fetch_one(&mut *transaction).await?;
    let last = count_from_sql(WHAT, state.try_get("last_change")?)?;
    let rows: Vec<ChangeRow> = sqlx::query_as("SELECT id, kind, name FROM changes WHERE id > ? ORDER BY id")
        .bind(count_to_sql(after))
        .fetch_all(&mut *transaction)
        .await?;
    let is_whole = last.checked_sub(after) == Some(rows.len() as u64);
    Ok(ChangeLog {
        epoch: state.try_get::<&str, _>("epoch")?.into(),
        last,
        changes: if is_whole { Some(records(rows)?) } else { None },
        now: None,
        clock_high: time_from_sql(WHAT, state.try_get("clock_high")?)?,
        statements_after: time_from_sql(WHAT, state.try_get("statements_after")?)?,
        max_token_lifetime_s: count_from_sql(WHAT, state.try_get("max_token_lifetime_s")?)?,
    })
}

pub(super) async fn forget(pool: &SqlitePool, kept: u64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM changes WHERE id <= (SELECT last_change FROM state) - ?")
        .bind(count_to_sql(kept))
        .execute(pool)
        .await?;
    Ok(())
}
