//! Signing keys, and which of them does what when: pure.
//!
//! The state of a key follows from its [`Schedule`] and the time:
//!
//! 1. *announced*: published, so that brokers have it before it signs;
//! 2. *active*: signs;
//! 3. *retired*: still published, as tokens that it signed are still good;
//! 4. *dropped*: gone.
//!
//! A [`KeyRing`] is the keys of one moment, [`plan_rotation`] says how their
//! schedules change. What is stored and in use is the concern of
//! [`crate::keys`].

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_validator::claims::TOKEN_TYPE;
use fleetbadge_validator::jwk::{Algorithm, Jwks, PublicKey};
use fleetbadge_validator::time::UnixSeconds;
use jsonwebtoken::crypto::JwtSigner;
use jsonwebtoken::signature::{Error as SignatureError, Signer};

use crate::root_key::{KeySealer, SealBroken};

mod schedule;

pub use schedule::{KeyState, KeyTiming, Rotation, RotationRefused, Schedule, plan_rotation};

/// The greatest length of the encoded header of a token: `alg`, `typ` and a
/// thumbprint.
pub(crate) const HEADER_LENGTH: usize = 110;

/// The length of an encoded signature.
pub(crate) const fn signature_length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::ES256 | Algorithm::EdDSA => 86,
        Algorithm::RS256 => 342,
    }
}

/// A private key, parsed: what `jsonwebtoken` calls a signer.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
    kid: Box<str>,
    header: Box<str>,
}

/// A signing key cannot be made or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableSigningKey {
    /// The cryptographic library cannot make or read it.
    #[error("the cryptographic library cannot make or read the key")]
    Cryptography,
    /// What was stored cannot be opened with this root key.
    #[error(transparent)]
    Seal(#[from] SealBroken),
    /// The private key is another one than the stored `kid` says.
    #[error("the key is another one than its kid says")]
    OtherKid,
}

impl SigningKey {
    /// Makes a new key; also returns it sealed, to be stored.
    ///
    /// # Errors
    /// [`UnusableSigningKey`].
    pub fn generate(sealer: &KeySealer) -> Result<(Self, Vec<u8>), UnusableSigningKey> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| UnusableSigningKey::Cryptography)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| UnusableSigningKey::Cryptography)?;
        let key = Self::from_pair(pair)?;
        let sealed = sealer.seal(&key.kid, pkcs8.as_ref()).map_err(|_| UnusableSigningKey::Cryptography)?;
        Ok((key, sealed))
    }

    /// Opens a key that was stored.
    ///
    /// # Errors
    /// [`UnusableSigningKey`].
    pub fn open(kid: &str, sealed: &[u8], sealer: &KeySealer) -> Result<Self, UnusableSigningKey> {
        let pkcs8 = sealer.open(kid, sealed)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8)
            .map_err(|_| UnusableSigningKey::Cryptography)?;
        let key = Self::from_pair(pair)?;
        if *key.kid == *kid { Ok(key) } else { Err(UnusableSigningKey::OtherKid) }
    }

    fn from_pair(pair: EcdsaKeyPair) -> Result<Self, UnusableSigningKey> {
        let public =
            PublicKey::from_p256_point(pair.public_key().as_ref()).ok_or(UnusableSigningKey::Cryptography)?;
        let kid = public.thumbprint();
        // Nothing in it needs an escape: a thumbprint is base64url.
        let header =
            format!(r#"{{"alg":"{}","typ":"{TOKEN_TYPE}","kid":"{kid}"}}"#, public.algorithm().as_str());
        let header = URL_SAFE_NO_PAD.encode(header);
        Ok(Self { pair, public, kid: kid.into(), header: header.into() })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The thumbprint of the public half (RFC 7638).
    #[must_use]
    pub const fn kid(&self) -> &str {
        &self.kid
    }

    /// What it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// The header of the tokens of this `typ` that it signs, encoded.
    pub(crate) const fn header(&self, _typ: &str) -> &str {
        &self.header
    }
}

impl Signer<Vec<u8>> for SigningKey {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let signature =
            self.pair.sign_digest(&digest(&SHA256, message)).map_err(|_| SignatureError::new())?;
        Ok(signature.as_ref().to_vec())
    }
}

