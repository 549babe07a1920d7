//! Enrolments, and the devices that come by them.

use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{corrupt, devices, from_json, time_from_sql, to_json, to_sql};
use crate::credentials::CredentialId;
use crate::store::{DeviceNotEnrolled, DeviceRecord, EnrolmentRecord, StoreError};

const WHAT: &str = "enrolment";

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<EnrolmentRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, token_hash, uses_left, document, created_at FROM enrolments ORDER BY created_at, id",
    )
    .fetch_all(pool)
    .await?;
    rows.iter().map(from_row).collect()
}

pub(super) async fn of_token(
    pool: &SqlitePool,
    token_hash: &[u8; 32],
) -> Result<Option<EnrolmentRecord>, StoreError> {
    let row = sqlx::query(
        "SELECT id, token_hash, uses_left, document, created_at FROM enrolments WHERE token_hash = ?",
    )
    .bind(token_hash.as_slice())
    .fetch_optional(pool)
    .await?;
    row.map(|row| from_row(&row)).transpose()
}

pub(super) async fn add(pool: &SqlitePool, enrolment: &EnrolmentRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO enrolments (id, token_hash, uses_left, document, created_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(enrolment.id.as_str())
    .bind(enrolment.token_hash.as_slice())
    .bind(enrolment.uses_left)
    .bind(to_json(WHAT, &enrolment.terms)?)
    .bind(to_sql(enrolment.created_at))
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn remove(pool: &SqlitePool, id: &CredentialId) -> Result<bool, StoreError> {
    let deleted = sqlx::query("DELETE FROM enrolments WHERE id = ?").bind(id.as_str()).execute(pool).await?;
    Ok(deleted.rows_affected() == 1)
}

pub(super) async fn enrol(
    pool: &SqlitePool,
    id: &CredentialId,
    device: &DeviceRecord,
) -> Result<(), DeviceNotEnrolled> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let used = sqlx::query("UPDATE enrolments SET uses_left = uses_left - 1 WHERE id = ? AND uses_left > 0")
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await?;
    if used.rows_affected() != 1 {
        return Err(DeviceNotEnrolled::UsedUp);
    }
    devices::add_in(&mut transaction, device).await?;
    Ok(transaction.commit().await?)
}

fn from_row(row: &SqliteRow) -> Result<EnrolmentRecord, StoreError> {
    let hash: &[u8] = row.try_get("token_hash")?;
    Ok(EnrolmentRecord {
        id: CredentialId::from_text(row.try_get("id")?),
        token_hash: hash.try_into().map_err(|error| corrupt(WHAT, &error))?,
        uses_left: row.try_get("uses_left")?,
        terms: from_json(WHAT, row.try_get("document")?)?,
        created_at: time_from_sql(WHAT, row.try_get("created_at")?)?,
    })
}
