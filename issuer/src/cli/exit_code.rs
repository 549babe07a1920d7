//! Which failures last: the same command with the same configuration will never
//! work, so whoever starts it again and again can as well stop.

use std::io;

use super::client::Failure;
use crate::OpenError;
use crate::backup::{NotRestored, SealedFileError};
use crate::data_dir::{DataDirError, DatabaseFileError};
use crate::migrate_store::MigrateFailed;
use crate::node::FollowError;
use crate::private_file::PrivateFileError;
use crate::restore::RestoreFailed;
use crate::root_key::RootKeyFileError;
use crate::root_keys::RootKeyError;
use crate::serve::ServeError;
use crate::storage::StorageError;
use crate::store::{NotImported, StoreError};
use crate::terms::{NotChanged, TermsError};

/// PostgreSQL's codes for a wrong user or password, and for a database that is
/// not there.
const LASTING_CODES: [&str; 2] = ["28", "3D"];

impl Failure {
    /// See [`crate::cli`].
    pub(super) fn exit_code(&self) -> u8 {
        let is_lasting = match self {
            Self::Refused(problem) if problem.status >= 500 => false,
            Self::Refused(_) | Self::Denied => return 1,
            Self::NotRunning { .. } => return 3,
            Self::Usage(_) | Self::Config(_) => true,
            // What is in it is wrong, as a rule.
            Self::Input { error, .. } => !matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            ),
            Self::NotRestored { reason, .. } => is_restore_lasting(reason),
            Self::RootKey(error) => is_root_key_lasting(error),
            Self::NotMigrated(error) => is_migration_lasting(error),
            Self::Terms(error) => match error {
                NotChanged::NothingSaid | NotChanged::NoDatabase => true,
                NotChanged::DatabaseFile(error) => is_database_file_lasting(error),
                NotChanged::Storage(error) => is_storage_lasting(error),
                NotChanged::Store(error) => is_store_lasting(error),
            },
            Self::Open(error) => is_open_lasting(error),
            Self::Serve(error) => match error {
                ServeError::Bind { .. } | ServeError::Failed(_) => false,
                ServeError::DataDir(error) => is_data_dir_lasting(error),
                ServeError::Tls(_) => true,
            },
            Self::Http(_) | Self::Io(_) | Self::Json(_) | Self::Toml(_) => false,
        };
        if is_lasting { 2 } else { 4 }
    }
}

/// Whether somebody must do something to a file: a full disk, for instance, may
/// pass.
fn is_io_lasting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ReadOnlyFilesystem
    )
}

fn is_file_lasting(error: &PrivateFileError) -> bool {
    match error {
        PrivateFileError::Io { source, .. } => is_io_lasting(source),
        PrivateFileError::TooOpen { .. } | PrivateFileError::OtherOwner { .. } => true,
    }
}

fn is_root_key_lasting(error: &RootKeyFileError) -> bool {
    match error {
        RootKeyFileError::File(error) => is_file_lasting(error),
        RootKeyFileError::Content { .. }
        | RootKeyFileError::Lost { .. }
        | RootKeyFileError::Missing { .. }
        | RootKeyFileError::Exists { .. }
        | RootKeyFileError::ReadOnly { .. } => true,
        RootKeyFileError::NoRandomness(_) => false,
    }
}

fn is_data_dir_lasting(error: &DataDirError) -> bool {
    match error {
        DataDirError::File(error) => is_file_lasting(error),
        DataDirError::NoFolder { source, .. } => is_io_lasting(source),
        DataDirError::InUse { .. } => false,
        DataDirError::NotASocket { .. } | DataDirError::PathTooLong { .. } => true,
    }
}

fn is_database_file_lasting(error: &DatabaseFileError) -> bool {
    match error {
        DatabaseFileError::DataDir(error) => is_data_dir_lasting(error),
        DatabaseFileError::Io { source, .. } => is_io_lasting(source),
        DatabaseFileError::NoDataDir { .. }
        | DatabaseFileError::Exists { .. }
        | DatabaseFileError::InTheWay { .. }
        | DatabaseFileError::Unfinished { .. }
        | DatabaseFileError::Migrating { .. }
        | DatabaseFileError::Migrated { .. } => true,
    }
}

