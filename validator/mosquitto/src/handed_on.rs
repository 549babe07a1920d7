//! Clients that were left to whoever comes next in the broker: a password
//! file and an ACL file, or another plugin.
//!
//! Whether one of them was let in, and whether its session goes on when it has
//! parted, the broker does not tell. A session counts as one as soon as the
//! broker has asked about a topic for it: before that it has no subscription,
//! and there is nothing in it that somebody else could get.

use std::collections::{BTreeMap, HashMap};

use crate::broker::{Client, ClientHandle};

/// Those that are connected or were, for all that is known.
#[derive(Debug, Default)]
pub(crate) struct HandedOn {
    clients: HashMap<ClientHandle, HandedOnClient>,
    /// The client IDs under which there may be a session, and their places in
    /// the order in which they came.
    sessions: HashMap<Box<str>, u64>,
    order: BTreeMap<u64, Box<str>>,
    begun: u64,
    /// The parted ones of `clients`, the longest parted first.
    parted: BTreeMap<u64, ClientHandle>,
    partings: u64,
}

#[derive(Debug)]
struct HandedOnClient {
    id: Box<str>,
    /// Whether its session ends when it parts.
    leaves_nothing: bool,
    /// Whether the broker has asked about a topic for it, and so let it in.
    was_asked_for: bool,
    /// Its place in the order of all partings.
    parting: Option<u64>,
}

impl HandedOn {
    /// How many parted ones are remembered; those parted longest make room.
    const MAX_PARTED: usize = 100_000;
    /// How many sessions are; the oldest make room.
    const MAX_SESSIONS: usize = 200_000;

    /// A client is left to others.
    pub(crate) fn begin(&mut self, client: &impl Client, id: &str) {
        self.end(client.handle());
        let leaves_nothing = client.leaves_nothing();
        let new = HandedOnClient { id: id.into(), leaves_nothing, was_asked_for: false, parting: None };
        self.clients.insert(client.handle(), new);
    }

    /// Another client is at this address now.
    pub(crate) fn end(&mut self, handle: ClientHandle) {
        if let Some(HandedOnClient { parting: Some(parting), .. }) = self.clients.remove(&handle) {
            self.parted.remove(&parting);
        }
    }

    /// The connection of a client has ended. Its record is kept, for a will
    /// and for what is to be queued.
    pub(crate) fn part(&mut self, handle: ClientHandle) {
        let Some(client) = self.clients.get_mut(&handle).filter(|client| client.parting.is_none()) else {
            return;
        };
        self.partings += 1;
        client.parting = Some(self.partings);
        self.parted.insert(self.partings, handle);
        if client.leaves_nothing && client.was_asked_for {
            let id = client.id.clone();
            self.end_session(&id);
        }
        if self.parted.len() > Self::MAX_PARTED
            && let Some((_, longest_parted)) = self.parted.pop_first()
            && let Some(HandedOnClient { id, .. }) = self.clients.remove(&longest_parted)
        {
            self.end_session(&id);
        }
    }

    /// The broker asks about a topic for a client: whether that is for others
    /// to answer. Where a device has taken the session over, as `is_taken`
    /// says, what is asked is about a will: no session comes of it.
    pub(crate) fn has(&mut self, client: &impl Client, is_taken: impl FnOnce() -> bool) -> bool {
        let Some(id) = client.id() else { return false };
        if !client.has_connected() {
            return self.has_session(id);
        }
        let Some(known) = self.clients.get_mut(&client.handle()).filter(|known| *known.id == *id) else {
            return false;
        };
        let is_known = known.was_asked_for && self.sessions.contains_key(id);
        if known.parting.is_none() && !is_known && !is_taken() {
            known.was_asked_for = true;
            self.begin_session(id);
        }
        true
    }

