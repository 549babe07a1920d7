//! The signing keys in use: kept in the store, parsed once, rotated live.
//!
//! Which key signs is decided for each token by [`KeyRing::active`], so that a
//! rotation happens at its second. The published set is built when it changes.
//!
//! ES256 has a key from the first start on. Another algorithm gets its first
//! one when a broker wants it, see [`Keys::ensure`]. Making an RSA key takes
//! its time: it is done on a thread of its own, and nothing is locked meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::keys::{InvalidKeySet, KeySet};
use fleetbadge_validator::time::UnixSeconds;
use tokio::sync::Mutex;

use crate::brokers::Brokers;
use crate::signing_keys::holders::heard_of_since;
use crate::signing_keys::{
    KeyRing, KeyState, KeyTiming, PrivateHalf, RotationRefused, Schedule, ScheduledKey, SigningKey,
    UnusableSigningKey,
};
use crate::store::{
    ReportRecord, SigningKeyChange, SigningKeyRecord, SigningKeySet, SigningKeysNotChanged, Store, StoreError,
};

mod change;
mod keepers;
mod turn;
mod workshop;

pub(crate) use keepers::Keepers;
use workshop::{Destruction, Workshop};

/// The keys of one moment, and what is published of them.
#[derive(Clone)]
pub struct CurrentKeys {
    /// The keys.
    pub ring: KeyRing,
    /// The JWK Set, as it is published.
    pub jwks: Bytes,
    /// The entity tag of the JWK Set (RFC 9110 §8.8.3), quotes included.
    pub etag: String,
    /// The same keys, to verify tokens with in this process.
    pub key_set: Arc<KeySet>,
    /// When a key changes its state next.
    next_change: Option<UnixSeconds>,
}

