//! The revocations that this issuer has issued: all in memory, read from the
//! store as it changes.
//!
//! Two readers: the grants, which issue no token that is taken back already,
//! and the feed of validators.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use fleetbadge_validator::revocations::{Revocation, RevocationTarget, Revocations, TokenFacts};
use fleetbadge_validator::time::UnixSeconds;
use tokio::sync::watch;

use crate::store::{NumberedRevocation, Store, StoreError};

/// How many are read at a time.
const PAGE: u32 = 1_000;

/// How far this node has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Of which database.
    pub(crate) epoch: Box<str>,
    /// The id of the newest revocation that is in memory.
    pub(crate) last: u64,
}

#[derive(Default)]
struct State {
    by_id: BTreeMap<u64, Revocation>,
    index: Revocations,
}

/// The revocations in force.
pub(crate) struct IssuedRevocations {
    state: RwLock<State>,
    position: watch::Sender<Position>,
}

impl IssuedRevocations {
    pub(crate) fn new() -> Self {
        Self { state: RwLock::default(), position: watch::Sender::new(Position::default()) }
    }

    /// Reads what is new; everything, if the database is another one.
    pub(crate) async fn read_new(&self, store: &dyn Store, epoch: &str) -> Result<(), StoreError> {
        let Position { epoch: known, mut last } = self.position.borrow().clone();
        let is_other = *known != *epoch;
        if is_other {
            last = 0;
        }
        let mut new = Vec::new();
        loop {
            let page = store.revocations(last, PAGE).await?;
            let Some(newest) = page.last() else { break };
            last = newest.id;
            new.extend(page);
        }
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            if is_other {
                *state = State::default();
            }
            for NumberedRevocation { id, revocation } in new {
                // The one of the same target that it takes the place of.
                state.by_id.retain(|_, former| former.target != revocation.target);
                state.index.add(revocation.clone());
                state.by_id.insert(id, revocation);
            }
        }
        self.position.send_if_modified(|position| {
            let now = Position { epoch: epoch.into(), last };
            std::mem::replace(position, now.clone()) != now
        });
        Ok(())
    }

    /// Forgets those whose tokens have all died.
    pub(crate) fn forget_expired(&self, now: UnixSeconds) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.by_id.retain(|_, revocation| revocation.expires_at > now);
        state.index.forget_expired(now);
    }

    /// What takes back such a token, if anything does.
    pub(crate) fn find(&self, token: &TokenFacts<'_>, group: &str) -> Option<RevocationTarget> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).index.find(token, [group])
    }

    /// Tells of every step of this node.
    pub(crate) fn follow(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    /// Those with an id above `after`, by id, at most so many.
    pub(crate) fn after(&self, after: u64, limit: usize) -> Vec<NumberedRevocation> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let later = state.by_id.range(after.saturating_add(1)..).take(limit);
        later.map(|(id, revocation)| NumberedRevocation { id: *id, revocation: revocation.clone() }).collect()
    }
}
