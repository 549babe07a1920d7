//! Secrets that people chose, and their slow hash.
//!
//! A chosen secret may be one that somebody can guess. What is kept of it is
//! argon2id over the keyed hash of [`super`]: a copy of the database alone
//! tells of no guess whether it is right, and with the root key beside it each
//! guess still costs a slow hash.

use std::borrow::Cow;
use std::fmt;

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use aws_lc_rs::rand::SecureRandom;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ClientSecret, OUR_PREFIXES, SecretHash};
use crate::random::{NoRandomness, random_bytes};
use crate::root_key::{PresentedHashes, RootKeyId};

/// The fewest characters of a secret that is imported.
pub const MIN_IMPORTED_LENGTH: usize = 16;
/// The most characters of a secret that is imported.
pub const MAX_IMPORTED_LENGTH: usize = 256;

// What OWASP asks for at least.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A secret that somebody chose for a device, and that may be one.
#[derive(Debug)]
pub struct ImportedSecret(ClientSecret);

/// A text cannot be imported as a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImportedSecret {
    /// Too easy to guess, or longer than anybody needs.
    #[error("has {length} characters; {MIN_IMPORTED_LENGTH} to {MAX_IMPORTED_LENGTH} are allowed")]
    Length {
        /// How many it has.
        length: usize,
    },
    /// Something that no client can send (RFC 6749 Appendix A.2).
    #[error("has characters other than the visible ones of ASCII and the space")]
    Characters,
    /// What begins so was made here, for something else.
    #[error("begins with {prefix}, as what Fleetbadge makes does; choose another one")]
    Prefix {
        /// Which of our prefixes.
        prefix: &'static str,
    },
}

impl ImportedSecret {
    /// Reads one.
    ///
    /// # Errors
    /// [`InvalidImportedSecret`].
    pub fn parse(secret: ClientSecret) -> Result<Self, InvalidImportedSecret> {
        let text = secret.expose();
        if !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err(InvalidImportedSecret::Characters);
        }
        if !(MIN_IMPORTED_LENGTH..=MAX_IMPORTED_LENGTH).contains(&text.len()) {
            return Err(InvalidImportedSecret::Length { length: text.len() });
        }
        match OUR_PREFIXES.into_iter().find(|prefix| text.starts_with(prefix)) {
            Some(prefix) => Err(InvalidImportedSecret::Prefix { prefix }),
            None => Ok(Self(secret)),
        }
    }

    /// The secret itself.
    #[must_use]
    pub const fn secret(&self) -> &ClientSecret {
        &self.0
    }
}

/// The slow hash of a secret that somebody chose: argon2id, as a PHC string,
/// and under which root key what it is of was hashed. In JSON: that one, a
/// point, the PHC string.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ImportedSecretHash {
    root_key: RootKeyId,
    phc: Box<str>,
}

/// No slow hash can be made.
#[derive(Debug, thiserror::Error)]
pub enum SlowHashFailed {
    /// There is no salt.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// There is no memory.
    #[error("argon2id: {0}")]
    Argon2(argon2::password_hash::Error),
    /// The server is ending.
    #[error("the slow hash was not made: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

impl ImportedSecretHash {
    /// The hash of what has this keyed hash. Takes some 10 ms of a core.
    ///
    /// # Errors
    /// [`SlowHashFailed`].
    pub fn new(secret: &SecretHash, random: &dyn SecureRandom) -> Result<Self, SlowHashFailed> {
        let salt = random_bytes::<16>(random)?;
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
            .map_err(|error| SlowHashFailed::Argon2(error.into()))?;
        let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_with_salt(secret.as_bytes(), &salt)
            .map_err(SlowHashFailed::Argon2)?;
        Ok(Self { root_key: secret.root_key(), phc: hash.to_string().into() })
    }

    /// The hash of nothing that anybody could present: costs as much as others
    /// to compare with.
    #[must_use]
    pub fn nobodys() -> Self {
        let (salt, hash) = ("A".repeat(22), "A".repeat(43));
        let phc = format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}").into();
        Self { root_key: RootKeyId::NOBODYS, phc }
    }

    /// Under which root key what it is of was hashed.
    #[must_use]
    pub const fn root_key(&self) -> RootKeyId {
        self.root_key
    }

