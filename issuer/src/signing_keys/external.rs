//! The seam for signing keys whose private half never comes into this process.
//!
//! What such a signer keeps is named by an [`ExternalKey`], which the database
//! holds sealed under the root key like a private key: whoever writes rows can
//! neither make a key nor give one another public half. Signing is a call that
//! may take its time; it is made where it stops no other request.

use std::fmt;
use std::sync::Arc;

use fleetbadge_validator::jwk::{Algorithm, Jwk};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::key::signature_length;

/// Keeps private keys and signs with them. Every call may block; none is made
/// on a thread that answers requests.
pub trait ExternalSigner: Send + Sync {
    /// Makes a key pair.
    ///
    /// # Errors
    /// [`SignerFailed`].
    fn make(&self, algorithm: Algorithm) -> Result<ExternalKey, SignerFailed>;

    /// Signs as RFC 7518 §3.1 says: for ES256 the two numbers one after the
    /// other, for RS256 PKCS #1.
    ///
    /// # Errors
    /// [`SignerFailed`].
    fn sign(&self, key: &ExternalKey, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, SignerFailed>;

    /// Destroys a key pair. One that there is not is destroyed.
    ///
    /// # Errors
    /// [`SignerFailed`].
    fn destroy(&self, key: &ExternalKey) -> Result<(), SignerFailed>;

    /// Sees whether it is there, and does what it can for it to be: called
    /// every second, never twice at a time.
    fn look_after(&self);

    /// Whether it was there when it was last looked for. Never blocks.
    fn is_there(&self) -> bool;
}

/// What a key of an external signer is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalKey {
    /// In which token (PKCS #11) it is, by its label.
    pub token: String,
    /// Its `CKA_ID`, in hexadecimal digits.
    pub id: String,
    /// Its public half.
    pub public: Jwk,
}

/// An external signer has not done what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerFailed {
    /// It does not answer, or not in time.
    #[error("the external signer does not answer: {0}")]
    Gone(String),
    /// It has more to do than it can.
    #[error("the external signer is busy")]
    Busy,
    /// It does not have this key.
    #[error("the external signer has no key with the ID {id}")]
    NoSuchKey {
        /// Its ID.
        id: String,
    },
    /// It makes no such keys.
    #[error("the external signer makes no {} keys", .0.as_str())]
    Algorithm(Algorithm),
    /// It says something that it must not.
    #[error("the external signer gave {0}")]
    Unexpected(&'static str),
}

/// A private key that an external signer keeps.
pub(super) struct ExternalPrivateKey {
    signer: Arc<dyn ExternalSigner>,
    key: ExternalKey,
    algorithm: Algorithm,
}

impl ExternalPrivateKey {
    pub(super) fn new(signer: Arc<dyn ExternalSigner>, key: ExternalKey, algorithm: Algorithm) -> Self {
        Self { signer, key, algorithm }
    }

    pub(super) const fn public(&self) -> &Jwk {
        &self.key.public
    }

    /// Signs; the other requests of this thread go on elsewhere meanwhile.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerFailed> {
        if !self.signer.is_there() {
            return Err(SignerFailed::Gone("it was not there a moment ago".into()));
        }
        let sign = || self.signer.sign(&self.key, self.algorithm, message);
        let is_server =
            Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
        let signature = if is_server { tokio::task::block_in_place(sign) } else { sign() }?;
        // The length of a token is relied on.
        if (signature.len() * 4).div_ceil(3) == signature_length(self.algorithm) {
            Ok(signature)
        } else {
            Err(SignerFailed::Unexpected("a signature of the wrong length"))
        }
    }
}

impl fmt::Debug for ExternalPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExternalPrivateKey(…)")
    }
}
