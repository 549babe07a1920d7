//! Who is connected, as validators tell it.

use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::reports::sessions::{SessionsKept, SessionsPart};
use sqlx::PgTransaction;
use sqlx::postgres::PgPool;

use crate::store::row::{SessionRow, count_from_sql, count_to_sql, records, time_to_sql};
use crate::store::session_list::{Place, SessionListRow};
use crate::store::{SessionRecord, StoreError};

pub(super) async fn keep(
    pool: &PgPool,
    broker: &str,
    instance: &str,
    part: &SessionsPart,
    most: u64,
) -> Result<SessionsKept, StoreError> {
    let mut transaction = pool.begin().await?;
    // Whichever nodes they reach, the parts of an instance come one by one, and
    // its report does not go meanwhile.
    let report: Option<i32> =
        sqlx::query_scalar("SELECT 1 FROM reports WHERE broker = $1 AND instance = $2 FOR UPDATE")
            .bind(broker)
            .bind(instance)
            .fetch_optional(&mut *transaction)
            .await?;
    if report.is_none() {
        return Ok(SessionsKept::BeginAnew);
    }
    let list: Option<SessionListRow> = sqlx::query_as(
        "SELECT epoch, next_part, online FROM session_lists WHERE broker = $1 AND instance = $2",
    )
    .bind(broker)
    .bind(instance)
    .fetch_optional(&mut *transaction)
    .await?;
    let online = match Place::of(part, list) {
        Place::Nowhere(kept) => return Ok(kept),
        Place::Next { online } => online,
        Place::First => {
            sqlx::query("DELETE FROM sessions WHERE broker = $1 AND instance = $2")
                .bind(broker)
                .bind(instance)
                .execute(&mut *transaction)
                .await?;
            0
        }
    };
    sqlx::query(
        "INSERT INTO session_lists (broker, instance, epoch, next_part, online) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (broker, instance) DO UPDATE SET \
           epoch = excluded.epoch, next_part = excluded.next_part, online = excluded.online",
    )
    .bind(broker)
    .bind(instance)
    .bind(count_to_sql(part.epoch))
    .bind(count_to_sql(part.part + 1))
    .bind(online)
    .execute(&mut *transaction)
    .await?;
    let replaced = remove(&mut transaction, broker, instance, part).await?;
    add(&mut transaction, broker, instance, part).await?;
    let online = online + count_to_sql(part.online.len() as u64) - count_to_sql(replaced);
    sqlx::query("UPDATE session_lists SET online = $3 WHERE broker = $1 AND instance = $2")
        .bind(broker)
        .bind(instance)
        .bind(online)
        .execute(&mut *transaction)
        .await?;
    let of_broker: i64 =
        sqlx::query_scalar("SELECT sum(online)::bigint FROM session_lists WHERE broker = $1")
            .bind(broker)
            .fetch_one(&mut *transaction)
            .await?;
    if of_broker > count_to_sql(most) {
        return Ok(SessionsKept::Full);
    }
    transaction.commit().await?;
    Ok(SessionsKept::Kept)
}

/// Removes everyone whom the part names; how many there were.
async fn remove(
    transaction: &mut PgTransaction<'_>,
    broker: &str,
    instance: &str,
    part: &SessionsPart,
) -> Result<u64, StoreError> {
    let online = part.online.iter().map(|online| &online.client_id);
    let named: Vec<&str> = online.chain(&part.gone).map(MqttClientId::as_str).collect();
    let removed =
        sqlx::query("DELETE FROM sessions WHERE broker = $1 AND instance = $2 AND client_id = ANY($3)")
            .bind(broker)
            .bind(instance)
            .bind(named)
            .execute(&mut **transaction)
            .await?;
    Ok(removed.rows_affected())
}

async fn add(
    transaction: &mut PgTransaction<'_>,
    broker: &str,
    instance: &str,
    part: &SessionsPart,
) -> Result<(), StoreError> {
    let client_ids: Vec<&str> = part.online.iter().map(|online| online.client_id.as_str()).collect();
    let since: Vec<i64> = part.online.iter().map(|online| time_to_sql(online.since)).collect();
    let until: Vec<i64> = part.online.iter().map(|online| time_to_sql(online.until)).collect();
    sqlx::query(
        "INSERT INTO sessions (broker, instance, client_id, since, until) \
         SELECT $1, $2, * FROM unnest($3::text[], $4::bigint[], $5::bigint[])",
    )
    .bind(broker)
    .bind(instance)
    .bind(client_ids)
    .bind(since)
    .bind(until)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn online(pool: &PgPool, broker: &str) -> Result<Vec<(Box<str>, u64)>, StoreError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT instance, online FROM session_lists WHERE broker = $1 ORDER BY instance")
            .bind(broker)
            .fetch_all(pool)
            .await?;
    rows.into_iter()
        .map(|(instance, online)| Ok((instance.into(), count_from_sql("session list", online)?)))
        .collect()
}

pub(super) async fn of_clients(
    pool: &PgPool,
    client_ids: &[MqttClientId],
    limit: u32,
) -> Result<Vec<SessionRecord>, StoreError> {
    let client_ids: Vec<&str> = client_ids.iter().map(MqttClientId::as_str).collect();
    let rows: Vec<SessionRow> = sqlx::query_as(
        "SELECT broker, instance, client_id, since, until FROM sessions WHERE client_id = ANY($1) \
         ORDER BY broker, instance, client_id LIMIT $2",
    )
    .bind(client_ids)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    records(rows)
}

pub(super) async fn of_broker(
    pool: &PgPool,
    broker: &str,
    (instance, client_id): (&str, &str),
    limit: u32,
) -> Result<Vec<SessionRecord>, StoreError> {
    let rows: Vec<SessionRow> = sqlx::query_as(
        "SELECT broker, instance, client_id, since, until FROM sessions \
         WHERE broker = $1 AND (instance, client_id) > ($2, $3) ORDER BY instance, client_id LIMIT $4",
    )
    .bind(broker)
    .bind(instance)
    .bind(client_id)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    records(rows)
}
