//! The root keys of one moment: which is current, and what is derived of each.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{RootKey, RootKeyId};
use crate::base64url;
use crate::secret::{SecretHash, SecretHasher};
use crate::static_password::PasswordHasher;

const SECRET_HASH_LABEL: &[u8] = b"client secret hash v1";
const PASSWORD_HASH_LABEL: &[u8] = b"static password hash v1";
const BACKUP_LABEL: &[u8] = b"backup v1";
const KEY_SEAL_LABEL: &[u8] = b"signing key seal v1";

/// What is derived from some root keys, one of which is current.
pub struct RootKeySet {
    current: Derived,
    others: Vec<Derived>,
}

/// What is derived from one root key.
struct Derived {
    id: RootKeyId,
    secrets: hmac::Key,
    passwords: hmac::Key,
    seal: RandomizedNonceKey,
    backups: hmac::Key,
}

/// There is no such root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no root key {0}")]
pub struct UnknownRootKey(pub RootKeyId);

/// A sealed key cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealBroken {
    /// This node does not have its root key.
    #[error(
        "a signing key in the database is under root key {0}, which this node does not have; copy the file of root \
         keys from another node, or put the line back if it was taken out"
    )]
    RootKey(RootKeyId),
    /// It is not what was sealed.
    #[error("a signing key in the database is not what was sealed under root key {0}")]
    Content(RootKeyId),
}

impl RootKeySet {
    /// These keys, of which `current` is one.
    ///
    /// # Errors
    /// [`UnknownRootKey`], if it is not.
    pub fn new(keys: &[RootKey], current: RootKeyId) -> Result<Self, UnknownRootKey> {
        let (current_keys, others): (Vec<_>, Vec<_>) =
            keys.iter().map(Derived::new).partition(|key| key.id == current);
        let current = current_keys.into_iter().next().ok_or(UnknownRootKey(current))?;
        Ok(Self { current, others })
    }

    /// A set of one.
    pub(crate) fn of_one(key: &RootKey) -> Self {
        Self { current: Derived::new(key), others: Vec::new() }
    }

    /// Under which key everything new is.
    #[must_use]
    pub const fn current(&self) -> RootKeyId {
        self.current.id
    }

    /// All keys, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = RootKeyId> {
        self.all().map(|key| key.id)
    }

    /// Whether this key is one of them.
    #[must_use]
    pub fn has(&self, id: RootKeyId) -> bool {
        self.find(id).is_some()
    }

    /// What seals a new backup, by the random bytes that it begins with.
    pub(crate) fn current_backup_key(&self, salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        self.current.backup_key(salt)
    }

    /// What opens a backup that is under this root key.
    pub(crate) fn backup_key(&self, id: RootKeyId, salt: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        self.find(id).map(|key| key.backup_key(salt))
    }

    fn all(&self) -> impl Iterator<Item = &Derived> {
        [&self.current].into_iter().chain(&self.others)
    }

    fn find(&self, id: RootKeyId) -> Option<&Derived> {
        self.all().find(|key| key.id == id)
    }
}

impl Derived {
    #[expect(clippy::expect_used, reason = "32 bytes are what AES-256 takes")]
    fn new(key: &RootKey) -> Self {
        let hmac_key = |label| hmac::Key::new(hmac::HMAC_SHA256, key.derive(label).as_slice());
        Self {
            id: key.id(),
            secrets: hmac_key(SECRET_HASH_LABEL),
            passwords: hmac_key(PASSWORD_HASH_LABEL),
            seal: RandomizedNonceKey::new(&AES_256_GCM, key.derive(KEY_SEAL_LABEL).as_slice())
                .expect("the key has 256 bits"),
            backups: hmac_key(BACKUP_LABEL),
        }
    }

    /// Each backup has a key of its own.
    fn backup_key(&self, salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        let derived = hmac::sign(&self.backups, salt);
        key.iter_mut().zip(derived.as_ref()).for_each(|(to, from)| *to = *from);
        key
    }

    fn hash(&self, kind: HashKind, parts: &[&[u8]]) -> SecretHash {
        let key = match kind {
            HashKind::Secret => &self.secrets,
            HashKind::Password => &self.passwords,
        };
        let mut context = hmac::Context::with_key(key);
        parts.iter().for_each(|part| context.update(part));
        let mut hash = [0; 32];
        hash.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        SecretHash::new(self.id, hash)
    }
}

