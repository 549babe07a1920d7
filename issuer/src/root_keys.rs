//! Which root keys this node has, which one is current, and how it changes
//! without an interruption:
//!
//! 1. `add`: the file gets one more key, which nothing is under yet. The other
//!    nodes get the file.
//! 2. `use`: the database says that it is the current one. Every node looks
//!    there every few seconds, and from then on seals and hashes under it.
//! 3. Signing keys are sealed again at once, hashes of secrets and passwords
//!    when they are next presented, see [`crate::rehash`].
//! 4. `remove`: the file loses a key that nothing is under any more.
//!
//! The database names the current key so that all nodes change over together,
//! whatever the order of the lines in their files, and so that a node with
//! other root keys than the database's is found out: at the start it is
//! refused, later it answers 503 until it has the key.

use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::random::Random;
use crate::root_key::{
    InvalidRootKeyId, InvalidRootKeys, MAX_ROOT_KEYS, RootKey, RootKeyFile, RootKeyFileError, RootKeyId,
    RootKeySet, RootKeysInUse, UnknownRootKey,
};
use crate::store::{Store, StoreError};

mod usage;

pub use usage::Usage;

/// How often it is looked whether the file or the database says something
/// else, in seconds.
pub(crate) const REFRESH_S: u64 = 5;

/// The root keys of this node.
pub(crate) struct RootKeys {
    file: Arc<RootKeyFile>,
    store: Arc<dyn Store>,
    random: Random,
    in_use: RootKeysInUse,
    change: tokio::sync::Mutex<()>,
    /// The current root key, if this node does not have it; nobody's if it
    /// does. Every request looks here.
    missing: AtomicU64,
    /// What was last said of a file that cannot be used.
    complaint: Mutex<Option<String>>,
}

/// This node does not have the current root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("root key {0} is current, and this node does not have it")]
pub(crate) struct RootKeyMissing(pub(crate) RootKeyId);

/// The root keys cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] RootKeyFileError),
    /// The database is another issuer's, or a line is missing.
    #[error(
        "the database is under root key {found}, and {file} has {}; give the file that belongs to this database, \
         or the database that belongs to this file",
        list(had)
    )]
    OtherDatabase {
        /// The current root key of the database.
        found: RootKeyId,
        /// The file.
        file: String,
        /// What it has.
        had: Vec<RootKeyId>,
    },
    /// What was named is not the ID of a root key.
    #[error("{found:?} {reason}")]
    Id {
        /// What was named.
        found: String,
        /// What is wrong with it.
        reason: InvalidRootKeyId,
    },
    /// This node has no such key.
    #[error(transparent)]
    Unknown(#[from] UnknownRootKey),
    /// There are [`MAX_ROOT_KEYS`].
    #[error(
        "there are {MAX_ROOT_KEYS} root keys, the most that there may be; remove one first: root-key list"
    )]
    TooMany,
    /// Everything new is under it.
    #[error("root key {0} is current; use another one first: root-key use ID")]
    Current(RootKeyId),
    /// Something would be lost with it.
    #[error("root key {id} is still needed: {usage}{}", usage.example())]
    Needed {
        /// Which.
        id: RootKeyId,
        /// For what.
        usage: Usage,
    },
    /// Somebody else changed which one is current.
    #[error("another node changed the root key at the same time; look again: root-key list")]
    Busy,
    /// No key can be made, or the server ends.
    #[error("the server is ending")]
    Ending,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(ids: &[RootKeyId]) -> String {
    ids.iter().map(RootKeyId::to_string).collect::<Vec<_>>().join(", ")
}

/// What a root key is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RootKeyState {
    /// Everything new is under it.
    Current,
    /// What is under it is good.
    Known,
    /// This node does not have it: what is under it is refused.
    Missing,
}

