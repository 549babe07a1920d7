//! Where an issuer keeps what it knows: a database in its data directory, or
//! one that it shares. The one place that opens either.

use std::sync::Arc;

use aws_lc_rs::rand::SecureRandom;

use crate::config::Config;
use crate::config::database::Database;
use crate::data_dir::{DataDir, DataDirError, DatabaseFileError};
use crate::root_key::{RootKey, RootKeyFile, RootKeyFileError};
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};

/// It cannot be opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "one variant for each part")]
pub enum StorageError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    DatabaseFile(#[from] DatabaseFileError),
    #[error(transparent)]
    RootKeyFile(#[from] RootKeyFileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens it for a server, and makes what is not there yet. The root keys that
/// belong to it are read first: without them it is worth nothing.
pub(crate) async fn open(
    config: &Config,
    data_dir: &DataDir,
    random: &dyn SecureRandom,
) -> Result<(RootKeyFile, Vec<RootKey>, Arc<dyn Store>), StorageError> {
    let file = root_key_file(config, data_dir);
    match &config.database {
        Some(database) => {
            data_dir.check_for_other_database()?;
            let store = open_shared(database).await?;
            // Before a node has said which is current, it may make the first.
            let keys = file.read_or_make(store.root_keys().await?.is_some(), random)?;
            Ok((file, keys, Arc::new(store)))
        }
        None => {
            data_dir.check_for_own_database()?;
            let keys = file.read_or_make(data_dir.has_database(), random)?;
            Ok((file, keys, Arc::new(SqliteStore::open(&data_dir.database()?).await?)))
        }
    }
}

/// Where the root keys are.
pub(crate) fn root_key_file(config: &Config, data_dir: &DataDir) -> RootKeyFile {
    match &config.root_key_file {
        Some(path) => RootKeyFile::Given(path.clone()),
        None => data_dir.root_key_file(),
    }
}

/// Opens a database that several share.
pub(crate) async fn open_shared(database: &Database) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(database.options().clone()).await
}

/// Has an empty store filled. Unless that succeeds, nothing is left that a
/// server would take for an issuer's.
pub(crate) async fn fill<T, E: From<StorageError>>(
    config: &Config,
    data_dir: &DataDir,
    fill: impl AsyncFnOnce(&dyn Store) -> Result<T, E>,
) -> Result<T, E> {
    if let Some(database) = &config.database {
        data_dir.check_for_other_database().map_err(StorageError::from)?;
        return fill(&open_shared(database).await.map_err(StorageError::from)?).await;
    }
    let path = data_dir.begin_filling().map_err(StorageError::from)?;
    let outcome = async {
        let store = SqliteStore::open(&path).await.map_err(StorageError::from)?;
        let outcome = fill(&store).await;
        // Also of one that failed: it is removed.
        let closed = store.close().await;
        let filled = outcome?;
        closed.map_err(StorageError::from)?;
        data_dir.finish_filling().map_err(StorageError::from)?;
        Ok(filled)
    };
    let outcome = outcome.await;
    if outcome.is_err() {
        // It failed already: that is what must be said.
        let _ = data_dir.discard_filling();
    }
    outcome
}
