//! The last good JWK Set on disk, so that a broker that restarts during an
//! outage of the issuer still lets the fleet in.
//!
//! Public keys are no secret, but whoever can write them can let anyone in:
//! the file is 0600, replaced atomically, and not read if others may write it.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use aws_lc_rs::digest;

use super::{RemoteKeysConfig, RemoteKeysError};
use crate::keys::file::{self, KeyFileError};

/// Where one issuer's keys are kept.
#[derive(Debug)]
pub(super) struct LastGood {
    path: PathBuf,
}

impl LastGood {
    /// Checks that the folder is there and safe. The file's name comes from
    /// the issuer and the URL, so that a changed configuration never takes up
    /// the keys of another issuer.
    pub(super) fn open(config: &RemoteKeysConfig) -> Result<Self, RemoteKeysError> {
        let error = |reason: String| RemoteKeysError::StateDir { path: config.state_dir.clone(), reason };
        let metadata = fs::metadata(&config.state_dir).map_err(|e| error(e.to_string()))?;
        if !metadata.is_dir() {
            return Err(error("is not a folder".into()));
        }
        file::check_mode(&metadata).map_err(|e| error(e.to_string()))?;
        tempfile::tempfile_in(&config.state_dir).map_err(|e| error(format!("cannot be written to: {e}")))?;
        let of = format!("{}\n{}", config.issuer, config.url);
        let digest = digest::digest(&digest::SHA256, of.as_bytes());
        let name: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: config.state_dir.join(format!("jwks-{name}.json")) })
    }

    /// The set, if there is one.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, String> {
        match file::read(&self.path) {
            Ok(json) => Ok(Some(json)),
            Err(KeyFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", self.path.display())),
        }
    }

    pub(super) fn is_written(&self) -> bool {
        self.path.exists()
    }

    /// Replaces the set: a crash leaves the old one or the new one.
    pub(super) fn write(&self, json: &[u8]) -> Result<(), String> {
        let error = |error: io::Error| format!("{}: {error}", self.path.display());
        let folder = self.path.parent().ok_or("has no folder")?;
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(error)?;
        file.write_all(json).map_err(error)?;
        file.as_file().sync_all().map_err(error)?;
        file.persist(&self.path).map_err(|e| error(e.error))?;
        Ok(())
    }
}
