//! Who is connected with which token, and what it allows.
//!
//! Mosquitto names a client by the address of its record, and asks about three
//! kinds of them:
//!
//! - *Connected* clients. Their token decides, and its end is their end.
//! - *Parted* clients: `DISCONNECT` was reported, and afterwards the broker
//!   asks about the will, and, for as long as the session lasts, about each
//!   message to be queued. Until it comes back with a new token, a session
//!   goes on queueing under its last one; what was queued is checked again
//!   before delivery. A will may go out until the token ends, or with the
//!   disconnection at that end, never later.
//! - The *source* of a retained message (`check_retain_source`): a made-up
//!   record with the publisher's client ID and user name. Its last token
//!   decides.
//!
//! A session whose token was revoked stays known, but may do nothing at all:
//! it is disconnected, sends no will, gets and queues nothing, and what it
//! retained is withheld, until its client connects with another token.
//!
//! A record's address is used again once its session is over, so nobody is let
//! in by it: a parted session may be told messages and one will, and only if
//! client ID and user name agree too.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use fleetbadge_validator::access::Action;
use fleetbadge_validator::denied::Denied;
use fleetbadge_validator::revocations::Revocations;
use fleetbadge_validator::time::UnixSeconds;
use fleetbadge_validator::verify::VerifiedToken;

use crate::broker::{Access, Client, ClientHandle};
use crate::refusal::Refusal;

/// How long after the end of a token the will may go out: the time within
/// which the client is disconnected.
pub(crate) const WILL_GRACE_S: u64 = 2;

/// All sessions. Bounded: by the broker's connections, and by a number of
/// parted ones.
#[derive(Debug)]
pub(crate) struct Sessions {
    connected: HashMap<ClientHandle, Connected>,
    /// When which connection ends: every key of `connected` at most once.
    ends: BTreeSet<(UnixSeconds, ClientHandle)>,
    /// The last session of each client ID, connected or parted.
    latest: HashMap<Box<str>, Latest>,
    /// The parted ones of `latest`, the longest parted first.
    parted: BTreeMap<u64, Box<str>>,
    max_parted: usize,
    partings: u64,
    reloads: u64,
    /// The clients that were there at the last reload and have not been asked
    /// for since: the broker asks for each once.
    to_be_asked: HashSet<ClientHandle>,
    /// Connections whose token was revoked and that are to be disconnected.
    revoked: VecDeque<ClientHandle>,
}

#[derive(Debug)]
struct Connected {
    token: VerifiedToken,
    /// Being disconnected because its token has ended or was revoked.
    ending: bool,
    revoked: Revoked,
}

#[derive(Debug)]
struct Latest {
    handle: ClientHandle,
    token: VerifiedToken,
    parting: Option<Parting>,
    revoked: Revoked,
}

/// Why a session's token is worth nothing any more, if that is so. Kept, as
/// the revocation itself is forgotten once no token lives that it names. Boxed
/// since there may be hundreds of thousands, most of them empty.
type Revoked = Option<Box<Denied>>;

#[derive(Debug)]
struct Parting {
    /// Its place in the order of all partings.
    number: u64,
    /// How many reloads there had been.
    reloads: u64,
}

impl Sessions {
    /// How many parted sessions are remembered unless told otherwise. Those
    /// parted longest make room: their sessions queue no more, and messages
    /// that they retained are withheld, until they connect again.
    pub(crate) const DEFAULT_MAX_PARTED: usize = 200_000;

    pub(crate) fn new(max_parted: usize) -> Self {
        Self {
            connected: HashMap::new(),
            ends: BTreeSet::new(),
            latest: HashMap::new(),
            parted: BTreeMap::new(),
            max_parted,
            partings: 0,
            reloads: 0,
            to_be_asked: HashSet::new(),
            revoked: VecDeque::new(),
        }
    }

    /// A client has connected with a token.
    pub(crate) fn connect(&mut self, handle: ClientHandle, token: VerifiedToken) {
        self.part(handle);
        self.ends.insert((token.ends_at(), handle));
        let latest = Latest { handle, token: token.clone(), parting: None, revoked: None };
        if let Some(before) = self.latest.insert(token.mqtt_client_id().into(), latest)
            && let Some(parting) = before.parting
        {
            self.parted.remove(&parting.number);
        }
        self.connected.insert(handle, Connected { token, ending: false, revoked: None });
    }