fn is_store_lasting(error: &StoreError) -> bool {
    match error {
        StoreError::Unreachable { reason, .. } => is_store_lasting(reason),
        StoreError::Database(sqlx::Error::Tls(_) | sqlx::Error::Configuration(_)) => true,
        StoreError::Database(error) => error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .is_some_and(|code| LASTING_CODES.iter().any(|prefix| code.starts_with(prefix))),
        StoreError::NewerSchema { .. } | StoreError::Moved => true,
        StoreError::OpenElsewhere
        | StoreError::Standby
        | StoreError::TooSlow(_)
        | StoreError::Corrupt { .. }
        | StoreError::Away { .. }
        | StoreError::Migration(_) => false,
    }
}

fn is_storage_lasting(error: &StorageError) -> bool {
    match error {
        StorageError::DataDir(error) => is_data_dir_lasting(error),
        StorageError::DatabaseFile(error) => is_database_file_lasting(error),
        StorageError::RootKeyFile(error) => is_root_key_lasting(error),
        StorageError::Store(error) => is_store_lasting(error),
    }
}

fn is_terms_lasting(error: &TermsError) -> bool {
    match error {
        TermsError::OtherIssuer { .. } | TermsError::OtherBound { .. } | TermsError::Config(_) => true,
        TermsError::Store(error) => is_store_lasting(error),
    }
}

fn is_open_lasting(error: &OpenError) -> bool {
    match error {
        OpenError::DataDir(error) => is_data_dir_lasting(error),
        OpenError::Storage(error) => is_storage_lasting(error),
        OpenError::Store(error) => is_store_lasting(error),
        OpenError::RootKeys(RootKeyError::File(error)) => is_root_key_lasting(error),
        OpenError::RootKeys(RootKeyError::Store(error)) => is_store_lasting(error),
        OpenError::RootKeys(RootKeyError::OtherDatabase { .. }) => true,
        OpenError::Terms(error) | OpenError::Follow(FollowError::Terms(error)) => is_terms_lasting(error),
        OpenError::Pin(error) => is_file_lasting(error),
        OpenError::RootKeys(_)
        | OpenError::Groups(_)
        | OpenError::Keys(_)
        | OpenError::Metrics(_)
        | OpenError::Follow(_)
        | OpenError::Metadata(_) => false,
    }
}

fn is_sealed_file_lasting(error: &SealedFileError) -> bool {
    match error {
        SealedFileError::Io(error) => is_io_lasting(error),
        SealedFileError::NotSealed
        | SealedFileError::RootKey(_)
        | SealedFileError::Broken
        | SealedFileError::TooLong => true,
        SealedFileError::Cryptography => false,
    }
}

fn is_restore_lasting(error: &RestoreFailed) -> bool {
    match error {
        RestoreFailed::DataDir(error) => is_data_dir_lasting(error),
        RestoreFailed::DatabaseFile(error) => is_database_file_lasting(error),
        RestoreFailed::Storage(error) => is_storage_lasting(error),
        RestoreFailed::RootKey(error) => is_root_key_lasting(error),
        RestoreFailed::NoRootKey | RestoreFailed::UnknownRootKey(_) => true,
        RestoreFailed::NotRestored(error) => match error {
            NotRestored::Sealed(error) => is_sealed_file_lasting(error),
            NotRestored::Unreadable(_) | NotRestored::OtherIssuer { .. } => true,
            NotRestored::NotImported(NotImported::NotEmpty | NotImported::Incomplete) => true,
            NotRestored::NotImported(NotImported::Store(error)) => is_store_lasting(error),
        },
    }
}

fn is_migration_lasting(error: &MigrateFailed) -> bool {
    match error {
        MigrateFailed::DatabaseFile(error) => is_database_file_lasting(error),
        MigrateFailed::Store(error) => is_store_lasting(error),
        MigrateFailed::NoDatabase { .. }
        | MigrateFailed::NotEmpty { .. }
        | MigrateFailed::MigratedElsewhere { .. } => true,
        MigrateFailed::Unknown { .. } | MigrateFailed::CopyDiffers { .. } => false,
    }
}
