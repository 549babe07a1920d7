//! The last good state on disk, so that a broker that restarts during an
//! outage of the issuer still lets the fleet in, and still refuses what was
//! revoked.
//!
//! It is no secret, but whoever can write it can let anyone in: the file is
//! 0600, replaced atomically, and not read if others may write it. When it was
//! last known to be what the issuer says is the file's time of modification,
//! so that confirming it costs no rewriting. One in the future, as a clock that
//! was set back leaves behind, confirms nothing: see [`crate::freshness`].

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use url::Url;

use super::RemoteError;
use crate::keys::file::{self, KeyFileError};
use crate::time::UnixSeconds;

/// Where one issuer's state of one kind is kept.
#[derive(Debug)]
pub(crate) struct LastGood {
    path: PathBuf,
    max_length: usize,
}

/// What was kept.
#[derive(Debug)]
pub(crate) struct Kept {
    /// As it was written.
    pub(crate) bytes: Vec<u8>,
    /// When it was last known to be current.
    pub(crate) confirmed_at: UnixSeconds,
}

impl LastGood {
    /// Checks that the folder is there and safe. The file's name comes from
    /// the issuer and the URL, so that a changed configuration never takes up
    /// the state of another issuer. A file of more than `max_length` bytes is
    /// not read.
    pub(crate) fn open(
        state_dir: &Path,
        kind: &str,
        issuer: &str,
        url: &Url,
        max_length: usize,
    ) -> Result<Self, RemoteError> {
        check_state_dir(state_dir)?;
        let of = format!("{issuer}\n{url}");
        let digest = digest::digest(&digest::SHA256, of.as_bytes());
        let name: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: state_dir.join(format!("{kind}-{name}.json")), max_length })
    }

    /// What is kept, if anything is.
    pub(crate) fn read(&self) -> Result<Option<Kept>, String> {
        let (bytes, metadata) = match file::read_at_most(&self.path, self.max_length) {
            Ok(read) => read,
            Err(KeyFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.named(&error)),
        };
        if bytes.len() > self.max_length {
            return Err(self.named(&format_args!("has more than {} bytes", self.max_length)));
        }
        let modified = metadata.modified().map_err(|error| self.named(&error))?;
        let confirmed_at = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Some(Kept { bytes, confirmed_at: UnixSeconds(confirmed_at) }))
    }

    pub(crate) fn is_written(&self) -> bool {
        self.path.exists()
    }

    /// Replaces what is kept: a crash leaves the old or the new.
    pub(crate) fn write(&self, bytes: &[u8], confirmed_at: UnixSeconds) -> Result<(), String> {
        write_file(&self.path, bytes, |file| file.set_modified(time(confirmed_at)))
            .map_err(|error| self.named(&error))
    }

    /// Adds to what is kept: a crash leaves it without a part, or all, of
    /// `bytes`.
    pub(crate) fn append(&self, bytes: &[u8], confirmed_at: UnixSeconds) -> Result<(), String> {
        let append = || {
            let mut file = File::options().append(true).open(&self.path)?;
            file.write_all(bytes)?;
            file.set_modified(time(confirmed_at))?;
            file.sync_all()
        };
        append().map_err(|error: io::Error| self.named(&error))
    }

    /// What is kept is what the issuer says now.
    pub(crate) fn confirm(&self, confirmed_at: UnixSeconds) -> Result<(), String> {
        let file = File::options().write(true).open(&self.path);
        file.and_then(|file| file.set_modified(time(confirmed_at))).map_err(|error| self.named(&error))
    }

    fn named(&self, error: &dyn std::fmt::Display) -> String {
        format!("{}: {error}", self.path.display())
    }
}

/// Checks that a folder is there, can be written to, and that others cannot.
pub(crate) fn check_state_dir(path: &Path) -> Result<(), RemoteError> {
    let error = |reason: String| RemoteError::StateDir { path: path.to_owned(), reason };
    let metadata = fs::metadata(path).map_err(|e| error(e.to_string()))?;
    if !metadata.is_dir() {
        return Err(error("is not a folder".into()));
    }
    file::check_mode(&metadata).map_err(|e| error(e.to_string()))?;
    tempfile::tempfile_in(path).map_err(|e| error(format!("cannot be written to: {e}")))?;
    Ok(())
}

/// The folder `name` in a state folder, made if it is not there: for one of
/// several that would otherwise share it.
///
/// # Errors
/// [`RemoteError::StateDir`]: the state folder cannot be used, or the one in it
/// cannot be made.
pub fn own_state_dir(state_dir: &Path, name: &str) -> Result<PathBuf, RemoteError> {
    check_state_dir(state_dir)?;
    let path = state_dir.join(name);
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(RemoteError::StateDir { path, reason: error.to_string() })
        }
        _ => Ok(path),
    }
}

/// Replaces a file by one with mode 0600: a crash leaves the old or the new.
pub(crate) fn write_file(
    path: &Path,
    bytes: &[u8],
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    finish(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // Otherwise the old one may be back after a power cut.
    File::open(folder)?.sync_all()
}

fn time(at: UnixSeconds) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(at.0)).unwrap_or(UNIX_EPOCH)
}
