//! The signing keys in use: kept in the store, parsed once, rotated live.
//!
//! Which key signs is decided for each token by [`KeyRing::active`], so that a
//! rotation happens at its second. The published set is built when it changes.
//!
//! ES256 has a key from the first start on. Another algorithm gets its first
//! one when a broker wants it, see [`Keys::ensure`]. Making an RSA key takes
//! its time: it is done on a thread of its own, and nothing is locked meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::keys::{InvalidKeySet, KeySet};
use fleetbadge_validator::time::UnixSeconds;
use tokio::sync::Mutex;

use crate::signing_keys::{
    KeyRing, KeyState, KeyTiming, Rotation, RotationRefused, Schedule, ScheduledKey, SigningKey,
    UnusableSigningKey, plan_rotation,
};
use crate::store::{SigningKeyRecord, Store, StoreError};

mod keepers;
mod workshop;

pub(crate) use keepers::Keepers;
use workshop::{NewKey, Workshop};

/// The keys of one moment, and what is published of them.
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
    /// The server ends while a key is made.
    #[error("signing key: it was not made, as the server is ending")]
    Ending,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The signing keys of an issuer.
pub struct Keys {
    store: Arc<dyn Store>,
    keepers: Arc<Keepers>,
    issuer: Box<str>,
    timing: KeyTiming,
    current: ArcSwap<CurrentKeys>,
    change: Mutex<()>,
    first_keys: Workshop,
    /// Whether the store may have keys that are not in use here yet.
    is_stale: AtomicBool,
    /// Whether somebody sees to the external signer at the moment.
    is_looked_after: Arc<AtomicBool>,
}

impl Keys {
    /// Reads the keys; makes the first one of ES256.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        keepers: Keepers,
        issuer: &str,
        timing: KeyTiming,
        now: UnixSeconds,
    ) -> Result<Self, KeyError> {
        let keepers = Arc::new(keepers);
        let records = store.signing_keys().await?;
        if records.iter().all(|record| record.algorithm != Algorithm::ES256) {
            let first = workshop::make(Algorithm::ES256, &keepers).await?.scheduled(Schedule::first(now));
            store.set_signing_keys(&[first]).await?;
        }
        let current = load(&*store, &keepers, issuer, now).await?;
        let current = ArcSwap::from_pointee(current);
        Ok(Self {
            store,
            keepers,
            issuer: issuer.into(),
            timing,
            current,
            change: Mutex::default(),
            first_keys: Workshop::default(),
            // There may be dropped keys that an end came before the deletion of.
            is_stale: AtomicBool::new(true),
            is_looked_after: Arc::default(),
        })
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
        if !is_due && !self.is_stale.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one_at_a_time = self.change.lock().await;
        self.reload(now).await
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
        let records = self.store.signing_keys().await?;
        if records.iter().all(|record| record.algorithm != algorithm) {
            let Some(key) = self.first_keys.collect(algorithm, &self.keepers).await? else {
                return Ok(());
            };
            self.is_stale.store(true, Ordering::Release);
            self.store.set_signing_keys(&[key.scheduled(Schedule::first(now))]).await?;
            tracing::info!(alg = algorithm.as_str(), kid = key.kid(), "the first key of an algorithm signs");
        }
        self.reload(now).await
    }

    /// Replaces the active key of an algorithm, or of every algorithm that has
    /// one: by a new key that is announced first, or `at_once`. All or none. An
    /// algorithm whose first key is only being made is left out; it is new
    /// anyway.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn rotate(
        &self,
        algorithm: Option<Algorithm>,
        at_once: bool,
        now: UnixSeconds,
    ) -> Result<(), KeyError> {
        let mut made = Vec::new();
        // Nobody else is kept from a change while a key is made; what they
        // have changed is seen in the next round.
        loop {
            let one_at_a_time = self.change.lock().await;
            let records = self.store.signing_keys().await?;
            match next_step(&records, algorithm, &made, self.timing, at_once, now)? {
                Step::Make(algorithm) => {
                    drop(one_at_a_time);
                    made.push(workshop::make(algorithm, &self.keepers).await?);
                }
                Step::Write(changed) => {
                    self.is_stale.store(true, Ordering::Release);
                    self.store.set_signing_keys(&changed).await?;
                    return self.reload(now).await;
                }
            }
        }
    }

    /// Seals those keys again that are not under the current root key. Whatever
    /// ends it, the next call goes on.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn seal_again(&self) -> Result<(), KeyError> {
        let _one_at_a_time = self.change.lock().await;
        let mut changed = Vec::new();
        for record in self.store.signing_keys().await? {
            if let Some(private) = self.keepers.seal_again(&record)? {
                changed.push(SigningKeyRecord { private, ..record });
            }
        }
        if !changed.is_empty() {
            self.store.set_signing_keys(&changed).await?;
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

    /// Destroys what an external signer keeps of a dropped key. False if that
    /// has to be tried again.
    async fn destroy(&self, key: SigningKeyRecord) -> bool {
        let keepers = Arc::clone(&self.keepers);
        let destroy = tokio::task::spawn_blocking(move || (keepers.destroy(&key), key.kid));
        match destroy.await {
            Ok((Ok(()), _)) => true,
            Ok((Err(error), kid)) => {
                tracing::warn!(kid, %error, "a dropped key is still in its token; it is tried again");
                false
            }
            Err(_) => false,
        }
    }

    async fn reload(&self, now: UnixSeconds) -> Result<(), KeyError> {
        let mut is_all_done = true;
        for key in self.store.signing_keys().await? {
            if key.schedule.state(now) == KeyState::Dropped {
                let kid = key.kid.clone();
                if self.destroy(key).await {
                    self.store.delete_signing_key(&kid).await?;
                } else {
                    is_all_done = false;
                }
            }
        }
        let current = load(&*self.store, &self.keepers, &self.issuer, now).await?;
        self.current.store(Arc::new(current));
        self.is_stale.store(!is_all_done, Ordering::Release);
        Ok(())
    }
}

