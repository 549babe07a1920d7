//! Who is connected, as validators tell it.

use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::reports::sessions::{SessionsKept, SessionsPart};
use sqlx::sqlite::SqlitePool;
use sqlx::{QueryBuilder, Sqlite, SqliteTransaction};

use crate::store::row::{SessionRow, count_from_sql, count_to_sql, records, time_to_sql};
use crate::store::session_list::{Place, SessionListRow};
use crate::store::{SessionRecord, StoreError};

pub(super) async fn keep(
    pool: &SqlitePool,
    broker: &str,
    instance: &str,
    part: &SessionsPart,
    most: u64,
) -> Result<SessionsKept, StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let list: Option<SessionListRow> = sqlx::query_as(
        "SELECT epoch, next_part, online FROM session_lists WHERE broker = ? AND instance = ?",
    )
    .bind(broker)
    .bind(instance)
    .fetch_optional(&mut *transaction)
    .await?;
    let online = match Place::of(part, list) {
        Place::Nowhere(kept) => return Ok(kept),
        Place::Next { online } => online,
        Place::First => {
            sqlx::query("DELETE FROM sessions WHERE broker = ? AND instance = ?")
                .bind(broker)
                .bind(instance)
                .execute(&mut *transaction)
                .await?;
            0
        }
    };
    let written = sqlx::query(
        "INSERT INTO session_lists (broker, instance, epoch, next_part, online) \
         SELECT broker, instance, ?3, ?4, ?5 FROM reports WHERE broker = ?1 AND instance = ?2 \
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
    if written.rows_affected() == 0 {
        return Ok(SessionsKept::BeginAnew);
    }
    let replaced = remove(&mut transaction, broker, instance, part).await?;
    add(&mut transaction, broker, instance, part).await?;
    let online = online + count_to_sql(part.online.len() as u64) - count_to_sql(replaced);
    sqlx::query("UPDATE session_lists SET online = ? WHERE broker = ? AND instance = ?")
        .bind(online)
        .bind(broker)
        .bind(instance)
        .execute(&mut *transaction)
        .await?;
    let of_broker: i64 = sqlx::query_scalar("SELECT sum(online) FROM session_lists WHERE broker = ?")
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
    transaction: &mut SqliteTransaction<'_>,
    broker: &str,
    instance: &str,
    part: &SessionsPart,
) -> Result<u64, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM sessions WHERE broker = ");
    query.push_bind(broker).push(" AND instance = ").push_bind(instance).push(" AND client_id IN (");
    let mut named = query.separated(", ");
    for client_id in part.online.iter().map(|online| &online.client_id).chain(&part.gone) {
        named.push_bind(client_id.as_str());
    }
    query.push(")");
    Ok(query.build().execute(&mut **transaction).await?.rows_affected())
}

async fn add(
    transaction: &mut SqliteTransaction<'_>,
    broker: &str,
    instance: &str,
    part: &SessionsPart,
) -> Result<(), StoreError> {
    if part.online.is_empty() {
        return Ok(());
    }
    let mut query =
        QueryBuilder::<Sqlite>::new("INSERT INTO sessions (broker, instance, client_id, since, until) ");
    query.push_values(&part.online, |mut values, online| {
        values.push_bind(broker).push_bind(instance).push_bind(online.client_id.as_str());
        values.push_bind(time_to_sql(online.since)).push_bind(time_to_sql(online.until));
    });
    query.build().execute(&mut **transaction).await?;
    Ok(())
}

pub(super) async fn online(pool: &SqlitePool, broker: &str) -> Result<Vec<(Box<str>, u64)>, StoreError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT instance, online FROM session_lists WHERE broker = ? ORDER BY instance")
            .bind(broker)
            .fetch_all(pool)
            .await?;
    rows.into_iter()
        .map(|(instance, online)| Ok((instance.into(), count_from_sql("session list", online)?)))
        .collect()
}

pub(super) async fn of_clients(
    pool: &SqlitePool,
    client_ids: &[MqttClientId],
    limit: u32,
) -> Result<Vec<SessionRecord>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT broker, instance, client_id, since, until FROM sessions WHERE client_id IN (",
    );
    let mut named = query.separated(", ");
    for client_id in client_ids {
        named.push_bind(client_id.as_str());
    }
    query.push(") ORDER BY broker, instance, client_id LIMIT ").push_bind(limit);
    let rows: Vec<SessionRow> = query.build_query_as().fetch_all(pool).await?;
    records(rows)
}

pub(super) async fn of_broker(
    pool: &SqlitePool,
    broker: &str,
    (instance, client_id): (&str, &str),
    limit: u32,
) -> Result<Vec<SessionRecord>, StoreError> {
    let rows: Vec<SessionRow> = sqlx::query_as(
        "SELECT broker, instance, client_id, since, until FROM sessions \
         WHERE broker = ? AND (instance, client_id) > (?, ?) ORDER BY instance, client_id LIMIT ?",
    )
    .bind(broker)
    .bind(instance)
    .bind(client_id)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    records(rows)
}
