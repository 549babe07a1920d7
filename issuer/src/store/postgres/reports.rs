//! What validators said last.

use fleetbadge_validator::time::UnixSeconds;
use sqlx::postgres::PgPool;

use crate::store::row::{ReportRow, records, time_to_sql};
use crate::store::{ReportRecord, StoreError};

pub(super) async fn set(pool: &PgPool, report: &ReportRecord) -> Result<(), StoreError> {
    let row = ReportRow::try_from(report)?;
    // A broker that is being removed at this moment is there no longer.
    sqlx::query(
        "INSERT INTO reports (broker, instance, document, reported_at) \
         SELECT name, $2, $3, $4 FROM brokers WHERE name = $1 FOR KEY SHARE \
         ON CONFLICT (broker, instance) DO UPDATE SET \
           document = excluded.document, reported_at = excluded.reported_at",
    )
    .bind(row.broker)
    .bind(row.instance)
    .bind(row.document)
    .bind(row.reported_at)
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn since(pool: &PgPool, since: UnixSeconds) -> Result<Vec<ReportRecord>, StoreError> {
    let rows: Vec<ReportRow> = sqlx::query_as(
        "SELECT broker, instance, document, reported_at FROM reports WHERE reported_at >= $1 \
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
