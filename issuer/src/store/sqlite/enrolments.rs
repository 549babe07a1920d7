//! Enrolments, and the devices that come by them.

use sqlx::sqlite::SqlitePool;

use super::devices;
use crate::credentials::CredentialId;
use crate::store::row::{EnrolmentRow, records};
use crate::store::{DeviceNotEnrolled, DeviceRecord, EnrolmentRecord, StoreError};

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<EnrolmentRecord>, StoreError> {
    let rows: Vec<EnrolmentRow> = sqlx::query_as(
        "SELECT id, token_hash, uses_left, document, created_at FROM enrolments ORDER BY created_at, id",
    )
    .fetch_all(pool)
    .await?;
    records(rows)
}

pub(super) async fn of_token(
    pool: &SqlitePool,
    token_hash: &[u8; 32],
) -> Result<Option<EnrolmentRecord>, StoreError> {
    let row: Option<EnrolmentRow> = sqlx::query_as(
        "SELECT id, token_hash, uses_left, document, created_at FROM enrolments WHERE token_hash = ?",
    )
    .bind(token_hash.as_slice())
    .fetch_optional(pool)
    .await?;
    row.map(EnrolmentRecord::try_from).transpose()
}

pub(super) async fn add(pool: &SqlitePool, enrolment: &EnrolmentRecord) -> Result<(), StoreError> {
    let row = EnrolmentRow::try_from(enrolment)?;
    sqlx::query(
        "INSERT INTO enrolments (id, token_hash, uses_left, document, created_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(row.id)
    .bind(row.token_hash)
    .bind(row.uses_left)
    .bind(row.document)
    .bind(row.created_at)
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
