//! What a validator does, for those who ask about it: counted, and who is
//! connected.
//!
//! The thread that lets clients in only leaves a note of each change; whoever
//! tells of them takes the notes and keeps the list, on a thread of its own. Of a
//! client there is one note, so that their number is bounded by that of the
//! clients.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::counters::{Counters, Counting};
use super::session_list::{Change, SessionList};
use crate::ids::MqttClientId;
use crate::time::UnixSeconds;

/// Shared between whoever lets clients in and whoever tells of it.
#[derive(Debug)]
pub struct Activity {
    counting: Counting,
    /// Whether anybody takes the notes.
    is_followed: AtomicBool,
    notes: Mutex<HashMap<MqttClientId, Change>>,
    /// Never locked by whoever lets clients in.
    list: Mutex<SessionList>,
}

impl Activity {
    /// From now on.
    #[must_use]
    pub fn new(started_at: UnixSeconds) -> Self {
        Self {
            counting: Counting::new(started_at),
            is_followed: AtomicBool::new(false),
            notes: Mutex::default(),
            list: Mutex::default(),
        }
    }

    /// A client has connected, with a token that lets it stay until then.
    pub fn let_in(&self, client_id: &str, now: UnixSeconds, until: UnixSeconds) {
        self.counting.let_in();
        self.note(client_id, Change::Online { since: now, until });
    }

    /// A client that is connected has another token.
    pub fn renewed(&self, client_id: &str, until: UnixSeconds) {
        self.note(client_id, Change::Renewed { until });
    }

    /// The connection of a client has ended.
    pub fn parted(&self, client_id: &str) {
        self.note(client_id, Change::Gone);
    }

    /// Something was denied, for the reason of this code.
    pub fn denied(&self, code: &'static str) {
        self.counting.denied(code);
    }

    /// How much there was of each.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counting.read()
    }

    /// How many clients are connected; 0 if nobody takes the notes.
    #[must_use]
    pub fn online(&self) -> usize {
        self.list().len()
    }

    /// Whoever calls this will call [`Activity::list`] again and again.
    pub(super) fn follow(&self) {
        self.is_followed.store(true, Ordering::Relaxed);
    }

    /// Who is connected now.
    pub(super) fn list(&self) -> MutexGuard<'_, SessionList> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = std::mem::take(&mut *self.notes());
        for (client_id, change) in notes {
            list.apply(client_id, change);
        }
        list
    }

    fn note(&self, client_id: &str, change: Change) {
        if !self.is_followed.load(Ordering::Relaxed) {
            return;
        }
        // Whoever was let in has a name.
        let Ok(client_id) = client_id.parse() else { return };
        match self.notes().entry(client_id) {
            Entry::Vacant(entry) => {
                entry.insert(change);
            }
            Entry::Occupied(mut entry) => {
                let both = entry.get().then(change);
                entry.insert(both);
            }
        }
    }

    /// Held for a moment only, as the other side may be a broker's one thread.
    pub(super) fn notes(&self) -> MutexGuard<'_, HashMap<MqttClientId, Change>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