/// The root keys that are in use, whichever they are at the moment: what it
/// gives out goes on with the next ones.
#[derive(Clone)]
pub struct RootKeysInUse(Arc<ArcSwap<RootKeySet>>);

impl RootKeysInUse {
    /// Begins with these.
    #[must_use]
    pub fn new(keys: RootKeySet) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keys)))
    }

    /// Those of this moment.
    #[must_use]
    pub fn now(&self) -> Arc<RootKeySet> {
        self.0.load_full()
    }

    /// Goes on with others.
    pub fn replace(&self, keys: RootKeySet) {
        self.0.store(Arc::new(keys));
    }

    /// What hashes client secrets.
    #[must_use]
    pub fn secret_hasher(&self) -> SecretHasher {
        SecretHasher::new(Hasher { keys: self.clone(), kind: HashKind::Secret })
    }

    /// What hashes static passwords.
    #[must_use]
    pub fn password_hasher(&self) -> PasswordHasher {
        PasswordHasher::new(SecretHasher::new(Hasher { keys: self.clone(), kind: HashKind::Password }))
    }

    /// What seals signing keys.
    #[must_use]
    pub fn key_sealer(&self) -> KeySealer {
        KeySealer(self.clone())
    }
}

/// What a hash is of: each has a key of its own.
#[derive(Clone, Copy)]
enum HashKind {
    Secret,
    Password,
}

/// Makes keyed hashes of one kind.
pub(crate) struct Hasher {
    keys: RootKeysInUse,
    kind: HashKind,
}

impl Hasher {
    /// The hash of these bytes, to be kept.
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> SecretHash {
        self.keys.0.load().current.hash(self.kind, parts)
    }

    /// Their hashes under every root key, to compare with what is kept.
    pub(crate) fn presented(&self, parts: &[&[u8]]) -> PresentedHashes {
        let keys = self.keys.0.load();
        PresentedHashes {
            current: keys.current.hash(self.kind, parts),
            others: keys.others.iter().map(|key| key.hash(self.kind, parts)).collect(),
        }
    }
}

/// The hashes of what somebody presents, under every root key that there is.
#[derive(Clone, Debug)]
pub struct PresentedHashes {
    current: SecretHash,
    others: Vec<SecretHash>,
}

impl PresentedHashes {
    /// Whether this is the hash of what was presented. Never, if it is under a
    /// root key that there no longer is.
    #[must_use]
    pub fn is(&self, kept: &SecretHash) -> bool {
        self.under(kept.root_key()).is_some_and(|presented| presented == kept)
    }

    /// That under the current root key.
    #[must_use]
    pub const fn current(&self) -> &SecretHash {
        &self.current
    }

    /// That under this root key.
    #[must_use]
    pub fn under(&self, root_key: RootKeyId) -> Option<&SecretHash> {
        [&self.current].into_iter().chain(&self.others).find(|hash| hash.root_key() == root_key)
    }

    /// The hash to keep instead of one under `root_key`; none if that is the
    /// current one.
    #[must_use]
    pub fn instead_of(&self, root_key: RootKeyId) -> Option<&SecretHash> {
        (self.current.root_key() != root_key).then_some(&self.current)
    }
}

/// What was encrypted under a root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Under which.
    pub root_key: RootKeyId,
    /// A nonce, the ciphertext, its tag.
    #[serde(with = "base64url")]
    pub text: Vec<u8>,
}

/// Encrypts private keys for the database: AES-256-GCM, a random nonce in
/// front, the `kid` authenticated with it.
#[derive(Clone)]
pub struct KeySealer(RootKeysInUse);

impl KeySealer {
    /// Encrypts the private key of `kid`.
    ///
    /// # Errors
    /// If the cryptographic library cannot.
    pub fn seal(&self, kid: &str, private_key: &[u8]) -> Result<Sealed, Unspecified> {
        let keys = self.0.0.load();
        let mut text = private_key.to_vec();
        let nonce = keys.current.seal.seal_in_place_append_tag(Aad::from(kid), &mut text)?;
        Ok(Sealed { root_key: keys.current.id, text: [nonce.as_ref().as_slice(), &text].concat() })
    }

