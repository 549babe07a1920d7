//! Devices, their names and their secrets.

use std::collections::BTreeSet;

use fleetbadge_validator::ids::MqttClientId;
use serde::Deserialize;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, SqliteTransaction};

use super::{corrupt, time_from_sql, to_sql};
use crate::secret::SecretHash;
use crate::store::{AddDeviceError, DeviceRecord, DeviceStatus, SecretRecord, StoreError};

/// One row for each device, what it has several of as JSON.
macro_rules! select_devices {
    ($condition:literal) => {
        concat!(
            "SELECT name, group_name, status, created_at, \
             (SELECT json_group_array(mqtt_client_id ORDER BY position) \
              FROM mqtt_client_ids WHERE device = devices.name) AS mqtt_client_ids, \
             (SELECT json_group_array(json_object('hash', hex(hash), 'created_at', created_at, \
                                                  'expires_at', expires_at) ORDER BY id) \
              FROM secrets WHERE device = devices.name) AS secrets \
             FROM devices ",
            $condition
        )
    };
}

pub(super) async fn add(pool: &SqlitePool, device: &DeviceRecord) -> Result<(), AddDeviceError> {
    let name = device.name.as_str();
    let created_at = to_sql(device.created_at);
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let group_exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM groups WHERE name = ?)")
        .bind(device.group.as_str())
        .fetch_one(&mut *transaction)
        .await?;
    if !group_exists {
        return Err(AddDeviceError::NoSuchGroup { group: device.group.to_string() });
    }
    let names: BTreeSet<&str> =
        device.mqtt_client_ids.iter().map(MqttClientId::as_str).chain([name]).collect();
    for taken in names {
        take_name(&mut transaction, taken, device).await?;
    }
    sqlx::query("INSERT INTO devices (name, group_name, status, created_at) VALUES (?, ?, ?, ?)")
        .bind(name)
        .bind(device.group.as_str())
        .bind(device.status.as_str())
        .bind(created_at)
        .execute(&mut *transaction)
        .await?;
    for (position, id) in (0_i64..).zip(&device.mqtt_client_ids) {
        sqlx::query("INSERT INTO mqtt_client_ids (device, position, mqtt_client_id) VALUES (?, ?, ?)")
            .bind(name)
            .bind(position)
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
    }
    for secret in &device.secrets {
        sqlx::query("INSERT INTO secrets (device, hash, created_at, expires_at) VALUES (?, ?, ?, ?)")
            .bind(name)
            .bind(secret.hash.as_bytes().as_slice())
            .bind(to_sql(secret.created_at))
            .bind(secret.expires_at.map(to_sql))
            .execute(&mut *transaction)
            .await?;
    }
    Ok(transaction.commit().await?)
}

async fn take_name(
    transaction: &mut SqliteTransaction<'_>,
    name: &str,
    device: &DeviceRecord,
) -> Result<(), AddDeviceError> {
    let taken =
        sqlx::query("INSERT INTO names (name, device, taken_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(device.name.as_str())
            .bind(to_sql(device.created_at))
            .execute(&mut **transaction)
            .await?;
    if taken.rows_affected() == 1 {
        return Ok(());
    }
    let (holder, exists): (String, bool) = sqlx::query_as(
        "SELECT device, EXISTS (SELECT 1 FROM devices WHERE devices.name = names.device) \
         FROM names WHERE name = ?",
    )
    .bind(name)
    .fetch_one(&mut **transaction)
    .await?;
    Err(AddDeviceError::NameTaken { name: name.into(), device: holder, removed: !exists })
}

pub(super) async fn get(pool: &SqlitePool, name: &str) -> Result<Option<DeviceRecord>, StoreError> {
    let row = sqlx::query(select_devices!("WHERE name = ?")).bind(name).fetch_optional(pool).await?;
    row.map(|row| from_row(&row)).transpose()
}

pub(super) async fn page(
    pool: &SqlitePool,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<DeviceRecord>, StoreError> {
    // Every name comes after the empty string.
    let rows = sqlx::query(select_devices!("WHERE name > ? ORDER BY name LIMIT ?"))
        .bind(after.unwrap_or_default())
        .bind(limit)
        .fetch_all(pool)
        .await?;
    rows.iter().map(from_row).collect()
}

pub(super) async fn set_status(
    pool: &SqlitePool,
    name: &str,
    status: DeviceStatus,
) -> Result<bool, StoreError> {
    let updated = sqlx::query("UPDATE devices SET status = ? WHERE name = ?")
        .bind(status.as_str())
        .bind(name)
        .execute(pool)
        .await?;
    Ok(updated.rows_affected() == 1)
}

pub(super) async fn remove(pool: &SqlitePool, name: &str) -> Result<bool, StoreError> {
    let deleted = sqlx::query("DELETE FROM devices WHERE name = ?").bind(name).execute(pool).await?;
    Ok(deleted.rows_affected() == 1)
}

fn from_row(row: &SqliteRow) -> Result<DeviceRecord, StoreError> {
    #[derive(Deserialize)]
    struct Secret {
        hash: String,
        created_at: i64,
        expires_at: Option<i64>,
    }

    const WHAT: &str = "device";
    let text = |column| row.try_get::<&str, _>(column);
    let secrets: Vec<Secret> =
        serde_json::from_str(text("secrets")?).map_err(|error| corrupt(WHAT, &error))?;
    let secrets: Result<_, StoreError> = secrets
        .into_iter()
        .map(|secret| {
            Ok(SecretRecord {
                hash: hash_from_hex(&secret.hash).ok_or_else(|| corrupt(WHAT, &"the hash of a secret"))?,
                created_at: time_from_sql(WHAT, secret.created_at)?,
                expires_at: secret.expires_at.map(|time| time_from_sql(WHAT, time)).transpose()?,
            })
        })
        .collect();
    Ok(DeviceRecord {
        name: text("name")?.parse().map_err(|error| corrupt(WHAT, &error))?,
        group: text("group_name")?.parse().map_err(|error| corrupt(WHAT, &error))?,
        status: match text("status")? {
            "enabled" => DeviceStatus::Enabled,
            "disabled" => DeviceStatus::Disabled,
            other => return Err(corrupt(WHAT, &format_args!("the status {other:?}"))),
        },
        mqtt_client_ids: serde_json::from_str(text("mqtt_client_ids")?)
            .map_err(|error| corrupt(WHAT, &error))?,
        secrets: secrets?,
        created_at: time_from_sql(WHAT, row.try_get("created_at")?)?,
    })
}

/// SQLite's own `hex`: 64 capital digits.
fn hash_from_hex(text: &str) -> Option<SecretHash> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(SecretHash::from_bytes(bytes))
}
