//! Where keys are made: never on a thread that answers requests.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use fleetbadge_validator::jwk::Algorithm;
use tokio::task::JoinHandle;

use super::KeyError;
use super::keepers::Keepers;
use crate::signing_keys::{PrivateHalf, Schedule, UnusableSigningKey};
use crate::store::SigningKeyRecord;

/// A key that was made, sealed, and is not stored yet.
pub(super) struct NewKey {
    kid: String,
    algorithm: Algorithm,
    private: PrivateHalf,
}

impl NewKey {
    /// Makes one, here and now.
    fn make(algorithm: Algorithm, keepers: &Keepers) -> Result<Self, UnusableSigningKey> {
        let (kid, private) = keepers.make(algorithm)?;
        Ok(Self { kid, algorithm, private })
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
}

/// Makes a key on a thread of its own, and waits for it.
pub(super) async fn make(algorithm: Algorithm, keepers: &Arc<Keepers>) -> Result<NewKey, KeyError> {
    finished(begin(algorithm, keepers)).await
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

    #[cfg(test)]
    pub(super) fn is_ready(&self, algorithm: Algorithm) -> bool {
        let under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.get(&algorithm).is_some_and(JoinHandle::is_finished)
    }

    fn take_ready(&self, algorithm: Algorithm, keepers: &Arc<Keepers>) -> Option<Work> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.entry(algorithm) {
            Entry::Vacant(place) => {
                tracing::info!(alg = algorithm.as_str(), "the first key of an algorithm is being made");
                place.insert(begin(algorithm, keepers));
                None
            }
            Entry::Occupied(place) => place.get().is_finished().then(|| place.remove()),
        }
    }
}

fn begin(algorithm: Algorithm, keepers: &Arc<Keepers>) -> Work {
    let keepers = Arc::clone(keepers);
    tokio::task::spawn_blocking(move || NewKey::make(algorithm, &keepers))
}

async fn finished(work: Work) -> Result<NewKey, KeyError> {
    // A thread pool that ends takes its queue with it.
    Ok(work.await.map_err(|_| KeyError::Ending)??)
}