impl JwtSigner for SigningKey {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        jsonwebtoken::Algorithm::ES256
    }
}

/// A key and its schedule.
pub struct ScheduledKey {
    /// The key.
    pub key: SigningKey,
    /// When it does what.
    pub schedule: Schedule,
}

/// The keys of an issuer. Never changed: a new ring replaces it whole.
pub struct KeyRing(Vec<ScheduledKey>);

impl KeyRing {
    /// A ring of these keys.
    #[must_use]
    pub const fn new(keys: Vec<ScheduledKey>) -> Self {
        Self(keys)
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[ScheduledKey] {
        &self.0
    }

    /// The key that signs at `now`. None if there is no such key yet, or the
    /// clock shows a time before the first was made.
    #[must_use]
    pub fn active(&self, algorithm: Algorithm, now: UnixSeconds) -> Option<&SigningKey> {
        self.0
            .iter()
            .find(|key| key.key.algorithm() == algorithm && key.schedule.state(now) == KeyState::Active)
            .map(|key| &key.key)
    }

    /// The JWK Set of `now`: every key that is not dropped.
    #[must_use]
    pub fn jwks(&self, now: UnixSeconds) -> Jwks {
        let published = |key: &&ScheduledKey| match key.schedule.state(now) {
            KeyState::Announced | KeyState::Active | KeyState::Retired => true,
            KeyState::Dropped => false,
        };
        Jwks { keys: self.0.iter().filter(published).map(|key| key.key.public.to_jwk()).collect() }
    }

    /// When a key changes its state next.
    #[must_use]
    pub fn next_change(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        self.0.iter().filter_map(|key| key.schedule.next_change(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_key::RootKey;

    fn sealer(root: u8) -> KeySealer {
        RootKey::from_bytes([root; 32]).key_sealer()
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_root_key_and_kid_only() {
        let (key, sealed) = SigningKey::generate(&sealer(1)).unwrap();
        let opened = SigningKey::open(key.kid(), &sealed, &sealer(1)).unwrap();
        assert_eq!(opened.public(), key.public());
        assert!(SigningKey::open(key.kid(), &sealed, &sealer(2)).is_err());
        assert!(SigningKey::open("other", &sealed, &sealer(1)).is_err());
        let mut tampered = sealed;
        *tampered.last_mut().unwrap() ^= 1;
        assert!(SigningKey::open(key.kid(), &tampered, &sealer(1)).is_err());
    }

    #[test]
    fn the_lengths_are_as_stated() {
        let (key, _) = SigningKey::generate(&sealer(1)).unwrap();
        assert_eq!(key.header(TOKEN_TYPE).len(), HEADER_LENGTH);
        assert_eq!(
            URL_SAFE_NO_PAD.encode(key.try_sign(b"x").unwrap()).len(),
            signature_length(Algorithm::ES256)
        );
    }

    #[test]
    fn the_ring_follows_the_schedules() {
        let at = UnixSeconds;
        let ring = KeyRing::new(
            [
                Schedule {
                    announced_at: at(0),
                    active_at: at(0),
                    retired_at: Some(at(200)),
                    dropped_at: Some(at(300)),
                },
                Schedule { announced_at: at(100), active_at: at(200), retired_at: None, dropped_at: None },
            ]
            .map(|schedule| ScheduledKey { key: SigningKey::generate(&sealer(1)).unwrap().0, schedule })
            .into(),
        );
        let seen = |now| {
            let active = ring.keys().iter().position(|k| {
                Some(k.key.kid()) == ring.active(Algorithm::ES256, at(now)).map(SigningKey::kid)
            });
            (active.unwrap(), ring.jwks(at(now)).keys.len(), ring.next_change(at(now)).map(|t| t.0))
        };
        assert_eq!(seen(150), (0, 2, Some(200)));
        assert_eq!(seen(199), (0, 2, Some(200)));
        assert_eq!(seen(200), (1, 2, Some(300)));
        assert_eq!(seen(299), (1, 2, Some(300)));
        assert_eq!(seen(300), (1, 1, None));
    }
}
