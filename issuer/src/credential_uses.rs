//! When credentials were last used: collected in memory, written in batches.
//!
//! A token costs no database write. What a crash loses is the use of the last
//! seconds, which only tells operators what is still in use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fleetbadge_validator::time::UnixSeconds;

use crate::credentials::CredentialId;
use crate::store::{CredentialUse, Store, StoreError};

/// The most uses that wait to be written: then others wait for the next time
/// that they are used.
const MAX_WAITING: usize = 200_000;

type Key = (Box<str>, CredentialId);

/// The uses that are not written yet.
pub struct CredentialUses {
    store: Arc<dyn Store>,
    waiting: Mutex<HashMap<Key, UnixSeconds>>,
}

impl CredentialUses {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, waiting: Mutex::default() }
    }

    /// Remembers that a credential of a client was good for something.
    pub fn record(&self, client: &str, credential: &CredentialId, now: UnixSeconds) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.insert((client.into(), credential.clone()), now);
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// [`StoreError`]; what was to be written waits again.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if batch.is_empty() {
            return Ok(());
        }
        let uses: Vec<CredentialUse> = batch
            .into_iter()
            .map(|((client, credential), at)| CredentialUse { client, credential, at })
            .collect();
        let result = self.store.record_uses(&uses).await;
        if result.is_err() {
            for CredentialUse { client, credential, at } in uses {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let newest = waiting.entry((client, credential)).or_insert(at);
                *newest = (*newest).max(at);
            }
        }
        result
    }

    /// When each credential of a client was last used: what is written, and
    /// what waits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn of_client(&self, client: &str) -> Result<HashMap<CredentialId, UnixSeconds>, StoreError> {
        let written = self.store.credential_uses(client).await?;
        let mut uses: HashMap<_, _> = written.into_iter().map(|used| (used.credential, used.at)).collect();
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for ((_, credential), at) in waiting.iter().filter(|((owner, _), _)| **owner == *client) {
            uses.insert(credential.clone(), *at);
        }
        Ok(uses)
    }
}
