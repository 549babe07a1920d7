//! What happens at each event of the broker.
//!
//! Everything runs on the broker's one thread, and the broker may come back
//! with another event while it is being talked to: a kick reports the end of
//! the connection, a log line may be published and so be a delivery. So
//! nothing is borrowed while the broker is called.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use fleetbadge_validator::denied::{Denied, Excerpt};
use fleetbadge_validator::ids::check_name;
use fleetbadge_validator::remote::notices::Notice;
use fleetbadge_validator::time::{Clock, SystemClock, UnixSeconds};
use fleetbadge_validator::verify::VerifiedToken;

use crate::authenticators::Authenticators;
use crate::bad_signatures::Origin;
use crate::broker::{Access, Authentication, Broker, Client, ClientHandle, Level, Verdict, Will};
use crate::counters::Counters;
use crate::denial_log::DenialLog;
use crate::handed_on::HandedOn;
use crate::options::{InvalidOption, Options, TokenFrom};
use crate::passwords::Presented;
use crate::refusal::Refusal;
use crate::sessions::Sessions;

mod waiting;

/// Guards the door of one broker, or of one of its listeners.
pub(crate) struct Guard<B> {
    broker: B,
    token_from: TokenFrom,
    authenticators: Authenticators,
    sessions: RefCell<Sessions>,
    handed_on: RefCell<HandedOn>,
    denials: RefCell<DenialLog>,
    /// When the housekeeping was last done.
    kept_at: Cell<UnixSeconds>,
    /// Whether there are ticks.
    has_ticks: Cell<bool>,
    /// When a reload began whose checks may still go on.
    reload_at: Cell<Option<UnixSeconds>>,
    /// Whether a denial is being logged.
    logging: Cell<bool>,
}

impl<B: Broker> Guard<B> {
    /// The most clients that are disconnected at one tick, so that a fleet
    /// whose tokens end together does not hold up the broker. There are at
    /// least ten ticks in a second.
    const MAX_KICKS: usize = 1000;
    /// How long the checks after a reload may take where no tick ends them, in
    /// seconds.
    const RELOAD_S: u64 = 1;

