//! The one root key, outside the database, and what is derived from it.
//!
//! Every other key comes from it by HKDF-SHA-256 (RFC 5869) under a label of
//! its own that ends in a version, so that one can be replaced without the
//! others. Whoever has the root key and the database has everything; either
//! alone is worth nothing.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SecureRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::random::{NoRandomness, random_bytes};
use crate::secret::SecretHasher;
use crate::static_password::PasswordHasher;

const SALT: &[u8] = b"fleetbadge root key v1";
const SECRET_HASH_LABEL: &[u8] = b"client secret hash v1";
const PASSWORD_HASH_LABEL: &[u8] = b"static password hash v1";
const BACKUP_LABEL: &[u8] = b"backup v1";
const KEY_SEAL_LABEL: &[u8] = b"signing key seal v1";
/// What the text form begins with.
const TEXT_PREFIX: &str = "fleetbadge-root-key-v1:";

/// The root key: 256 random bits.
pub struct RootKey(Zeroizing<[u8; 32]>);

/// Text is not a root key. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a root key: {TEXT_PREFIX} and 43 characters of base64url were expected")]
pub struct InvalidRootKey;

/// A sealed key cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing key in the database cannot be opened with this root key; was either restored alone?")]
pub struct SealBroken;

impl RootKey {
    /// A new key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, NoRandomness> {
        random_bytes(random).map(Self::from_bytes)
    }

    /// The key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`InvalidRootKey`].
    pub fn from_text(text: &str) -> Result<Self, InvalidRootKey> {
        let encoded = text.trim_end().strip_prefix(TEXT_PREFIX).ok_or(InvalidRootKey)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidRootKey)?);
        bytes.as_slice().try_into().map(Self::from_bytes).map_err(|_| InvalidRootKey)
    }

    /// The text form, one line.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(TEXT_PREFIX.len() + 44));
        text.push_str(TEXT_PREFIX);
        URL_SAFE_NO_PAD.encode_string(*self.0, &mut text);
        text.push('\n');
        text
    }

    /// What hashes client secrets.
    #[must_use]
    pub fn secret_hasher(&self) -> SecretHasher {
        self.hasher(SECRET_HASH_LABEL)
    }

    /// What hashes static passwords.
    #[must_use]
    pub fn password_hasher(&self) -> PasswordHasher {
        PasswordHasher::new(self.hasher(PASSWORD_HASH_LABEL))
    }

    fn hasher(&self, label: &[u8]) -> SecretHasher {
        SecretHasher::new(hmac::Key::new(hmac::HMAC_SHA256, self.derive(label).as_slice()))
    }

    /// What seals signing keys.
    #[expect(clippy::expect_used, reason = "32 bytes are what AES-256 takes")]
    #[must_use]
    pub fn key_sealer(&self) -> KeySealer {
        let key = self.derive(KEY_SEAL_LABEL);
        KeySealer(RandomizedNonceKey::new(&AES_256_GCM, key.as_slice()).expect("the key has 256 bits"))
    }

    /// What seals one backup, by the random bytes that it begins with.
    pub(crate) fn backup_key(&self, salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        self.derive(&[BACKUP_LABEL, salt].concat())
    }

    #[expect(clippy::expect_used, reason = "32 bytes are what HKDF-SHA-256 gives in one block")]
    fn derive(&self, label: &[u8]) -> Zeroizing<[u8; 32]> {
        let extracted = Salt::new(HKDF_SHA256, SALT).extract(self.0.as_slice());
        let mut key = Zeroizing::new([0; 32]);
        extracted
            .expand(&[label], HKDF_SHA256)
            .and_then(|derived| derived.fill(key.as_mut_slice()))
            .expect("one block can be derived");
        key
    }
}

/// Encrypts private keys for the database: AES-256-GCM, a random nonce in
/// front, the `kid` authenticated with it.
pub struct KeySealer(RandomizedNonceKey);

impl KeySealer {
    /// Encrypts the private key of `kid`.
    ///
    /// # Errors
    /// If the cryptographic library cannot.
    pub fn seal(&self, kid: &str, private_key: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut text = private_key.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(kid), &mut text)?;
        Ok([nonce.as_ref().as_slice(), &text].concat())
    }

    /// Decrypts the private key of `kid`.
    ///
    /// # Errors
    /// [`SealBroken`].
    pub fn open(&self, kid: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealBroken> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(SealBroken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealBroken)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(kid), &mut text).map_err(|_| SealBroken)?.len();
        text.truncate(length);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::ClientSecret;

    #[test]
    fn text_and_key_are_the_same() {
        let key = RootKey::from_bytes([7; 32]);
        let text = key.to_text();
        assert_eq!(*RootKey::from_text(&text).unwrap().0, [7; 32]);
        let (short, _) = text.split_at(60);
        for wrong in ["", "fleetbadge-root-key-v1:", short, &format!("x{}", *text), &text.replace('B', "/")] {
            assert!(RootKey::from_text(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn each_use_has_a_key_of_its_own() {
        let key = RootKey::from_bytes([7; 32]);
        assert_ne!(key.derive(SECRET_HASH_LABEL), key.derive(KEY_SEAL_LABEL));
        assert_ne!(key.derive(PASSWORD_HASH_LABEL), key.derive(SECRET_HASH_LABEL));
        assert_ne!(key.derive(KEY_SEAL_LABEL), RootKey::from_bytes([8; 32]).derive(KEY_SEAL_LABEL));
    }

    #[test]
    fn what_is_derived_stays_the_same_over_versions_of_this_program() {
        let hash = RootKey::from_bytes([7; 32])
            .secret_hasher()
            .hash("pump-1", &ClientSecret::presented("fbs_x".into()));
        assert_eq!(URL_SAFE_NO_PAD.encode(hash.as_bytes()), "9zA-wrHR6BcDoXZ9XtzPg8luu6zCMhlTQ3XKWFZtseU");
    }
}
