//! Groups and their policies.

use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{corrupt, time_from_sql, to_sql};
use crate::policy::PolicyDocument;
use crate::store::{GroupRecord, StoreError};

const WHAT: &str = "group";

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<GroupRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT name, publish, subscribe, scope, audience, token_lifetime_s, created_at, updated_at \
         FROM groups ORDER BY name",
    )
    .fetch_all(pool)
    .await?;
    rows.iter().map(from_row).collect()
}

pub(super) async fn set(pool: &SqlitePool, group: &GroupRecord) -> Result<(), StoreError> {
    let policy = &group.policy;
    let filters = |list: &[String]| serde_json::to_string(list).map_err(|error| corrupt(WHAT, &error));
    let lifetime_s: i64 =
        policy.token_lifetime_s.try_into().map_err(|error| corrupt("token_lifetime_s", &error))?;
    sqlx::query(
        "INSERT INTO groups \
           (name, publish, subscribe, scope, audience, token_lifetime_s, created_at, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (name) DO UPDATE SET \
           publish = excluded.publish, subscribe = excluded.subscribe, scope = excluded.scope, \
           audience = excluded.audience, token_lifetime_s = excluded.token_lifetime_s, \
           updated_at = excluded.updated_at",
    )
    .bind(group.name.as_str())
    .bind(filters(&policy.publish)?)
    .bind(filters(&policy.subscribe)?)
    .bind(&policy.scope)
    .bind(&policy.audience)
    .bind(lifetime_s)
    .bind(to_sql(group.created_at))
    .bind(to_sql(group.updated_at))
    .execute(pool)
    .await?;
    Ok(())
}

fn from_row(row: &SqliteRow) -> Result<GroupRecord, StoreError> {
    let text = |column| row.try_get::<&str, _>(column);
    let filters = |column| serde_json::from_str(text(column)?).map_err(|error| corrupt(WHAT, &error));
    let lifetime_s: i64 = row.try_get("token_lifetime_s")?;
    Ok(GroupRecord {
        name: text("name")?.parse().map_err(|error| corrupt(WHAT, &error))?,
        policy: PolicyDocument {
            publish: filters("publish")?,
            subscribe: filters("subscribe")?,
            scope: text("scope")?.into(),
            audience: text("audience")?.into(),
            token_lifetime_s: lifetime_s.try_into().map_err(|error| corrupt(WHAT, &error))?,
        },
        created_at: time_from_sql(WHAT, row.try_get("created_at")?)?,
        updated_at: time_from_sql(WHAT, row.try_get("updated_at")?)?,
    })
}
