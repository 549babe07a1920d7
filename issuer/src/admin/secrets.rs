//! The secrets of devices and brokers, as the API shows and takes them.

use std::collections::HashMap;

use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::credentials::{CredentialId, SecretKind, SecretRecord};

/// A secret, as the API shows it. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretDocument {
    /// What it is named by.
    pub(crate) id: CredentialId,
    /// Whether somebody chose it.
    pub(crate) imported: bool,
    /// When it was made.
    pub(crate) created_at: UnixSeconds,
    /// When it ends, if it does.
    pub(crate) expires_at: Option<UnixSeconds>,
    /// When it was last good for something; absent if never, and in lists of
    /// devices and brokers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_at: Option<UnixSeconds>,
}

/// How to rotate.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateSecret {
    /// For how long the secrets that are there stay good, in seconds.
    pub(crate) overlap_s: u64,
}

/// What is told of a secret that was added, beside itself. Times are seconds
/// since 1970.
#[derive(Serialize, Deserialize)]
pub(crate) struct AddedSecretTerms {
    pub(crate) secret_id: CredentialId,
    /// When it ends, if it does.
    pub(crate) expires_at: Option<UnixSeconds>,
    /// From when on the others are no longer good, after a rotation; absent if
    /// there were no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) others_end_at: Option<UnixSeconds>,
}

/// A secret that was removed.
#[derive(Serialize, Deserialize)]
pub(crate) struct RemovedSecretDocument {
    pub(crate) client_id: String,
    pub(crate) secret_id: CredentialId,
    pub(crate) removed: bool,
    /// Whether the client has anything left to prove itself with.
    pub(crate) has_credentials: bool,
}

impl AddedSecretTerms {
    pub(super) fn new(record: SecretRecord, others_end_at: Option<UnixSeconds>) -> Self {
        Self { secret_id: record.id, expires_at: record.expires_at, others_end_at }
    }
}

impl RemovedSecretDocument {
    pub(super) fn new(client: String, id: &str, has_credentials: bool) -> Self {
        Self { client_id: client, secret_id: CredentialId::from_text(id), removed: true, has_credentials }
    }
}

impl From<SecretRecord> for SecretDocument {
    fn from(secret: SecretRecord) -> Self {
        let SecretRecord { id, verifier, created_at, expires_at } = secret;
        let imported = verifier.kind() == SecretKind::Imported;
        Self { id, imported, created_at, expires_at, last_used_at: None }
    }
}

/// Says when each secret was last used.
pub(super) fn set_last_used(secrets: &mut [SecretDocument], uses: &HashMap<CredentialId, UnixSeconds>) {
    for secret in secrets {
        secret.last_used_at = uses.get(&secret.id).copied();
    }
}
