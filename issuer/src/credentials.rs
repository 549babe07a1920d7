//! What a client proves itself with, as it is kept: secrets, public keys, the
//! subject of a certificate, a static password.
//!
//! A device proves itself with any credential that it has; one that it does
//! not have opens nothing. How each is checked is in `client_auth`, one file
//! each.

use std::fmt;

use aws_lc_rs::rand::SecureRandom;
use fleetbadge_validator::jwk::Jwk;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use smol_str::{SmolStr, format_smolstr};

use crate::random::{NoRandomness, random_bytes};
use crate::root_key::RootKeyId;
use crate::secret::{ImportedSecretHash, SecretHash};

/// The most secrets that a client may have at a time.
pub const MAX_SECRETS: usize = 8;
/// The most secrets of these that people chose: the one, and the one that
/// replaces it. Each costs a slow hash per guess.
pub const MAX_IMPORTED_SECRETS: usize = 2;
/// The most public keys that a device may have at a time.
pub const MAX_KEYS: usize = 8;

/// The secrets of a client.
pub type SecretRecords = SmallVec<[SecretRecord; 1]>;

/// What a device proves itself with. Most have one secret, which is in place;
/// what few have is elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// For `client_secret_basic` and `client_secret_post`.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub secrets: SecretRecords,
    /// For `private_key_jwt`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyRecord>,
    /// For `tls_client_auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Box<CertificateRecord>>,
    /// For clients that cannot do OAuth. Never good for `client_credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Box<PasswordRecord>>,
}

impl Credentials {
    /// Whether there is nothing at all to prove itself with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { secrets, keys, certificate, password } = self;
        secrets.is_empty() && keys.is_empty() && certificate.is_none() && password.is_none()
    }

    /// What operators name each of them by.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let Self { secrets, keys, certificate, password } = self;
        let secrets = secrets.iter().map(|secret| secret.id.as_str());
        let keys = keys.iter().map(|key| key.id.as_str());
        let certificate = certificate.iter().map(|_| CertificateRecord::ID);
        secrets.chain(keys).chain(certificate).chain(password.iter().map(|password| password.id.as_str()))
    }
}

/// What operators name a credential by: 8 hexadecimal digits, or the
/// thumbprint of a key. Says nothing of what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CredentialId(SmolStr);

impl CredentialId {
    /// A new one.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, NoRandomness> {
        let bits = u32::from_ne_bytes(random_bytes(random)?);
        Ok(Self(format_smolstr!("{bits:08x}")))
    }

    /// The one that was kept or named.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// How it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A secret as it is kept. A client may have several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRecord {
    /// What operators name it by.
    pub id: CredentialId,
    /// What a presented secret is compared with.
    pub verifier: SecretVerifier,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// From when on it is no longer good, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixSeconds>,
}

impl SecretRecord {
    /// Whether it is still good at `now`, if it is the right one.
    #[must_use]
    pub fn is_in_time(&self, now: UnixSeconds) -> bool {
        not_ended(self.expires_at, now)
    }
}

/// What a presented secret is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretVerifier {
    /// Of a secret that Fleetbadge made.
    Made(SecretHash),
    /// Of a secret that somebody chose.
    Imported(ImportedSecretHash),
}

impl SecretVerifier {
    /// Under which root key it is.
    #[must_use]
    pub const fn root_key(&self) -> RootKeyId {
        match self {
            Self::Made(hash) => hash.root_key(),
            Self::Imported(hash) => hash.root_key(),
        }
    }

    /// Where the secret comes from.
    pub(crate) const fn kind(&self) -> SecretKind {
        match self {
            Self::Made(_) => SecretKind::Made,
            Self::Imported(_) => SecretKind::Imported,
        }
    }
}

/// Where a secret comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretKind {
    /// Made here.
    Made,
    /// Chosen by somebody.
    Imported,
}

/// A public key of a device as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Its thumbprint (RFC 7638).
    pub id: CredentialId,
    /// The key. Its `kid` is the one that the device uses.
    pub jwk: Jwk,
    /// When it was added.
    pub created_at: UnixSeconds,
}

/// The certificate by which TLS knows a device (RFC 8705 §2.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRecord {
    /// Whose certificate it has to be.
    pub subject: CertificateSubject,
    /// Whether tokens are bound to the certificate
    /// (`tls_client_certificate_bound_access_tokens`, RFC 8705 §3.4).
    #[serde(default)]
    pub bound_access_tokens: bool,
    /// When it was set.
    pub created_at: UnixSeconds,
}

impl CertificateRecord {
    /// What its uses are counted under: a device has at most one.
    pub(crate) const ID: &'static str = "certificate";
}

/// The one name that a certificate must have, by the names of RFC 8705
/// §2.1.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the members of RFC 8705, by their names")]
pub enum CertificateSubject {
    #[serde(rename = "tls_client_auth_subject_dn")]
    SubjectDn(String),
    #[serde(rename = "tls_client_auth_san_dns")]
    SanDns(String),
    #[serde(rename = "tls_client_auth_san_uri")]
    SanUri(String),
    #[serde(rename = "tls_client_auth_san_ip")]
    SanIp(std::net::IpAddr),
    #[serde(rename = "tls_client_auth_san_email")]
    SanEmail(String),
}

/// A static password as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordRecord {
    /// What operators name it by.
    pub id: CredentialId,
    /// What a presented password is compared with.
    pub hash: SecretHash,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// From when on it is no longer good, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixSeconds>,
}

impl PasswordRecord {
    /// Whether it is still good at `now`, if it is the right one.
    #[must_use]
    pub fn is_in_time(&self, now: UnixSeconds) -> bool {
        not_ended(self.expires_at, now)
    }
}

fn not_ended(expires_at: Option<UnixSeconds>, now: UnixSeconds) -> bool {
    expires_at.is_none_or(|end| now < end)
}
