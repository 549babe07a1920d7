//! Signing keys, private halves encrypted.

use sqlx::postgres::PgPool;

use super::settings::ONE_MOMENT;
use super::{changes, revocations};
use crate::store::row::{SigningKeyRow, count_from_sql, count_to_sql, records};
use crate::store::{ChangedSubject, SigningKeyChange, SigningKeySet, SigningKeysNotChanged, StoreError};

pub(super) async fn all(pool: &PgPool) -> Result<SigningKeySet, StoreError> {
    let mut transaction = pool.begin_with(ONE_MOMENT).await?;
    let revision = sqlx::query_scalar("SELECT signing_keys FROM state").fetch_one(&mut *transaction).await?;
    let rows: Vec<SigningKeyRow> = sqlx::query_as(
        "SELECT kid, algorithm, private, announced_at, active_at, retired_at, dropped_at \
         FROM signing_keys ORDER BY announced_at, active_at, kid",
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(SigningKeySet { revision: count_from_sql("signing keys", revision)?, keys: records(rows)? })
}

pub(super) async fn change(
    pool: &PgPool,
    change: &SigningKeyChange<'_>,
) -> Result<(), SigningKeysNotChanged> {
    let mut transaction = pool.begin().await?;
    let next = sqlx::query("UPDATE state SET signing_keys = signing_keys + 1 WHERE signing_keys = $1")
        .bind(count_to_sql(change.revision))
        .execute(&mut *transaction)
        .await?;
    if next.rows_affected() != 1 {
        return Err(SigningKeysNotChanged::Conflict);
    }
    for record in change.set {
        let row = SigningKeyRow::try_from(record)?;
        sqlx::query(
            "INSERT INTO signing_keys \
               (kid, algorithm, private, announced_at, active_at, retired_at, dropped_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (kid) DO UPDATE SET \
               private = excluded.private, \
               announced_at = excluded.announced_at, active_at = excluded.active_at, \
               retired_at = excluded.retired_at, dropped_at = excluded.dropped_at",
        )
        .bind(row.kid)
        .bind(row.algorithm)
        .bind(row.private)
        .bind(row.announced_at)
        .bind(row.active_at)
        .bind(row.retired_at)
        .bind(row.dropped_at)
        .execute(&mut *transaction)
        .await?;
    }
    for kid in change.delete {
        sqlx::query("DELETE FROM signing_keys WHERE kid = $1").bind(*kid).execute(&mut *transaction).await?;
    }
    for revocation in change.revoke {
        revocations::add_in(&mut transaction, revocation).await?;
    }
    changes::log(&mut transaction, &ChangedSubject::SigningKeys).await?;
    Ok(transaction.commit().await?)
}
