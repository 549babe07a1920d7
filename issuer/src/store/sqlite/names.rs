//! The one namespace of devices, brokers and MQTT client identifiers.

use sqlx::SqliteTransaction;
use sqlx::sqlite::SqlitePool;

use crate::store::row::time_to_sql;
use crate::store::{NameTaken, StoreError};
use fleetbadge_validator::time::UnixSeconds;

/// Takes `name` for `client`, unless it has it already. No two clients have
/// names that differ by case alone: people would take one for the other.
pub(super) async fn take(
    transaction: &mut SqliteTransaction<'_>,
    name: &str,
    client: &str,
    now: UnixSeconds,
) -> Result<Result<(), NameTaken>, sqlx::Error> {
    let folded = name.to_ascii_lowercase();
    let other: Option<(String, String, bool)> = sqlx::query_as(
        "SELECT name, client, EXISTS (SELECT 1 FROM devices WHERE devices.name = client) \
                           OR EXISTS (SELECT 1 FROM brokers WHERE brokers.name = client) \
         FROM names WHERE folded = ?1 AND client <> ?2 \
         ORDER BY name <> ?3 LIMIT 1",
    )
    .bind(&folded)
    .bind(client)
    .bind(name)
    .fetch_optional(&mut **transaction)
    .await?;
    if let Some((taken, client, exists)) = other {
        return Ok(Err(NameTaken { name: name.into(), taken, client, removed: !exists }));
    }
    sqlx::query(
        "INSERT INTO names (name, folded, client, taken_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(name)
    .bind(&folded)
    .bind(client)
    .bind(time_to_sql(now))
    .execute(&mut **transaction)
    .await?;
    Ok(Ok(()))
}

/// Whose a name is, or was.
pub(super) async fn owner(pool: &SqlitePool, name: &str) -> Result<Option<Box<str>>, StoreError> {
    let client: Option<String> =
        sqlx::query_scalar("SELECT client FROM names WHERE name = ?").bind(name).fetch_optional(pool).await?;
    Ok(client.map(String::into_boxed_str))
}

/// Whether a client of this name was there before: then it is not made again.
pub(super) async fn refuse_again(
    transaction: &mut SqliteTransaction<'_>,
    client: &str,
) -> Result<Result<(), NameTaken>, sqlx::Error> {
    let before: Option<(String, bool)> = sqlx::query_as(
        "SELECT client, EXISTS (SELECT 1 FROM devices WHERE devices.name = client) \
                     OR EXISTS (SELECT 1 FROM brokers WHERE brokers.name = client) \
         FROM names WHERE name = ?",
    )
    .bind(client)
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(match before {
        Some((owner, exists)) => {
            Err(NameTaken { name: client.into(), taken: client.into(), client: owner, removed: !exists })
        }
        None => Ok(()),
    })
}