    /// Starts with these options.
    pub(crate) fn new(broker: B, options: Options) -> Result<Self, InvalidOption> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        options.expect_waiting(broker.can_wait())?;
        let authenticators = Authenticators::start(options.authenticators, &clock)?;
        broker.log(Level::Info, &format!("authenticators, in their order: {}", authenticators.describe()));
        Ok(Self {
            broker,
            token_from: options.token_from,
            authenticators,
            sessions: RefCell::new(Sessions::new(Sessions::DEFAULT_MAX_PARTED)),
            handed_on: RefCell::default(),
            denials: RefCell::new(DenialLog::new()),
            kept_at: Cell::new(UnixSeconds(0)),
            has_ticks: Cell::new(false),
            reload_at: Cell::new(None),
            logging: Cell::new(false),
        })
    }

    /// `BASIC_AUTH`: a client wants to connect, or the broker reloads and asks
    /// again for one that has.
    pub(crate) fn connect(
        &self,
        client: &mut impl Client,
        password: Option<&str>,
        now: UnixSeconds,
    ) -> Verdict {
        self.apply_revocations();
        let known = if self.is_reloading(now) {
            self.sessions.borrow_mut().knows(client, now)
        } else {
            self.keep_house_without_ticks(now);
            None
        };
        let outcome = match known {
            Some(known) => known.map(|()| Verdict::Allow),
            None => self.admit(client, password, now),
        };
        self.verdict(client, outcome, now)
    }

    /// Finds who judges a client, and lets it in or not.
    fn admit(
        &self,
        client: &mut impl Client,
        password: Option<&str>,
        now: UnixSeconds,
    ) -> Result<Verdict, Refusal> {
        if is_no_token(client.username(), password) {
            if let Some(authenticator) = self.authenticators.passwords()
                && let Some(presented) = Presented::read(client, password)
            {
                let judged = self.by_password(client, authenticator, &presented, now);
                return judged.inspect_err(|refusal| authenticator.counters.denied(refusal.code()));
            }
            if let Some(counters) = self.authenticators.hand_on() {
                let handed_on = self.hand_on(client, counters);
                return handed_on.inspect_err(|refusal| counters.denied(refusal.code()));
            }
        }
        let token = self.token_from.choose(client.username(), password);
        let verified = self.verify_to_connect(client, token, now);
        let token = self.name(client, verified)?;
        let counters = self.authenticators.counters_of(&token);
        self.let_in(client.handle(), token, counters, Sessions::connect, now);
        Ok(Verdict::Allow)
    }

    /// Leaves a client to others. Not one that would take over the session of
    /// a device, with what was queued for it.
    fn hand_on(&self, client: &impl Client, counters: &Counters) -> Result<Verdict, Refusal> {
        let id = client.id().ok_or(Refusal::ClientIdNotUtf8)?;
        if id.len() > MAX_HANDED_ON_ID {
            return Err(Refusal::ClientIdTooLong { length: id.len() });
        }
        if self.sessions.borrow().has_session(id) {
            return Err(Refusal::ClientIdOfDevice);
        }
        self.handed_on.borrow_mut().begin(client, id);
        counters.handed_on();
        Ok(Verdict::HandOn)
    }

    /// `EXT_AUTH_START`: a client wants to connect with an authentication
    /// method, or, connected with one, to go on with a new token (MQTT 5
    /// §4.12). The data is the token; what may stand in the user name and
    /// password is ignored. The broker sees to it that a connection keeps its
    /// method.
    pub(crate) fn authenticate(
        &self,
        client: &mut impl Client,
        method: Option<&str>,
        data: &[u8],
        now: UnixSeconds,
    ) -> Authentication {
        self.apply_revocations();
        let is_connected = self.sessions.borrow().is_connected(client);
        // Here it could end the very connection that the event is about.
        if !is_connected {
            self.keep_house_without_ticks(now);
        }
        let unjudged = self.authenticators.counters_of_unjudged();
        let method = check_method(method).inspect_err(|refusal| unjudged.denied(refusal.code()));
        let handle = client.handle();
        let outcome = if is_connected {
            let verified = method.and_then(|()| self.verify(client, token_in(data), now));
            let renewed = verified.and_then(|token| {
                let renewed = self.sessions.borrow_mut().renew(handle, token.clone());
                renewed
                    .inspect_err(|refusal| self.authenticators.counters_of(&token).denied(refusal.code()))?;
                self.authenticators.renewed(&token);
                Ok(())
            });
            // The broker ends the connection; should it not, we do.
            renewed.inspect_err(|refusal| self.sessions.borrow_mut().bar(handle, refusal.clone()))
        } else {
            let verified = method.and_then(|()| self.verify_to_connect(client, token_in(data), now));
            self.name(client, verified).map(|token| {
                let counters = self.authenticators.counters_of(&token);
                self.let_in(handle, token, counters, Sessions::connect_enhanced, now);
            })
        };
        let code = match &outcome {
            Ok(()) => Authentication::Succeeded,
            Err(Refusal::MethodUnknown { .. }) => Authentication::MethodUnknown,
            Err(Refusal::ReceivesLess) => Authentication::ConnectAgain,
            Err(_) => Authentication::Failed,
        };
        self.verdict(client, outcome.map(|()| Verdict::Allow), now);
        code
    }

    /// `EXT_AUTH_CONTINUE`: a client goes on with an authentication. Ours have
    /// one step, so it makes no sense.
    ///
    /// An AUTH packet without content brings Mosquitto here from a connection
    /// in use, which it then takes for one that is not in use yet: if that is
    /// refused, it goes on to use memory that it has freed, if it is accepted,
    /// it ends at once. So the client is left waiting, barred, and is
    /// disconnected at the next tick.
    pub(crate) fn go_on(&self, client: &impl Client, now: UnixSeconds) -> Authentication {
        let refusal = Refusal::AuthenticationContinued;
        let sessions = &mut self.sessions.borrow_mut();
        self.authenticators.denied_in_session(sessions.issuer_of(client), refusal.code());
        sessions.bar(client.handle(), refusal);
        self.verdict(client, Err(Refusal::AuthenticationContinued), now);
        Authentication::Awaited
    }

    /// Replaces the user name of a client by the name of its device, or, if it
    /// is not let in, by nothing: it may be a good token for something else.
    fn name(
        &self,
        client: &mut impl Client,
        verified: Result<VerifiedToken, Refusal>,
    ) -> Result<VerifiedToken, Refusal> {
        let name = verified.as_ref().ok().map(VerifiedToken::subject);
        if client.set_username(name).is_err() {
            if let Ok(token) = &verified {
                self.authenticators.counters_of(token).denied(Refusal::UsernameRefused.code());
            }
            return Err(Refusal::UsernameRefused);
        }
        verified
    }

    /// Whether the token is good, here and for this client.
    fn verify(
        &self,
        client: &impl Client,
        token: Result<&str, Denied>,
        now: UnixSeconds,
    ) -> Result<VerifiedToken, Refusal> {
        let unjudged = self.authenticators.counters_of_unjudged();
        let id = checked_id(client).inspect_err(|refusal| unjudged.denied(refusal.code()))?;
        let token = token.inspect_err(|denied| unjudged.denied(denied.code()))?;
        let is_known = self.sessions.borrow().has_session(id);
        let origin = Origin { id, address: client.address(), is_known };
        Ok(self.authenticators.verify(token, &origin, || client.certificate(), now)?)
    }

    /// The same for a client that is not connected yet, and may resume a
    /// session.
    fn verify_to_connect(
        &self,
        client: &impl Client,
        token: Result<&str, Denied>,
        now: UnixSeconds,
    ) -> Result<VerifiedToken, Refusal> {
        let token = self.verify(client, token, now)?;
        let counters = self.authenticators.counters_of(&token);
        self.may_resume(&token, client.starts_clean())
            .inspect_err(|refusal| counters.denied(refusal.code()))?;
        Ok(token)
    }

    /// Whether a client with this token may have the session that there may be
    /// under its client ID.
    fn may_resume(&self, token: &VerifiedToken, starts_clean: bool) -> Result<(), Refusal> {
        if !starts_clean && self.handed_on.borrow().has_session(token.mqtt_client_id()) {
            return Err(Refusal::ClientIdKept);
        }
        self.sessions.borrow().may_resume(token, starts_clean)
    }

    fn let_in(
        &self,
        handle: ClientHandle,
        token: VerifiedToken,
        counters: &Counters,
        begin: fn(&mut Sessions, ClientHandle, VerifiedToken),
        now: UnixSeconds,
    ) {
        counters.let_in();
        self.authenticators.connected(&token, now);
        let mut handed_on = self.handed_on.borrow_mut();
        handed_on.end(handle);
        handed_on.end_session(token.mqtt_client_id());
        begin(&mut self.sessions.borrow_mut(), handle, token);
    }

    /// `ACL_CHECK`: whether a client may do something with a topic, which is
    /// `None` if it is not UTF-8.
    pub(crate) fn acl_check(
        &self,
        client: &impl Client,
        access: Access,
        topic: Option<&str>,
        now: UnixSeconds,
    ) -> Verdict {
        // Where there are no ticks, this is the only thing that comes in time.
        self.apply_revocations();
        if self.authenticators.hand_on().is_some() {
            let is_taken = || client.id().is_some_and(|id| self.sessions.borrow().has_session(id));
            if self.handed_on.borrow_mut().has(client, is_taken) {
                return Verdict::HandOn;
            }
        }
        let outcome = match topic {
            Some(topic) => self.sessions.borrow().allows(client, access, topic, now).map(|()| Verdict::Allow),
            None => Err(Refusal::TopicNotUtf8),
        };
        if let Err(refusal) = &outcome {
            let sessions = self.sessions.borrow();
            self.authenticators.denied_in_session(sessions.issuer_of(client), refusal.code());
        }
        self.verdict(client, outcome, now)
    }

    /// `DISCONNECT` and `CLIENT_OFFLINE`: a connection has ended.
    pub(crate) fn disconnect(&self, handle: ClientHandle) {
        let parted = self.sessions.borrow_mut().part(handle);
        if let Some(token) = parted {
            self.authenticators.parted(&token);
        }
        self.handed_on.borrow_mut().part(handle);
    }

    /// `RELOAD`: the operator sent SIGHUP. The broker will ask for every
    /// session again, before the next tick.
    pub(crate) fn reload(&self, now: UnixSeconds) {
        self.reload_at.set(Some(now));
        self.sessions.borrow_mut().reload();
        self.authenticators.reload();
        self.log_notices();
    }

    /// `TICK`: many times a second, thousands under load.
    pub(crate) fn tick(&self, now: UnixSeconds) {
        self.has_ticks.set(true);
        self.reload_at.set(None);
        self.apply_revocations();
        self.send_barred_away();
        self.complete_waiting(now);
        if now != self.kept_at.get() {
            self.keep_house(now);
        }
    }

    /// Mosquitto 2.0.11 has no ticks with `per_listener_settings`.
    fn keep_house_without_ticks(&self, now: UnixSeconds) {
        if now.since(self.kept_at.get()) > 1 {
            self.keep_house(now);
        }
    }

    /// What has to be done once a second.
    fn keep_house(&self, now: UnixSeconds) {
        self.send_barred_away();
        let ended = self.sessions.borrow_mut().take_ended(now, Self::MAX_KICKS);
        for client_id in &ended {
            self.broker.log(Level::Notice, &format!("disconnecting client {client_id}: its token has ended"));
            self.broker.kick(client_id, Will::Sent);
        }
        // With more to disconnect, the next tick goes on.
        if ended.len() < Self::MAX_KICKS {
            self.kept_at.set(now);
        }
        self.authenticators.forget_expired(now);
        let summary = self.denials.borrow_mut().summary(now);
        if let Some(summary) = summary {
            self.broker.log(Level::Notice, &summary);
        }
        self.log_notices();
    }

    /// Tells the sessions what was revoked since the last time.
    fn apply_revocations(&self) {
        self.authenticators.take_revoked(|issuer, revocations| {
            self.sessions.borrow_mut().revoke(issuer, revocations);
        });
    }

    /// Disconnects clients that are barred; with many, the next tick goes on.
    fn send_barred_away(&self) {
        let barred = self.sessions.borrow_mut().take_barred(Self::MAX_KICKS);
        for (client_id, refusal) in &barred {
            self.broker.log(Level::Notice, &format!("disconnecting client {client_id}: {refusal}"));
            self.broker.kick(client_id, if refusal.is_revocation() { Will::Dropped } else { Will::Sent });
        }
    }

    /// However long the broker takes to ask for every session: it must not
    /// take one for a stranger in the middle.
    fn is_reloading(&self, now: UnixSeconds) -> bool {
        let is_recent = |began| now.since(began) <= Self::RELOAD_S && now >= began;
        self.reload_at.get().is_some_and(|began| self.has_ticks.get() || is_recent(began))
    }

    fn log_notices(&self) {
        for notice in self.authenticators.take_notices() {
            match notice {
                Notice::Info(line) => self.broker.log(Level::Info, &line),
                Notice::Warning(line) => self.broker.log(Level::Warning, &line),
            }
        }
    }

    /// Logs a denial.
    fn verdict(&self, client: &impl Client, outcome: Result<Verdict, Refusal>, now: UnixSeconds) -> Verdict {
        outcome.unwrap_or_else(|refusal| {
            self.log_denial(client.id(), client.address(), &refusal, now);
            Verdict::Deny
        })
    }

    fn log_denial(
        &self,
        client_id: Option<&str>,
        address: Option<&str>,
        refusal: &Refusal,
        now: UnixSeconds,
    ) {
        // A line that is published to somebody who may not read it would
        // cause the next.
        if !self.logging.replace(true) {
            let line = self.denials.borrow_mut().line(client_id, address, refusal, now);
            if let Some(line) = line {
                self.broker.log(Level::Notice, &line);
            }
            self.logging.set(false);
        }
    }
}

