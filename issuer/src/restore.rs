//! Fills what an issuer works with from a backup, before it is started.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fleetbadge_validator::time::Clock;

use crate::backup::{self, BackupHeader, NotRestored};
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError, DatabaseFileError};
use crate::revoker::Revoker;
use crate::root_key::{RootKey, RootKeyFileError, RootKeySet, UnknownRootKey};
use crate::storage::{self, StorageError};
use crate::store::{NewEpoch, NotImported, Store};
use crate::used_jtis::MAX_STATEMENT_LIFE_S;

/// Nothing was restored.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "one variant for each part")]
pub enum RestoreFailed {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    DatabaseFile(#[from] DatabaseFileError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    RootKey(#[from] RootKeyFileError),
    #[error("there is no root key")]
    NoRootKey,
    #[error(transparent)]
    UnknownRootKey(#[from] UnknownRootKey),
    #[error(transparent)]
    NotRestored(#[from] NotRestored),
}

impl RestoreFailed {
    /// Whether it is the backup that cannot be used, and not what it is to fill.
    pub(crate) const fn is_of_backup(&self) -> bool {
        match self {
            Self::NotRestored(NotRestored::NotImported(NotImported::NotEmpty | NotImported::Store(_)))
            | Self::DataDir(_)
            | Self::DatabaseFile(_)
            | Self::Storage(_)
            | Self::RootKey(_)
            | Self::NoRootKey => false,
            Self::NotRestored(_) | Self::UnknownRootKey(_) => true,
        }
    }
}

/// Restores a backup into the empty data directory or database of `config`.
/// Returns what it was and how many rows it had.
///
/// # Errors
/// [`RestoreFailed`]; nothing is half restored.
pub async fn restore(
    config: &Config,
    clock: Arc<dyn Clock>,
    file: File,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<(BackupHeader, u64), RestoreFailed> {
    let data_dir = DataDir::open_existing(&config.data_dir)?;
    let root_keys = storage::root_key_file(config, &data_dir).read_existing()?;
    let current = root_keys.first().map(RootKey::id).ok_or(RestoreFailed::NoRootKey)?;
    let root_keys = RootKeySet::new(&root_keys, current)?;
    let rows = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&rows);
    let count = move |so_far| {
        counted.store(so_far, Ordering::Relaxed);
        progress(so_far);
    };
    let fill = async |store: &dyn Store| {
        let revoker =
            Revoker::new(Arc::clone(&clock), config.revocation_margin_s(), config.max_token_lifetime_s);
        let statements_after = clock.now().plus(MAX_STATEMENT_LIFE_S);
        let epoch = NewEpoch { revoker, statements_after };
        let issuer = config.issuer.as_str();
        Ok::<_, RestoreFailed>(backup::restore(store, &root_keys, file, issuer, &epoch, count).await?)
    };
    let header = storage::fill(config, &data_dir, fill).await?;
    Ok((header, rows.load(Ordering::Relaxed)))
}