    /// The connection of a client has ended. Anybody's: also of clients that
    /// were never let in. The client ID under which nobody is connected now.
    pub(crate) fn part(&mut self, handle: ClientHandle) -> Option<Box<str>> {
        let Connected { token, .. } = self.connected.remove(&handle)?;
        let mut parted = None;
        self.ends.remove(&(token.ends_at(), handle));
        // Otherwise another connection has taken the session over.
        if let Some(latest) = self.latest.get_mut(token.mqtt_client_id())
            && latest.handle == handle
        {
            self.partings += 1;
            latest.parting = Some(Parting { number: self.partings, reloads: self.reloads });
            self.parted.insert(self.partings, token.mqtt_client_id().into());
            parted = Some(token.mqtt_client_id().into());
        }
        if self.parted.len() > self.max_parted
            && let Some((_, longest_parted)) = self.parted.pop_first()
        {
            self.latest.remove(&longest_parted);
        }
        parted
    }

    /// Whether a client may do something with a topic.
    pub(crate) fn allows(
        &self,
        client: &impl Client,
        access: Access,
        topic: &str,
        now: UnixSeconds,
    ) -> Result<(), Refusal> {
        match self.connected.get(&client.handle()) {
            // It keeps its subscriptions, for when it comes back.
            Some(Connected { revoked: Some(denied), ending, .. })
                if !(*ending && access == Access::Subscribe) =>
            {
                return Err((**denied).clone().into());
            }
            Some(Connected { token, ending, .. }) => match access {
                Access::Read => token.allows(Action::Receive, topic, now)?,
                Access::Write => token.allows(Action::Publish, topic, now)?,
                // Mosquitto asks again for each subscription while it kicks,
                // to end those that are no longer allowed.
                Access::Subscribe if *ending => allowed_in_life(token, Action::Subscribe, topic, now)?,
                Access::Subscribe => token.allows(Action::Subscribe, topic, now)?,
                // To receive less needs no right.
                Access::Unsubscribe => {}
            },
            None => self.allows_unconnected(client, access, topic, now)?,
        }
        Ok(())
    }

    fn allows_unconnected(
        &self,
        client: &impl Client,
        access: Access,
        topic: &str,
        now: UnixSeconds,
    ) -> Result<(), Refusal> {
        let Some(Latest { handle, token, parting, revoked }) = self.latest_of(client) else {
            return Err(if client.has_connected() { Refusal::ClientUnknown } else { Refusal::ClientNotSeen });
        };
        if let Some(denied) = revoked {
            return Err((**denied).clone().into());
        }
        let parting = parting.as_ref().filter(|_| *handle == client.handle());
        match (access, parting) {
            (Access::Write, _) if !client.has_connected() => {
                allowed_in_life(token, Action::Publish, topic, now)?;
            }
            (Access::Read, Some(_)) => allowed_in_life(token, Action::Receive, topic, now)?,
            (Access::Write, Some(parting)) if parting.reloads == self.reloads => {
                if now >= token.ends_at().plus(WILL_GRACE_S) {
                    return Err(expired(token, now).into());
                }
                allowed_in_life(token, Action::Publish, topic, now)?;
            }
            (Access::Read | Access::Write | Access::Subscribe | Access::Unsubscribe, _) => {
                return Err(Refusal::ClientUnknown);
            }
        }
        Ok(())
    }

    /// The last session under the client ID and the name of a client.
    fn latest_of(&self, client: &impl Client) -> Option<&Latest> {
        let latest = self.latest.get(client.id()?)?;
        (client.username() == Some(latest.token.subject())).then_some(latest)
    }

    /// The broker has begun to reload: it will ask [`Sessions::knows`].
    pub(crate) fn reload(&mut self) {
        self.reloads += 1;
        let parted = self.latest.values().filter(|latest| latest.parting.is_some());
        self.to_be_asked = parted.map(|latest| latest.handle).chain(self.connected.keys().copied()).collect();
    }