/// The authentication methods that take a token as their data: of any
/// issuer, as Azure Event Grid names them, byte for byte.
const METHODS: [&str; 2] = ["OAUTH2-JWT", "CUSTOM-JWT"];

fn check_method(method: Option<&str>) -> Result<(), Refusal> {
    match method {
        Some(method) if METHODS.contains(&method) => Ok(()),
        _ => Err(Refusal::MethodUnknown { found: Excerpt::of(method.unwrap_or_default()) }),
    }
}

fn token_in(data: &[u8]) -> Result<&str, Denied> {
    match std::str::from_utf8(data) {
        Ok("") => Err(Denied::TokenMissing),
        Ok(token) => Ok(token),
        Err(_) => Err(Denied::TokenMalformed),
    }
}

/// The longest client ID that is handed on, in bytes: it is remembered.
const MAX_HANDED_ON_ID: usize = 256;

/// The client ID, if it can be one of a device.
fn checked_id(client: &impl Client) -> Result<&str, Refusal> {
    let (id, username) = (client.id().unwrap_or_default(), client.username());
    check_name(id).map_err(|invalid| match username {
        Some(username) if username == id => Refusal::ClientIdIsUsername,
        _ => Refusal::ClientIdMalformed(invalid),
    })?;
    Ok(id)
}

