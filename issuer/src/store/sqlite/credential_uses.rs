//! When credentials were last used: written in batches.

use sqlx::SqliteTransaction;
use sqlx::sqlite::SqlitePool;

use crate::devices::USE_PRECISION_S;
use crate::store::row::{CredentialUseRow, count_to_sql, records, time_to_sql, to_json};
use crate::store::{CredentialUse, StoreError};

pub(super) async fn record(pool: &SqlitePool, uses: &[CredentialUse]) -> Result<(), StoreError> {
    let uses: Vec<_> =
        uses.iter().map(|one| (&*one.client, one.credential.as_str(), time_to_sql(one.at))).collect();
    // One statement for all; where nothing is new, nothing is written.
    sqlx::query(
        "INSERT INTO credential_uses (client, credential, last_used_at) \
         SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1) WHERE true \
         ON CONFLICT (client, credential) DO UPDATE SET last_used_at = excluded.last_used_at \
         WHERE excluded.last_used_at >= last_used_at + ?2",
    )
    .bind(to_json("uses", &uses)?)
    .bind(count_to_sql(USE_PRECISION_S))
    .execute(pool)
    .await?;
    Ok(())
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
