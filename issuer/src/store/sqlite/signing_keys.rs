//! Signing keys, private halves encrypted.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{corrupt, from_json, time_from_sql, to_json, to_sql};
use crate::signing_keys::Schedule;
use crate::store::{SigningKeyRecord, StoreError};

const WHAT: &str = "signing key";

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<SigningKeyRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT kid, algorithm, private, announced_at, active_at, retired_at, dropped_at \
         FROM signing_keys ORDER BY announced_at, active_at, kid",
    )
    .fetch_all(pool)
    .await?;
    rows.iter().map(from_row).collect()
}

pub(super) async fn set(pool: &SqlitePool, keys: &[SigningKeyRecord]) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    for SigningKeyRecord { kid, algorithm, private, schedule } in keys {
        sqlx::query(
            "INSERT INTO signing_keys \
               (kid, algorithm, private, announced_at, active_at, retired_at, dropped_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (kid) DO UPDATE SET \
               private = excluded.private, announced_at = excluded.announced_at, active_at = excluded.active_at, \
               retired_at = excluded.retired_at, dropped_at = excluded.dropped_at",
        )
        .bind(kid)
        .bind(algorithm.as_str())
        .bind(to_json(WHAT, private)?)
        .bind(to_sql(schedule.announced_at))
        .bind(to_sql(schedule.active_at))
        .bind(schedule.retired_at.map(to_sql))
        .bind(schedule.dropped_at.map(to_sql))
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}

pub(super) async fn delete(pool: &SqlitePool, kid: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM signing_keys WHERE kid = ?").bind(kid).execute(pool).await?;
    Ok(())
}

fn from_row(row: &SqliteRow) -> Result<SigningKeyRecord, StoreError> {
    let time = |column| -> Result<UnixSeconds, StoreError> { time_from_sql(WHAT, row.try_get(column)?) };
    let maybe_time = |column| -> Result<Option<UnixSeconds>, StoreError> {
        row.try_get::<Option<i64>, _>(column)?.map(|time| time_from_sql(WHAT, time)).transpose()
    };
    let algorithm: &str = row.try_get("algorithm")?;
    Ok(SigningKeyRecord {
        kid: row.try_get("kid")?,
        algorithm: Algorithm::from_name(algorithm)
            .ok_or_else(|| corrupt(WHAT, &format_args!("the algorithm {algorithm:?}")))?,
        private: from_json(WHAT, row.try_get("private")?)?,
        schedule: Schedule {
            announced_at: time("announced_at")?,
            active_at: time("active_at")?,
            retired_at: maybe_time("retired_at")?,
            dropped_at: maybe_time("dropped_at")?,
        },
    })
}