impl TokenFrom {
    fn choose<'a>(self, username: Option<&'a str>, password: Option<&'a str>) -> Result<&'a str, Denied> {
        let chosen = match self {
            Self::Username => username,
            Self::Password => password,
            Self::Either => {
                let username = username.filter(|text| looks_like_a_token(text));
                let password = password.filter(|text| looks_like_a_token(text));
                match (username, password) {
                    (Some(username), Some(password)) if username != password => {
                        return Err(Denied::TokensDiffer);
                    }
                    (Some(token), _) | (None, Some(token)) => Some(token),
                    (None, None) => None,
                }
            }
        };
        chosen.ok_or(Denied::TokenMissing)
    }
}

/// Whether a client brings a user name, and neither this nor the password has
/// anything of a token: one that is cut short or in the wrong field is nobody
/// else's business either.
fn is_no_token(username: Option<&str>, password: Option<&str>) -> bool {
    let has_nothing_of_a_token = |text: &str| !(text.contains("eyJ") && text.contains('.'));
    let is_name = |name: &str| !name.is_empty() && has_nothing_of_a_token(name);
    username.is_some_and(is_name) && password.is_none_or(has_nothing_of_a_token)
}

/// Three segments (RFC 7515 §7.1), the first of them a JSON object in base64url:
/// no other user name or password looks like that by chance.
fn looks_like_a_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

#[cfg(test)]
mod tests;
