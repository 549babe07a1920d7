//! Devices: a row each, what it is read and written whole as JSON.

use std::collections::BTreeSet;

use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::revocations::Revocation;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, SqliteTransaction};

use super::{
    changes, corrupt, counter_from_sql, counter_to_sql, credential_uses, from_json, names, revocations,
    time_from_sql, to_json, to_sql,
};
use crate::credentials::{CredentialId, Credentials};
use crate::store::{
    Attributes, ChangedSubject, DeviceNotUpdated, DeviceNotWritten, DeviceQuery, DeviceRecord, DeviceStatus,
    EnrolledBy, StoreError,
};

const WHAT: &str = "device";

/// What has no column of its own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    mqtt_client_ids: Vec<MqttClientId>,
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    attributes: Attributes,
    credentials: Credentials,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enrolled_by: Option<EnrolledBy>,
}

pub(super) async fn add(pool: &SqlitePool, device: &DeviceRecord) -> Result<(), DeviceNotWritten> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    add_in(&mut transaction, device).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn add_in(
    transaction: &mut SqliteTransaction<'_>,
    device: &DeviceRecord,
) -> Result<(), DeviceNotWritten> {
    names::refuse_again(transaction, device.name.as_str()).await??;
    require_group(transaction, device).await?;
    take_names(transaction, device).await?;
    sqlx::query(
        "INSERT INTO devices (name, group_name, status, revision, document, created_at) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(device.name.as_str())
    .bind(device.group.as_str())
    .bind(device.status.as_str())
    .bind(counter_to_sql(device.revision))
    .bind(document(device)?)
    .bind(to_sql(device.created_at))
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
    let document = document(device)?;
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    credential_uses::forget_removed(&mut transaction, name, &document).await?;
    let updated = sqlx::query(
        "UPDATE devices SET group_name = ?1, status = ?2, document = ?3, revision = revision + 1 \
         WHERE name = ?4 AND revision = ?5 AND EXISTS (SELECT 1 FROM groups WHERE name = ?1)",
    )
    .bind(device.group.as_str())
    .bind(device.status.as_str())
    .bind(&document)
    .bind(name)
    .bind(counter_to_sql(device.revision))
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
    let row = sqlx::query(
        "SELECT name, group_name, status, revision, document, created_at FROM devices WHERE name = ?",
    )
    .bind(name)
    .fetch_optional(pool)
    .await?;
    row.map(|row| from_row(&row)).transpose()
}

pub(super) async fn of_key(
    pool: &SqlitePool,
    thumbprint: &CredentialId,
) -> Result<Option<DeviceRecord>, StoreError> {
    let row = sqlx::query(
        "SELECT name, group_name, status, revision, document, created_at FROM devices \
         WHERE name = (SELECT device FROM device_keys WHERE thumbprint = ?)",
    )
    .bind(thumbprint.as_str())
    .fetch_optional(pool)
    .await?;
    row.map(|row| from_row(&row)).transpose()
}

pub(super) async fn page(pool: &SqlitePool, query: DeviceQuery<'_>) -> Result<Vec<DeviceRecord>, StoreError> {
    let DeviceQuery { after, group, status, limit } = query;
    // Every name comes after the empty string.
    let rows = sqlx::query(
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
    rows.iter().map(from_row).collect()
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

fn document(device: &DeviceRecord) -> Result<String, StoreError> {
    let DeviceRecord { mqtt_client_ids, attributes, credentials, enrolled_by, .. } = device.clone();
    to_json(WHAT, &Document { mqtt_client_ids, attributes, credentials, enrolled_by })
}

fn from_row(row: &SqliteRow) -> Result<DeviceRecord, StoreError> {
    let text = |column| row.try_get::<&str, _>(column);
    let status = text("status")?;
    let Document { mqtt_client_ids, attributes, credentials, enrolled_by } =
        from_json(WHAT, text("document")?)?;
    Ok(DeviceRecord {
        name: text("name")?.parse().map_err(|error| corrupt(WHAT, &error))?,
        group: text("group_name")?.parse().map_err(|error| corrupt(WHAT, &error))?,
        status: DeviceStatus::ALL
            .into_iter()
            .find(|known| known.as_str() == status)
            .ok_or_else(|| corrupt(WHAT, &format_args!("the status {status:?}")))?,
        mqtt_client_ids,
        attributes,
        credentials,
        enrolled_by,
        created_at: time_from_sql(WHAT, row.try_get("created_at")?)?,
        revision: counter_from_sql(WHAT, row.try_get("revision")?)?,
    })
}
