//! Which root keys are needed, and which of them is current.

use sqlx::postgres::PgPool;

use super::changes;
use crate::root_key::RootKeyId;
use crate::store::{ChangedSubject, NeededRootKeys, StoreError};

pub(super) async fn get(pool: &PgPool) -> Result<Option<NeededRootKeys>, StoreError> {
    let rows = sqlx::query_as("SELECT id, is_current FROM root_keys ORDER BY id").fetch_all(pool).await?;
    NeededRootKeys::from_rows(rows)
}

pub(super) async fn set(pool: &PgPool, id: RootKeyId, former: Option<RootKeyId>) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let Some(former) = former else {
        let first = sqlx::query(
            "INSERT INTO root_keys (id, is_current) SELECT $1, 1 WHERE NOT EXISTS (SELECT 1 FROM root_keys) \
             ON CONFLICT DO NOTHING",
        );
        let first = first.bind(id.to_string()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        return Ok(first.rows_affected() == 1);
    };
    let kept = sqlx::query("UPDATE root_keys SET is_current = 0 WHERE id = $1 AND is_current = 1");
    if kept.bind(former.to_string()).execute(&mut *transaction).await?.rows_affected() != 1 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO root_keys (id, is_current) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET is_current = 1",
    )
    .bind(id.to_string())
    .execute(&mut *transaction)
    .await?;
    changes::log(&mut transaction, &ChangedSubject::RootKeys).await?;
    transaction.commit().await?;
    Ok(true)
}

pub(super) async fn forget(pool: &PgPool, id: RootKeyId) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    let forgotten = sqlx::query("DELETE FROM root_keys WHERE id = $1 AND is_current = 0");
    if forgotten.bind(id.to_string()).execute(&mut *transaction).await?.rows_affected() == 1 {
        changes::log(&mut transaction, &ChangedSubject::RootKeys).await?;
    }
    Ok(transaction.commit().await?)
}
