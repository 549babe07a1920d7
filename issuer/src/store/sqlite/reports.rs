//! What validators said last.

use fleetbadge_validator::time::UnixSeconds;
use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{corrupt, from_json, time_from_sql, to_json, to_sql};
use crate::store::{ReportRecord, StoreError};

const WHAT: &str = "report";

pub(super) async fn set(pool: &SqlitePool, report: &ReportRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO reports (broker, instance, document, reported_at) \
         SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM brokers WHERE name = ?1) \
         ON CONFLICT (broker, instance) DO UPDATE SET \
           document = excluded.document, reported_at = excluded.reported_at",
    )
    .bind(report.broker.as_str())
    .bind(&*report.instance)
    .bind(to_json(WHAT, &report.report)?)
    .bind(to_sql(report.reported_at))
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn since(pool: &SqlitePool, since: UnixSeconds) -> Result<Vec<ReportRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT broker, instance, document, reported_at FROM reports WHERE reported_at >= ? \
         ORDER BY broker, instance",
    )
    .bind(to_sql(since))
    .fetch_all(pool)
    .await?;
    rows.iter().map(from_row).collect()
}

pub(super) async fn forget(pool: &SqlitePool, before: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM reports WHERE reported_at < ?").bind(to_sql(before)).execute(pool).await?;
    Ok(())
}

fn from_row(row: &SqliteRow) -> Result<ReportRecord, StoreError> {
    Ok(ReportRecord {
        broker: row.try_get::<&str, _>("broker")?.parse().map_err(|error| corrupt(WHAT, &error))?,
        instance: row.try_get::<&str, _>("instance")?.into(),
        report: from_json(WHAT, row.try_get("document")?)?,
        reported_at: time_from_sql(WHAT, row.try_get("reported_at")?)?,
    })
}
