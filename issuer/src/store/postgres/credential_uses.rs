//! When credentials were last used: written in batches.

use sqlx::PgTransaction;
use sqlx::postgres::PgPool;

use crate::devices::USE_PRECISION_S;
use crate::store::row::{CredentialUseRow, count_to_sql, records, time_to_sql};
use crate::store::{CredentialUse, StoreError};

pub(super) async fn record(pool: &PgPool, uses: &[CredentialUse]) -> Result<(), StoreError> {
    let clients: Vec<&str> = uses.iter().map(|one| &*one.client).collect();
    let credentials: Vec<&str> = uses.iter().map(|one| one.credential.as_str()).collect();
    let times: Vec<i64> = uses.iter().map(|one| time_to_sql(one.at)).collect();
    // In one order, so that no two nodes wait for each other; where nothing is
    // new, nothing is written.
    sqlx::query(
        "INSERT INTO credential_uses (client, credential, last_used_at) \
         SELECT client, credential, max(at) \
         FROM unnest($1::text[], $2::text[], $3::bigint[]) AS used (client, credential, at) \
         WHERE NOT EXISTS ( \
           SELECT 1 FROM credential_uses AS known \
           WHERE known.client = used.client AND known.credential = used.credential \
           AND known.last_used_at > used.at - $4 \
         ) \
         GROUP BY client, credential ORDER BY client, credential \
         ON CONFLICT (client, credential) DO UPDATE SET \
           last_used_at = greatest(credential_uses.last_used_at, excluded.last_used_at)",
    )
    .bind(clients)
    .bind(credentials)
    .bind(times)
    .bind(count_to_sql(USE_PRECISION_S))
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets the uses of the credentials that are in the document of a client
/// until now, and no longer in the one that is about to replace it.
pub(super) async fn forget_removed(
    transaction: &mut PgTransaction<'_>,
    client: &str,
    document: &str,
) -> Result<(), sqlx::Error> {
    // A name is a device's or a broker's, never both. How a device enrolled is
    // history: it may name a key that the device has no longer.
    sqlx::query(
        "DELETE FROM credential_uses WHERE client = $1 \
         AND strpos(($2::text::jsonb - 'enrolled_by')::text, to_jsonb(credential)::text) = 0 \
         AND strpos( \
           (SELECT (document::jsonb - 'enrolled_by')::text FROM devices WHERE name = $1 \
            UNION ALL SELECT document::jsonb::text FROM brokers WHERE name = $1), \
           to_jsonb(credential)::text \
         ) > 0",
    )
    .bind(client)
    .bind(document)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn of_client(pool: &PgPool, client: &str) -> Result<Vec<CredentialUse>, StoreError> {
    let rows: Vec<CredentialUseRow> =
        sqlx::query_as("SELECT client, credential, last_used_at FROM credential_uses WHERE client = $1")
            .bind(client)
            .fetch_all(pool)
            .await?;
    records(rows)
}
