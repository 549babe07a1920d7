//! When credentials were last used: written in batches.

use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{time_from_sql, to_sql};
use crate::credentials::CredentialId;
use crate::store::{CredentialUse, StoreError};

pub(super) async fn record(pool: &SqlitePool, uses: &[CredentialUse]) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    for CredentialUse { client, credential, at } in uses {
        sqlx::query(
            "INSERT INTO credential_uses (client, credential, last_used_at) VALUES (?, ?, ?) \
             ON CONFLICT (client, credential) DO UPDATE SET \
               last_used_at = max(last_used_at, excluded.last_used_at)",
        )
        .bind(&**client)
        .bind(credential.as_str())
        .bind(to_sql(*at))
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}

pub(super) async fn of_client(pool: &SqlitePool, client: &str) -> Result<Vec<CredentialUse>, StoreError> {
    let rows = sqlx::query("SELECT client, credential, last_used_at FROM credential_uses WHERE client = ?")
        .bind(client)
        .fetch_all(pool)
        .await?;
    let from_row = |row: &SqliteRow| -> Result<CredentialUse, StoreError> {
        Ok(CredentialUse {
            client: row.try_get::<&str, _>("client")?.into(),
            credential: CredentialId::from_text(row.try_get("credential")?),
            at: time_from_sql("use of a credential", row.try_get("last_used_at")?)?,
        })
    };
    rows.iter().map(from_row).collect()
}
