//! Why root keys cannot be used or changed.

use crate::root_key::{
    InvalidRootKeyId, MAX_ROOT_KEYS, RootKeyFileError, RootKeyId, SealBroken, UnknownRootKey,
};
use crate::store::StoreError;

use super::Usage;

/// The root keys cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] RootKeyFileError),
    /// The database is another issuer's, or a line is missing.
    #[error(
        "the database is under root key {found}, and {file} has {}; give the file that belongs to this database, \
         or the database that belongs to this file",
        list(had)
    )]
    OtherDatabase {
        /// The current root key of the database.
        found: RootKeyId,
        /// The file.
        file: String,
        /// What it has.
        had: Vec<RootKeyId>,
    },
    /// What was named is not the ID of a root key.
    #[error("{found:?} {reason}")]
    Id {
        /// What was named.
        found: String,
        /// What is wrong with it.
        reason: InvalidRootKeyId,
    },
    /// This node has no such key.
    #[error(transparent)]
    Unknown(#[from] UnknownRootKey),
    /// Another one would be missed here.
    #[error("root key {0} is needed, and this node does not have it; copy the file from another node first")]
    Missing(RootKeyId),
    /// A signing key could not go on.
    #[error("signing key {kid}: {reason}")]
    SigningKey {
        /// Which.
        kid: String,
        /// Why it cannot be opened here.
        reason: SealBroken,
    },
    /// There are [`MAX_ROOT_KEYS`].
    #[error(
        "there are {MAX_ROOT_KEYS} root keys, the most that there may be; remove one first: root-key list"
    )]
    TooMany,
    /// Everything new is under it.
    #[error("root key {0} is current; use another one first: root-key use ID")]
    Current(RootKeyId),
    /// Something would be lost with it.
    #[error("root key {id} is still needed: {usage}{}", usage.way_out(*id))]
    Needed {
        /// Which.
        id: RootKeyId,
        /// For what.
        usage: Usage,
    },
    /// Somebody else changed which one is current.
    #[error("another node changed the root key at the same time; look again: root-key list")]
    Busy,
    /// No key can be made, or the server ends.
    #[error("the server is ending")]
    Ending,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) fn list(ids: &[RootKeyId]) -> String {
    ids.iter().map(RootKeyId::to_string).collect::<Vec<_>>().join(", ")
}