    /// Whether it is the hash of what has these keyed hashes, with the costs
    /// that it was made with. Takes some 10 ms of a core, also under a root key
    /// that there no longer is: then it never is.
    #[must_use]
    pub fn is_of(&self, presented: &PresentedHashes) -> bool {
        let under_its_key = presented.under(self.root_key);
        let hash = under_its_key.unwrap_or(presented.current());
        let is_right = Argon2::default().verify_password(hash.as_bytes(), &*self.phc).is_ok();
        is_right & under_its_key.is_some()
    }
}

impl Serialize for ImportedSecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}.{}", self.root_key, self.phc))
    }
}

impl<'de> Deserialize<'de> for ImportedSecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let read = || {
            let (root_key, phc) = text.split_once('.')?;
            Some(Self { root_key: root_key.parse().ok()?, phc: phc.into() })
        };
        read().ok_or_else(|| {
            D::Error::custom("a slow hash is the ID of its root key, a point, and a PHC string")
        })
    }
}

impl fmt::Debug for ImportedSecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportedSecretHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;

    use super::*;
    use crate::root_key::RootKey;

    fn presented(root_key: u8, secret: &str) -> PresentedHashes {
        let hasher = RootKey::from_bytes([root_key; 32]).secret_hasher();
        hasher.presented("pump", &ClientSecret::presented(secret.into()))
    }

    fn parse(text: &str) -> Result<ImportedSecret, InvalidImportedSecret> {
        ImportedSecret::parse(ClientSecret::presented(text.into()))
    }

    #[test]
    fn what_can_be_guessed_sent_by_nobody_or_mistaken_is_not_imported() {
        assert_eq!(parse("correct horse 16").unwrap().secret().expose(), "correct horse 16");
        assert!(parse(&"x".repeat(256)).is_ok());
        let length = |length| InvalidImportedSecret::Length { length };
        assert_eq!(parse("").unwrap_err(), length(0));
        assert_eq!(parse("only 15 of them").unwrap_err(), length(15));
        assert_eq!(parse(&"x".repeat(257)).unwrap_err(), length(257));
        for odd in
            ["with a line end…\n", "with a line end \n", "a tab \t and more of it", "null \0 and more of it"]
        {
            assert_eq!(parse(odd).unwrap_err(), InvalidImportedSecret::Characters, "{odd:?}");
        }
        for prefix in ["fbs_", "fbp_", "fbe_"] {
            let refused = parse(&format!("{prefix}0123456789abcdef")).unwrap_err();
            assert_eq!(refused, InvalidImportedSecret::Prefix { prefix });
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable salt")]
    fn the_slow_hash_is_argon2id_with_a_salt_of_its_own() {
        let (right, wrong) = (presented(1, "right"), presented(1, "wrong"));
        let random = SystemRandom::new();
        let hash = ImportedSecretHash::new(right.current(), &random).unwrap();
        assert!(hash.phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.phc);
        assert!(hash.is_of(&right));
        assert!(!hash.is_of(&wrong));
        assert_ne!(hash, ImportedSecretHash::new(right.current(), &random).unwrap());
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<ImportedSecretHash>(&json).unwrap(), hash);
        // Under a root key that is no longer there, whatever it says of itself.
        let other = presented(2, "right");
        assert!(!hash.is_of(&other));
        let relabelled = ImportedSecretHash { root_key: other.current().root_key(), ..hash.clone() };
        assert!(!relabelled.is_of(&other));
        // That of nobody is well-formed: otherwise nothing would be computed.
        let nobodys = ImportedSecretHash::nobodys();
        let compared = Argon2::default().verify_password(right.current().as_bytes(), &*nobodys.phc);
        assert_eq!(compared, Err(argon2::password_hash::Error::PasswordInvalid));
        for spoilt in ["", "plain", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ"] {
            let root_key = right.current().root_key();
            assert!(!ImportedSecretHash { root_key, phc: spoilt.into() }.is_of(&right));
        }
        assert_eq!(format!("{hash:?}"), "ImportedSecretHash(…)");
    }

    /// So that hashes stay good when new ones are made to cost more.
    #[test]
    fn the_costs_are_those_of_the_hash() {
        let right = presented(1, "right");
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap())
            .hash_password_with_salt(right.current().as_bytes(), b"somesaltsomesalt")
            .unwrap();
        let root_key = right.current().root_key();
        assert!(ImportedSecretHash { root_key, phc: weak.to_string().into() }.is_of(&right));
    }
}