/// The signing keys cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key cannot be made or read.
    #[error("signing key: {0}")]
    Unusable(#[from] UnusableSigningKey),
    /// The keys cannot be published.
    #[error("signing keys: {0}")]
    KeySet(#[from] InvalidKeySet),
    /// The JWK Set cannot be written.
    #[error("signing keys: {0}")]
    Json(#[from] serde_json::Error),
    /// A rotation is not possible now.
    #[error(transparent)]
    Refused(#[from] RotationRefused),
    /// There is no such key.
    #[error("there is no signing key {kid:?}; key list shows them")]
    NoSuchKey {
        /// What was asked for.
        kid: String,
    },
    /// The server ends while a key is made.
    #[error("signing key: it was not made, as the server is ending")]
    Ending,
    /// Nobody waits longer for a key.
    #[error("signing key: it was not made within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The signing keys of an issuer.
pub struct Keys {
    store: Arc<dyn Store>,
    keepers: Arc<Keepers>,
    /// They say how soon a key is fetched.
    brokers: Arc<Brokers>,
    issuer: Box<str>,
    timing: KeyTiming,
    current: ArcSwap<CurrentKeys>,
    change: Mutex<()>,
    workshop: Workshop,
    destruction: Destruction,
    /// Whether the store may have keys that are not in use here yet, or that
    /// are still to be deleted.
    is_stale: AtomicBool,
    /// Until when it was looked which keys have begun to sign.
    looked_until: AtomicU64,
    /// Whether somebody sees to the external signer at the moment.
    is_looked_after: Arc<AtomicBool>,
}

impl Keys {
    /// Reads the keys; makes the first one of ES256.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        keepers: Keepers,
        brokers: Arc<Brokers>,
        issuer: &str,
        timing: KeyTiming,
        now: UnixSeconds,
    ) -> Result<Self, KeyError> {
        let keepers = Arc::new(keepers);
        let SigningKeySet { revision, keys } = store.signing_keys().await?;
        if keys.iter().all(|record| record.algorithm != Algorithm::ES256) {
            let mut made = workshop::make(Algorithm::ES256, &keepers).await?;
            let first = made.scheduled(Schedule::first(now));
            let added = SigningKeyChange { revision, set: &[first], ..SigningKeyChange::default() };
            made.set_may_be_stored(true);
            match store.change_signing_keys(&added).await {
                Ok(()) => {}
                // Another node made the first one.
                Err(SigningKeysNotChanged::Conflict) => made.set_may_be_stored(false),
                Err(SigningKeysNotChanged::Store(error)) => return Err(error.into()),
            }
        }
        let current = load(&*store, &keepers, issuer, now).await?;
        let current = ArcSwap::from_pointee(current);
        Ok(Self {
            store,
            keepers,
            brokers,
            issuer: issuer.into(),
            timing,
            current,
            change: Mutex::default(),
            workshop: Workshop::default(),
            destruction: Destruction::default(),
            // There may be dropped keys that an end came before the deletion of.
            is_stale: AtomicBool::new(true),
            looked_until: AtomicU64::new(0),
            is_looked_after: Arc::default(),
        })
    }

    /// How long what takes.
    #[must_use]
    pub const fn timing(&self) -> &KeyTiming {
        &self.timing
    }

    /// The keys of this moment.
    #[must_use]
    pub fn current(&self) -> Guard<Arc<CurrentKeys>> {
        self.current.load()
    }

    /// Publishes what the time has changed, and deletes keys that are dropped.
    ///
    /// # Errors
    /// [`KeyError`]; the keys in use stay as they are.
    pub async fn refresh(&self, now: UnixSeconds) -> Result<(), KeyError> {
        let is_due = self.current().next_change.is_some_and(|change| now >= change);
        if !self.is_stale.swap(false, Ordering::AcqRel) && !is_due {
            return Ok(());
        }
        let refreshed = async {
            let is_all_done = self.drop_ended(now).await?;
            self.reload(now).await?;
            Ok(is_all_done)
        };
        let refreshed = refreshed.await;
        if !matches!(refreshed, Ok(true)) {
            self.is_stale.store(true, Ordering::Release);
        }
        refreshed.map(drop)
    }

    /// Sees to it that there is a key of this algorithm. The first one is begun
    /// here and made elsewhere; a later call finds it made, and from then on it
    /// signs ([`Schedule::first`]). Ask again until it is there: until then
    /// nothing waits and nothing is written, so a restart begins anew.
    ///
    /// # Errors
    /// [`KeyError`]; the next call begins anew.
    pub async fn ensure(&self, algorithm: Algorithm, now: UnixSeconds) -> Result<(), KeyError> {
        if self.current().ring.has(algorithm) {
            return Ok(());
        }
        let _one_at_a_time = self.change.lock().await;
        // If the database fails, no work is begun that could not be kept.
        let SigningKeySet { revision, keys } = self.store.signing_keys().await?;
        if keys.iter().all(|record| record.algorithm != algorithm) {
            let Some(mut key) = self.workshop.collect(algorithm, &self.keepers).await? else {
                return Ok(());
            };
            let first = [key.scheduled(Schedule::first(now))];
            let added = SigningKeyChange { revision, set: &first, ..SigningKeyChange::default() };
            key.set_may_be_stored(true);
            let is_written = self.write(&added).await?;
            key.set_may_be_stored(is_written);
            if is_written {
                tracing::info!(
                    alg = algorithm.as_str(),
                    kid = key.kid(),
                    "the first key of an algorithm signs"
                );
            }
        }
        self.load(now).await
    }

    /// Deletes the keys that are dropped, first where an external signer keeps
    /// them. Whether all of them are gone.
    async fn drop_ended(&self, now: UnixSeconds) -> Result<bool, KeyError> {
        let is_dropped = |key: &SigningKeyRecord| key.schedule.state(now) == KeyState::Dropped;
        let mut dropped = self.store.signing_keys().await?.keys;
        dropped.retain(is_dropped);
        if dropped.is_empty() {
            return Ok(true);
        }
        let is_here = |key: &SigningKeyRecord| matches!(key.private, PrivateHalf::Sealed(_));
        let (here, elsewhere): (Vec<_>, Vec<_>) = dropped.into_iter().partition(is_here);
        let waiting: Vec<String> = elsewhere.iter().map(|key| key.kid.clone()).collect();
        let mut gone = self.destruction.collect(elsewhere, &self.keepers).await;
        // A batch that was begun earlier may have been of other keys.
        let is_all_done = waiting.iter().all(|kid| gone.contains(kid));
        gone.extend(here.into_iter().map(|key| key.kid));
        let _one_at_a_time = self.change.lock().await;
        let SigningKeySet { revision, keys } = self.store.signing_keys().await?;
        let gone = keys.iter().filter(|key| is_dropped(key) && gone.contains(&key.kid));
        let gone: Vec<&str> = gone.map(|key| key.kid.as_str()).collect();
        if gone.is_empty() {
            return Ok(is_all_done);
        }
        // If another node was faster, it has deleted them, or the next tick does.
        let change = SigningKeyChange { revision, delete: &gone, ..SigningKeyChange::default() };
        Ok(self.write(&change).await? && is_all_done)
    }

    /// Changes the stored keys; false if somebody else did meanwhile.
    async fn write(&self, change: &SigningKeyChange<'_>) -> Result<bool, KeyError> {
        self.is_stale.store(true, Ordering::Release);
        match self.store.change_signing_keys(change).await {
            Ok(()) => Ok(true),
            Err(SigningKeysNotChanged::Conflict) => Ok(false),
            Err(SigningKeysNotChanged::Store(error)) => Err(error.into()),
        }
    }

    /// Takes up the keys that are stored, whoever changed them.
    ///
    /// # Errors
    /// [`KeyError`]; the keys in use stay as they are.
    pub async fn reload(&self, now: UnixSeconds) -> Result<(), KeyError> {
        let _one_at_a_time = self.change.lock().await;
        self.load(now).await
    }

    /// Seals those keys again that are not under the current root key. Whatever
    /// ends it, the next call goes on.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn seal_again(&self) -> Result<(), KeyError> {
        let _one_at_a_time = self.change.lock().await;
        let SigningKeySet { revision, keys } = self.store.signing_keys().await?;
        let mut changed = Vec::new();
        for record in keys {
            if let Some(private) = self.keepers.seal_again(&record)? {
                changed.push(SigningKeyRecord { private, ..record });
            }
        }
        let change = SigningKeyChange { revision, set: &changed, ..SigningKeyChange::default() };
        if !changed.is_empty() && self.write(&change).await? {
            tracing::info!(keys = changed.len(), "signing keys sealed again, under the current root key");
        }
        Ok(())
    }

    /// Sees to the external signer, if there is one; nobody waits for it.
    pub(crate) fn look_after_signer(&self) {
        if let Some(signer) = self.keepers.signer()
            && !self.is_looked_after.swap(true, Ordering::AcqRel)
        {
            let (signer, is_looked_after) = (Arc::clone(signer), Arc::clone(&self.is_looked_after));
            tokio::task::spawn_blocking(move || {
                signer.look_after();
                is_looked_after.store(false, Ordering::Release);
            });
        }
    }

    /// Whether a key that signs now is kept by an external signer that is not
    /// there.
    pub(crate) fn is_signer_missed(&self, now: UnixSeconds) -> bool {
        let is_in_use = |ring: &KeyRing| {
            let active = |algorithm| ring.active(algorithm, now).is_some_and(SigningKey::is_external);
            Algorithm::ALL.into_iter().any(active)
        };
        self.keepers.signer().is_some_and(|signer| !signer.is_there()) && is_in_use(&self.current().ring)
    }

    /// What validators said within a day, with a secret that their broker still
    /// has: what came with another one may be anybody's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn heard_of(&self, now: UnixSeconds) -> Result<Vec<ReportRecord>, StoreError> {
        let mut reports = self.store.reports(heard_of_since(now)).await?;
        reports.retain(|report| {
            self.brokers.find(report.broker.as_str()).is_some_and(|broker| {
                broker.secrets.iter().any(|secret| secret.id == report.secret && secret.is_in_time(now))
            })
        });
        Ok(reports)
    }

    async fn load(&self, now: UnixSeconds) -> Result<(), KeyError> {
        let current = load(&*self.store, &self.keepers, &self.issuer, now).await?;
        self.current.store(Arc::new(current));
        Ok(())
    }
}

impl CurrentKeys {
    fn of(ring: KeyRing, issuer: &str, now: UnixSeconds) -> Result<Self, KeyError> {
        let jwks = serde_json::to_vec(&ring.jwks(now))?;
        let (key_set, _) = KeySet::from_json(issuer, &jwks)?;
        let hash = digest::digest(&digest::SHA256, &jwks);
        let (tag, _) = hash.as_ref().split_at(16);
        Ok(Self {
            etag: format!("\"{}\"", URL_SAFE_NO_PAD.encode(tag)),
            jwks: jwks.into(),
            key_set: Arc::new(key_set),
            next_change: ring.next_change(now),
            ring,
        })
    }
}

async fn load(
    store: &dyn Store,
    keepers: &Keepers,
    issuer: &str,
    now: UnixSeconds,
) -> Result<CurrentKeys, KeyError> {
    let keys: Result<Vec<ScheduledKey>, KeyError> = store
        .signing_keys()
        .await?
        .keys
        .into_iter()
        .map(|record| Ok(ScheduledKey { key: Arc::new(keepers.open(&record)?), schedule: record.schedule }))
        .collect();
    CurrentKeys::of(KeyRing::new(keys?), issuer, now)
}

#[cfg(test)]
mod tests;
