//! The signing keys in use: kept in the store, parsed once, rotated live.
//!
//! Which key signs is decided for each token by [`KeyRing::active`], so that a
//! rotation happens at its second. The published set is built when it changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use fleetbadge_validator::keys::{InvalidKeySet, KeySet};
use fleetbadge_validator::time::UnixSeconds;
use tokio::sync::Mutex;

use crate::root_key::KeySealer;
use crate::signing_keys::{
    KeyRing, KeyState, KeyTiming, Rotation, RotationRefused, Schedule, ScheduledKey, SigningKey,
    UnusableSigningKey, plan_rotation,
};
use crate::store::{SigningKeyRecord, Store, StoreError};

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
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The signing keys of an issuer.
pub struct Keys {
    store: Arc<dyn Store>,
    sealer: KeySealer,
    issuer: Box<str>,
    timing: KeyTiming,
    current: ArcSwap<CurrentKeys>,
    change: Mutex<()>,
    /// Whether the store may have keys that are not in use here yet.
    is_stale: AtomicBool,
}

impl Keys {
    /// Reads the keys; makes the first one, which signs at once: no broker can
    /// have an older set.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        sealer: KeySealer,
        issuer: &str,
        timing: KeyTiming,
        now: UnixSeconds,
    ) -> Result<Self, KeyError> {
        if store.signing_keys().await?.is_empty() {
            let (key, sealed) = SigningKey::generate(&sealer)?;
            let schedule = Schedule { announced_at: now, active_at: now, retired_at: None, dropped_at: None };
            store
                .set_signing_keys(&[SigningKeyRecord {
                    kid: key.kid().into(),
                    algorithm: key.algorithm(),
                    sealed,
                    schedule,
                }])
                .await?;
        }
        let current = load(&*store, &sealer, issuer, now).await?;
        let current = ArcSwap::from_pointee(current);
        Ok(Self {
            store,
            sealer,
            issuer: issuer.into(),
            timing,
            current,
            change: Mutex::default(),
            is_stale: AtomicBool::new(false),
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

    /// Replaces the active key: by a new one that is announced first, or
    /// `at_once`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn rotate(&self, at_once: bool, now: UnixSeconds) -> Result<(), KeyError> {
        let _one_at_a_time = self.change.lock().await;
        let records = self.store.signing_keys().await?;
        let schedules: Vec<Schedule> = records.iter().map(|record| record.schedule).collect();
        let with_schedule = |(position, schedule): (usize, Schedule)| {
            records.get(position).map(|record| SigningKeyRecord { schedule, ..record.clone() })
        };
        let changed: Vec<SigningKeyRecord> = match plan_rotation(&schedules, self.timing, at_once, now)? {
            Rotation::Successor { active, successor } => {
                let (key, sealed) = SigningKey::generate(&self.sealer)?;
                let successor = SigningKeyRecord {
                    kid: key.kid().into(),
                    algorithm: key.algorithm(),
                    sealed,
                    schedule: successor,
                };
                with_schedule(active).into_iter().chain([successor]).collect()
            }
            Rotation::Promotion { active, announced } => {
                [active, announced].into_iter().filter_map(with_schedule).collect()
            }
        };
        self.is_stale.store(true, Ordering::Release);
        self.store.set_signing_keys(&changed).await?;
        self.reload(now).await
    }

    async fn reload(&self, now: UnixSeconds) -> Result<(), KeyError> {
        for key in self.store.signing_keys().await? {
            if key.schedule.state(now) == KeyState::Dropped {
                self.store.delete_signing_key(&key.kid).await?;
            }
        }
        let current = load(&*self.store, &self.sealer, &self.issuer, now).await?;
        self.current.store(Arc::new(current));
        self.is_stale.store(false, Ordering::Release);
        Ok(())
    }
}

async fn load(
    store: &dyn Store,
    sealer: &KeySealer,
    issuer: &str,
    now: UnixSeconds,
) -> Result<CurrentKeys, KeyError> {
    let keys: Result<Vec<ScheduledKey>, KeyError> = store
        .signing_keys()
        .await?
        .into_iter()
        .map(|SigningKeyRecord { kid, sealed, schedule, .. }| {
            Ok(ScheduledKey { key: SigningKey::open(&kid, &sealed, sealer)?, schedule })
        })
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
mod tests {
    use fleetbadge_validator::jwk::Algorithm;

    use super::*;
    use crate::root_key::RootKey;
    use crate::store::sqlite::SqliteStore;

    const TIMING: KeyTiming = KeyTiming { announce_s: 600, publish_retired_s: 1_000 };
    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    async fn open(folder: &tempfile::TempDir, now: UnixSeconds) -> Keys {
        let store = SqliteStore::open(&folder.path().join("db")).await.unwrap();
        let sealer = RootKey::from_bytes([1; 32]).key_sealer();
        Keys::open(Arc::new(store), sealer, "https://id.example", TIMING, now).await.unwrap()
    }

    fn kids(keys: &Keys) -> Vec<String> {
        keys.current().ring.keys().iter().map(|key| key.key.kid().to_owned()).collect()
    }

    fn active(keys: &Keys, now: UnixSeconds) -> String {
        keys.current().ring.active(Algorithm::ES256, now).unwrap().kid().to_owned()
    }

    #[tokio::test]
    async fn the_first_key_signs_at_once_and_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = active(&open(&folder, NOW).await, NOW);
        assert_eq!(active(&open(&folder, NOW.plus(5)).await, NOW), first);
    }

    #[tokio::test]
    async fn a_rotation_from_announcement_to_deletion() {
        let folder = tempfile::tempdir().unwrap();
        let keys = open(&folder, NOW).await;
        let first = active(&keys, NOW);
        let etag = keys.current().etag.clone();
        keys.rotate(false, NOW).await.unwrap();
        assert!(matches!(keys.rotate(false, NOW).await, Err(KeyError::Refused(_))));
        // Published at once, signing later, without anything being done.
        assert_eq!(keys.current().key_set.key_ids().count(), 2);
        assert_ne!(keys.current().etag, etag);
        assert_eq!(active(&keys, NOW.plus(599)), first);
        assert_ne!(active(&keys, NOW.plus(600)), first);
        // The old one stays published until its tokens are gone.
        keys.refresh(NOW.plus(1_599)).await.unwrap();
        assert_eq!(keys.current().key_set.key_ids().count(), 2);
        keys.refresh(NOW.plus(1_600)).await.unwrap();
        assert_eq!(keys.current().key_set.key_ids().count(), 1);
        assert!(!kids(&keys).contains(&first));
        let again = open(&folder, NOW.plus(1_600)).await;
        assert_eq!(kids(&again), kids(&keys));
    }

    #[tokio::test]
    async fn a_rotation_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let keys = open(&folder, NOW).await;
        let first = active(&keys, NOW);
        keys.rotate(true, NOW).await.unwrap();
        let second = active(&keys, NOW);
        assert_ne!(second, first);
        assert!(kids(&keys).contains(&first));
        // An announced key is promoted, not replaced.
        keys.rotate(false, NOW).await.unwrap();
        assert_eq!(active(&keys, NOW), second);
        keys.rotate(true, NOW).await.unwrap();
        assert_ne!(active(&keys, NOW), second);
        assert_eq!(kids(&keys).len(), 3);
    }
}