    fn begin_session(&mut self, id: &str) {
        self.end_session(id);
        self.begun += 1;
        self.sessions.insert(id.into(), self.begun);
        self.order.insert(self.begun, id.into());
        if self.sessions.len() > Self::MAX_SESSIONS
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.sessions.remove(&oldest);
        }
    }

    /// Whether there may be a session of one of them under this client ID.
    pub(crate) fn has_session(&self, id: &str) -> bool {
        self.sessions.contains_key(id)
    }

    /// There is none any more.
    pub(crate) fn end_session(&mut self, id: &str) {
        if let Some(place) = self.sessions.remove(id) {
            self.order.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::fake::FakeClient;

    #[test]
    fn a_client_is_known_by_record_and_id_until_another_comes() {
        let (mut handed_on, client) = (HandedOn::default(), FakeClient::new(1, "desk"));
        assert!(!handed_on.has(&client, || false));
        handed_on.begin(&client, "desk");
        assert!(handed_on.has(&client, || false));
        assert!(!handed_on.has(&FakeClient::new(1, "desk-2"), || false), "its address is in use again");
        assert!(!handed_on.has(&FakeClient::new(2, "desk"), || false), "another connection");
        handed_on.part(client.handle());
        assert!(handed_on.has(&client, || false), "its will, and what is queued for it");
        handed_on.end(client.handle());
        assert!(!handed_on.has(&client, || false));
        assert!(handed_on.parted.is_empty());
    }

    #[test]
    fn there_is_a_session_once_something_was_asked_for_it() {
        let (mut handed_on, client) = (HandedOn::default(), FakeClient::new(1, "desk"));
        let source = FakeClient::new(9, "desk").without_connection();
        handed_on.begin(&client, "desk");
        assert!(!handed_on.has_session("desk"), "whether it was let in is not known");
        assert!(!handed_on.has(&source, || false));
        handed_on.has(&client, || false);
        handed_on.part(client.handle());
        assert!(handed_on.has_session("desk") && handed_on.has(&source, || false));
        handed_on.end_session("desk");
        assert!(!handed_on.has_session("desk"));
    }

    #[test]
    fn who_leaves_nothing_leaves_no_session() {
        let mut handed_on = HandedOn::default();
        let client = FakeClient { leaves_nothing: true, ..FakeClient::new(1, "desk") };
        handed_on.begin(&client, "desk");
        assert!(handed_on.has(&client, || false) && handed_on.has_session("desk"));
        handed_on.part(client.handle());
        assert!(!handed_on.has_session("desk"));
    }

    #[test]
    fn who_tries_with_the_id_of_another_disturbs_nothing() {
        let (mut handed_on, client) = (HandedOn::default(), FakeClient::new(1, "desk"));
        handed_on.begin(&client, "desk");
        handed_on.has(&client, || false);
        for leaves_nothing in [false, true] {
            let stranger = FakeClient { leaves_nothing, ..FakeClient::new(2, "desk") };
            handed_on.begin(&stranger, "desk");
            handed_on.part(stranger.handle());
            assert!(handed_on.has_session("desk"));
        }
        assert!(handed_on.has(&client, || false));
    }

    #[test]
    fn the_will_of_who_was_taken_over_begins_no_session() {
        let (mut handed_on, client) = (HandedOn::default(), FakeClient::new(1, "desk"));
        handed_on.begin(&client, "desk");
        assert!(handed_on.has(&client, || false));
        // A device comes; then the broker asks about the will.
        handed_on.end_session("desk");
        assert!(handed_on.has(&client, || true));
        handed_on.part(client.handle());
        assert!(!handed_on.has_session("desk"));
    }

    #[test]
    fn whoever_takes_one_client_id_after_another_fills_nothing_for_ever() {
        let mut handed_on = HandedOn::default();
        for n in 0..HandedOn::MAX_SESSIONS + 10 {
            // The broker uses the same record again.
            let client = FakeClient::new(1, &format!("desk-{n}"));
            handed_on.begin(&client, client.id().unwrap());
            assert!(handed_on.has(&client, || false));
            handed_on.part(client.handle());
        }
        assert_eq!(
            (handed_on.sessions.len(), handed_on.order.len()),
            (HandedOn::MAX_SESSIONS, HandedOn::MAX_SESSIONS)
        );
        assert!(!handed_on.has_session("desk-9") && handed_on.has_session("desk-10"));
        assert_eq!((handed_on.clients.len(), handed_on.parted.len()), (1, 1));
    }
}
