//! Brokers: a row each, what it is read and written whole as JSON.

use fleetbadge_validator::jwk::Algorithm;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{
    changes, corrupt, counter_from_sql, counter_to_sql, credential_uses, from_json, names, time_from_sql,
    to_json, to_sql,
};
use crate::credentials::SecretRecord;
use crate::profile::Profile;
use crate::store::{BrokerNotAdded, BrokerNotUpdated, BrokerRecord, ChangedSubject, StoreError};

const WHAT: &str = "broker";

/// What has no column of its own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    audience: Box<str>,
    profile: Profile,
    algorithm: Algorithm,
    secrets: Vec<SecretRecord>,
}

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<BrokerRecord>, StoreError> {
    let rows =
        sqlx::query("SELECT name, resource, revision, document, created_at FROM brokers ORDER BY name")
            .fetch_all(pool)
            .await?;
    rows.iter().map(from_row).collect()
}

pub(super) async fn add(pool: &SqlitePool, broker: &BrokerRecord) -> Result<(), BrokerNotAdded> {
    let name = broker.name.as_str();
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    names::refuse_again(&mut transaction, name).await??;
    names::take(&mut transaction, name, name, broker.created_at).await??;
    let added = sqlx::query(
        "INSERT INTO brokers (name, resource, revision, document, created_at) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (resource) DO NOTHING",
    )
    .bind(name)
    .bind(&*broker.resource)
    .bind(counter_to_sql(broker.revision))
    .bind(document(broker)?)
    .bind(to_sql(broker.created_at))
    .execute(&mut *transaction)
    .await?;
    if added.rows_affected() != 1 {
        return Err(BrokerNotAdded::ResourceTaken { resource: broker.resource.to_string() });
    }
    changes::log(&mut transaction, &ChangedSubject::Settings).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn update(pool: &SqlitePool, broker: &BrokerRecord) -> Result<(), BrokerNotUpdated> {
    let name = broker.name.as_str();
    let document = document(broker)?;
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    credential_uses::forget_removed(&mut transaction, name, &document).await?;
    let updated = sqlx::query(
        "UPDATE brokers SET document = ?, revision = revision + 1 WHERE name = ? AND revision = ? AND resource = ?",
    )
    .bind(document)
    .bind(name)
    .bind(counter_to_sql(broker.revision))
    .bind(&*broker.resource)
    .execute(&mut *transaction)
    .await?;
    if updated.rows_affected() == 1 {
        changes::log(&mut transaction, &ChangedSubject::Settings).await?;
        return Ok(transaction.commit().await?);
    }
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM brokers WHERE name = ?)")
        .bind(name)
        .fetch_one(&mut *transaction)
        .await?;
    Err(if exists { BrokerNotUpdated::Conflict } else { BrokerNotUpdated::Gone })
}

pub(super) async fn remove(pool: &SqlitePool, name: &str) -> Result<bool, StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let deleted =
        sqlx::query("DELETE FROM brokers WHERE name = ?").bind(name).execute(&mut *transaction).await?;
    sqlx::query("DELETE FROM credential_uses WHERE client = ?").bind(name).execute(&mut *transaction).await?;
    changes::log(&mut transaction, &ChangedSubject::Settings).await?;
    transaction.commit().await?;
    Ok(deleted.rows_affected() == 1)
}

fn document(broker: &BrokerRecord) -> Result<String, StoreError> {
    let BrokerRecord { audience, profile, algorithm, secrets, .. } = broker.clone();
    to_json(WHAT, &Document { audience, profile, algorithm, secrets })
}

fn from_row(row: &SqliteRow) -> Result<BrokerRecord, StoreError> {
    let text = |column| row.try_get::<&str, _>(column);
    let Document { audience, profile, algorithm, secrets } = from_json(WHAT, text("document")?)?;
    Ok(BrokerRecord {
        name: text("name")?.parse().map_err(|error| corrupt(WHAT, &error))?,
        audience,
        resource: text("resource")?.into(),
        profile,
        algorithm,
        secrets,
        created_at: time_from_sql(WHAT, row.try_get("created_at")?)?,
        revision: counter_from_sql(WHAT, row.try_get("revision")?)?,
    })
}
