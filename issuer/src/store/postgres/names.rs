//! The one namespace of devices, brokers and MQTT client identifiers.

use fleetbadge_validator::time::UnixSeconds;
use sqlx::postgres::PgPool;
use sqlx::{FromRow, PgTransaction};

use crate::store::row::time_to_sql;
use crate::store::{NameTaken, StoreError};

/// Waits until nobody else takes any of these names, however they are spelled,
/// and holds others back until the transaction ends. No constraint could: a
/// client may have names that differ by case alone, two clients may not.
pub(super) async fn lock(transaction: &mut PgTransaction<'_>, names: &[&str]) -> Result<(), sqlx::Error> {
    // In one order, so that no two wait for each other.
    sqlx::query(
        "SELECT pg_advisory_xact_lock(hash) FROM ( \
           SELECT DISTINCT hashtextextended(folded, 0) AS hash FROM unnest($1::text[]) AS folded ORDER BY hash \
         ) AS hashes",
    )
    .bind(folded(names))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

#[derive(FromRow)]
struct TakenRow {
    wanted: String,
    taken: String,
    client: String,
    removed: bool,
}

/// Takes names for `client`, unless it has them already. No two clients have
/// names that differ by case alone: people would take one for the other. The
/// names are [locked](lock).
pub(super) async fn take(
    transaction: &mut PgTransaction<'_>,
    names: &[&str],
    client: &str,
    now: UnixSeconds,
) -> Result<Result<(), NameTaken>, sqlx::Error> {
    let other: Option<TakenRow> = sqlx::query_as(
        "SELECT wanted.name AS wanted, names.name AS taken, client, \
                NOT EXISTS (SELECT 1 FROM devices WHERE devices.name = client) \
            AND NOT EXISTS (SELECT 1 FROM brokers WHERE brokers.name = client) AS removed \
         FROM unnest($1::text[], $2::text[]) AS wanted (name, folded) \
         JOIN names ON names.folded = wanted.folded \
         WHERE client <> $3 \
         ORDER BY wanted.name COLLATE \"C\", names.name <> wanted.name LIMIT 1",
    )
    .bind(names)
    .bind(folded(names))
    .bind(client)
    .fetch_optional(&mut **transaction)
    .await?;
    if let Some(TakenRow { wanted: name, taken, client, removed }) = other {
        return Ok(Err(NameTaken { name, taken, client, removed }));
    }
    sqlx::query(
        "INSERT INTO names (name, folded, client, taken_at) \
         SELECT name, folded, $3, $4 FROM unnest($1::text[], $2::text[]) AS wanted (name, folded) \
         ON CONFLICT DO NOTHING",
    )
    .bind(names)
    .bind(folded(names))
    .bind(client)
    .bind(time_to_sql(now))
    .execute(&mut **transaction)
    .await?;
    Ok(Ok(()))
}

pub(super) async fn owner(pool: &PgPool, name: &str) -> Result<Option<Box<str>>, StoreError> {
    let client: Option<String> = sqlx::query_scalar("SELECT client FROM names WHERE name = $1")
        .bind(name)
        .fetch_optional(pool)
        .await?;
    Ok(client.map(String::into_boxed_str))
}

/// Whether a client of this name was there before: then it is not made again.
/// The name is [locked](lock).
pub(super) async fn refuse_again(
    transaction: &mut PgTransaction<'_>,
    client: &str,
) -> Result<Result<(), NameTaken>, sqlx::Error> {
    let before: Option<(String, bool)> = sqlx::query_as(
        "SELECT client, EXISTS (SELECT 1 FROM devices WHERE devices.name = client) \
                     OR EXISTS (SELECT 1 FROM brokers WHERE brokers.name = client) \
         FROM names WHERE name = $1",
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

fn folded(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}