    /// Decrypts the private key of `kid`.
    ///
    /// # Errors
    /// [`SealBroken`].
    pub fn open(&self, kid: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealBroken> {
        let Sealed { root_key, text } = sealed;
        let keys = self.0.0.load();
        let key = keys.find(*root_key).ok_or(SealBroken::RootKey(*root_key))?;
        let broken = SealBroken::Content(*root_key);
        let (nonce, text) = text.split_at_checked(NONCE_LEN).ok_or(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = key.seal.open_in_place(nonce, Aad::from(kid), &mut text).map_err(|_| broken)?.len();
        text.truncate(length);
        Ok(text)
    }

    /// Whether this is under the current root key.
    #[must_use]
    pub fn is_current(&self, sealed: &Sealed) -> bool {
        self.0.0.load().current.id == sealed.root_key
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::secret::ClientSecret;

    fn key(byte: u8) -> RootKey {
        RootKey::from_bytes([byte; 32])
    }

    fn set(bytes: &[u8], current: u8) -> RootKeySet {
        let keys: Vec<RootKey> = bytes.iter().map(|byte| key(*byte)).collect();
        RootKeySet::new(&keys, key(current).id()).unwrap()
    }

    fn secret() -> ClientSecret {
        ClientSecret::presented("fbs_x".into())
    }

    #[test]
    fn each_use_has_a_key_of_its_own() {
        let key = key(7);
        assert_ne!(key.derive(SECRET_HASH_LABEL), key.derive(KEY_SEAL_LABEL));
        assert_ne!(key.derive(PASSWORD_HASH_LABEL), key.derive(SECRET_HASH_LABEL));
        assert_ne!(key.derive(KEY_SEAL_LABEL), RootKey::from_bytes([8; 32]).derive(KEY_SEAL_LABEL));
    }

    #[test]
    fn what_is_derived_stays_the_same_over_versions_of_this_program() {
        let hash = key(7).secret_hasher().hash("pump-1", &secret());
        assert_eq!(URL_SAFE_NO_PAD.encode(hash.as_bytes()), "9zA-wrHR6BcDoXZ9XtzPg8luu6zCMhlTQ3XKWFZtseU");
    }

    #[test]
    fn the_current_key_is_for_all_that_is_new_and_the_others_still_open_and_check() {
        let in_use = RootKeysInUse::new(set(&[1, 2], 1));
        let (hasher, sealer) = (in_use.secret_hasher(), in_use.key_sealer());
        let (hash, sealed) = (hasher.hash("pump", &secret()), sealer.seal("kid", b"private").unwrap());
        assert_eq!((hash.root_key(), sealed.root_key), (key(1).id(), key(1).id()));
        in_use.replace(set(&[1, 2], 2));
        let presented = hasher.presented("pump", &secret());
        assert!(presented.is(&hash));
        assert_eq!(presented.instead_of(hash.root_key()).unwrap().root_key(), key(2).id());
        assert_eq!(*sealer.open("kid", &sealed).unwrap(), b"private");
        assert!(!sealer.is_current(&sealed));
        assert_eq!(hasher.hash("pump", &secret()).root_key(), key(2).id());
        assert!(!hasher.presented("pumq", &secret()).is(&hash));
    }

    /// Somebody who has an old root key, and can write rows.
    #[test]
    fn nothing_under_a_root_key_that_was_taken_away_is_good() {
        let in_use = RootKeysInUse::new(set(&[1, 2], 1));
        let (hash, sealed) = (
            in_use.secret_hasher().hash("pump", &secret()),
            in_use.key_sealer().seal("kid", b"private").unwrap(),
        );
        in_use.replace(set(&[2], 2));
        assert!(!in_use.secret_hasher().presented("pump", &secret()).is(&hash));
        assert_eq!(in_use.key_sealer().open("kid", &sealed), Err(SealBroken::RootKey(key(1).id())));
        // Nor if it says that it is under the one that is left.
        let relabelled = SecretHash::new(key(2).id(), *hash.as_bytes());
        assert!(!in_use.secret_hasher().presented("pump", &secret()).is(&relabelled));
        let relabelled = Sealed { root_key: key(2).id(), ..sealed };
        assert_eq!(in_use.key_sealer().open("kid", &relabelled), Err(SealBroken::Content(key(2).id())));
    }

    #[test]
    fn a_set_is_made_of_what_there_is() {
        let keys = [key(1), key(2)];
        assert_eq!(RootKeySet::new(&keys, key(3).id()).err(), Some(UnknownRootKey(key(3).id())));
        let set = set(&[1, 2], 2);
        assert_eq!(set.ids().collect::<Vec<_>>(), [key(2).id(), key(1).id()]);
        assert_eq!((set.has(key(1).id()), set.has(key(3).id())), (true, false));
    }
}
