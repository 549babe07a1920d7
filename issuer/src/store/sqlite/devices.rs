//! Devices: a row each, what it is read and written whole as JSON.

use std::collections::BTreeSet;

use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::revocations::Revocation;
use sqlx::SqliteTransaction;
use sqlx::sqlite::SqlitePool;

use super::{changes, credential_uses, names, revocations};
use crate::credentials::CredentialId;
use crate::store::row::{DeviceRow, records};
use crate::store::{
    ChangedSubject, DeviceNotUpdated, DeviceNotWritten, DeviceQuery, DeviceRecord, DeviceStatus, StoreError,
};

pub(super) async fn add(pool: &SqlitePool, device: &DeviceRecord) -> Result<(), DeviceNotWritten> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    add_in(&mut transaction, device).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn add_in(
    transaction: &mut SqliteTransaction<'_>,
    device: &DeviceRecord,
) -> Result<(), DeviceNotWritten> {
    let row = DeviceRow::try_from(device)?;
    names::refuse_again(transaction, device.name.as_str()).await??;
    require_group(transaction, device).await?;
    take_names(transaction, device).await?;
    sqlx::query(
        "INSERT INTO devices (name, group_name, status, revision, document, created_at) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(row.name)
    .bind(row.group_name)
    .bind(row.status)
    .bind(row.revision)
    .bind(row.document)
    .bind(row.created_at)
    .execute(&mut **transaction)
    .await?;
    take_keys(transaction, device).await
}

pub(super) async fn update(
    pool: &SqlitePool,
    device: &DeviceRecord,
    revoke: Option<&Revocation>,
) -> Result<(), DeviceNotUpdated> {
    let name = device.name.as_str();
    let row = DeviceRow::try_from(device)?;
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    credential_uses::forget_removed(&mut transaction, name, &row.document).await?;
    let updated = sqlx::query(
        "UPDATE devices SET group_name = ?1, status = ?2, document = ?3, revision = revision + 1 \
         WHERE name = ?4 AND revision = ?5 AND EXISTS (SELECT 1 FROM groups WHERE name = ?1)",
    )
    .bind(row.group_name)
    .bind(row.status)
    .bind(row.document)
    .bind(name)
    .bind(row.revision)
    .execute(&mut *transaction)
    .await?;
    if updated.rows_affected() != 1 {
        require_group(&mut transaction, device).await?;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM devices WHERE name = ?)")
            .bind(name)
            .fetch_one(&mut *transaction)
            .await?;
        return Err(if exists { DeviceNotUpdated::Conflict } else { DeviceNotUpdated::Gone });
    }
    take_names(&mut transaction, device).await?;
    take_keys(&mut transaction, device).await?;
    log(&mut transaction, name, revoke).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn get(pool: &SqlitePool, name: &str) -> Result<Option<DeviceRecord>, StoreError> {
    let row: Option<DeviceRow> = sqlx::query_as(
        "SELECT name, group_name, status, revision, document, created_at FROM devices WHERE name = ?",
    )
    .bind(name)
    .fetch_optional(pool)
    .await?;
    row.map(DeviceRecord::try_from).transpose()
}

pub(super) async fn of_key(
    pool: &SqlitePool,
    thumbprint: &CredentialId,
) -> Result<Option<DeviceRecord>, StoreError> {
    let row: Option<DeviceRow> = sqlx::query_as(
        "SELECT name, group_name, status, revision, document, created_at FROM devices \
         WHERE name = (SELECT device FROM device_keys WHERE thumbprint = ?)",
    )
    .bind(thumbprint.as_str())
    .fetch_optional(pool)
    .await?;
    row.map(DeviceRecord::try_from).transpose()
}

pub(super) async fn page(pool: &SqlitePool, query: DeviceQuery<'_>) -> Result<Vec<DeviceRecord>, StoreError> {
    let DeviceQuery { after, group, status, limit } = query;
    // Every name comes after the empty string.
    let rows: Vec<DeviceRow> = sqlx::query_as(
        "SELECT name, group_name, status, revision, document, created_at FROM devices \
         WHERE name > ?1 AND (?2 IS NULL OR group_name = ?2) AND (?3 IS NULL OR status = ?3) \
         ORDER BY name LIMIT ?4",
    )
    .bind(after.unwrap_or_default())
    .bind(group)
    .bind(status.map(DeviceStatus::as_str))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    records(rows)
}

pub(super) async fn remove(pool: &SqlitePool, name: &str, revoke: &Revocation) -> Result<bool, StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let deleted =
        sqlx::query("DELETE FROM devices WHERE name = ?").bind(name).execute(&mut *transaction).await?;
    if deleted.rows_affected() != 1 {
        return Ok(false);
    }
    sqlx::query("DELETE FROM credential_uses WHERE client = ?").bind(name).execute(&mut *transaction).await?;
    log(&mut transaction, name, Some(revoke)).await?;
    transaction.commit().await?;
    Ok(true)
}

/// That the device was changed, and its tokens taken back.
async fn log(
    transaction: &mut SqliteTransaction<'_>,
    name: &str,
    revoke: Option<&Revocation>,
) -> Result<(), StoreError> {
    changes::log(transaction, &ChangedSubject::Device(name.into())).await?;
    if let Some(revocation) = revoke {
        revocations::add_in(transaction, revocation).await?;
    }
    Ok(())
}

async fn require_group(
    transaction: &mut SqliteTransaction<'_>,
    device: &DeviceRecord,
) -> Result<(), DeviceNotWritten> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM groups WHERE name = ?)")
        .bind(device.group.as_str())
        .fetch_one(&mut **transaction)
        .await?;
    if exists { Ok(()) } else { Err(DeviceNotWritten::NoSuchGroup { group: device.group.to_string() }) }
}

async fn take_names(
    transaction: &mut SqliteTransaction<'_>,
    device: &DeviceRecord,
) -> Result<(), DeviceNotWritten> {
    let client = device.name.as_str();
    let all: BTreeSet<&str> =
        device.mqtt_client_ids.iter().map(MqttClientId::as_str).chain([client]).collect();
    for name in all {
        names::take(transaction, name, client, device.created_at).await??;
    }
    Ok(())
}

/// Makes the public keys of the record those of the device, and no others.
async fn take_keys(
    transaction: &mut SqliteTransaction<'_>,
    device: &DeviceRecord,
) -> Result<(), DeviceNotWritten> {
    let name = device.name.as_str();
    sqlx::query("DELETE FROM device_keys WHERE device = ?").bind(name).execute(&mut **transaction).await?;
    for key in &device.credentials.keys {
        let thumbprint = key.id.as_str();
        let taken =
            sqlx::query("INSERT INTO device_keys (thumbprint, device) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(thumbprint)
                .bind(name)
                .execute(&mut **transaction)
                .await?;
        if taken.rows_affected() != 1 {
            let device = sqlx::query_scalar("SELECT device FROM device_keys WHERE thumbprint = ?")
                .bind(thumbprint)
                .fetch_one(&mut **transaction)
                .await?;
            return Err(DeviceNotWritten::KeyTaken { thumbprint: thumbprint.into(), device });
        }
    }
    Ok(())
}
