//! The protocol state of the session between two connections, in memory: the
//! identifiers of QoS 2 messages half received, and the proof, for the client
//! library, that a session which the broker resumes is ours.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rumqttc::{PersistedSession, SessionStore, SessionStoreError, SessionStoreKey};

type StoreFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

#[derive(Debug, Default)]
pub(super) struct MemoryStore(Mutex<Option<(SessionStoreKey, PersistedSession)>>);

impl MemoryStore {
    fn kept(&self) -> MutexGuard<'_, Option<(SessionStoreKey, PersistedSession)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionStore for MemoryStore {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> StoreFuture<'a, Option<PersistedSession>> {
        let session = self.kept().as_ref().filter(|(of, _)| of == key).map(|(_, session)| session.clone());
        Box::pin(std::future::ready(Ok(session)))
    }

    fn save<'a>(&'a self, key: &'a SessionStoreKey, session: &'a PersistedSession) -> StoreFuture<'a, ()> {
        *self.kept() = Some((key.clone(), session.clone()));
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, key: &'a SessionStoreKey) -> StoreFuture<'a, ()> {
        self.kept().take_if(|(of, _)| of == key);
        Box::pin(std::future::ready(Ok(())))
    }
}
