//! Which root keys this node has, which one is current, and how it changes
//! without an interruption:
//!
//! 1. `add`: the file gets one more key, which nothing is under yet. The other
//!    nodes get the file.
//! 2. `use`: the database says that it is the current one. Every node hears of
//!    it as of other changes, and from then on seals and hashes under it.
//! 3. Signing keys are sealed again at once, hashes of secrets and passwords
//!    when they are next presented, see [`crate::rehash`].
//! 4. `remove`: the database and the file lose a key that nothing is under any
//!    more.
//!
//! The database names the current key so that all nodes change over together,
//! whatever the order of the lines in their files; and those before it, until
//! they are removed, so that a node without one is found out. It would refuse
//! secrets that are right: it answers 503 until it has the key. Without the
//! current one it is not even started.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::random::Random;
use crate::root_key::{
    InvalidRootKeys, MAX_ROOT_KEYS, RootKey, RootKeyFile, RootKeyFileError, RootKeyId, RootKeySet,
    RootKeysInUse, UnknownRootKey,
};
use crate::store::{NeededRootKeys, Store, StoreError};

mod error;
mod usage;

pub use error::RootKeyError;
pub use usage::Usage;

/// How often it is looked whether the file says something else, in seconds.
pub(crate) const REFRESH_S: u64 = 5;

/// The root keys of this node.
pub(crate) struct RootKeys {
    file: Arc<RootKeyFile>,
    store: Arc<dyn Store>,
    random: Random,
    in_use: RootKeysInUse,
    change: tokio::sync::Mutex<()>,
    /// A root key that is needed and that this node does not have; nobody's if
    /// it has all. Every request looks here.
    missing: AtomicU64,
    /// What was last said of a file that cannot be used.
    complaint: Mutex<Option<String>>,
}

/// This node does not have a root key that something is under, or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("root key {0} is needed, and this node does not have it")]
pub(crate) struct RootKeyMissing(pub(crate) RootKeyId);

