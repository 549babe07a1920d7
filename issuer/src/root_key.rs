//! The root keys, outside the database, and what is derived from them.
//!
//! Every other key comes from one by HKDF-SHA-256 (RFC 5869) under a label of
//! its own that ends in a version, so that one can be replaced without the
//! others. Whoever has the root keys and the database has everything; either
//! alone is worth nothing.
//!
//! There may be several, so that one can follow another without an
//! interruption: a [`RootKeySet`] seals and hashes under its current one, and
//! still opens and checks what is under the others. What is sealed or hashed
//! says under which, by its [`RootKeyId`]. Which one is current, and how that
//! changes, is the concern of [`crate::root_keys`].

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand::SecureRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::random::{NoRandomness, random_bytes};
use crate::secret::SecretHasher;
use crate::static_password::PasswordHasher;

mod file;
mod set;

pub use file::{RootKeyFile, RootKeyFileError};
pub(crate) use set::Hasher;
pub use set::{KeySealer, PresentedHashes, RootKeySet, RootKeysInUse, SealBroken, Sealed, UnknownRootKey};

const SALT: &[u8] = b"fleetbadge root key v1";
const ID_LABEL: &[u8] = b"root key id v1";
/// What the text form begins with.
const TEXT_PREFIX: &str = "fleetbadge-root-key-v1:";
/// The most root keys that there may be at a time: each presented secret is
/// hashed under all of them.
pub const MAX_ROOT_KEYS: usize = 4;

/// A root key: 256 random bits.
pub struct RootKey(Zeroizing<[u8; 32]>);

/// What a root key is named by: derived from it, and tells nothing of it. 16
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootKeyId([u8; 8]);

/// Text is not the name of a root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the ID of a root key: 16 hexadecimal digits were expected")]
pub struct InvalidRootKeyId;

/// Text is not a list of root keys. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRootKeys {
    /// A line is no root key, perhaps only a part of one.
    #[error("line {line} is not a root key: {TEXT_PREFIX} and 43 characters of base64url were expected")]
    Line {
        /// Which, from 1.
        line: usize,
    },
    /// A root key stands there twice.
    #[error("line {line} is the same root key as a line before it; take one of them away")]
    Twice {
        /// Which, from 1.
        line: usize,
    },
    /// There is none at all.
    #[error("holds no root key")]
    None,
    /// There are more than [`MAX_ROOT_KEYS`].
    #[error("holds more than {MAX_ROOT_KEYS} root keys; take away those that nothing is under any more")]
    TooMany,
}

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

    /// Reads the text form of one or several, a line each.
    ///
    /// # Errors
    /// [`InvalidRootKeys`].
    pub fn list_from_text(text: &str) -> Result<Vec<Self>, InvalidRootKeys> {
        let (mut keys, mut ids) = (Vec::new(), Vec::new());
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() {
                continue;
            }
            let key = Self::from_line(text.trim_end()).ok_or(InvalidRootKeys::Line { line })?;
            if ids.contains(&key.id()) {
                return Err(InvalidRootKeys::Twice { line });
            }
            ids.push(key.id());
            keys.push(key);
        }
        match keys.len() {
            0 => Err(InvalidRootKeys::None),
            1..=MAX_ROOT_KEYS => Ok(keys),
            _ => Err(InvalidRootKeys::TooMany),
        }
    }

    fn from_line(line: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(line.strip_prefix(TEXT_PREFIX)?).ok()?);
        bytes.as_slice().try_into().map(Self::from_bytes).ok()
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

    /// What it is named by.
    #[must_use]
    pub fn id(&self) -> RootKeyId {
        let mut id = [0; 8];
        id.iter_mut().zip(self.derive(ID_LABEL).iter()).for_each(|(to, from)| *to = *from);
        RootKeyId(id)
    }

    /// What hashes client secrets under this key alone.
    #[must_use]
    pub fn secret_hasher(&self) -> SecretHasher {
        self.alone().secret_hasher()
    }

    /// What hashes static passwords under this key alone.
    #[must_use]
    pub fn password_hasher(&self) -> PasswordHasher {
        self.alone().password_hasher()
    }

    /// What seals signing keys under this key alone.
    #[must_use]
    pub fn key_sealer(&self) -> KeySealer {
        self.alone().key_sealer()
    }

    fn alone(&self) -> RootKeysInUse {
        RootKeysInUse::new(RootKeySet::of_one(self))
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

impl RootKeyId {
    /// The name of no root key.
    pub(crate) const NOBODYS: Self = Self([0; 8]);

    /// As a number.
    pub(crate) const fn to_bits(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// Of that number.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits.to_be_bytes())
    }
}

impl FromStr for RootKeyId {
    type Err = InvalidRootKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidRootKeyId> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return Err(InvalidRootKeyId);
        }
        u64::from_str_radix(text, 16).map(Self::from_bits).map_err(|_| InvalidRootKeyId)
    }
}

impl fmt::Display for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.to_bits())
    }
}

impl fmt::Debug for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RootKeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RootKeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_key_are_the_same() {
        let key = RootKey::from_bytes([7; 32]);
        let text = key.to_text();
        assert_eq!(*RootKey::list_from_text(&text).unwrap()[0].0, [7; 32]);
        let (short, _) = text.split_at(60);
        for wrong in ["fleetbadge-root-key-v1:", short, &format!("x{}", *text), &text.replace('B', "/")] {
            let refused = RootKey::list_from_text(wrong).err();
            assert_eq!(refused, Some(InvalidRootKeys::Line { line: 1 }), "{wrong:?}");
        }
    }

    /// One line that was cut off, or stands there twice, spoils the file: who
    /// knows what else is wrong with it.
    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        let line = |byte: u8| RootKey::from_bytes([byte; 32]).to_text().to_string();
        let read = |text: &str| RootKey::list_from_text(text).map(|keys| keys.len());
        let two = line(1) + &line(2);
        assert_eq!(read(&two), Ok(2));
        assert_eq!(read(&format!("{}\n\n{}", line(1).trim_end(), line(2).trim_end())), Ok(2));
        let cut = two.trim_end();
        for end in [1, 20, 43, 60] {
            let (cut, _) = cut.split_at(cut.len() - end);
            assert_eq!(read(cut), Err(InvalidRootKeys::Line { line: 2 }), "{end}");
        }
        assert_eq!(read(&(line(1) + &line(2) + &line(1))), Err(InvalidRootKeys::Twice { line: 3 }));
        assert_eq!(read("\n\n"), Err(InvalidRootKeys::None));
        let many: String = (0..5).map(line).collect();
        assert_eq!(read(&many), Err(InvalidRootKeys::TooMany));
    }

    #[test]
    fn an_id_is_derived_and_stays_the_same_over_versions_of_this_program() {
        let id = RootKey::from_bytes([7; 32]).id();
        assert_eq!(id.to_string(), "2b4957af3bdc3326");
        assert_eq!("2b4957af3bdc3326".parse(), Ok(id));
        assert_ne!(RootKey::from_bytes([8; 32]).id(), id);
        for wrong in ["", "2B4957AF3BDC3326", "2b4957af3bdc332", "+b4957af3bdc3326", "2b4957af3bdc3326d"] {
            assert_eq!(wrong.parse::<RootKeyId>(), Err(InvalidRootKeyId), "{wrong}");
        }
    }
}
