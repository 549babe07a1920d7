//! Where keys are made, and where what an external signer keeps of them is
//! destroyed: never on a thread that answers requests, never with anything
//! locked, as a signer may take its time or hang.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetbadge_validator::jwk::Algorithm;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::KeyError;
use super::keepers::Keepers;
use crate::signing_keys::{PrivateHalf, Schedule, UnusableSigningKey};
use crate::store::SigningKeyRecord;

/// How long somebody waits for a key: an RSA key may take several seconds.
const MAKING: Duration = Duration::from_secs(30);
/// How often the destruction of a key that nobody knows is tried,
const DESTROY_ATTEMPTS: usize = 5;
/// and how long after the last attempt.
const DESTROY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A key that was made, sealed, and is not stored yet. If it never is, what an
/// external signer keeps of it is destroyed.
pub(super) struct NewKey {
    kid: String,
    algorithm: Algorithm,
    private: PrivateHalf,
    keepers: Arc<Keepers>,
    may_be_stored: bool,
}

impl NewKey {
    /// Makes one, here and now.
    fn make(algorithm: Algorithm, keepers: Arc<Keepers>) -> Result<Self, UnusableSigningKey> {
        let (kid, private) = keepers.make(algorithm)?;
        Ok(Self { kid, algorithm, private, keepers, may_be_stored: false })
    }

    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What is stored of it.
    pub(super) fn scheduled(&self, schedule: Schedule) -> SigningKeyRecord {
        SigningKeyRecord {
            kid: self.kid.clone(),
            algorithm: self.algorithm,
            private: self.private.clone(),
            schedule,
        }
    }

    /// Says whether it may be stored: before it is written, since nobody knows
    /// what becomes of a write that is cut off; and not, if somebody else was
    /// faster.
    pub(super) const fn set_may_be_stored(&mut self, may_be: bool) {
        self.may_be_stored = may_be;
    }
}

impl Drop for NewKey {
    fn drop(&mut self) {
        if !self.may_be_stored {
            destroy_in_background(&self.keepers, self.kid.clone(), self.private.clone());
        }
    }
}

/// Destroys what an external signer keeps of a key that is not stored, or no
/// longer.
pub(super) fn destroy_in_background(keepers: &Arc<Keepers>, kid: String, private: PrivateHalf) {
    if matches!(private, PrivateHalf::Sealed(_)) {
        return;
    }
    let keepers = Arc::clone(keepers);
    let destroy = move || {
        for attempt in 1.. {
            match keepers.destroy(&kid, &private) {
                Ok(()) => return,
                Err(error) if attempt == DESTROY_ATTEMPTS => {
                    tracing::warn!(kid, %error, "what is left of a key is still in its token");
                    return;
                }
                Err(_) => std::thread::sleep(DESTROY_AGAIN_AFTER),
            }
        }
    };
    // Without a runtime the server has ended.
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn_blocking(destroy));
    }
}

/// Makes a key on a thread of its own, and waits for it.
pub(super) async fn make(algorithm: Algorithm, keepers: &Arc<Keepers>) -> Result<NewKey, KeyError> {
    timeout(MAKING, finished(begin(algorithm, keepers))).await.map_err(|_| KeyError::TooSlow(MAKING))?
}

/// The keys that are being made while nobody waits: one per algorithm.
#[derive(Default)]
pub(super) struct Workshop(Mutex<HashMap<Algorithm, Work>>);

type Work = JoinHandle<Result<NewKey, UnusableSigningKey>>;

impl Workshop {
    /// The key of this algorithm, if it is ready; begun, if nobody has yet.
    /// Never waits for it.
    pub(super) async fn collect(
        &self,
        algorithm: Algorithm,
        keepers: &Arc<Keepers>,
    ) -> Result<Option<NewKey>, KeyError> {
        match self.take_ready(algorithm, keepers) {
            Some(work) => finished(work).await.map(Some),
            None => Ok(None),
        }
    }

    /// Gives up the key of this algorithm, ready or not.
    pub(super) fn give_up(&self, algorithm: Algorithm) {
        // Whatever comes of it destroys itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&algorithm);
    }

    #[cfg(test)]
    pub(super) fn is_ready(&self, algorithm: Algorithm) -> bool {
        let under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.get(&algorithm).is_some_and(JoinHandle::is_finished)
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn take_ready(&self, algorithm: Algorithm, keepers: &Arc<Keepers>) -> Option<Work> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.entry(algorithm) {
            Entry::Vacant(place) => {
                tracing::info!(alg = algorithm.as_str(), "a signing key is being made");
                place.insert(begin(algorithm, keepers));
                None
            }
            Entry::Occupied(place) => place.get().is_finished().then(|| place.remove()),
        }
    }
}

fn begin(algorithm: Algorithm, keepers: &Arc<Keepers>) -> Work {
    let keepers = Arc::clone(keepers);
    tokio::task::spawn_blocking(move || NewKey::make(algorithm, keepers))
}

async fn finished(work: Work) -> Result<NewKey, KeyError> {
    // A thread pool that ends takes its queue with it.
    Ok(work.await.map_err(|_| KeyError::Ending)??)
}

/// Where what external signers keep of dropped keys is destroyed, while nobody
/// waits: one batch after another, so that a signer that hangs holds one thread.
#[derive(Default)]
pub(super) struct Destruction {
    under_way: Mutex<Option<JoinHandle<Vec<String>>>>,
    is_failure_told: Arc<AtomicBool>,
}

impl Destruction {
    /// The keys of which nothing is left by now, by their `kid`s. If nothing is
    /// under way, these are begun with.
    pub(super) async fn collect(
        &self,
        dropped: Vec<SigningKeyRecord>,
        keepers: &Arc<Keepers>,
    ) -> Vec<String> {
        match self.take_ready(dropped, keepers) {
            Some(work) => work.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }

    fn take_ready(
        &self,
        dropped: Vec<SigningKeyRecord>,
        keepers: &Arc<Keepers>,
    ) -> Option<JoinHandle<Vec<String>>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(work) = under_way.take_if(|work| work.is_finished()) {
            return Some(work);
        }
        if under_way.is_none() && !dropped.is_empty() {
            let (keepers, is_told) = (Arc::clone(keepers), Arc::clone(&self.is_failure_told));
            let destroy = move || {
                let is_gone = |key: &SigningKeyRecord| match keepers.destroy(&key.kid, &key.private) {
                    Ok(()) => true,
                    Err(error) => {
                        if !is_told.swap(true, Ordering::Relaxed) {
                            tracing::warn!(
                                kid = key.kid, %error,
                                "a dropped key is still in its token; it is tried again until it is gone"
                            );
                        }
                        false
                    }
                };
                let count = dropped.len();
                let gone: Vec<String> = dropped.into_iter().filter(is_gone).map(|key| key.kid).collect();
                if gone.len() == count {
                    is_told.store(false, Ordering::Relaxed);
                }
                gone
            };
            *under_way = Some(tokio::task::spawn_blocking(destroy));
        }
        None
    }
}
