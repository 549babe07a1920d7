//! The SQLite file of a data directory, under the names that say what it is:
//! the issuer's own, one that a restore fills, or one that goes or has gone to
//! another database.
//!
//! Only a file that is whole has the name that a server looks for; and where
//! one was, or was to be, no server begins anew by accident.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{DATABASE, DataDir, DataDirError};
use crate::private_file;

/// A restore fills it.
const FILLING: &str = "issuer.sqlite3.unfinished";
/// It is in the other database, or will be in a moment.
const MIGRATING: &str = "issuer.sqlite3.migrating";
/// It is in the other database.
const MIGRATED: &str = "issuer.sqlite3.migrated";

/// What there is of an SQLite database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseFile {
    /// Nothing.
    Absent,
    /// The issuer's.
    Present(PathBuf),
    /// What a restore left that was interrupted.
    Unfinished(PathBuf),
    /// What is perhaps in another database already.
    Migrating(PathBuf),
    /// What is in another database.
    Migrated(PathBuf),
}

/// The SQLite file cannot be used for this.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseFileError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no such folder.
    #[error(
        "{}: there is no such folder; give the data directory of the issuer, or make it (mkdir -m 700) and put \
         root.key into it, from where it was saved or from another node",
        path.display()
    )]
    NoDataDir {
        /// Where it should be.
        path: PathBuf,
    },
    /// There is a database already.
    #[error("{}: is there already, and what is restored needs an empty place; give another --data-dir", path.display())]
    Exists {
        /// The database.
        path: PathBuf,
    },
    /// It would be overwritten.
    #[error("{}: is there already; move it away", path.display())]
    InTheWay {
        /// What.
        path: PathBuf,
    },
    /// A restore was interrupted.
    #[error("{}: a restore was interrupted; run it again, or remove this file", path.display())]
    Unfinished {
        /// What it left.
        path: PathBuf,
    },
    /// A move to another database was interrupted.
    #[error(
        "{}: a move to PostgreSQL was interrupted; run migrate-store again with the same database. To stay with \
         SQLite instead, empty that database and rename this file to {DATABASE}",
        path.display()
    )]
    Migrating {
        /// What it left.
        path: PathBuf,
    },
    /// It is in another database.
    #[error(
        "{}: this issuer was moved to PostgreSQL; give its database with --database. To go back to SQLite, make \
         a backup of that one (backup create) and restore it here (backup restore)",
        path.display()
    )]
    Migrated {
        /// What was left behind.
        path: PathBuf,
    },
}

impl DataDir {
    /// Opens a directory that must be there, and locks it.
    ///
    /// # Errors
    /// [`DatabaseFileError::NoDataDir`], [`DatabaseFileError::DataDir`].
    pub fn open_existing(path: &Path) -> Result<Self, DatabaseFileError> {
        if !path.is_dir() {
            return Err(DatabaseFileError::NoDataDir { path: path.into() });
        }
        Ok(Self::open(path)?)
    }

    /// What there is of an SQLite database.
    #[must_use]
    pub fn database_file(&self) -> DatabaseFile {
        let there = |name: &str| {
            let path = self.path.join(name);
            path.symlink_metadata().is_ok().then_some(path)
        };
        // What was interrupted first: nothing may hide it.
        let migrating = there(MIGRATING).map(DatabaseFile::Migrating);
        let present = || there(DATABASE).map(DatabaseFile::Present);
        let unfinished = || there(FILLING).map(DatabaseFile::Unfinished);
        let migrated = || there(MIGRATED).map(DatabaseFile::Migrated);
        migrating.or_else(present).or_else(unfinished).or_else(migrated).unwrap_or(DatabaseFile::Absent)
    }

    /// Whether a server may start that has its database elsewhere.
    ///
    /// # Errors
    /// [`DatabaseFileError::Migrating`].
    pub fn check_for_other_database(&self) -> Result<(), DatabaseFileError> {
        match self.database_file() {
            DatabaseFile::Migrating(path) => Err(DatabaseFileError::Migrating { path }),
            DatabaseFile::Absent
            | DatabaseFile::Present(_)
            | DatabaseFile::Unfinished(_)
            | DatabaseFile::Migrated(_) => Ok(()),
        }
    }

    /// Whether a server may start that has its database here.
    ///
    /// # Errors
    /// [`DatabaseFileError`] says what was here.
    pub fn check_for_own_database(&self) -> Result<(), DatabaseFileError> {
        match self.database_file() {
            DatabaseFile::Absent | DatabaseFile::Present(_) => Ok(()),
            DatabaseFile::Unfinished(path) => Err(DatabaseFileError::Unfinished { path }),
            DatabaseFile::Migrating(path) => Err(DatabaseFileError::Migrating { path }),
            DatabaseFile::Migrated(path) => Err(DatabaseFileError::Migrated { path }),
        }
    }

