//! Why something cannot be read or written.

use std::time::Duration;

use sqlx::migrate::MigrateError;

/// The database does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It was written by a newer version of this program.
    #[error(
        "the database has the schema {found}, this program knows {known} and older; run the program that \
         wrote it, or a newer one"
    )]
    NewerSchema {
        /// The schema's version in the database.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// It has gone to another database, where things have happened since.
    #[error(
        "this SQLite database was moved to PostgreSQL, and what was disabled, taken back or used there since \
         would be good again: give that database with --database. To go back to SQLite, make a backup of that \
         one (backup create) and restore it (backup restore)"
    )]
    Moved,
    /// It cannot be closed: somebody else reads it.
    #[error("the database is open in another program too; end that one first")]
    OpenElsewhere,
    /// It only repeats what another one says, and may be behind.
    #[error("the database is a standby; give the primary")]
    Standby,
    /// It does not answer.
    #[error("the database does not answer within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    /// It could not be reached at the start.
    #[error("database: {address} cannot be used: {}{}", bare(reason), tried(*tried_s))]
    Unreachable {
        /// Where it should be, without a password.
        address: String,
        /// Why not.
        reason: Box<StoreError>,
        /// For how long it was tried, in seconds.
        tried_s: u64,
    },
    /// A value in it is not one that this program has written.
    #[error("the database has a {what} that cannot be read: {reason}")]
    Corrupt {
        /// What it is.
        what: &'static str,
        /// Why it cannot be read.
        reason: String,
    },
    /// The database or the way to it failed.
    #[error("the database failed: {}", describe(.0))]
    Database(#[from] sqlx::Error),
    /// The way to it is lost.
    #[error("the database {address} cannot be reached: {reason}")]
    Away {
        /// Where it should be, without a password.
        address: String,
        /// Why not.
        reason: String,
    },
    /// A migration failed.
    #[error("the database's schema cannot be brought up to date: {}", describe_migration(.0))]
    Migration(#[from] MigrateError),
}

/// Without what it was that failed, for whoever says so already.
pub(super) fn bare(error: &StoreError) -> String {
    if let StoreError::Database(error) = error { describe(error) } else { error.to_string() }
}

/// What a database said, and not where in its source.
pub(super) fn describe(error: &sqlx::Error) -> String {
    if let sqlx::Error::Io(error) = error {
        return error.to_string();
    }
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().into())
}

fn describe_migration(error: &MigrateError) -> String {
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        describe(error)
    } else {
        error.to_string()
    }
}

fn tried(tried_s: u64) -> String {
    if tried_s == 0 { String::new() } else { format!("; tried for {tried_s} s") }
}

/// An error that may be the database's own.
pub(super) trait MayBeStoreError: From<StoreError> {
    /// The same, with another word for that.
    #[must_use]
    fn map_store_error(self, say: impl FnOnce(StoreError) -> StoreError) -> Self;
}

impl MayBeStoreError for StoreError {
    fn map_store_error(self, say: impl FnOnce(StoreError) -> StoreError) -> Self {
        say(self)
    }
}

/// Errors whose variant `Store` is the database's own.
macro_rules! may_be_store_error {
    ($($error:ident),*) => {
        $(impl MayBeStoreError for $error {
            fn map_store_error(self, say: impl FnOnce(StoreError) -> StoreError) -> Self {
                match self {
                    Self::Store(error) => Self::Store(say(error)),
                    other => other,
                }
            }
        })*
    };
}

may_be_store_error!(
    DeviceNotWritten,
    BrokerNotAdded,
    BrokerNotUpdated,
    SettingsNotChanged,
    SigningKeysNotChanged,
    NotImported
);

/// Errors whose variant `NotWritten` may be.
macro_rules! may_be_not_written {
    ($($error:ident),*) => {
        $(impl MayBeStoreError for $error {
            fn map_store_error(self, say: impl FnOnce(StoreError) -> StoreError) -> Self {
                match self {
                    Self::NotWritten(error) => Self::NotWritten(error.map_store_error(say)),
                    other => other,
                }
            }
        })*
    };
}

may_be_not_written!(DeviceNotUpdated, DeviceNotEnrolled);

/// A name cannot be had: it is, or was, another client's, or differs from
/// such a one only by case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", explain(self))]
pub struct NameTaken {
    /// The name.
    pub name: String,
    /// What is in its way: the same name, or its twin by case.
    pub taken: String,
    /// Whose it is.
    pub client: String,
    /// Whether that client has been removed.
    pub removed: bool,
}

