//! Moves an issuer that does not run from SQLite to PostgreSQL: everything as
//! it is, so that its tokens, keys and feeds go on.
//!
//! 1. lock the data directory, so that no server runs with it;
//! 2. write all of the SQLite database into its one file;
//! 3. copy every row, in one transaction. Before that is committed the file is
//!    renamed: from then on a server starts with neither of the two, as both
//!    have everything and only one may go on;
//! 4. read both and compare them, row by row;
//! 5. write into the file that it has gone, and rename it for good: whatever
//!    somebody calls it later, what happened since is not in it.
//!
//! Interrupted before 3 is committed, nothing has happened; after it, another
//! run finds what it would have written and goes on with 4.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::sync::mpsc;

use crate::config::database::Database;
use crate::data_dir::{DataDir, DatabaseFile, DatabaseFileError};
use crate::storage;
use crate::store::sqlite::SqliteStore;
use crate::store::tables::{Cell, ImportedRow, Row, TABLES};
use crate::store::{NotImported, Store, StoreError};

/// How many rows wait on their way.
const WAITING: usize = 256;

/// What became of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// Both databases have the same rows.
    Now {
        /// How many, by table.
        tables: Vec<TableCount>,
        /// What was left behind.
        left: PathBuf,
    },
    /// An earlier run has moved it there already.
    Before {
        /// What was left behind.
        left: PathBuf,
    },
}

/// How many rows a table has on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TableCount {
    /// The table.
    pub table: &'static str,
    /// How many.
    pub rows: u64,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many rows are copied.
    Copied(u64),
    /// So many rows are the same.
    Compared(u64),
}

/// An issuer was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MigrateFailed {
    /// The SQLite file cannot be used.
    #[error(transparent)]
    DatabaseFile(#[from] DatabaseFileError),
    /// A database failed; nothing was moved.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no SQLite database.
    #[error("{}: there is no SQLite database in this data directory", path.display())]
    NoDatabase {
        /// The data directory.
        path: PathBuf,
    },
    /// There is something else in PostgreSQL already.
    #[error(
        "the PostgreSQL database is not empty, and no copy of {}: they differ in {table}; give a new one",
        path.display()
    )]
    NotEmpty {
        /// The SQLite database.
        path: PathBuf,
        /// The first table that differs.
        table: &'static str,
    },
    /// An earlier run has moved it to another database.
    #[error("{}: this issuer was moved already, to another database than this one", path.display())]
    MigratedElsewhere {
        /// What was left behind.
        path: PathBuf,
    },
    /// The last answer of PostgreSQL is missing.
    #[error(
        "it is not known whether the PostgreSQL database has taken everything: {reason}; until it is, no server \
         starts: run migrate-store again"
    )]
    Unknown {
        /// Why not.
        reason: StoreError,
    },
    /// What was copied is not the same.
    #[error(
        "the copy is not the same: they differ in {table}. The SQLite database is as it was; do not use the \
         PostgreSQL database"
    )]
    CopyDiffers {
        /// The first table that differs.
        table: &'static str,
    },
}

/// Moves the issuer of a data directory to an empty PostgreSQL database.
///
/// # Errors
/// [`MigrateFailed`].
pub async fn migrate_store(
    data_dir: &Path,
    database: &Database,
    progress: impl Fn(Progress),
) -> Result<Migrated, MigrateFailed> {
    let directory = DataDir::open_existing(data_dir)?;
    let (path, was_begun) = match directory.database_file() {
        DatabaseFile::Absent | DatabaseFile::Unfinished(_) => {
            return Err(MigrateFailed::NoDatabase { path: data_dir.into() });
        }
        DatabaseFile::Migrated(left) => {
            check_same(&left, database).await?;
            return Ok(Migrated::Before { left });
        }
        DatabaseFile::Migrating(path) if SqliteStore::open_to_read(&path).await?.is_moved().await? => {
            check_same(&path, database).await?;
            return Ok(Migrated::Before { left: directory.finish_migration()? });
        }
        DatabaseFile::Present(path) => (path, false),
        DatabaseFile::Migrating(path) => (path, true),
    };
    directory.check_never_migrated()?;
    let to = storage::open_shared(database).await?;
    // Brings its schema up to date, and leaves nothing beside it.
    SqliteStore::open(&path).await?.close().await?;
    let is_copied_now = is_empty(&to).await? && copy(&directory, &path, &to, &progress).await?;
    let (path, is_begun) = match directory.database_file() {
        DatabaseFile::Migrating(now) => (now, true),
        DatabaseFile::Absent
        | DatabaseFile::Present(_)
        | DatabaseFile::Unfinished(_)
        | DatabaseFile::Migrated(_) => (path, false),
    };
    let from = SqliteStore::open_to_read(&path).await?;
    let compared = compare(&from, &to, |rows| progress(Progress::Compared(rows))).await;
    match compared {
        Ok(Ok(tables)) => {
            from.close().await?;
            SqliteStore::set_moved(&directory.begin_migration()?).await?;
            Ok(Migrated::Now { tables, left: directory.finish_migration()? })
        }
        Ok(Err(table)) => {
            if is_begun && !was_begun {
                directory.undo_migration()?;
            }
            Err(if is_copied_now {
                MigrateFailed::CopyDiffers { table }
            } else {
                MigrateFailed::NotEmpty { path, table }
            })
        }
        Err(reason) if is_begun => Err(MigrateFailed::Unknown { reason }),
        Err(error) => Err(error.into()),
    }
}