    /// A new, empty file for a restore to fill, in place of what an interrupted
    /// one left.
    ///
    /// # Errors
    /// [`DatabaseFileError::Exists`] and the others.
    pub fn begin_filling(&self) -> Result<PathBuf, DatabaseFileError> {
        match self.database_file() {
            DatabaseFile::Absent | DatabaseFile::Unfinished(_) | DatabaseFile::Migrated(_) => {}
            DatabaseFile::Present(path) => return Err(DatabaseFileError::Exists { path }),
            DatabaseFile::Migrating(path) => return Err(DatabaseFileError::Migrating { path }),
        }
        self.discard_filling()?;
        let path = self.path.join(FILLING);
        private_file::open(&path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
            .map_err(DataDirError::from)?;
        Ok(path)
    }

    /// Makes what was filled, and closed, the issuer's database.
    ///
    /// # Errors
    /// [`DatabaseFileError::Io`].
    pub fn finish_filling(&self) -> Result<(), DatabaseFileError> {
        self.rename(FILLING, DATABASE).map(drop)
    }

    /// Removes what was filled.
    ///
    /// # Errors
    /// [`DatabaseFileError::Io`].
    pub fn discard_filling(&self) -> Result<(), DatabaseFileError> {
        let path = self.path.join(FILLING);
        for path in side_files(&path).into_iter().chain([path]) {
            remove_if_there(&path)?;
        }
        Ok(())
    }

    /// Says that the database, which must be closed, is about to be elsewhere;
    /// where it is now.
    ///
    /// # Errors
    /// [`DatabaseFileError::Io`].
    pub fn begin_migration(&self) -> Result<PathBuf, DatabaseFileError> {
        match self.database_file() {
            DatabaseFile::Migrating(path) => Ok(path),
            DatabaseFile::Absent
            | DatabaseFile::Present(_)
            | DatabaseFile::Unfinished(_)
            | DatabaseFile::Migrated(_) => self.rename(DATABASE, MIGRATING),
        }
    }

    /// Says that the database is elsewhere.
    ///
    /// # Errors
    /// [`DatabaseFileError::Io`].
    pub fn finish_migration(&self) -> Result<PathBuf, DatabaseFileError> {
        self.rename(MIGRATING, MIGRATED)
    }

    /// Says that the database has stayed here.
    ///
    /// # Errors
    /// [`DatabaseFileError::Io`].
    pub fn undo_migration(&self) -> Result<PathBuf, DatabaseFileError> {
        self.rename(MIGRATING, DATABASE)
    }

    /// That what an earlier move left behind is not overwritten.
    ///
    /// # Errors
    /// [`DatabaseFileError::InTheWay`].
    pub fn check_never_migrated(&self) -> Result<(), DatabaseFileError> {
        let path = self.path.join(MIGRATED);
        match path.symlink_metadata() {
            Ok(_) => Err(DatabaseFileError::InTheWay { path }),
            Err(_) => Ok(()),
        }
    }

    /// Renames a database that is closed: beside it there is nothing of worth.
    fn rename(&self, from: &str, to: &str) -> Result<PathBuf, DatabaseFileError> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        if to.symlink_metadata().is_ok() {
            return Err(DatabaseFileError::InTheWay { path: to });
        }
        std::fs::rename(&from, &to).map_err(at(&from))?;
        for path in side_files(&from) {
            remove_if_there(&path)?;
        }
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(at(&self.path))?;
        Ok(to)
    }
}

/// What SQLite keeps beside a database that is open.
fn side_files(path: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        name.into()
    })
}

fn remove_if_there(path: &Path) -> Result<(), DatabaseFileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DatabaseFileError {
    move |source| DatabaseFileError::Io { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn data_dir() -> (tempfile::TempDir, DataDir) {
        let parent = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&parent.path().join("data")).unwrap();
        (parent, data_dir)
    }

    #[test]
    fn what_is_being_filled_is_no_database_until_it_is_whole() {
        let (_parent, data_dir) = data_dir();
        data_dir.check_for_own_database().unwrap();
        for _ in 0..2 {
            // The second time as if the first had been interrupted.
            let path = data_dir.begin_filling().unwrap();
            for side in side_files(&path) {
                fs::write(side, "x").unwrap();
            }
            let refused = data_dir.check_for_own_database();
            assert!(matches!(refused, Err(DatabaseFileError::Unfinished { .. })), "{refused:?}");
            data_dir.check_for_other_database().unwrap();
        }
        data_dir.finish_filling().unwrap();
        assert!(matches!(data_dir.database_file(), DatabaseFile::Present(_)));
        data_dir.check_for_own_database().unwrap();
        assert!(matches!(data_dir.begin_filling(), Err(DatabaseFileError::Exists { .. })));
        let left = fs::read_dir(&data_dir.path).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, [DATABASE, "lock"]);
    }

    #[test]
    fn where_a_database_has_gone_no_other_begins() {
        let (_parent, data_dir) = data_dir();
        data_dir.database().unwrap();
        data_dir.begin_migration().unwrap();
        for refused in [data_dir.check_for_own_database(), data_dir.check_for_other_database()] {
            assert!(matches!(refused, Err(DatabaseFileError::Migrating { .. })), "{refused:?}");
        }
        assert!(matches!(data_dir.begin_filling(), Err(DatabaseFileError::Migrating { .. })));
        data_dir.undo_migration().unwrap();
        data_dir.check_for_own_database().unwrap();
        data_dir.begin_migration().unwrap();
        let moved = data_dir.finish_migration().unwrap();
        assert_eq!(data_dir.database_file(), DatabaseFile::Migrated(moved));
        let refused = data_dir.check_for_own_database().unwrap_err().to_string();
        assert!(refused.contains("give its database with --database"), "{refused}");
        data_dir.check_for_other_database().unwrap();
        // Somebody has gone back, and moves again: the first one is not lost.
        data_dir.database().unwrap();
        assert!(matches!(data_dir.check_never_migrated(), Err(DatabaseFileError::InTheWay { .. })));
        data_dir.begin_migration().unwrap();
        assert!(matches!(data_dir.finish_migration(), Err(DatabaseFileError::InTheWay { .. })));
    }
}
