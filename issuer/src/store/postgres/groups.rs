//! Groups and their policies.

use sqlx::postgres::PgPool;

use super::settings;
use crate::store::row::GroupRow;
use crate::store::{GroupRecord, SettingsNotChanged};

pub(super) async fn set(pool: &PgPool, revision: u64, group: &GroupRecord) -> Result<(), SettingsNotChanged> {
    let row = GroupRow::try_from(group)?;
    let mut transaction = pool.begin().await?;
    settings::next_after(&mut transaction, revision).await?;
    sqlx::query(
        "INSERT INTO groups (name, policy, created_at, updated_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (name) DO UPDATE SET policy = excluded.policy, updated_at = excluded.updated_at",
    )
    .bind(row.name)
    .bind(row.policy)
    .bind(row.created_at)
    .bind(row.updated_at)
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}
