//! The data directory: who may read it, and that only one server uses it.
//!
//! It holds `issuer.sqlite3`, `root.key`, `admin.sock` and `lock`. The folder
//! is its owner's alone (0700), every file too (0600); anything more open is
//! refused, as a key that others could read is no longer a secret.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::private_file::{self, PrivateFileError, at, check_owner_alone};
use crate::root_key::RootKeyFile;

mod database_file;

pub use database_file::{DatabaseFile, DatabaseFileError};

const DATABASE: &str = "issuer.sqlite3";
const ROOT_KEY: &str = "root.key";
const SOCKET: &str = "admin.sock";
const LOCK: &str = "lock";
/// How often, and how long after each other, the lock is tried.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The longest path of a unix socket on Linux, without its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Where the admin socket of a server with this data directory is.
#[must_use]
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// A data directory that this process alone uses, until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// A data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Something in it cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is no folder, and cannot be made one.
    #[error(
        "data_dir: {}: is no folder, and none can be made there: {source}; give another with --data-dir",
        path.display()
    )]
    NoFolder {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot.
        source: io::Error,
    },
    /// Another server uses it.
    #[error("{}: another fleetbadge-issuer uses this data directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Something stands where the admin socket belongs.
    #[error("{}: is not a socket; move it away", path.display())]
    NotASocket {
        /// What.
        path: PathBuf,
    },
    /// The path of the admin socket is too long for a socket.
    #[error("data_dir: the path of {} has {length} bytes, a socket's has at most {MAX_SOCKET_PATH}", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// How long it is.
        length: usize,
    },
}

impl DataDir {
    /// Opens the directory, makes it if there is none, and locks it.
    ///
    /// # Errors
    /// [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| DataDirError::NoFolder { path: path.into(), source })?;
        close_if_empty(path)?;
        check_owner_alone(path, &path.metadata().map_err(at(path))?, 0o700)?;
        let socket = socket_path(path);
        let length = socket.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(DataDirError::PathTooLong { path: socket, length });
        }
        let lock = private_file::open(&path.join(LOCK), OFlags::RDWR | OFlags::CREATE)?;
        let mut tries = 0;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path: path.into(), _lock: lock }),
                // A program that whoever had it was just starting has it, too,
                // until it is started.
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse { path: path.into() }),
                Err(TryLockError::Error(source)) => return Err(at(&path.join(LOCK))(source).into()),
            }
        }
    }

    /// Where the root keys are, unless they are somewhere else.
    #[must_use]
    pub fn root_key_file(&self) -> RootKeyFile {
        RootKeyFile::Own(self.path.join(ROOT_KEY))
    }

    /// Whether there is a database already.
    #[must_use]
    pub fn has_database(&self) -> bool {
        self.path.join(DATABASE).exists()
    }

    /// The database file; made empty if there is none, so that SQLite gives its
    /// own files the same mode.
    ///
    /// # Errors
    /// [`DataDirError`].
    pub fn database(&self) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(DATABASE);
        private_file::open(&path, OFlags::RDWR | OFlags::CREATE)?;
        Ok(path)
    }

    /// Where to bind the admin socket, what an ended server left there removed.
    ///
    /// # Errors
    /// [`DataDirError`].
    pub fn free_socket(&self) -> Result<PathBuf, DataDirError> {
        let path = socket_path(&self.path);
        match path.symlink_metadata() {
            Ok(metadata) if metadata.file_type().is_socket() => {
                std::fs::remove_file(&path).map_err(at(&path))?;
                Ok(path)
            }
            Ok(_) => Err(DataDirError::NotASocket { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
            Err(source) => Err(at(&path)(source).into()),
        }
    }
}

/// A folder in which nothing was kept yet has betrayed nothing: it is closed
/// for its owner instead of refused.
fn close_if_empty(path: &Path) -> Result<(), DataDirError> {
    let is_empty = path.read_dir().map_err(at(path))?.next().is_none();
    let is_ours = path.metadata().map_err(at(path))?.uid() == rustix::process::geteuid().as_raw();
    if is_empty && is_ours {
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(at(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use aws_lc_rs::rand::SystemRandom;

    use super::*;
    use crate::root_key::{RootKeyFileError, RootKeyId};

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        (parent, path)
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable root key")]
    fn root_key(data_dir: &DataDir) -> Result<RootKeyId, RootKeyFileError> {
        let keys = data_dir.root_key_file().read_or_make(data_dir.has_database(), &SystemRandom::new())?;
        Ok(keys[0].id())
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn made_for_its_owner_alone_and_found_again() {
        let (_parent, path) = folder();
        let data_dir = DataDir::open(&path).unwrap();
        let key = root_key(&data_dir).unwrap();
        data_dir.database().unwrap();
        assert_eq!(mode(&path), 0o700);
        for file in [ROOT_KEY, DATABASE, LOCK] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
        assert_eq!(root_key(&data_dir).unwrap(), key);
    }

    #[test]
    fn one_server_at_a_time() {
        let (_parent, path) = folder();
        let first = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse { .. })));
        drop(first);
        assert!(DataDir::open(&path).is_ok());
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let (_parent, path) = folder();
        let data_dir = DataDir::open(&path).unwrap();
        root_key(&data_dir).unwrap();
        fs::set_permissions(path.join(ROOT_KEY), Permissions::from_mode(0o640)).unwrap();
        let error = root_key(&data_dir).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        drop(data_dir);
        fs::set_permissions(&path, Permissions::from_mode(0o711)).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn no_symbolic_link_is_followed() {
        let (parent, path) = folder();
        let data_dir = DataDir::open(&path).unwrap();
        root_key(&data_dir).unwrap();
        fs::rename(path.join(ROOT_KEY), parent.path().join("elsewhere")).unwrap();
        symlink(parent.path().join("elsewhere"), path.join(ROOT_KEY)).unwrap();
        assert!(matches!(root_key(&data_dir), Err(RootKeyFileError::File(PrivateFileError::Io { .. }))));
    }

    #[test]
    fn a_lost_root_key_is_not_replaced() {
        let (_parent, path) = folder();
        let data_dir = DataDir::open(&path).unwrap();
        data_dir.database().unwrap();
        assert!(matches!(root_key(&data_dir), Err(RootKeyFileError::Lost { .. })));
        fs::write(path.join(ROOT_KEY), "garbage").unwrap();
        fs::set_permissions(path.join(ROOT_KEY), Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(root_key(&data_dir), Err(RootKeyFileError::Content { .. })));
    }

    #[test]
    fn a_stale_socket_makes_room_and_nothing_else_does() {
        let (_parent, path) = folder();
        let data_dir = DataDir::open(&path).unwrap();
        let socket = data_dir.free_socket().unwrap();
        drop(UnixListener::bind(&socket).unwrap());
        assert!(socket.exists());
        assert_eq!(data_dir.free_socket().unwrap(), socket);
        assert!(!socket.exists());
        fs::write(&socket, "").unwrap();
        assert!(matches!(data_dir.free_socket(), Err(DataDirError::NotASocket { .. })));
    }
}
