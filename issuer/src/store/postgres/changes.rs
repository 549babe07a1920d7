//! The log of changes. Whoever has counted it up holds back all others until
//! the commit, so that ids and commits have one order.

use sqlx::postgres::PgPool;
use sqlx::{FromRow, PgTransaction};

use crate::store::row::{ChangeRow, count_from_sql, count_to_sql, records, time_from_sql};
use crate::store::{ChangeLog, ChangedSubject, StoreError};

/// What is called when something was committed.
pub(super) const CHANNEL: &str = "fleetbadge_changes";

/// Adds to the log, in the transaction of the change itself, and before it.
/// Returns the id.
pub(super) async fn log(
    transaction: &mut PgTransaction<'_>,
    subject: &ChangedSubject,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "WITH next AS (UPDATE state SET last_change = last_change + 1 RETURNING last_change), \
              logged AS (INSERT INTO changes (id, kind, name) SELECT last_change, $1, $2 FROM next) \
         SELECT last_change, pg_notify($3, '') FROM next",
    )
    .bind(subject.kind())
    .bind(subject.name())
    .bind(CHANNEL)
    .fetch_one(&mut **transaction)
    .await
}

#[derive(FromRow)]
struct StateRow {
    epoch: String,
    last_change: i64,
    statements_after: i64,
    clock_high: i64,
    max_token_lifetime_s: i64,
    now: i64,
    is_standby: bool,
    id: Option<i64>,
    kind: Option<String>,
    name: Option<String>,
}

pub(super) async fn since(pool: &PgPool, after: u64) -> Result<ChangeLog, StoreError> {
    // One statement, so that all of it is of one moment.
    //
    // When a standby takes over, what it had not heard of is lost, and ids are
    // given out again: another timeline is another history.
    let rows: Vec<StateRow> = sqlx::query_as(
        "SELECT CASE WHEN pg_is_in_recovery() THEN epoch \
                     ELSE epoch || '_' || ltrim(left(pg_walfile_name(pg_current_wal_lsn()), 8), '0') END AS epoch, \
                last_change, statements_after, clock_high, max_token_lifetime_s, \
                floor(extract(epoch FROM clock_timestamp()))::bigint AS now, \
                pg_is_in_recovery() AS is_standby, id, kind, name \
         FROM state LEFT JOIN changes ON id > $1 ORDER BY id",
    )
    .bind(count_to_sql(after))
    .fetch_all(pool)
    .await?;
    let Some(state) = rows.first() else { return Err(sqlx::Error::RowNotFound.into()) };
    if state.is_standby {
        return Err(StoreError::Standby);
    }
    let last = count_from_sql("change", state.last_change)?;
    let log = ChangeLog {
        epoch: state.epoch.as_str().into(),
        last,
        changes: None,
        now: Some(time_from_sql("clock", state.now)?),
        clock_high: time_from_sql("clock", state.clock_high)?,
        statements_after: time_from_sql("clock", state.statements_after)?,
        max_token_lifetime_s: count_from_sql("lifetime", state.max_token_lifetime_s)?,
    };
    let changes: Vec<ChangeRow> = rows
        .into_iter()
        .filter_map(|row| Some(ChangeRow { id: row.id?, kind: row.kind?, name: row.name? }))
        .collect();
    let is_whole = last.checked_sub(after) == Some(changes.len() as u64);
    Ok(ChangeLog { changes: if is_whole { Some(records(changes)?) } else { None }, ..log })
}

pub(super) async fn forget(pool: &PgPool, kept: u64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM changes WHERE id <= (SELECT last_change FROM state) - $1")
        .bind(count_to_sql(kept))
        .execute(pool)
        .await?;
    Ok(())
}
