//! The revocations that this issuer has issued: all in memory, read from the
//! store as it changes.
//!
//! Three readers: the grants, which issue no token that is taken back already;
//! whoever is shown a token; and the feed of validators.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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

/// Some of the revocations, and how far they reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// By id.
    pub(crate) revocations: Vec<NumberedRevocation>,
    /// If nothing follows: where this node is.
    pub(crate) end: Option<Position>,
}

#[derive(Default)]
struct State {
    position: Position,
    by_id: BTreeMap<u64, Revocation>,
    ids: HashMap<RevocationTarget, u64>,
    index: Arc<Revocations>,
}

impl State {
    /// Puts it in the place of the one of the same target.
    fn take_up(&mut self, NumberedRevocation { id, revocation }: NumberedRevocation) {
        if let Some(former) = self.ids.insert(revocation.target.clone(), id) {
            self.by_id.remove(&former);
        }
        Arc::make_mut(&mut self.index).add(revocation.clone());
        self.by_id.insert(id, revocation);
    }
}

/// The revocations in force.
pub(crate) struct IssuedRevocations {
    state: RwLock<State>,
    position: watch::Sender<Position>,
    /// The latest `before` of all: from then on nothing that is issued is taken
    /// back already.
    latest_before: AtomicU64,
}

impl IssuedRevocations {
    pub(crate) fn new() -> Self {
        Self {
            state: RwLock::default(),
            position: watch::Sender::new(Position::default()),
            latest_before: AtomicU64::new(0),
        }
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
        let now = Position { epoch: epoch.into(), last };
        let latest = new.iter().filter_map(|numbered| numbered.revocation.before()).max();
        {
            let mut state = self.write();
            if is_other {
                *state = State::default();
            }
            new.into_iter().for_each(|numbered| state.take_up(numbered));
            state.position = now.clone();
        }
        let latest = latest.map_or(0, |before| before.0);
        if is_other {
            self.latest_before.store(latest, Ordering::Release);
        } else {
            self.latest_before.fetch_max(latest, Ordering::AcqRel);
        }
        self.position.send_if_modified(|position| std::mem::replace(position, now.clone()) != now);
        Ok(())
    }

    /// Forgets those whose tokens have all died.
    pub(crate) fn forget_expired(&self, now: UnixSeconds) {
        if self.read().by_id.values().all(|revocation| revocation.expires_at > now) {
            return;
        }
        let mut state = self.write();
        let State { by_id, ids, index, .. } = &mut *state;
        by_id.retain(|_, revocation| {
            let is_needed = revocation.expires_at > now;
            if !is_needed {
                ids.remove(&revocation.target);
            }
            is_needed
        });
        Arc::make_mut(index).forget_expired(now);
    }

    /// All of them, as they are now.
    pub(crate) fn current(&self) -> Arc<Revocations> {
        Arc::clone(&self.read().index)
    }

    /// What takes back such a token, if anything does.
    pub(crate) fn find<'g>(
        &self,
        token: &TokenFacts<'_>,
        groups: impl IntoIterator<Item = &'g str>,
    ) -> Option<Revocation> {
        self.read().index.find(token, groups)
    }

    /// How long a device gets no token because it would be taken back already,
    /// in seconds.
    pub(crate) fn shut_out_for_s(&self, device: &str, group: &str, now: UnixSeconds) -> Option<u64> {
        if now.0 >= self.latest_before.load(Ordering::Acquire) {
            return None;
        }
        let good_from = self.read().index.good_from(device, group)?;
        (now < good_from).then(|| good_from.since(now))
    }

    /// Those that name tokens which were issued at `moment` or later, and until
    /// when: made by a clock that was ahead, if that is further ahead than any
    /// revocation of now reaches.
    pub(crate) fn reaching_beyond(&self, moment: UnixSeconds) -> Vec<(RevocationTarget, UnixSeconds)> {
        if moment.0 >= self.latest_before.load(Ordering::Acquire) {
            return Vec::new();
        }
        let state = self.read();
        let targets = state.by_id.values().filter_map(|revocation| {
            let before = revocation.before().filter(|before| *before > moment)?;
            Some((revocation.target.clone(), before))
        });
        targets.collect()
    }

    /// Tells of every step of this node.
    pub(crate) fn follow(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    /// Those with an id above `after`, at most so many. None if they are of
    /// another database than `epoch`.
    pub(crate) fn after(&self, epoch: &str, after: u64, limit: usize) -> Option<Page> {
        let state = self.read();
        if *state.position.epoch != *epoch {
            return None;
        }
        let mut later = state.by_id.range(after.saturating_add(1)..);
        let revocations = later
            .by_ref()
            .take(limit)
            .map(|(id, revocation)| NumberedRevocation { id: *id, revocation: revocation.clone() })
            .collect();
        let end = later.next().is_none().then(|| state.position.clone());
        Some(Page { revocations, end })
    }

    /// Whoever panicked while holding the lock left whole entries.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