/// What a root key is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RootKeyState {
    /// Everything new is under it.
    Current,
    /// What is under it is good.
    Known,
    /// This node does not have it. Nothing is answered while it is needed; what
    /// is under one that was removed is refused.
    Missing,
    /// The same, and everything new is under it.
    #[serde(rename = "current_missing")]
    CurrentMissing,
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
        let needed = match (store.root_keys().await?, keys.first()) {
            (Some(needed), _) => needed,
            (None, Some(first)) => {
                // Should another node be faster, its choice stands.
                store.set_root_key(first.id(), None).await?;
                store.root_keys().await?.ok_or(RootKeyError::Busy)?
            }
            (None, None) => {
                return Err(RootKeyFileError::Content {
                    path: file.path().into(),
                    source: InvalidRootKeys::None,
                }
                .into());
            }
        };
        let set = RootKeySet::new(keys, needed.current).map_err(|UnknownRootKey(found)| {
            RootKeyError::OtherDatabase {
                found,
                file: file.path().display().to_string(),
                had: keys.iter().map(RootKey::id).collect(),
            }
        })?;
        let opened = Self {
            file: Arc::new(file),
            store,
            random,
            in_use: RootKeysInUse::new(set),
            change: tokio::sync::Mutex::default(),
            missing: AtomicU64::new(RootKeyId::NOBODYS.to_bits()),
            complaint: Mutex::default(),
        };
        opened.look_for_missing(&needed);
        Ok(opened)
    }

    /// The file that they are in.
    pub(crate) fn file(&self) -> &Path {
        self.file.path()
    }

    /// Those in use.
    pub(crate) const fn in_use(&self) -> &RootKeysInUse {
        &self.in_use
    }

    /// That this node has the root keys that are needed. Without one, secrets
    /// that are right would be refused.
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
        self.take_up().await
    }

    async fn take_up(&self) -> Result<(), StoreError> {
        let keys = match self.read().await {
            Ok(keys) => {
                *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Some(keys)
            }
            Err(error) => {
                self.complain(&error);
                None
            }
        };
        let Some(needed) = self.store.root_keys().await? else {
            return Ok(());
        };
        let in_use = self.in_use.now();
        match keys.map(|keys| RootKeySet::new(&keys, needed.current)) {
            Some(Ok(set)) => {
                let [ids, had] = [&set, &*in_use].map(sorted_ids);
                if ids != had || set.current() != in_use.current() {
                    tracing::info!(current = %set.current(), known = %error::list(&ids), "root keys taken up");
                    self.in_use.replace(set);
                }
                self.look_for_missing(&needed);
            }
            Some(Err(UnknownRootKey(current))) => self.set_missing(Some(current), needed.current),
            None => self.look_for_missing(&needed),
        }
        Ok(())
    }

    /// Sees whether one of those is not in use here.
    fn look_for_missing(&self, needed: &NeededRootKeys) {
        let in_use = self.in_use.now();
        let missing = if in_use.current() == needed.current {
            needed.others.iter().copied().find(|id| !in_use.has(*id))
        } else {
            Some(needed.current)
        };
        self.set_missing(missing, needed.current);
    }

    fn set_missing(&self, id: Option<RootKeyId>, current: RootKeyId) {
        let bits = id.unwrap_or(RootKeyId::NOBODYS).to_bits();
        let former = self.missing.swap(bits, Ordering::Relaxed);
        if let Some(id) = id
            && former != bits
        {
            let file = self.file.path().display();
            let (what, way_out) = if id == current {
                ("current", String::new())
            } else {
                ("needed", format!(", or, if it was taken away for good: root-key remove {id} --yes"))
            };
            tracing::error!(
                "root key {id} is {what}, and {file} does not have it: no tokens until it does; copy the file from \
                 another node{way_out}"
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

    /// Makes a key of the file the current one, of all nodes. Nothing is done
    /// unless this node can open what is under the others.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub(crate) async fn make_current(&self, id: &str) -> Result<RootKeyId, RootKeyError> {
        let id = parse(id)?;
        let _one_at_a_time = self.change.lock().await;
        let keys = self.read().await?;
        let set = RootKeySet::new(&keys, id)?;
        let needed = self.store.root_keys().await?;
        let missing = needed.as_ref().and_then(|needed| needed.ids().find(|id| !set.has(*id)));
        if let Some(missing) = missing {
            return Err(RootKeyError::Missing(missing));
        }
        let sealer = RootKeysInUse::new(RootKeySet::new(&keys, id)?).key_sealer();
        for record in self.store.signing_keys().await?.keys {
            if let Err(reason) = sealer.open(&record.kid, record.private.sealed()) {
                return Err(RootKeyError::SigningKey { kid: record.kid, reason });
            }
        }
        let former = needed.map(|needed| needed.current);
        if former != Some(id) && !self.store.set_root_key(id, former).await? {
            return Err(RootKeyError::Busy);
        }
        self.in_use.replace(set);
        self.set_missing(None, id);
        Ok(id)
    }

    /// Takes a key out of the database and of the file, if nothing is under it;
    /// or `although_needed`, so that what is under it is refused from then on.
    /// Signing keys are not given up like that.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub(crate) async fn remove(
        &self,
        id: &str,
        although_needed: bool,
        now: UnixSeconds,
    ) -> Result<RootKeyId, RootKeyError> {
        let id = parse(id)?;
        // It takes its time, and nobody is to wait for it to hear of a change.
        let usage = usage::count(&*self.store, now).await?.remove(&id).unwrap_or_default();
        let _one_at_a_time = self.change.lock().await;
        let mut keys = self.read().await?;
        let needed = self.store.root_keys().await?;
        let is_here = keys.iter().any(|key| key.id() == id);
        if !is_here && !needed.as_ref().is_some_and(|needed| needed.ids().any(|needed| needed == id)) {
            return Err(UnknownRootKey(id).into());
        }
        if needed.is_none_or(|needed| needed.current == id) || self.in_use.now().current() == id {
            return Err(RootKeyError::Current(id));
        }
        if usage.signing_keys > 0 || !(although_needed || usage.is_none()) {
            return Err(RootKeyError::Needed { id, usage });
        }
        // First, so that no node misses it.
        self.store.forget_root_key(id).await?;
        if is_here {
            keys.retain(|key| key.id() != id);
            self.write(keys).await?;
        }
        self.take_up().await?;
        Ok(id)
    }

    /// Every root key that this node has, that is needed or that something is
    /// under, the current one first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn list(
        &self,
        now: UnixSeconds,
    ) -> Result<Vec<(RootKeyId, RootKeyState, Usage)>, StoreError> {
        let mut usage = usage::count(&*self.store, now).await?;
        let needed = self.store.root_keys().await?;
        let in_use = self.in_use.now();
        let current = needed.as_ref().map_or(in_use.current(), |needed| needed.current);
        let is_missing = |id| !in_use.has(id) || self.check() == Err(RootKeyMissing(id));
        let mut ids = vec![current];
        let others = needed.iter().flat_map(NeededRootKeys::ids).chain(in_use.ids());
        for id in others.chain(usage.keys().copied()) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let state = |id| match (id == current, is_missing(id)) {
            (true, false) => RootKeyState::Current,
            (true, true) => RootKeyState::CurrentMissing,
            (false, false) => RootKeyState::Known,
            (false, true) => RootKeyState::Missing,
        };
        Ok(ids.into_iter().map(|id| (id, state(id), usage.remove(&id).unwrap_or_default())).collect())
    }
}

fn sorted_ids(set: &RootKeySet) -> Vec<RootKeyId> {
    let mut ids: Vec<RootKeyId> = set.ids().collect();
    ids.sort_unstable();
    ids
}

fn parse(id: &str) -> Result<RootKeyId, RootKeyError> {
    id.parse().map_err(|reason| RootKeyError::Id { found: id.into(), reason })
}

#[cfg(test)]
mod tests;
