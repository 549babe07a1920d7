//! What validators said last.

use fleetbadge_validator::time::UnixSeconds;
use sqlx::postgres::PgPool;

use crate::store::row::{ReportRow, records, time_to_sql};
use crate::store::{ReportRecord, StoreError};

pub(super) async fn set(pool: &PgPool, report: &ReportRecord, kept: u32) -> Result<(), StoreError> {
    let row = ReportRow::try_from(report)?;
    let mut transaction = pool.begin().await?;
    // A broker that is being removed at this moment is there no longer.
    sqlx::query(
        "INSERT INTO reports (broker, instance, secret, document, reported_at) \
         SELECT name, $2, $3, $4, $5 FROM brokers WHERE name = $1 FOR KEY SHARE \
         ON CONFLICT (broker, instance) DO UPDATE SET \
           secret = excluded.secret, document = excluded.document, reported_at = excluded.reported_at",
    )
    .bind(&row.broker)
    .bind(&row.instance)
    .bind(&row.secret)
    .bind(&row.document)
    .bind(row.reported_at)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "DELETE FROM reports WHERE broker = $1 AND instance IN ( \
           SELECT instance FROM reports WHERE broker = $1 \
           ORDER BY instance = $2 DESC, reported_at DESC, instance OFFSET $3)",
    )
    .bind(&row.broker)
    .bind(&row.instance)
    .bind(i64::from(kept))
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn since(pool: &PgPool, since: UnixSeconds) -> Result<Vec<ReportRecord>, StoreError> {
    let rows: Vec<ReportRow> = sqlx::query_as(
        "SELECT broker, instance, secret, document, reported_at FROM reports WHERE reported_at >= $1 \
         ORDER BY broker, instance",
    )
    .bind(time_to_sql(since))
    .fetch_all(pool)
    .await?;
    records(rows)
}

pub(super) async fn forget(pool: &PgPool, before: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM reports WHERE reported_at < $1").bind(time_to_sql(before)).execute(pool).await?;
    Ok(())
}
