//! Who is connected with which token, and what it allows.
//!
//! Mosquitto names a client by the address of its record, and asks about three
//! kinds of them:
//!
//! - *Connected* clients. Their token decides, and its end is their end. Who
//!   has come with an authentication method may replace it by a new one.
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
//! After a re-authentication that failed a client may do nothing, until the
//! broker has ended the connection; its session stays as it was.
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
use fleetbadge_validator::denied::{Denied, Excerpt};
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
    /// Connections that are barred and are to be disconnected.
    barred: VecDeque<ClientHandle>,
    /// The connection that the broker is told to let in at this moment, if it
    /// is still there.
    expected: Option<(ClientHandle, VerifiedToken)>,
}

#[derive(Debug)]
struct Connected {
    token: VerifiedToken,
    /// Whether it came with an authentication method, so that it may bring a
    /// new token.
    enhanced: bool,
    /// Being disconnected because its token has ended or it was barred.
    ending: bool,
    /// Why it may do nothing any more: a revocation, or a re-authentication
    /// that failed.
    barred: Barred,
}

#[derive(Debug)]
struct Latest {
    handle: ClientHandle,
    token: VerifiedToken,
    parting: Option<Parting>,
    /// The revocation of its token.
    barred: Barred,
}

/// Why a session may do nothing any more, if that is so. Kept, as a
/// revocation itself is forgotten once no token lives that it names. Boxed
/// since there may be hundreds of thousands, most of them empty.
type Barred = Option<Box<Refusal>>;

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
            barred: VecDeque::new(),
            expected: None,
        }
    }

    /// A client has connected with a token as user name or password.
    pub(crate) fn connect(&mut self, handle: ClientHandle, token: VerifiedToken) {
        self.begin(handle, token, false);
    }

    /// A client has connected with an authentication method.
    pub(crate) fn connect_enhanced(&mut self, handle: ClientHandle, token: VerifiedToken) {
        self.begin(handle, token, true);
    }

    fn begin(&mut self, handle: ClientHandle, token: VerifiedToken, enhanced: bool) {
        self.part(handle);
        self.ends.insert((token.ends_at(), handle));
        let latest = Latest { handle, token: token.clone(), parting: None, barred: None };
        if let Some(before) = self.latest.insert(token.mqtt_client_id().into(), latest)
            && let Some(parting) = before.parting
        {
            self.parted.remove(&parting.number);
        }
        self.connected.insert(handle, Connected { token, enhanced, ending: false, barred: None });
    }

    /// Whether this very client is connected. A record's address that is used
    /// again is another's.
    pub(crate) fn is_connected(&self, client: &impl Client) -> bool {
        self.connected.get(&client.handle()).is_some_and(|connected| is_of(&connected.token, client))
    }

    /// A connected client goes on with a new token for its client ID, which
    /// replaces the old one at once.
    ///
    /// Not if it lets the client receive less: Mosquitto asks before it queues
    /// a message, and then again at a connection only.
    pub(crate) fn renew(&mut self, handle: ClientHandle, token: VerifiedToken) -> Result<(), Refusal> {
        let connected = self.connected.get_mut(&handle).ok_or(Refusal::ClientUnknown)?;
        let old = &connected.token;
        if let Some(refusal) = &connected.barred {
            return Err((**refusal).clone());
        }
        if !connected.enhanced {
            return Err(Refusal::MethodMissing);
        }
        let issuers = [old, &token].map(|token| token.signed().issuer());
        if let [bound, found] = issuers
            && bound != found
        {
            return Err(Refusal::SubjectDiffers { bound: Excerpt::of(bound), found: Excerpt::of(found) });
        }
        if token.subject() != old.subject() || token.mqtt_client_id() != old.mqtt_client_id() {
            let (bound, found) = (Excerpt::of(old.subject()), Excerpt::of(token.subject()));
            return Err(Refusal::SubjectDiffers { bound, found });
        }
        if !token.receives_all_of(old) {
            return Err(Refusal::ReceivesLess);
        }
        self.ends.remove(&(old.ends_at(), handle));
        self.ends.insert((token.ends_at(), handle));
        if let Some(latest) = self.latest.get_mut(token.mqtt_client_id())
            && latest.handle == handle
        {
            latest.token = token.clone();
        }
        connected.token = token;
        connected.ending = false;
        Ok(())
    }

    /// A connected client may do nothing any more, and is to be disconnected.
    pub(crate) fn bar(&mut self, handle: ClientHandle, refusal: Refusal) {
        let Some(connected) = self.connected.get_mut(&handle) else { return };
        if connected.barred.is_none() {
            connected.barred = Some(refusal.into());
            self.barred.push_back(handle);
        }
    }

    /// The broker is about to be told to let in a connection that has waited. It
    /// may have gone, and its address be another's: until the broker reports it
    /// as connected, its token decides what was queued for it, and nothing
    /// else.
    pub(crate) fn expect(&mut self, handle: ClientHandle, token: VerifiedToken) {
        self.expected = Some((handle, token));
    }

    /// The broker has let in a connection.
    pub(crate) fn connected(&mut self, handle: ClientHandle) {
        if let Some((_, token)) = self.expected.take_if(|(expected, _)| *expected == handle) {
            self.connect(handle, token);
        }
    }

    /// Whether the connection that was expected has come.
    pub(crate) fn expectation_met(&mut self) -> bool {
        self.expected.take().is_none()
    }

    /// The connection of a client has ended. Anybody's: also of clients that
    /// were never let in. Its token, if nobody is connected with this client
    /// ID now.
    pub(crate) fn part(&mut self, handle: ClientHandle) -> Option<VerifiedToken> {
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
            parted = Some(token.clone());
        }
        if self.parted.len() > self.max_parted
            && let Some((_, longest_parted)) = self.parted.pop_first()
        {
            self.latest.remove(&longest_parted);
        }
        parted
    }

    /// Whether a client with this token may have the session under its client
    /// ID. One is of the device that began it, named by its issuer and its own
    /// name: another that has the same client ID, which may happen where there
    /// are several issuers, would get what was queued for the first. Such a
    /// one is let in once the first has gone, if it asks for a session of its
    /// own, which ends the other.
    pub(crate) fn may_resume(&self, token: &VerifiedToken, starts_clean: bool) -> Result<(), Refusal> {
        let is_same = |other: &VerifiedToken| {
            other.subject() == token.subject() && other.signed().issuer() == token.signed().issuer()
        };
        match self.latest.get(token.mqtt_client_id()) {
            Some(latest) if !is_same(&latest.token) => match latest.parting {
                Some(_) if starts_clean => Ok(()),
                Some(_) => Err(Refusal::ClientIdKept),
                None => Err(Refusal::ClientIdTaken),
            },
            _ => Ok(()),
        }
    }

    /// Whether a device of another name is connected with this client ID.
    pub(crate) fn is_of_another(&self, client_id: &str, subject: &str) -> bool {
        let latest = self.latest.get(client_id).filter(|latest| latest.parting.is_none());
        latest.is_some_and(|latest| latest.token.subject() != subject)
    }

    /// Whether there is a session under this client ID, connected or parted.
    pub(crate) fn has_session(&self, client_id: &str) -> bool {
        self.latest.contains_key(client_id)
    }

    /// Whose token a connected client has.
    pub(crate) fn issuer_of(&self, client: &impl Client) -> Option<&str> {
        self.connected.get(&client.handle()).map(|connected| &**connected.token.signed().issuer())
    }

    /// Whether a client may do something with a topic.
    pub(crate) fn allows(
        &self,
        client: &impl Client,
        access: Access,
        topic: &str,
        now: UnixSeconds,
    ) -> Result<(), Refusal> {
        if let Some((expected, token)) = &self.expected
            && *expected == client.handle()
            && client.id() == Some(token.mqtt_client_id())
        {
            return match access {
                Access::Read => Ok(token.allows(Action::Receive, topic, now)?),
                Access::Write | Access::Subscribe | Access::Unsubscribe => Err(Refusal::ClientUnknown),
            };
        }
        match self.connected.get(&client.handle()) {
            // It keeps its subscriptions, for when it comes back.
            Some(Connected { barred: Some(refusal), ending, .. })
                if !(*ending && access == Access::Subscribe) =>
            {
                return Err((**refusal).clone());
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
        let Some(Latest { handle, token, parting, barred }) = self.latest_of(client) else {
            return Err(if client.has_connected() { Refusal::ClientUnknown } else { Refusal::ClientNotSeen });
        };
        if let Some(refusal) = barred {
            return Err((**refusal).clone());
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
    pub(crate) fn knows(&mut self, client: &impl Client, now: UnixSeconds) -> Option<Result<(), Refusal>> {
        if !client.has_connected() {
            return Some(Ok(()));
        }
        if !self.to_be_asked.remove(&client.handle()) {
            return None;
        }
        match self.connected.get(&client.handle()) {
            Some(Connected { token, barred, .. }) => is_of(token, client).then(|| match barred {
                Some(refusal) => Err((**refusal).clone()),
                None if now < token.ends_at() => Ok(()),
                None => Err(expired(token, now).into()),
            }),
            None => self
                .latest_of(client)
                .filter(|latest| latest.handle == client.handle() && latest.parting.is_some())
                .map(|_| Ok(())),
        }
    }

    /// Some tokens of an issuer were revoked: the sessions under them, connected
    /// and parted, may do nothing any more, whether or not their token has
    /// ended.
    pub(crate) fn revoke(&mut self, issuer: &str, revocations: &Revocations) {
        let is_of = |token: &VerifiedToken| **token.signed().issuer() == *issuer;
        for (handle, Connected { token, barred, .. }) in &mut self.connected {
            if is_of(token) && bar_if_revoked(barred, token, revocations) {
                self.barred.push_back(*handle);
            }
        }
        for Latest { token, barred, .. } in self.latest.values_mut() {
            if is_of(token) {
                bar_if_revoked(barred, token, revocations);
            }
        }
    }

    /// Takes the client IDs of connections that are barred, and why, at most
    /// `max`. They are to be disconnected.
    pub(crate) fn take_barred(&mut self, max: usize) -> Vec<(Box<str>, Refusal)> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(handle) = self.barred.pop_front()
        {
            // It may have gone, and its address be another's.
            let Some(connected) = self.connected.get_mut(&handle) else { continue };
            let Some(refusal) = &connected.barred else { continue };
            connected.ending = true;
            let id = connected.token.mqtt_client_id();
            if self.latest.get(id).is_some_and(|latest| latest.handle == handle) {
                taken.push((id.into(), (**refusal).clone()));
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
            if connected.barred.is_some() {
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

/// Bars what is revoked. Whether that is new: what was barred for another
/// reason is to be disconnected already, now without its will.
fn bar_if_revoked(barred: &mut Barred, token: &VerifiedToken, revocations: &Revocations) -> bool {
    if barred.as_deref().is_some_and(Refusal::is_revocation) {
        return false;
    }
    let Err(denied) = token.signed().check_not_revoked(revocations) else { return false };
    let before = barred.replace(Box::new(denied.into()));
    before.is_none()
}

/// Whether a client is the one that has connected with this token, by the
/// names that the broker knows it by.
fn is_of(token: &VerifiedToken, client: &impl Client) -> bool {
    client.id() == Some(token.mqtt_client_id()) && client.username() == Some(token.subject())
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