/// That this is the database where one has gone that was left behind.
async fn check_same(left: &Path, database: &Database) -> Result<(), MigrateFailed> {
    let (from, to) = (SqliteStore::open_to_read(left).await?, storage::open_shared(database).await?);
    if epoch(&from).await? == epoch(&to).await? {
        Ok(())
    } else {
        Err(MigrateFailed::MigratedElsewhere { path: left.into() })
    }
}

/// Copies everything, from a file that nobody has open. False if PostgreSQL
/// had something meanwhile: perhaps what an interrupted run gave it.
async fn copy(
    directory: &DataDir,
    path: &Path,
    to: &dyn Store,
    progress: &impl Fn(Progress),
) -> Result<bool, MigrateFailed> {
    let from = SqliteStore::open_to_read(path).await?;
    let (sender, mut exported) = mpsc::channel(WAITING);
    let (importing, received) = mpsc::channel(WAITING);
    let give = async move {
        let forward = async {
            let mut count = 0;
            while let Some(row) = exported.recv().await {
                if importing.send(ImportedRow::Row(row)).await.is_err() {
                    // PostgreSQL says why. Nobody wants the rest.
                    exported.close();
                    return false;
                }
                count += 1;
                progress(Progress::Copied(count));
            }
            true
        };
        let (exported, is_taken) = tokio::join!(from.export(sender), forward);
        exported?;
        if is_taken {
            directory.begin_migration()?;
            let _ = importing.send(ImportedRow::End).await;
        }
        Ok::<(), MigrateFailed>(())
    };
    let (given, imported) = tokio::join!(give, to.import(received, None));
    given?;
    match imported {
        Ok(()) => Ok(true),
        Err(NotImported::NotEmpty | NotImported::Incomplete) => Ok(false),
        Err(NotImported::Store(reason)) => Err(match directory.database_file() {
            DatabaseFile::Migrating(_) => MigrateFailed::Unknown { reason },
            // The end was never given.
            DatabaseFile::Absent
            | DatabaseFile::Present(_)
            | DatabaseFile::Unfinished(_)
            | DatabaseFile::Migrated(_) => MigrateFailed::Store(reason),
        }),
    }
}

/// The rows of each table, if two stores have the same; else the first table
/// that differs.
async fn compare(
    one: &dyn Store,
    other: &dyn Store,
    progress: impl Fn(u64),
) -> Result<Result<Vec<TableCount>, &'static str>, StoreError> {
    let (to_one, mut of_one) = mpsc::channel::<Row>(WAITING);
    let (to_other, mut of_other) = mpsc::channel::<Row>(WAITING);
    let walk = async move {
        let mut counts = TABLES.each_ref().map(|table| TableCount { table: table.name, rows: 0 });
        let mut total = 0;
        loop {
            match (of_one.recv().await, of_other.recv().await) {
                (None, None) => return Ok(counts.to_vec()),
                (Some(row), Some(same)) if row == same => {
                    let count = counts.iter_mut().find(|count| count.table == row.table.name);
                    count.into_iter().for_each(|count| count.rows += 1);
                    total += 1;
                    progress(total);
                }
                (Some(row), _) | (None, Some(row)) => return Err(row.table.name),
            }
        }
    };
    let (one, other, outcome) = tokio::join!(one.export(to_one), other.export(to_other), walk);
    // One that ends early looks as if it had less.
    one?;
    other?;
    Ok(outcome)
}

/// Whether no more is in it than in a new one.
async fn is_empty(store: &dyn Store) -> Result<bool, StoreError> {
    let (sender, mut rows) = mpsc::channel::<Row>(WAITING);
    let look = async move {
        while let Some(row) = rows.recv().await {
            if row.table.name != "state" {
                return false;
            }
        }
        true
    };
    let (exported, is_empty) = tokio::join!(store.export(sender), look);
    exported?;
    Ok(is_empty)
}

/// What tells a database's history from others.
async fn epoch(store: &dyn Store) -> Result<Option<Cell>, StoreError> {
    let (sender, mut rows) = mpsc::channel::<Row>(1);
    let look = async move {
        let state = rows.recv().await?;
        let index = state.table.columns.iter().position(|column| column.name == "epoch")?;
        state.cells.into_iter().nth(index)
    };
    let (exported, epoch) = tokio::join!(store.export(sender), look);
    exported?;
    Ok(epoch)
}

#[cfg(test)]
mod tests;
