//! Devices: a row each, what it is read and written whole as JSON.

use std::collections::BTreeSet;

use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::revocations::Revocation;
use sqlx::PgTransaction;
use sqlx::postgres::PgPool;

use super::{changes, credential_uses, names, revocations};
use crate::credentials::CredentialId;
use crate::store::row::{DeviceRow, records};
use crate::store::{
    ChangedSubject, DeviceNotUpdated, DeviceNotWritten, DeviceQuery, DeviceRecord, DeviceStatus, StoreError,
};

pub(super) async fn add(pool: &PgPool, device: &DeviceRecord) -> Result<(), DeviceNotWritten> {
    let mut transaction = pool.begin().await?;
    add_in(&mut transaction, device).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn add_in(
    transaction: &mut PgTransaction<'_>,
    device: &DeviceRecord,
) -> Result<(), DeviceNotWritten> {
    let row = DeviceRow::try_from(device)?;
    let names = names_of(device);
    names::lock(transaction, &names).await?;
    names::refuse_again(transaction, device.name.as_str()).await??;
    require_group(transaction, device).await?;
    names::take(transaction, &names, device.name.as_str(), device.created_at).await??;
    sqlx::query(
        "INSERT INTO devices (name, group_name, status, revision, document, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
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
    pool: &PgPool,
    device: &DeviceRecord,
    revoke: Option<&Revocation>,
) -> Result<(), DeviceNotUpdated> {
    let name = device.name.as_str();
    let row = DeviceRow::try_from(device)?;
    let mut transaction = pool.begin().await?;
    changes::log(&mut transaction, &ChangedSubject::Device(name.into())).await?;
    credential_uses::forget_removed(&mut transaction, name, &row.document).await?;
    let updated = sqlx::query(
        "UPDATE devices SET group_name = $1, status = $2, document = $3, revision = revision + 1 \
         WHERE name = $4 AND revision = $5 AND EXISTS (SELECT 1 FROM groups WHERE name = $1)",
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
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM devices WHERE name = $1)")
            .bind(name)
            .fetch_one(&mut *transaction)
            .await?;
        return Err(if exists { DeviceNotUpdated::Conflict } else { DeviceNotUpdated::Gone });
    }
    let names = names_of(device);
    names::lock(&mut transaction, &names).await?;
    names::take(&mut transaction, &names, name, device.created_at).await?.map_err(DeviceNotWritten::from)?;
    take_keys(&mut transaction, device).await?;
    if let Some(revocation) = revoke {
        revocations::add_in(&mut transaction, revocation).await?;
    }
    Ok(transaction.commit().await?)
}

pub(super) async fn get(pool: &PgPool, name: &str) -> Result<Option<DeviceRecord>, StoreError> {
    let row: Option<DeviceRow> = sqlx::query_as(
        "SELECT name, group_name, status, revision, document, created_at FROM devices WHERE name = $1",
    )
    .bind(name)
    .fetch_optional(pool)
    .await?;
    row.map(DeviceRecord::try_from).transpose()
}

pub(super) async fn of_key(
    pool: &PgPool,
    thumbprint: &CredentialId,
) -> Result<Option<DeviceRecord>, StoreError> {
    let row: Option<DeviceRow> = sqlx::query_as(
        "SELECT name, group_name, status, revision, document, created_at FROM devices \
         WHERE name = (SELECT device FROM device_keys WHERE thumbprint = $1)",
    )
    .bind(thumbprint.as_str())
    .fetch_optional(pool)
    .await?;
    row.map(DeviceRecord::try_from).transpose()
}

pub(super) async fn page(pool: &PgPool, query: DeviceQuery<'_>) -> Result<Vec<DeviceRecord>, StoreError> {
    let DeviceQuery { after, group, status, limit } = query;
    // Every name comes after the empty string.
    let rows: Vec<DeviceRow> = sqlx::query_as(
        "SELECT name, group_name, status, revision, document, created_at FROM devices \
         WHERE name > $1 AND ($2::text IS NULL OR group_name = $2) AND ($3::text IS NULL OR status = $3) \
         ORDER BY name LIMIT $4",
    )
    .bind(after.unwrap_or_default())
    .bind(group)
    .bind(status.map(DeviceStatus::as_str))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    records(rows)
}

pub(super) async fn remove(pool: &PgPool, name: &str, revoke: &Revocation) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    changes::log(&mut transaction, &ChangedSubject::Device(name.into())).await?;
    let deleted =
        sqlx::query("DELETE FROM devices WHERE name = $1").bind(name).execute(&mut *transaction).await?;
    if deleted.rows_affected() != 1 {
        return Ok(false);
    }
    sqlx::query("DELETE FROM credential_uses WHERE client = $1")
        .bind(name)
        .execute(&mut *transaction)
        .await?;
    revocations::add_in(&mut transaction, revoke).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn require_group(
    transaction: &mut PgTransaction<'_>,
    device: &DeviceRecord,
) -> Result<(), DeviceNotWritten> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM groups WHERE name = $1)")
        .bind(device.group.as_str())
        .fetch_one(&mut **transaction)
        .await?;
    if exists { Ok(()) } else { Err(DeviceNotWritten::NoSuchGroup { group: device.group.to_string() }) }
}

/// Every name that is the device's, once.
fn names_of(device: &DeviceRecord) -> Vec<&str> {
    let client_ids = device.mqtt_client_ids.iter().map(MqttClientId::as_str);
    client_ids.chain([device.name.as_str()]).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Makes the public keys of the record those of the device, and no others.
async fn take_keys(
    transaction: &mut PgTransaction<'_>,
    device: &DeviceRecord,
) -> Result<(), DeviceNotWritten> {
    let name = device.name.as_str();
    sqlx::query("DELETE FROM device_keys WHERE device = $1").bind(name).execute(&mut **transaction).await?;
    // In one order, so that no two devices wait for each other.
    let thumbprints: BTreeSet<&str> = device.credentials.keys.iter().map(|key| key.id.as_str()).collect();
    let thumbprints: Vec<&str> = thumbprints.into_iter().collect();
    let taken = sqlx::query(
        "INSERT INTO device_keys (thumbprint, device) SELECT thumbprint, $2 FROM unnest($1::text[]) AS thumbprint \
         ON CONFLICT DO NOTHING",
    )
    .bind(&thumbprints)
    .bind(name)
    .execute(&mut **transaction)
    .await?;
    if taken.rows_affected() == thumbprints.len() as u64 {
        return Ok(());
    }
    let (thumbprint, device) = sqlx::query_as(
        "SELECT thumbprint, device FROM device_keys WHERE thumbprint = ANY($1) AND device <> $2 \
         ORDER BY thumbprint LIMIT 1",
    )
    .bind(&thumbprints)
    .bind(name)
    .fetch_one(&mut **transaction)
    .await?;
    Err(DeviceNotWritten::KeyTaken { thumbprint, device })
}
