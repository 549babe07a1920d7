//! The file that root keys are kept in: one line each.

use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SecureRandom;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{InvalidRootKeys, RootKey};
use crate::private_file::{self, PrivateFileError};
use crate::random::NoRandomness;

/// Where root keys are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootKeyFile {
    /// In the data directory.
    Own(PathBuf),
    /// Somewhere else, where an operator or systemd has put it.
    Given(PathBuf),
}

/// Root keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyFileError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// What stands in it.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidRootKeys,
    },
    /// There is a database, but not the root key that it needs.
    #[error(
        "{}: is missing, but there is a database or a backup that needs it; put it there, from another node or \
         from where it was saved", path.display()
    )]
    Lost {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file that was named is not there.
    #[error(
        "root_key_file: {}: is missing; copy it from another node, or, for a new database, make it: \
         fleetbadge-issuer root-key new {}", path.display(), path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A new one was to be made where there is one.
    #[error("{}: is there already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// Somebody else looks after it.
    #[error(
        "{}: cannot be changed from here, since {reason}; change it where it comes from, the issuer takes it up \
         within 5 s", path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// Why it cannot.
        reason: String,
    },
    /// No root key can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl RootKeyFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Own(path) | Self::Given(path) => path,
        }
    }

    /// Reads the keys; the first is that of a new database.
    ///
    /// # Errors
    /// [`RootKeyFileError`].
    pub fn read(&self) -> Result<Vec<RootKey>, RootKeyFileError> {
        let path = self.path();
        let file = match self {
            Self::Own(path) => private_file::open(path, OFlags::RDONLY)?,
            Self::Given(path) => match private_file::open_given(path) {
                Err(error) if error.is_not_found() => {
                    return Err(RootKeyFileError::Missing { path: path.clone() });
                }
                other => other?,
            },
        };
        let text = private_file::read_to_string(path, file)?;
        RootKey::list_from_text(&text)
            .map_err(|source| RootKeyFileError::Content { path: path.into(), source })
    }

    /// Reads the keys that must be there already.
    ///
    /// # Errors
    /// [`RootKeyFileError`].
    pub fn read_existing(&self) -> Result<Vec<RootKey>, RootKeyFileError> {
        match self.read() {
            Err(RootKeyFileError::File(error)) if error.is_not_found() => {
                Err(RootKeyFileError::Lost { path: self.path().into() })
            }
            other => other,
        }
    }

    /// Reads the keys; makes the first one in the data directory, if there is
    /// no database yet that needs an old one. Elsewhere none is made: the file
    /// may be meant to be that of other nodes.
    ///
    /// # Errors
    /// [`RootKeyFileError`].
    pub fn read_or_make(
        &self,
        has_database: bool,
        random: &dyn SecureRandom,
    ) -> Result<Vec<RootKey>, RootKeyFileError> {
        match (self.read(), self) {
            (Err(RootKeyFileError::File(error)), Self::Own(path)) if error.is_not_found() => {
                if has_database {
                    return Err(RootKeyFileError::Lost { path: path.clone() });
                }
                let keys = vec![RootKey::generate(random)?];
                self.write(&keys)?;
                Ok(keys)
            }
            (other, _) => other,
        }
    }

    /// Makes a file with one new key.
    ///
    /// # Errors
    /// [`RootKeyFileError`].
    pub fn make_new(path: &Path, random: &dyn SecureRandom) -> Result<RootKey, RootKeyFileError> {
        if path.symlink_metadata().is_ok() {
            return Err(RootKeyFileError::Exists { path: path.into() });
        }
        let key = RootKey::generate(random)?;
        private_file::replace(path, &key.to_text())?;
        Ok(key)
    }

    /// Puts these keys into the file, all or nothing.
    ///
    /// # Errors
    /// [`RootKeyFileError`].
    pub fn write(&self, keys: &[RootKey]) -> Result<(), RootKeyFileError> {
        let path = self.path();
        let read_only = |reason: &dyn ToString| RootKeyFileError::ReadOnly {
            path: path.into(),
            reason: reason.to_string(),
        };
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(read_only(&"it is a symbolic link"));
        }
        if let Self::Given(path) = self
            && let Err(error) = private_file::open(path, OFlags::RDONLY)
        {
            return Err(read_only(&error));
        }
        let mut text = Zeroizing::new(String::with_capacity(keys.len() * 80));
        keys.iter().for_each(|key| text.push_str(&key.to_text()));
        match (private_file::replace(path, &text), self) {
            (Err(PrivateFileError::Io { source, .. }), Self::Given(_)) => Err(read_only(&source)),
            (other, _) => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use aws_lc_rs::rand::SystemRandom;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable root key")]
    fn random() -> SystemRandom {
        SystemRandom::new()
    }

    fn given(folder: &tempfile::TempDir) -> RootKeyFile {
        let path = folder.path().join("given");
        RootKeyFile::make_new(&path, &random()).unwrap();
        RootKeyFile::Given(path)
    }

    fn chmod(file: &RootKeyFile, mode: u32) {
        fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
    }

    fn ids(file: &RootKeyFile) -> Vec<String> {
        file.read().unwrap().iter().map(|key| key.id().to_string()).collect()
    }

    #[test]
    fn what_others_can_read_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = given(&folder);
        for mode in [0o640, 0o604, 0o620, 0o666] {
            chmod(&file, mode);
            let refused = file.read().err().unwrap();
            assert!(matches!(refused, RootKeyFileError::File(PrivateFileError::TooOpen { .. })), "{refused}");
        }
        chmod(&file, 0o400);
        assert_eq!(ids(&file).len(), 1);
    }

    #[test]
    fn keys_are_added_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = given(&folder);
        let first = ids(&file);
        let mut keys = file.read().unwrap();
        keys.push(RootKey::generate(&random()).unwrap());
        file.write(&keys).unwrap();
        assert_eq!((ids(&file).len(), &ids(&file)[..1]), (2, &first[..]));
        assert_eq!(file.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // A full disk or a crash: what is there stays.
        let text = fs::read_to_string(file.path()).unwrap();
        let (half, _) = text.split_at(20);
        fs::write(file.path().with_extension("new"), half).unwrap();
        fs::set_permissions(file.path().with_extension("new"), Permissions::from_mode(0o600)).unwrap();
        assert_eq!(ids(&file).len(), 2);
        let (cut, _) = text.split_at(text.len() - 3);
        fs::write(file.path(), cut).unwrap();
        let refused = file.read().err().unwrap().to_string();
        assert!(refused.contains("line 2 is not a root key"), "{refused}");
        let (_, secret) = cut.rsplit_once(':').unwrap();
        assert!(!refused.contains(secret), "{refused}");
    }

    /// Kubernetes puts files there as links; what it puts there is read, and
    /// never replaced by something that it does not know.
    #[test]
    fn a_link_is_followed_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = given(&folder);
        let link = RootKeyFile::Given(folder.path().join("link"));
        symlink(file.path(), link.path()).unwrap();
        assert_eq!(ids(&link), ids(&file));
        let refused = link.write(&link.read().unwrap()).err().unwrap();
        assert!(matches!(refused, RootKeyFileError::ReadOnly { .. }), "{refused}");
        let own = RootKeyFile::Own(link.path().into());
        assert!(own.read().is_err());
    }

    #[test]
    fn no_key_is_made_where_one_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let missing = RootKeyFile::Given(folder.path().join("nothing"));
        let refused = missing.read_or_make(false, &random()).err().unwrap();
        assert!(refused.to_string().contains("root-key new"), "{refused}");
        assert!(!missing.path().exists());
        let own = RootKeyFile::Own(folder.path().join("root.key"));
        assert!(matches!(own.read_or_make(true, &random()), Err(RootKeyFileError::Lost { .. })));
        assert_eq!(own.read_or_make(false, &random()).unwrap().len(), 1);
        let refused = RootKeyFile::make_new(own.path(), &random()).err().unwrap();
        assert!(matches!(refused, RootKeyFileError::Exists { .. }), "{refused}");
    }
}
