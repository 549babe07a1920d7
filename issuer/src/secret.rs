//! Client secrets: 256 random bits, shown once, kept as a keyed hash; and, in
//! [`imported`], those that people chose.
//!
//! A secret that nobody chose needs no slow hash: nobody can try 2²⁵⁶ of
//! them. The key of the hash is derived from the root key, so that a copy of
//! the database alone does not even tell whether a guess is right. The name of
//! the device goes into the hash, so that a row is worth nothing elsewhere.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::constant_time;
use aws_lc_rs::rand::SecureRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::enrolments::TOKEN_PREFIX;
use crate::random::{NoRandomness, random_bytes};
use crate::root_key::{Hasher, PresentedHashes, RootKeyId};
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
pub struct SecretHasher(Hasher);

impl SecretHasher {
    pub(crate) const fn new(hasher: Hasher) -> Self {
        Self(hasher)
    }

    /// The hash of a secret of the device `client_id`, to be kept:
    /// HMAC-SHA-256 over the name, a zero byte, which no name has, and the
    /// secret.
    #[must_use]
    pub fn hash(&self, client_id: &str, secret: &ClientSecret) -> SecretHash {
        self.0.hash(&parts(client_id, secret))
    }

    /// What hashes that are kept are compared with, if somebody presents this
    /// secret.
    #[must_use]
    pub fn presented(&self, client_id: &str, secret: &ClientSecret) -> PresentedHashes {
        self.0.presented(&parts(client_id, secret))
    }
}

fn parts<'a>(client_id: &'a str, secret: &'a ClientSecret) -> [&'a [u8]; 3] {
    [client_id.as_bytes(), &[0], secret.0.as_bytes()]
}

/// The keyed hash of a client secret, and under which root key it is. Equality
/// takes the same time for all. In JSON: both, with a point between.
#[derive(Clone)]
pub struct SecretHash {
    root_key: RootKeyId,
    hash: [u8; 32],
}

impl SecretHash {
    pub(crate) const fn new(root_key: RootKeyId, hash: [u8; 32]) -> Self {
        Self { root_key, hash }
    }

    /// One that is of no secret.
    #[cfg(test)]
    pub(crate) const fn from_bytes(hash: [u8; 32]) -> Self {
        Self::new(RootKeyId::NOBODYS, hash)
    }

    /// Under which root key it is.
    #[must_use]
    pub const fn root_key(&self) -> RootKeyId {
        self.root_key
    }

    /// The hash itself.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.hash
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}.{}", self.root_key, URL_SAFE_NO_PAD.encode(self.hash)))
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let read = || {
            let (root_key, hash) = text.split_once('.')?;
            Some(Self::new(root_key.parse().ok()?, URL_SAFE_NO_PAD.decode(hash).ok()?.try_into().ok()?))
        };
        read().ok_or_else(|| {
            D::Error::custom(
                "the hash of a secret is the ID of its root key, a point, and 32 bytes in base64url",
            )
        })
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        let is_equal = constant_time::verify_slices_are_equal(&self.hash, &other.hash).is_ok();
        is_equal & (self.root_key == other.root_key)
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
    use crate::root_key::RootKey;

    #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable secret")]
    fn generate() -> ClientSecret {
        ClientSecret::generate(&SystemRandom::new()).unwrap()
    }

    fn hasher(key: u8) -> SecretHasher {
        RootKey::from_bytes([key; 32]).secret_hasher()
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
    fn it_is_kept_with_the_name_of_its_root_key() {
        let hash = hasher(7).hash("pump", &ClientSecret::presented("x".into()));
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(json.split_once('.').unwrap().0, "\"2b4957af3bdc3326");
        assert_eq!(serde_json::from_str::<SecretHash>(&json).unwrap(), hash);
        for wrong in
            [json.replace('.', ""), json.replace("af", "AF"), json.replace(".", ".AA"), "\".\"".into()]
        {
            assert!(serde_json::from_str::<SecretHash>(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_prints_it() {
        let secret = generate();
        let printed = format!("{secret:?} {:?}", hasher(1).hash("pump", &secret));
        assert_eq!(printed, "ClientSecret(…) SecretHash(…)");
    }
}
