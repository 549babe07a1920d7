//! When credentials were last used: written in batches.

use sqlx::SqliteTransaction;
use sqlx::sqlite::SqlitePool;

use crate::store::row::{CredentialUseRow, records, time_to_sql};
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
        .bind(time_to_sql(*at))
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}

/// Forgets the uses of the credentials that are in the document of a client
/// until now, and no longer in the one that is about to replace it.
pub(super) async fn forget_removed(
    transaction: &mut SqliteTransaction<'_>,
    client: &str,
    document: &str,
) -> Result<(), StoreError> {
    // A name is a device's or a broker's, never both. How a device enrolled is
    // history: it may name a key that the device has no longer.
    sqlx::query(
        "DELETE FROM credential_uses WHERE client = ?1 \
         AND instr(json_remove(?2, '$.enrolled_by'), json_quote(credential)) = 0 \
         AND instr( \
           (SELECT json_remove(document, '$.enrolled_by') FROM devices WHERE name = ?1 \
            UNION ALL SELECT document FROM brokers WHERE name = ?1), \
           json_quote(credential) \
         ) > 0",
    )
    .bind(client)
    .bind(document)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn of_client(pool: &SqlitePool, client: &str) -> Result<Vec<CredentialUse>, StoreError> {
    let rows: Vec<CredentialUseRow> =
        sqlx::query_as("SELECT client, credential, last_used_at FROM credential_uses WHERE client = ?")
            .bind(client)
            .fetch_all(pool)
            .await?;
    records(rows)
}
