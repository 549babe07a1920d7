//! Groups and their policies.

use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{changes, corrupt, from_json, time_from_sql, to_json, to_sql};
use crate::store::{ChangedSubject, GroupRecord, StoreError};

const WHAT: &str = "group";

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<GroupRecord>, StoreError> {
    let rows = sqlx::query("SELECT name, policy, created_at, updated_at FROM groups ORDER BY name")
        .fetch_all(pool)
        .await?;
    rows.iter().map(from_row).collect()
}

pub(super) async fn set(pool: &SqlitePool, group: &GroupRecord) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(
        "INSERT INTO groups (name, policy, created_at, updated_at) VALUES (?, ?, ?, ?) \
         ON CONFLICT (name) DO UPDATE SET policy = excluded.policy, updated_at = excluded.updated_at",
    )
    .bind(group.name.as_str())
    .bind(to_json(WHAT, &group.policy)?)
    .bind(to_sql(group.created_at))
    .bind(to_sql(group.updated_at))
    .execute(&mut *transaction)
    .await?;
    changes::log(&mut transaction, &ChangedSubject::Settings).await?;
    Ok(transaction.commit().await?)
}

fn from_row(row: &SqliteRow) -> Result<GroupRecord, StoreError> {
    Ok(GroupRecord {
        name: row.try_get::<&str, _>("name")?.parse().map_err(|error| corrupt(WHAT, &error))?,
        policy: from_json(WHAT, row.try_get("policy")?)?,
        created_at: time_from_sql(WHAT, row.try_get("created_at")?)?,
        updated_at: time_from_sql(WHAT, row.try_get("updated_at")?)?,
    })
}