impl RootKeys {
    /// Reads the file, and holds it against the database.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub(crate) async fn open(
        file: RootKeyFile,
        keys: &[RootKey],
        store: Arc<dyn Store>,
        random: Random,
    ) -> Result<Self, RootKeyError> {
        let current = match (store.root_key().await?, keys.first()) {
            (Some(current), _) => current,
            (None, Some(first)) => {
                // Should another node be faster, its choice stands.
                store.set_root_key(first.id(), None).await?;
                store.root_key().await?.ok_or(RootKeyError::Busy)?
            }
            (None, None) => {
                return Err(RootKeyFileError::Content {
                    path: file.path().into(),
                    source: InvalidRootKeys::None,
                }
                .into());
            }
        };
        let set =
            RootKeySet::new(keys, current).map_err(|UnknownRootKey(found)| RootKeyError::OtherDatabase {
                found,
                file: file.path().display().to_string(),
                had: keys.iter().map(RootKey::id).collect(),
            })?;
        Ok(Self {
            file: Arc::new(file),
            store,
            random,
            in_use: RootKeysInUse::new(set),
            change: tokio::sync::Mutex::default(),
            missing: AtomicU64::new(RootKeyId::NOBODYS.to_bits()),
            complaint: Mutex::default(),
        })
    }

    /// The file that they are in.
    pub(crate) fn file(&self) -> &Path {
        self.file.path()
    }

    /// Those in use.
    pub(crate) const fn in_use(&self) -> &RootKeysInUse {
        &self.in_use
    }

    /// That this node has the current root key. Without it, secrets that are
    /// right would be refused.
    ///
    /// # Errors
    /// [`RootKeyMissing`].
    pub(crate) fn check(&self) -> Result<(), RootKeyMissing> {
        match RootKeyId::from_bits(self.missing.load(Ordering::Relaxed)) {
            RootKeyId::NOBODYS => Ok(()),
            id => Err(RootKeyMissing(id)),
        }
    }

    /// Takes up what the file and the database say. A file that cannot be used
    /// is logged once, and the keys in use stay.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.change.lock().await;
        let keys = match self.read().await {
            Ok(keys) => Some(keys),
            Err(error) => {
                self.complain(&error);
                None
            }
        };
        let in_use = self.in_use.now();
        let current = self.store.root_key().await?.unwrap_or(in_use.current());
        let next = match &keys {
            Some(keys) => {
                *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = None;
                let mut ids: Vec<RootKeyId> = keys.iter().map(RootKey::id).collect();
                let mut had: Vec<RootKeyId> = in_use.ids().collect();
                ids.sort_unstable();
                had.sort_unstable();
                if ids == had && current == in_use.current() {
                    self.set_missing(None);
                    return Ok(());
                }
                RootKeySet::new(keys, current)
            }
            None if in_use.current() == current => return Ok(()),
            None => Err(UnknownRootKey(current)),
        };
        match next {
            Ok(set) => {
                tracing::info!(current = %set.current(), known = %list(&set.ids().collect::<Vec<_>>()), "root keys taken up");
                self.in_use.replace(set);
                self.set_missing(None);
            }
            Err(UnknownRootKey(current)) => self.set_missing(Some(current)),
        }
        Ok(())
    }

    fn set_missing(&self, id: Option<RootKeyId>) {
        let bits = id.unwrap_or(RootKeyId::NOBODYS).to_bits();
        let former = self.missing.swap(bits, Ordering::Relaxed);
        if let Some(id) = id
            && former != bits
        {
            let file = self.file.path().display();
            tracing::error!(
                "root key {id} is current, and {file} does not have it: no tokens until it does; copy the file from \
                 another node"
            );
        }
    }

    fn complain(&self, error: &RootKeyError) {
        let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        let text = error.to_string();
        if complaint.as_ref() != Some(&text) {
            tracing::error!(error = text, "the root keys in use stay, as the file cannot be used");
            *complaint = Some(text);
        }
    }

    async fn read(&self) -> Result<Vec<RootKey>, RootKeyError> {
        let file = Arc::clone(&self.file);
        Ok(tokio::task::spawn_blocking(move || file.read()).await.map_err(|_| RootKeyError::Ending)??)
    }

    async fn write(&self, keys: Vec<RootKey>) -> Result<(), RootKeyError> {
        let current = self.in_use.now().current();
        let set = RootKeySet::new(&keys, current)?;
        let file = Arc::clone(&self.file);
        let write = move || file.write(&keys);
        tokio::task::spawn_blocking(write).await.map_err(|_| RootKeyError::Ending)??;
        self.in_use.replace(set);
        Ok(())
    }

    /// Puts one more key into the file, which nothing is under yet.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub(crate) async fn add(&self) -> Result<RootKeyId, RootKeyError> {
        let _one_at_a_time = self.change.lock().await;
        let mut keys = self.read().await?;
        if keys.len() >= MAX_ROOT_KEYS {
            return Err(RootKeyError::TooMany);
        }
        let key = RootKey::generate(&*self.random).map_err(RootKeyFileError::from)?;
        let id = key.id();
        keys.push(key);
        self.write(keys).await?;
        Ok(id)
    }

    /// Makes a key of the file the current one, of all nodes.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub(crate) async fn make_current(&self, id: &str) -> Result<RootKeyId, RootKeyError> {
        let id = parse(id)?;
        let _one_at_a_time = self.change.lock().await;
        let set = RootKeySet::new(&self.read().await?, id)?;
        let former = self.store.root_key().await?;
        if former != Some(id) && !self.store.set_root_key(id, former).await? {
            return Err(RootKeyError::Busy);
        }
        self.in_use.replace(set);
        self.set_missing(None);
        Ok(id)
    }

    /// Takes a key out of the file, if nothing is under it.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub(crate) async fn remove(&self, id: &str, now: UnixSeconds) -> Result<RootKeyId, RootKeyError> {
        let id = parse(id)?;
        let _one_at_a_time = self.change.lock().await;
        let mut keys = self.read().await?;
        if !keys.iter().any(|key| key.id() == id) {
            return Err(UnknownRootKey(id).into());
        }
        if self.store.root_key().await?.is_none_or(|current| current == id)
            || self.in_use.now().current() == id
        {
            return Err(RootKeyError::Current(id));
        }
        let usage = usage::count(&*self.store, now).await?.remove(&id).unwrap_or_default();
        if !usage.is_none() {
            return Err(RootKeyError::Needed { id, usage });
        }
        keys.retain(|key| key.id() != id);
        self.write(keys).await?;
        Ok(id)
    }

    /// Every root key that this node has or that something is under, the
    /// current one first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn list(
        &self,
        now: UnixSeconds,
    ) -> Result<Vec<(RootKeyId, RootKeyState, Usage)>, StoreError> {
        let in_use = self.in_use.now();
        let mut usage = usage::count(&*self.store, now).await?;
        let current = in_use.current();
        let mut all: Vec<_> = in_use
            .ids()
            .map(|id| {
                let state = if id == current { RootKeyState::Current } else { RootKeyState::Known };
                (id, state, usage.remove(&id).unwrap_or_default())
            })
            .collect();
        if let Err(RootKeyMissing(id)) = self.check()
            && let Entry::Vacant(place) = usage.entry(id)
        {
            place.insert(Usage::default());
        }
        all.extend(usage.into_iter().map(|(id, usage)| (id, RootKeyState::Missing, usage)));
        Ok(all)
    }
}

fn parse(id: &str) -> Result<RootKeyId, RootKeyError> {
    id.parse().map_err(|reason| RootKeyError::Id { found: id.into(), reason })
}

#[cfg(test)]
mod tests;
