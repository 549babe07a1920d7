//! Which root key is current: one row at most.

use sqlx::postgres::PgPool;

use crate::root_key::RootKeyId;
use crate::store::StoreError;
use crate::store::row::corrupt;

pub(super) async fn get(pool: &PgPool) -> Result<Option<RootKeyId>, StoreError> {
    let id: Option<String> = sqlx::query_scalar("SELECT id FROM root_key").fetch_optional(pool).await?;
    id.map(|id| id.parse().map_err(|error| corrupt("root key", &error))).transpose()
}

pub(super) async fn set(pool: &PgPool, id: RootKeyId, former: Option<RootKeyId>) -> Result<bool, StoreError> {
    let set = match former {
        Some(former) => sqlx::query("UPDATE root_key SET id = $1 WHERE id = $2")
            .bind(id.to_string())
            .bind(former.to_string()),
        None => sqlx::query("INSERT INTO root_key (row, id) VALUES (1, $1) ON CONFLICT DO NOTHING")
            .bind(id.to_string()),
    };
    Ok(set.execute(pool).await?.rows_affected() == 1)
}
