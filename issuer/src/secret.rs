//! Client secrets: 256 random bits, shown once, kept as a keyed hash; and, in
//! [`imported`], those that people chose.
//!
//! A secret that nobody chose needs no slow hash: nobody can try 2²⁵⁶ of
//! them. The key of the hash is derived from the root key, so that a copy of
//! the database alone does not even tell whether a guess is right. The name of
//! the device goes into the hash, so that a row is worth nothing elsewhere.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::enrolments::TOKEN_PREFIX;
use crate::random::{NoRandomness, random_bytes};
use crate::static_password::PASSWORD_PREFIX;

pub mod imported;

pub use imported::ImportedSecretHash;

/// What every client secret begins with, so that scanners for leaked secrets
/// can know it.
pub const SECRET_PREFIX: &str = "fbs_";
/// What everything begins with that is made here for somebody to present:
/// secrets, static passwords, enrolment tokens. Nobody can choose such a one.
pub const OUR_PREFIXES: [&str; 3] = [SECRET_PREFIX, PASSWORD_PREFIX, TOKEN_PREFIX];

/// A secret of a device, or what somebody presents as one. Cannot be printed.
pub struct ClientSecret(Zeroizing<String>);

impl ClientSecret {
    /// A new secret.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, NoRandomness> {
        Self::generate_with_prefix(SECRET_PREFIX, random)
    }

    /// A new secret of another kind.
    pub(crate) fn generate_with_prefix(
        prefix: &str,
        random: &dyn SecureRandom,
    ) -> Result<Self, NoRandomness> {
        let bytes = Zeroizing::new(random_bytes::<32>(random)?);
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + 43));
        text.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
        Ok(Self(text))
    }

    /// What somebody presents.
    #[must_use]
    pub fn presented(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Whether it claims, by its prefix, to have been made here.
    #[must_use]
    pub fn has_our_prefix(&self) -> bool {
        OUR_PREFIXES.iter().any(|prefix| self.0.starts_with(prefix))
    }

    /// The secret itself, to show it to whoever made it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret itself, still to be wiped from memory.
    #[must_use]
    pub fn into_text(self) -> Zeroizing<String> {
        self.0
    }
}

impl From<Zeroizing<String>> for ClientSecret {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// Makes the hashes of client secrets, see [`crate::root_key`].
pub struct SecretHasher(hmac::Key);

impl SecretHasher {
    pub(crate) const fn new(key: hmac::Key) -> Self {
        Self(key)
    }

    /// The hash of a secret of the device `client_id`: HMAC-SHA-256 over the
    /// name, a zero byte, which no name has, and the secret.
    #[must_use]
    pub fn hash(&self, client_id: &str, secret: &ClientSecret) -> SecretHash {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(client_id.as_bytes());
        context.update(&[0]);
        context.update(secret.0.as_bytes());
        let mut hash = [0; 32];
        hash.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        SecretHash(hash)
    }
}

/// The keyed hash of a client secret. Equality takes the same time for all.
#[derive(Clone)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// A hash that was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(&*text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom("the hash of a secret has 32 bytes in base64url"))
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable secret")]
    fn generate() -> ClientSecret {
        ClientSecret::generate(&SystemRandom::new()).unwrap()
    }

    fn hasher(key: u8) -> SecretHasher {
        SecretHasher::new(hmac::Key::new(hmac::HMAC_SHA256, &[key; 32]))
    }

    #[test]
    fn a_secret_has_a_prefix_and_256_bits() {
        let secret = generate();
        let bits = URL_SAFE_NO_PAD.decode(secret.expose().strip_prefix(SECRET_PREFIX).unwrap()).unwrap();
        assert_eq!(bits.len(), 32);
        assert_ne!(generate().expose(), secret.expose());
    }

    #[test]
    fn the_hash_depends_on_secret_device_and_key() {
        let (one, other) = (generate(), generate());
        let hash = hasher(1).hash("pump", &one);
        assert_eq!(hash, hasher(1).hash("pump", &one));
        assert_ne!(hash, hasher(1).hash("pump", &other));
        assert_ne!(hash, hasher(1).hash("pumq", &one));
        assert_ne!(hash, hasher(2).hash("pump", &one));
    }

    #[test]
    fn nothing_prints_it() {
        let secret = generate();
        let printed = format!("{secret:?} {:?}", hasher(1).hash("pump", &secret));
        assert_eq!(printed, "ClientSecret(…) SecretHash(…)");
    }
}
