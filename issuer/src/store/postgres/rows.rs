//! Everything that is kept, out of the database and into an empty one.

use futures_util::TryStreamExt as _;
use serde_json::Value;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, PgTransaction, Postgres, QueryBuilder, Row as _};
use tokio::sync::mpsc;

use super::settings::ONE_MOMENT;
use super::state;
use crate::store::row::{from_json, to_json};
use crate::store::tables::{Cell, ImportedRow, Kind, Row, TABLES, Table};
use crate::store::{NewEpoch, NotImported, StoreError};

/// The most rows of one statement: PostgreSQL takes 65,535 values.
const BATCH: usize = 500;

pub(super) async fn export(pool: &PgPool, rows: &mpsc::Sender<Row>) -> Result<(), StoreError> {
    // One moment, whatever is written meanwhile.
    let mut snapshot = pool.begin_with(ONE_MOMENT).await?;
    take_your_time(&mut snapshot).await?;
    for table in &TABLES {
        let sql = format!("SELECT {} FROM {} ORDER BY {}", table.column_list(), table.name, table.key_list());
        let mut found = sqlx::query(AssertSqlSafe(sql)).fetch(&mut *snapshot);
        while let Some(row) = found.try_next().await? {
            // Nobody wants the rest.
            if rows.send(from_row(table, &row)?).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

pub(super) async fn import(
    pool: &PgPool,
    mut rows: mpsc::Receiver<ImportedRow>,
    epoch: Option<&NewEpoch>,
) -> Result<(), NotImported> {
    let mut transaction = pool.begin().await?;
    take_your_time(&mut transaction).await?;
    // Nobody else fills it meanwhile.
    sqlx::query("SELECT 1 FROM state FOR UPDATE").execute(&mut *transaction).await?;
    if !is_empty(&mut transaction).await? {
        return Err(NotImported::NotEmpty);
    }
    sqlx::query("DELETE FROM state").execute(&mut *transaction).await?;
    let mut batch: Vec<Row> = Vec::with_capacity(BATCH);
    loop {
        match rows.recv().await {
            Some(ImportedRow::Row(row)) => {
                if batch.len() == BATCH || batch.last().is_some_and(|last| last.table != row.table) {
                    insert(&mut transaction, &batch).await?;
                    batch.clear();
                }
                batch.push(row);
            }
            Some(ImportedRow::End) => break,
            None => return Err(NotImported::Incomplete),
        }
    }
    insert(&mut transaction, &batch).await?;
    if let Some(epoch) = epoch {
        state::restored_in(&mut transaction, epoch).await?;
    }
    Ok(transaction.commit().await?)
}

/// The limits of requests are not for what takes as long as there are rows.
async fn take_your_time(transaction: &mut PgTransaction<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut **transaction).await?;
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut **transaction).await?;
    Ok(())
}

async fn is_empty(transaction: &mut PgTransaction<'_>) -> Result<bool, sqlx::Error> {
    for table in TABLES.iter().filter(|table| table.name != "state") {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
        if sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut **transaction).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn insert(transaction: &mut PgTransaction<'_>, rows: &[Row]) -> Result<(), StoreError> {
    let Some(Row { table, .. }) = rows.first() else { return Ok(()) };
    let insert = format!("INSERT INTO {} ({}) ", table.name, table.column_list());
    let mut query = QueryBuilder::<Postgres>::new(insert);
    let documents = rows.iter().flat_map(|row| &row.cells).filter_map(|cell| match cell {
        Cell::Json(value) => Some(to_json(table.name, value)),
        Cell::Text(_) | Cell::Integer(_) | Cell::Bytes(_) => None,
    });
    let mut documents = documents.collect::<Result<Vec<String>, _>>()?.into_iter();
    query.push_values(rows, |mut values, row| {
        for cell in &row.cells {
            match cell {
                Cell::Text(text) => values.push_bind(text.as_str()),
                Cell::Json(_) => values.push_bind(documents.next()),
                Cell::Integer(number) => values.push_bind(*number),
                Cell::Bytes(bytes) => values.push_bind(bytes.as_slice()),
            };
        }
    });
    query.build().execute(&mut **transaction).await?;
    Ok(())
}

fn from_row(table: &'static Table, row: &PgRow) -> Result<Row, StoreError> {
    let cell = |(index, kind): (usize, Kind)| -> Result<Cell, StoreError> {
        Ok(match kind {
            Kind::Text => Cell::Text(row.try_get(index)?),
            Kind::Json => Cell::Json(from_json::<Value>(table.name, row.try_get(index)?)?),
            Kind::Integer => Cell::Integer(row.try_get(index)?),
            Kind::Bytes => Cell::Bytes(row.try_get(index)?),
        })
    };
    let kinds = table.columns.iter().map(|column| column.kind).enumerate();
    Ok(Row { table, cells: kinds.map(cell).collect::<Result<_, _>>()? })
}
