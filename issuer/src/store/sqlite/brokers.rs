//! Brokers: a row each, what it is read and written whole as JSON.

use sqlx::sqlite::SqlitePool;

use super::{credential_uses, names, settings};
use crate::store::row::BrokerRow;
use crate::store::{BrokerNotAdded, BrokerNotUpdated, BrokerRecord, SettingsNotChanged};

pub(super) async fn add(
    pool: &SqlitePool,
    revision: u64,
    broker: &BrokerRecord,
) -> Result<(), BrokerNotAdded> {
    let row = BrokerRow::try_from(broker)?;
    let name = broker.name.as_str();
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    settings::next_after(&mut transaction, revision).await?;
    names::refuse_again(&mut transaction, name).await??;
    names::take(&mut transaction, name, name, broker.created_at).await??;
    let added = sqlx::query(
        "INSERT INTO brokers (name, resource, revision, document, created_at) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (resource) DO NOTHING",
    )
    .bind(row.name)
    .bind(row.resource)
    .bind(row.revision)
    .bind(row.document)
    .bind(row.created_at)
    .execute(&mut *transaction)
    .await?;
    if added.rows_affected() != 1 {
        return Err(BrokerNotAdded::ResourceTaken { resource: broker.resource.to_string() });
    }
    Ok(transaction.commit().await?)
}

pub(super) async fn update(pool: &SqlitePool, broker: &BrokerRecord) -> Result<(), BrokerNotUpdated> {
    let name = broker.name.as_str();
    let row = BrokerRow::try_from(broker)?;
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    credential_uses::forget_removed(&mut transaction, name, &row.document).await?;
    let updated = sqlx::query(
        "UPDATE brokers SET document = ?, revision = revision + 1 WHERE name = ? AND revision = ? AND resource = ?",
    )
    .bind(row.document)
    .bind(name)
    .bind(row.revision)
    .bind(row.resource)
    .execute(&mut *transaction)
    .await?;
    if updated.rows_affected() == 1 {
        settings::next(&mut transaction).await?;
        return Ok(transaction.commit().await?);
    }
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM brokers WHERE name = ?)")
        .bind(name)
        .fetch_one(&mut *transaction)
        .await?;
    Err(if exists { BrokerNotUpdated::Conflict } else { BrokerNotUpdated::Gone })
}

pub(super) async fn remove(pool: &SqlitePool, revision: u64, name: &str) -> Result<bool, SettingsNotChanged> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    settings::next_after(&mut transaction, revision).await?;
    let deleted =
        sqlx::query("DELETE FROM brokers WHERE name = ?").bind(name).execute(&mut *transaction).await?;
    sqlx::query("DELETE FROM credential_uses WHERE client = ?").bind(name).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(deleted.rows_affected() == 1)
}