    /// After a reload Mosquitto authenticates every session again, offline
    /// ones included, with the name that replaced the token. Whether this is
    /// one of them and may stay; `None` if it is not known.
    ///
    /// Each is known once: whoever comes to its address later is a stranger.
    /// To allow it gives nobody a right: a parted session stays parted, and
    /// after a reload its will does not go out any more, so that a new client
    /// at its address would gain nothing. A session from the broker's database
    /// may do nothing before it connects; refusing it would make Mosquitto 2.0
    /// end an offline session twice.
    pub(crate) fn knows(&mut self, client: &impl Client, now: UnixSeconds) -> Option<Result<(), Denied>> {
        if !client.has_connected() {
            return Some(Ok(()));
        }
        if !self.to_be_asked.remove(&client.handle()) {
            return None;
        }
        let same_client = |token: &VerifiedToken| {
            client.id() == Some(token.mqtt_client_id()) && client.username() == Some(token.subject())
        };
        match self.connected.get(&client.handle()) {
            Some(Connected { token, revoked, .. }) => same_client(token).then(|| match revoked {
                Some(denied) => Err((**denied).clone()),
                None if now < token.ends_at() => Ok(()),
                None => Err(expired(token, now)),
            }),
            None => self
                .latest_of(client)
                .filter(|latest| latest.handle == client.handle() && latest.parting.is_some())
                .map(|_| Ok(())),
        }
    }

    /// Some tokens were revoked: the sessions under them, connected and parted,
    /// may do nothing any more, whether or not their token has ended.
    pub(crate) fn revoke(&mut self, revocations: &Revocations) {
        for (handle, Connected { token, revoked, .. }) in &mut self.connected {
            if mark(revoked, token, revocations) {
                self.revoked.push_back(*handle);
            }
        }
        for Latest { token, revoked, .. } in self.latest.values_mut() {
            mark(revoked, token, revocations);
        }
    }

    /// Takes the client IDs of connections whose token was revoked, and why,
    /// at most `max`. They are to be disconnected.
    pub(crate) fn take_revoked(&mut self, max: usize) -> Vec<(Box<str>, Denied)> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(handle) = self.revoked.pop_front()
        {
            // It may have gone, and its address be another's.
            let Some(connected) = self.connected.get_mut(&handle) else { continue };
            let Some(denied) = &connected.revoked else { continue };
            connected.ending = true;
            let id = connected.token.mqtt_client_id();
            if self.latest.get(id).is_some_and(|latest| latest.handle == handle) {
                taken.push((id.into(), (**denied).clone()));
            }
        }
        taken
    }

    /// Takes the client IDs of connections whose token has ended, at most
    /// `max`. They are to be disconnected.
    pub(crate) fn take_ended(&mut self, now: UnixSeconds, max: usize) -> Vec<Box<str>> {
        let mut ended = Vec::new();
        while ended.len() < max
            && let Some((ends_at, handle)) = self.ends.first().copied()
            && ends_at <= now
        {
            self.ends.pop_first();
            let Some(connected) = self.connected.get_mut(&handle) else { continue };
            if connected.revoked.is_some() {
                continue;
            }
            connected.ending = true;
            let id = connected.token.mqtt_client_id();
            // A connection that was taken over is being ended by the broker;
            // the client ID is that of its successor now.
            if self.latest.get(id).is_some_and(|latest| latest.handle == handle) {
                ended.push(id.into());
            }
        }
        ended
    }
}

/// Marks what is revoked. Whether that is new.
fn mark(revoked: &mut Revoked, token: &VerifiedToken, revocations: &Revocations) -> bool {
    if revoked.is_none() {
        *revoked = token.signed().check_not_revoked(revocations).err().map(Box::new);
        return revoked.is_some();
    }
    false
}

/// Whether the token allowed this before its end, if it has ended.
fn allowed_in_life(
    token: &VerifiedToken,
    action: Action,
    topic: &str,
    now: UnixSeconds,
) -> Result<(), Denied> {
    token.allows(action, topic, now.min(token.ends_at().minus(1)))
}

fn expired(token: &VerifiedToken, now: UnixSeconds) -> Denied {
    Denied::Expired { exp: token.expires_at(), now, skew_s: token.ends_at().since(token.expires_at()) }
}

#[cfg(test)]
mod tests;
