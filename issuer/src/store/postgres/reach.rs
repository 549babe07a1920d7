//! Whether the server can be reached, and why not: what the pool of connections
//! does not say.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::StoreError;
use crate::store::error::describe;

/// What is known of the way to the server.
pub(super) struct Reach {
    /// Where it is, for people.
    address: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why the last new connection failed.
    reason: Option<String>,
    /// Whether old ones cannot do better.
    is_away: bool,
}

impl Reach {
    pub(super) fn new(address: String) -> Self {
        Self { address, state: Mutex::default() }
    }

    /// A new connection was made.
    pub(super) fn reached(&self) {
        *self.state() = State::default();
    }

    /// None could be made.
    pub(super) fn failed(&self, reason: String, is_away: bool) {
        *self.state() = State { reason: Some(reason), is_away };
    }

    pub(super) fn is_away(&self) -> bool {
        self.state().is_away
    }

    /// Says why there is no connection, if that is what failed.
    pub(super) fn explain(&self, error: StoreError) -> StoreError {
        let own = match &error {
            StoreError::Database(sqlx::Error::PoolTimedOut) => "no connection comes free".into(),
            StoreError::Database(error @ sqlx::Error::Io(_)) => describe(error),
            StoreError::Database(_)
            | StoreError::NewerSchema { .. }
            | StoreError::Moved
            | StoreError::OpenElsewhere
            | StoreError::Standby
            | StoreError::TooSlow(_)
            | StoreError::Unreachable { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Away { .. }
            | StoreError::Migration(_) => return error,
        };
        let reason = self.state().reason.clone().unwrap_or(own);
        StoreError::Away { address: self.address.clone(), reason }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
