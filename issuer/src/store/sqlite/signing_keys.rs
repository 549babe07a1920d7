//! Signing keys, private halves encrypted.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{changes, corrupt, counter_from_sql, counter_to_sql, revocations, time_from_sql, to_sql};
use crate::signing_keys::Schedule;
use crate::store::{
    ChangedSubject, SigningKeyChange, SigningKeyRecord, SigningKeySet, SigningKeysNotChanged, StoreError,
};

const WHAT: &str = "signing key";

pub(super) async fn all(pool: &SqlitePool) -> Result<SigningKeySet, StoreError> {
    let mut transaction = pool.begin().await?;
    let revision = sqlx::query_scalar("SELECT signing_keys FROM state").fetch_one(&mut *transaction).await?;
    let rows = sqlx::query(
        "SELECT kid, algorithm, sealed, announced_at, active_at, retired_at, dropped_at \
         FROM signing_keys ORDER BY announced_at, active_at, kid",
    )
    .fetch_all(&mut *transaction)
    .await?;
    let keys = rows.iter().map(from_row).collect::<Result<_, _>>()?;
    Ok(SigningKeySet { revision: counter_from_sql(WHAT, revision)?, keys })
}

pub(super) async fn change(
    pool: &SqlitePool,
    change: &SigningKeyChange<'_>,
) -> Result<(), SigningKeysNotChanged> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let next = sqlx::query("UPDATE state SET signing_keys = signing_keys + 1 WHERE signing_keys = ?")
        .bind(counter_to_sql(change.revision))
        .execute(&mut *transaction)
        .await?;
    if next.rows_affected() != 1 {
        return Err(SigningKeysNotChanged::Conflict);
    }
    for SigningKeyRecord { kid, algorithm, sealed, schedule } in change.set {
        sqlx::query(
            "INSERT INTO signing_keys \
               (kid, algorithm, sealed, announced_at, active_at, retired_at, dropped_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (kid) DO UPDATE SET \
               announced_at = excluded.announced_at, active_at = excluded.active_at, \
               retired_at = excluded.retired_at, dropped_at = excluded.dropped_at",
        )
        .bind(kid)
        .bind(algorithm.as_str())
        .bind(sealed.as_slice())
        .bind(to_sql(schedule.announced_at))
        .bind(to_sql(schedule.active_at))
        .bind(schedule.retired_at.map(to_sql))
        .bind(schedule.dropped_at.map(to_sql))
        .execute(&mut *transaction)
        .await?;
    }
    for kid in change.delete {
        sqlx::query("DELETE FROM signing_keys WHERE kid = ?").bind(*kid).execute(&mut *transaction).await?;
    }
    for revocation in change.revoke {
        revocations::add_in(&mut transaction, revocation).await?;
    }
    changes::log(&mut transaction, &ChangedSubject::SigningKeys).await?;
    Ok(transaction.commit().await?)
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
        sealed: row.try_get("sealed")?,
        schedule: Schedule {
            announced_at: time("announced_at")?,
            active_at: time("active_at")?,
            retired_at: maybe_time("retired_at")?,
            dropped_at: maybe_time("dropped_at")?,
        },
    })
}