fn explain(NameTaken { name, taken, client, removed }: &NameTaken) -> String {
    const FOR_EVER: &str = "a name is never used again, as old tokens and topics could mean it";
    let twin = if name == taken {
        String::new()
    } else {
        format!("{name} differs from {taken} by case alone; people would take one for the other: ")
    };
    match (taken == client, removed) {
        (true, false) => format!("{twin}there is a device or broker {taken} already"),
        (false, false) => {
            format!("{twin}{taken} belongs to {client}; client IDs and names are one namespace")
        }
        (true, true) => format!("{twin}there was a device or broker {taken}; {FOR_EVER}"),
        (false, true) => format!("{twin}{taken} belonged to {client}, which was removed; {FOR_EVER}"),
    }
}

/// What a device cannot be written with, be it new or not. Nothing was
/// written.
#[derive(Debug, thiserror::Error)]
pub enum DeviceNotWritten {
    /// One of its names.
    #[error(transparent)]
    NameTaken(#[from] NameTaken),
    /// One of its public keys is another device's.
    #[error("the key {thumbprint} belongs to device {device}")]
    KeyTaken {
        /// Its thumbprint.
        thumbprint: String,
        /// Whose it is.
        device: String,
    },
    /// There is no such group.
    #[error("there is no group {group}")]
    NoSuchGroup {
        /// Its name.
        group: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A device cannot be replaced. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum DeviceNotUpdated {
    /// There is no such device any more.
    #[error("it is gone")]
    Gone,
    /// Somebody else changed it meanwhile.
    #[error("it was changed meanwhile")]
    Conflict,
    /// It cannot be written, as no device could.
    #[error(transparent)]
    NotWritten(#[from] DeviceNotWritten),
}

/// A device cannot come in by an enrolment. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum DeviceNotEnrolled {
    /// The enrolment has no use left, or is gone.
    #[error("the enrolment has no use left")]
    UsedUp,
    /// The device cannot be written, as no device could.
    #[error(transparent)]
    NotWritten(#[from] DeviceNotWritten),
}

/// A broker cannot be added. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BrokerNotAdded {
    /// Its name.
    #[error(transparent)]
    NameTaken(#[from] NameTaken),
    /// Its resource URI is another broker's.
    #[error("the resource {resource} belongs to another broker")]
    ResourceTaken {
        /// The URI.
        resource: String,
    },
    /// Groups or brokers were changed since it was checked.
    #[error("groups or brokers were changed meanwhile")]
    Conflict,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Groups or brokers cannot be changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum SettingsNotChanged {
    /// Somebody else changed one of them meanwhile.
    #[error("groups or brokers were changed meanwhile")]
    Conflict,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A broker cannot be replaced. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BrokerNotUpdated {
    /// There is no such broker any more.
    #[error("it is gone")]
    Gone,
    /// Somebody else changed it meanwhile.
    #[error("it was changed meanwhile")]
    Conflict,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The signing keys cannot be changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeysNotChanged {
    /// Somebody else changed them meanwhile.
    #[error("the signing keys were changed meanwhile")]
    Conflict,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<StoreError> for DeviceNotUpdated {
    fn from(error: StoreError) -> Self {
        Self::NotWritten(error.into())
    }
}

impl From<StoreError> for DeviceNotEnrolled {
    fn from(error: StoreError) -> Self {
        Self::NotWritten(error.into())
    }
}

/// Failures of the database itself reach every error by way of [`StoreError`].
macro_rules! from_database {
    ($($error:ty),*) => {
        $(impl From<sqlx::Error> for $error {
            fn from(error: sqlx::Error) -> Self {
                StoreError::from(error).into()
            }
        })*
    };
}

from_database!(
    DeviceNotWritten,
    DeviceNotUpdated,
    DeviceNotEnrolled,
    BrokerNotAdded,
    BrokerNotUpdated,
    SettingsNotChanged,
    SigningKeysNotChanged
);

/// That of a refused settings revision, for whoever adds a broker.
impl From<SettingsNotChanged> for BrokerNotAdded {
    fn from(error: SettingsNotChanged) -> Self {
        match error {
            SettingsNotChanged::Conflict => Self::Conflict,
            SettingsNotChanged::Store(error) => Self::Store(error),
        }
    }
}

/// The rows of another store cannot be taken over. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum NotImported {
    /// There is something already.
    #[error("the database is not empty; give a new one")]
    NotEmpty,
    /// They ended before the end.
    #[error("it is not whole: it ends before its end")]
    Incomplete,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for NotImported {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
