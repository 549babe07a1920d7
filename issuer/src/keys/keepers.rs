//! Who keeps the private halves of signing keys, and makes new ones.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use fleetbadge_validator::jwk::Algorithm;

use crate::root_key::KeySealer;
use crate::signing_keys::{
    ExternalKey, ExternalSigner, PrivateHalf, SignerFailed, SigningKey, UnusableSigningKey,
};
use crate::store::SigningKeyRecord;

/// The database, which keeps them sealed, and perhaps an external signer.
pub(crate) struct Keepers {
    sealer: KeySealer,
    signer: Option<Arc<dyn ExternalSigner>>,
    makes_external: bool,
}

impl Keepers {
    /// The database alone.
    pub(crate) const fn local(sealer: KeySealer) -> Self {
        Self { sealer, signer: None, makes_external: false }
    }

    /// Also an external signer, which `makes` the new keys or still has old
    /// ones.
    pub(crate) fn with_signer(self, signer: Option<Arc<dyn ExternalSigner>>, makes: bool) -> Self {
        Self { signer, makes_external: makes, ..self }
    }

    /// The external signer, if there is one.
    pub(crate) const fn signer(&self) -> Option<&Arc<dyn ExternalSigner>> {
        self.signer.as_ref()
    }

    /// Makes a key. Takes its time.
    pub(crate) fn make(&self, algorithm: Algorithm) -> Result<(String, PrivateHalf), UnusableSigningKey> {
        if !self.makes_external {
            let (key, sealed) = SigningKey::generate(algorithm, &self.sealer)?;
            return Ok((key.kid().into(), PrivateHalf::Sealed(sealed)));
        }
        let signer = self.signer.as_ref().ok_or(UnusableSigningKey::NoSigner)?;
        let external = signer.make(algorithm).map_err(|error| failed(&error))?;
        let sealed = self.seal_external(signer, &external, algorithm);
        if sealed.is_err()
            && let Err(error) = signer.destroy(&external)
        {
            tracing::warn!(%error, "what is left of a key is still in its token");
        }
        sealed
    }

    fn seal_external(
        &self,
        signer: &Arc<dyn ExternalSigner>,
        external: &ExternalKey,
        algorithm: Algorithm,
    ) -> Result<(String, PrivateHalf), UnusableSigningKey> {
        let json = serde_json::to_vec(external).map_err(|_| UnusableSigningKey::Cryptography)?;
        let key = SigningKey::external(Arc::clone(signer), external.clone(), algorithm)?;
        let sealed = self.sealer.seal(key.kid(), &json);
        let sealed = sealed.map_err(|Unspecified| UnusableSigningKey::Cryptography)?;
        Ok((key.kid().into(), PrivateHalf::Pkcs11(sealed)))
    }

    /// Opens a key that was stored. Asks no external signer.
    pub(crate) fn open(&self, record: &SigningKeyRecord) -> Result<SigningKey, UnusableSigningKey> {
        let key = match &record.private {
            PrivateHalf::Sealed(sealed) => {
                return SigningKey::open(&record.kid, record.algorithm, sealed, &self.sealer);
            }
            PrivateHalf::Pkcs11(_) => {
                let signer = self.signer.as_ref().ok_or(UnusableSigningKey::NoSigner)?;
                let external = self.external(&record.kid, &record.private)?;
                SigningKey::external(Arc::clone(signer), external, record.algorithm)?
            }
        };
        if key.kid() == record.kid { Ok(key) } else { Err(UnusableSigningKey::OtherKid) }
    }

    /// Seals what is stored of a key again, unless it is under the current root
    /// key.
    pub(crate) fn seal_again(
        &self,
        record: &SigningKeyRecord,
    ) -> Result<Option<PrivateHalf>, UnusableSigningKey> {
        let sealed = record.private.sealed();
        if self.sealer.is_current(sealed) {
            return Ok(None);
        }
        let opened = self.sealer.open(&record.kid, sealed)?;
        let sealed = self.sealer.seal(&record.kid, &opened);
        let sealed = sealed.map_err(|Unspecified| UnusableSigningKey::Cryptography)?;
        Ok(Some(match record.private {
            PrivateHalf::Sealed(_) => PrivateHalf::Sealed(sealed),
            PrivateHalf::Pkcs11(_) => PrivateHalf::Pkcs11(sealed),
        }))
    }

    /// Destroys what an external signer keeps of a key. Takes its time.
    pub(crate) fn destroy(&self, kid: &str, private: &PrivateHalf) -> Result<(), UnusableSigningKey> {
        match private {
            PrivateHalf::Sealed(_) => Ok(()),
            PrivateHalf::Pkcs11(_) => {
                let signer = self.signer.as_ref().ok_or(UnusableSigningKey::NoSigner)?;
                signer.destroy(&self.external(kid, private)?).map_err(|error| failed(&error))
            }
        }
    }

    fn external(&self, kid: &str, private: &PrivateHalf) -> Result<ExternalKey, UnusableSigningKey> {
        let json = self.sealer.open(kid, private.sealed())?;
        serde_json::from_slice(&json).map_err(|_| UnusableSigningKey::Cryptography)
    }
}

fn failed(error: &SignerFailed) -> UnusableSigningKey {
    tracing::error!(%error, "a signing key cannot be made or destroyed");
    UnusableSigningKey::External
}

#[cfg(test)]
mod tests;