/// What a rotation does next.
enum Step {
    /// Make a key.
    Make(Algorithm),
    /// Write these keys.
    Write(Vec<SigningKeyRecord>),
}

fn next_step(
    records: &[SigningKeyRecord],
    algorithm: Option<Algorithm>,
    made: &[NewKey],
    timing: KeyTiming,
    at_once: bool,
    now: UnixSeconds,
) -> Result<Step, RotationRefused> {
    let mut keys: Vec<_> = records.iter().map(|record| (record.algorithm, record.schedule)).collect();
    let has_key = |candidate: Algorithm, is_in_use: fn(KeyState) -> bool| {
        keys.iter().any(|(of, schedule)| *of == candidate && is_in_use(schedule.state(now)))
    };
    // Without any active key at all the clock went back, and that is said. A
    // first key that came while others were made signs from a moment after
    // `now`.
    let has_active = |candidate| has_key(candidate, |state| state == KeyState::Active);
    let is_clock_right = Algorithm::ALL.into_iter().any(has_active);
    let rotated: Vec<Algorithm> = match algorithm {
        Some(algorithm) => vec![algorithm],
        None if is_clock_right => Algorithm::ALL.into_iter().filter(|of| has_active(*of)).collect(),
        None => Algorithm::ALL.into_iter().filter(|of| has_key(*of, |_| true)).collect(),
    };
    let with_schedule = |(position, schedule): (usize, Schedule)| {
        records.get(position).map(|record| SigningKeyRecord { schedule, ..record.clone() })
    };
    let (mut changed, mut missing) = (Vec::new(), None);
    for algorithm in rotated {
        match plan_rotation(&keys, algorithm, timing, at_once, now)? {
            Rotation::Successor { active, successor } => {
                keys.push((algorithm, successor));
                changed.extend(with_schedule(active));
                match made.iter().find(|key| key.algorithm() == algorithm) {
                    Some(key) => changed.push(key.scheduled(successor)),
                    None => missing = Some(algorithm),
                }
            }
            Rotation::Promotion { active, announced } => {
                changed.extend([active, announced].into_iter().filter_map(with_schedule));
            }
        }
    }
    Ok(missing.map_or(Step::Write(changed), Step::Make))
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
        .into_iter()
        .map(|record| Ok(ScheduledKey { key: keepers.open(&record)?, schedule: record.schedule }))
        .collect();
    let ring = KeyRing::new(keys?);
    let jwks = serde_json::to_vec(&ring.jwks(now))?;
    let (key_set, _) = KeySet::from_json(issuer, &jwks)?;
    let hash = digest::digest(&digest::SHA256, &jwks);
    let (tag, _) = hash.as_ref().split_at(16);
    Ok(CurrentKeys {
        etag: format!("\"{}\"", URL_SAFE_NO_PAD.encode(tag)),
        jwks: jwks.into(),
        key_set: Arc::new(key_set),
        next_change: ring.next_change(now),
        ring,
    })
}

#[cfg(test)]
mod tests;
