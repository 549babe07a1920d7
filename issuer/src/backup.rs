//! A store whole, in one encrypted file.
//!
//! The file is sealed under the root key, see [`sealed`]: either alone is worth
//! nothing. In it is a line of JSON that says what it is, then one for each
//! row, then nothing: that it is whole follows from the seal.
//!
//! Nobody knows what has happened after a backup was made. So what is restored
//! takes back every token, revokes the signing keys and makes new ones, and
//! refuses for some minutes the signed statements that may have been used
//! meanwhile. What operators changed since is lost, and they are told.

use std::io::{BufRead, BufReader, Read};

use bytes::Bytes;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::root_key::RootKeySet;
use crate::store::tables::{ImportedRow, Row};
use crate::store::{NewEpoch, NotImported, Store, StoreError};

mod sealed;

pub use sealed::{SealedFileError, SealingWriter, UnsealingReader};

/// How many rows wait to be written.
const WAITING: usize = 256;
/// Rows go out when they are so many bytes together.
const WRITTEN_AT: usize = 64 * 1024;

/// What a backup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// The version of what follows.
    pub fleetbadge_backup: u32,
    /// Whose it is: the issuer identifier.
    pub issuer: String,
    /// When it was made.
    pub made_at: UnixSeconds,
}

impl BackupHeader {
    /// The version that is written and read.
    pub const VERSION: u32 = 1;
}

/// A backup cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupFailed {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be sealed.
    #[error(transparent)]
    Sealed(#[from] SealedFileError),
    /// A row cannot be written as JSON.
    #[error("a row cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// A backup cannot be restored. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum NotRestored {
    /// It cannot be opened.
    #[error(transparent)]
    Sealed(#[from] SealedFileError),
    /// It was not written by a version of this program that is known here.
    #[error("it is no backup that this program can read: {0}")]
    Unreadable(String),
    /// It is another issuer's.
    #[error("it is a backup of {found}, this issuer is {expected}; give --issuer {found}, or another backup")]
    OtherIssuer {
        /// Whose it is.
        found: String,
        /// Who asks.
        expected: String,
    },
    /// The database does not take it.
    #[error(transparent)]
    NotImported(#[from] NotImported),
}

/// Gives the sealed bytes of a backup as they come.
///
/// # Errors
/// [`BackupFailed`]; what was given until then is not whole, and cannot be
/// opened to its end.
pub async fn write(
    store: &dyn Store,
    root_keys: &RootKeySet,
    salt: [u8; 32],
    header: &BackupHeader,
    to: mpsc::Sender<Bytes>,
) -> Result<(), BackupFailed> {
    let mut sealing = SealingWriter::new(root_keys, salt);
    let (sender, mut rows) = mpsc::channel(WAITING);
    let write = async {
        let mut lines = serde_json::to_vec(header)?;
        lines.push(b'\n');
        while let Some(row) = rows.recv().await {
            serde_json::to_writer(&mut lines, &Row::to_json(&row))?;
            lines.push(b'\n');
            if lines.len() >= WRITTEN_AT {
                sealing.push(&lines)?;
                lines.clear();
                if to.send(sealing.take().into()).await.is_err() {
                    // Nobody wants the rest; the export ends with the receiver.
                    return Ok(false);
                }
            }
        }
        sealing.push(&lines)?;
        Ok::<_, BackupFailed>(true)
    };
    let (exported, written) = tokio::join!(store.export(sender), write);
    exported?;
    if written? {
        // Only now: an export that failed must not look whole.
        let _ = to.send(sealing.finish()?.into()).await;
    }
    Ok(())
}

/// Restores a backup into an empty store; `progress` is told the rows so far.
/// Returns what the backup was.
///
/// # Errors
/// [`NotRestored`].
pub async fn restore(
    store: &dyn Store,
    root_keys: &RootKeySet,
    file: impl Read + Send + 'static,
    issuer: &str,
    epoch: &NewEpoch,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<BackupHeader, NotRestored> {
    let mut lines = BufReader::new(UnsealingReader::new(root_keys, file)?);
    let header = read_header(&mut lines, issuer)?;
    let (sender, rows) = mpsc::channel(WAITING);
    let reading = tokio::task::spawn_blocking(move || read_rows(lines, &sender, progress));
    let imported = store.import(rows, Some(epoch)).await;
    // Why the rows ended early says more than that they did.
    match reading.await {
        Ok(read) => read?,
        Err(error) => return Err(NotRestored::Unreadable(error.to_string())),
    }
    imported?;
    Ok(header)
}

fn read_header(lines: &mut impl BufRead, issuer: &str) -> Result<BackupHeader, NotRestored> {
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line).map_err(SealedFileError::from)?;
    let unreadable = |error: serde_json::Error| NotRestored::Unreadable(error.to_string());
    let header: BackupHeader = serde_json::from_slice(&line).map_err(unreadable)?;
    if header.fleetbadge_backup != BackupHeader::VERSION {
        let (found, known) = (header.fleetbadge_backup, BackupHeader::VERSION);
        return Err(NotRestored::Unreadable(format!("its version is {found}, known here is {known}")));
    }
    if header.issuer != issuer {
        return Err(NotRestored::OtherIssuer { found: header.issuer, expected: issuer.into() });
    }
    Ok(header)
}

fn read_rows(
    lines: impl BufRead,
    to: &mpsc::Sender<ImportedRow>,
    progress: impl Fn(u64),
) -> Result<(), NotRestored> {
    let mut count = 0;
    for line in lines.split(b'\n') {
        let line = line.map_err(SealedFileError::from)?;
        let value =
            serde_json::from_slice(&line).map_err(|error| NotRestored::Unreadable(error.to_string()))?;
        let row = Row::from_json(value).map_err(|error| NotRestored::Unreadable(error.to_string()))?;
        if to.blocking_send(ImportedRow::Row(row)).is_err() {
            // The database has said why.
            return Ok(());
        }
        count += 1;
        progress(count);
    }
    let _ = to.blocking_send(ImportedRow::End);
    Ok(())
}

#[cfg(test)]
mod tests;
