//! What all nodes have in common: one row at most.

use sqlx::sqlite::SqlitePool;

use crate::store::row::{count_from_sql, count_to_sql};
use crate::store::{FleetTerms, StoreError};

pub(super) async fn get(pool: &SqlitePool) -> Result<Option<FleetTerms>, StoreError> {
    let terms: Option<(String, i64)> =
        sqlx::query_as("SELECT issuer, propagation_bound_s FROM terms").fetch_optional(pool).await?;
    let Some((issuer, bound_s)) = terms else { return Ok(None) };
    Ok(Some(FleetTerms { issuer, propagation_bound_s: count_from_sql("propagation bound", bound_s)? }))
}

pub(super) async fn make(pool: &SqlitePool, terms: &FleetTerms) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO terms VALUES (1, ?, ?) ON CONFLICT DO NOTHING")
        .bind(&terms.issuer)
        .bind(count_to_sql(terms.propagation_bound_s))
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn change(pool: &SqlitePool, terms: &FleetTerms) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    // Nodes that go by the former ones look again, and find themselves out.
    sqlx::query("UPDATE state SET epoch = lower(hex(randomblob(16)))").execute(&mut *transaction).await?;
    sqlx::query("DELETE FROM terms").execute(&mut *transaction).await?;
    sqlx::query("INSERT INTO terms VALUES (1, ?, ?)")
        .bind(&terms.issuer)
        .bind(count_to_sql(terms.propagation_bound_s))
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}
