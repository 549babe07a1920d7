//! A JWK Set in a file. Public keys are no secret, but whoever can write them
//! can let anyone in: a file that others may write is not read.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::MAX_JWKS_LENGTH;

/// A file of keys, or the folder that it is in, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Others may write it.
    #[error("has mode {mode:04o}: others may write it; run chmod go-w")]
    WritableByOthers {
        /// Its permission bits.
        mode: u32,
    },
}

/// Reads a file, at most a byte more than a key set may have, so that one that
/// is too long is seen as such.
///
/// # Errors
/// [`KeyFileError`].
pub fn read(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    read_at_most(path, MAX_JWKS_LENGTH).map(|(json, _)| json)
}

/// Reads a file that nobody else may write, at most a byte more than `max`.
pub(crate) fn read_at_most(path: &Path, max: usize) -> Result<(Vec<u8>, Metadata), KeyFileError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    check_mode(&metadata)?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// Whether only its owner may write it.
pub(crate) fn check_mode(metadata: &Metadata) -> Result<(), KeyFileError> {
    match metadata.mode() & 0o7777 {
        mode if mode & 0o022 != 0 => Err(KeyFileError::WritableByOthers { mode }),
        _ => Ok(()),
    }
}
