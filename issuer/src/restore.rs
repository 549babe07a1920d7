//! Fills what an issuer works with from a backup, before it is started.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fleetbadge_validator::time::Clock;

use crate::backup::{self, BackupHeader, NotRestored};
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::revoker::Revoker;
use crate::root_key::{RootKey, RootKeyFile, RootKeyFileError, RootKeySet, UnknownRootKey};
use crate::store::sqlite::SqliteStore;
use crate::store::{Restoration, Store, StoreError};
use crate::used_jtis::MAX_STATEMENT_LIFE_S;

/// Nothing was restored.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "one variant for each part")]
pub enum RestoreFailed {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    RootKey(#[from] RootKeyFileError),
    #[error("there is no root key")]
    NoRootKey,
    #[error(transparent)]
    UnknownRootKey(#[from] UnknownRootKey),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NotRestored(#[from] NotRestored),
}

/// Restores a backup into the data directory or database of `config`. Returns
/// what it was and how many rows it had.
///
/// # Errors
/// [`RestoreFailed`]; nothing is half restored.
pub async fn restore(
    config: &Config,
    clock: Arc<dyn Clock>,
    file: File,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<(BackupHeader, u64), RestoreFailed> {
    let data_dir = DataDir::open(&config.data_dir)?;
    let root_key_file = match &config.root_key_file {
        Some(path) => RootKeyFile::Given(path.clone()),
        None => data_dir.root_key_file(),
    };
    let root_keys = root_key_file.read()?;
    let current = root_keys.first().map(RootKey::id).ok_or(RestoreFailed::NoRootKey)?;
    let root_keys = RootKeySet::new(&root_keys, current)?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&data_dir.database()?).await?);
    let revoker = Revoker::new(Arc::clone(&clock), 0, config.max_token_lifetime_s);
    let restoration =
        Restoration { revoke: revoker.all(), statements_after: clock.now().plus(MAX_STATEMENT_LIFE_S) };
    let rows = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&rows);
    let count = move |so_far| {
        counted.store(so_far, Ordering::Relaxed);
        progress(so_far);
    };
    let issuer = config.issuer.as_str();
    let header = backup::restore(&*store, &root_keys, file, issuer, &restoration, count).await?;
    Ok((header, rows.load(Ordering::Relaxed)))
}
