//! Checks secrets that people chose: each costs a slow hash, and strangers
//! must neither take the machine with them, nor learn from them who is there.
//!
//! - Slow hashes are made on at most as many threads as there are cores.
//! - A secret that was right once is remembered by its keyed hash, in memory
//!   alone: a device that renews its token costs no slow hash again, and goes
//!   on getting tokens however many guesses there are.
//! - Everything else takes a [`Turn`], whether there is anything to compare
//!   with or not; a wrong guess holds it until the time at which every no is
//!   said. So guesses wait for guesses, and how long says nothing of a device.
//! - Every turn is as many slow hashes, made up where there are none: on a busy
//!   machine they take longer than that.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use fleetbadge_validator::time::UnixSeconds;
use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

use crate::credentials::{CredentialId, MAX_IMPORTED_SECRETS, SecretRecord, SecretVerifier};
use crate::random::Random;
use crate::root_key::PresentedHashes;
use crate::secret::imported::{ImportedSecret, SlowHashFailed};
use crate::secret::{ImportedSecretHash, SecretHash, SecretHasher};
use crate::started::Started;

/// How long a guess waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Checks imported secrets.
pub(crate) struct ImportedSecrets {
    turns: Arc<Semaphore>,
    known: Cache<ImportedSecretHash, SecretHash>,
    random: Random,
    #[cfg(test)]
    taken: std::sync::atomic::AtomicUsize,
}

/// The right to make slow hashes, on one thread, until it is dropped.
pub(crate) struct Turn {
    /// When it began.
    pub(crate) began: Started,
    permit: Arc<OwnedSemaphorePermit>,
}

/// Others are guessing; nothing was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

impl ImportedSecrets {
    /// Remembers at most `capacity` secrets that were right.
    pub(crate) fn new(capacity: usize, random: Random) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            turns: Arc::new(Semaphore::new(cores)),
            known: Cache::new(capacity),
            random,
            #[cfg(test)]
            taken: std::sync::atomic::AtomicUsize::default(),
        }
    }

    /// Makes what is to be kept of a secret of `client`.
    pub(crate) async fn hash(
        &self,
        hasher: &SecretHasher,
        client: &str,
        secret: &ImportedSecret,
    ) -> Result<ImportedSecretHash, SlowHashFailed> {
        self.slow_hash(hasher.hash(client, secret.secret())).await
    }

    /// Makes what is to be kept of a secret that was right, now that another
    /// root key is current. It stays remembered.
    pub(crate) async fn hash_again(
        &self,
        presented: &SecretHash,
    ) -> Result<ImportedSecretHash, SlowHashFailed> {
        let hash = self.slow_hash(presented.clone()).await?;
        self.known.insert(hash.clone(), presented.clone());
        Ok(hash)
    }

    async fn slow_hash(&self, hash: SecretHash) -> Result<ImportedSecretHash, SlowHashFailed> {
        let random = Arc::clone(&self.random);
        // Fails only if the semaphore were closed, which nobody does.
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let work = move || {
            let hash = ImportedSecretHash::new(&hash, &*random);
            drop(turn);
            hash
        };
        spawn_blocking(work).await?
    }

    /// Which of a client's secrets was presented, if it is remembered as right.
    pub(crate) fn find_known(
        &self,
        secrets: &[SecretRecord],
        presented: &PresentedHashes,
        now: UnixSeconds,
    ) -> Option<CredentialId> {
        let is_known =
            |hash: &ImportedSecretHash| self.known.get(hash).is_some_and(|known| presented.is(&known));
        imported(secrets, now).find(|(_, hash)| is_known(hash)).map(|(id, _)| id.clone())
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self) -> Result<Turn, Crowded> {
        #[cfg(test)]
        self.taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match tokio::time::timeout(MAX_WAIT, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn { began: Started::now(), permit: Arc::new(permit) }),
            Ok(Err(_)) | Err(_) => Err(Crowded),
        }
    }

    /// Which of a client's secrets was presented, by slow hashes.
    ///
    /// # Errors
    /// If the server is ending.
    pub(crate) async fn find(
        &self,
        turn: &Turn,
        secrets: &[SecretRecord],
        presented: &PresentedHashes,
        now: UnixSeconds,
    ) -> Result<Option<CredentialId>, JoinError> {
        let candidates = candidates(secrets, now);
        // Should nobody wait for the answer any more, the turn still ends no
        // sooner than the work.
        let (guess, permit) = (presented.clone(), Arc::clone(&turn.permit));
        let work = move || {
            // None is left out, also behind the right one.
            let right = candidates
                .into_iter()
                .filter(|(_, hash)| hash.is_of(&guess))
                .fold(None, |_, right| Some(right));
            drop(permit);
            right
        };
        Ok(spawn_blocking(work).await?.and_then(|(id, hash)| {
            let (id, right) = (id?, presented.under(hash.root_key())?);
            self.known.insert(hash, right.clone());
            Some(id)
        }))
    }

    /// How many more turns could begin now.
    #[cfg(test)]
    pub(crate) fn free_turns(&self) -> usize {
        self.turns.available_permits()
    }

    /// How many turns there have been.
    #[cfg(test)]
    pub(crate) fn turns_taken(&self) -> usize {
        self.taken.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn imported(
    secrets: &[SecretRecord],
    now: UnixSeconds,
) -> impl Iterator<Item = (&CredentialId, &ImportedSecretHash)> {
    secrets.iter().filter(move |secret| secret.is_in_time(now)).filter_map(|secret| match &secret.verifier {
        SecretVerifier::Imported(hash) => Some((&secret.id, hash)),
        SecretVerifier::Made(_) => None,
    })
}

/// What a guess is compared with: always [`MAX_IMPORTED_SECRETS`] slow hashes,
/// nobody's for those that a client does not have.
fn candidates(secrets: &[SecretRecord], now: UnixSeconds) -> Vec<(Option<CredentialId>, ImportedSecretHash)> {
    let real = imported(secrets, now).map(|(id, hash)| (Some(id.clone()), hash.clone()));
    let nobodys = std::iter::repeat_with(|| (None, ImportedSecretHash::nobodys()));
    real.chain(nobodys).take(MAX_IMPORTED_SECRETS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn secret(id: &str, verifier: SecretVerifier, expires_at: Option<UnixSeconds>) -> SecretRecord {
        SecretRecord { id: CredentialId::from_text(id), verifier, created_at: NOW, expires_at }
    }

    /// On a busy machine a slow hash takes longer than the refusals wait.
    #[test]
    fn a_guess_costs_as_many_slow_hashes_whatever_a_client_has() {
        let chosen = |id, end| secret(id, SecretVerifier::Imported(ImportedSecretHash::nobodys()), end);
        let made = secret("made", SecretVerifier::Made(SecretHash::from_bytes([0; 32])), None);
        let (one, two, ended) = (chosen("1", None), chosen("2", None), chosen("3", Some(NOW)));
        for (secrets, real) in [
            (vec![], 0),
            (vec![made.clone()], 0),
            (vec![ended.clone(), made.clone()], 0),
            (vec![made, one.clone(), ended], 1),
            (vec![one, two], 2),
        ] {
            let candidates = candidates(&secrets, NOW);
            assert_eq!(candidates.len(), MAX_IMPORTED_SECRETS);
            assert_eq!(candidates.iter().filter(|(id, _)| id.is_some()).count(), real);
        }
    }
}
