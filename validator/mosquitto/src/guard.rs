//! What happens at each event of the broker.
//!
//! Everything runs on the broker's one thread, and the broker may come back
//! with another event while it is being talked to: a kick reports the end of
//! the connection, a log line may be published and so be a delivery. So
//! nothing is borrowed while the broker is called.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use fleetbadge_validator::denied::{Denied, Excerpt, StaleState};
use fleetbadge_validator::ids::check_name;
use fleetbadge_validator::memory::Memory;
use fleetbadge_validator::remote::notices::Notice;
use fleetbadge_validator::revocations::RevocationState;
use fleetbadge_validator::time::{Clock, SystemClock, UnixSeconds};
use fleetbadge_validator::verify::{Connecting, VerifiedToken, Verifier};

use crate::broker::{Access, Authentication, Broker, Client, ClientHandle, Level, Verdict, Will};
use crate::denial_log::DenialLog;
use crate::keys::Keys;
use crate::options::{InvalidOption, Options, TokenFrom};
use crate::refusal::Refusal;
use crate::revocations::Revocations;
use crate::sessions::Sessions;

/// Guards the door of one broker, or of one of its listeners.
pub(crate) struct Guard<B> {
    broker: B,
    verifier: Verifier,
    token_from: TokenFrom,
    keys: Keys,
    revocations: Revocations,
    /// Which of the changes of the revocations the sessions have heard of.
    revocations_applied: Cell<u64>,
    memory: RefCell<Memory>,
    sessions: RefCell<Sessions>,
    denials: RefCell<DenialLog>,
    /// When the housekeeping was last done.
    kept_at: Cell<UnixSeconds>,
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
        let keys = Keys::start(options.keys, Arc::clone(&clock))?;
        let revocations = Revocations::start(options.feed, &keys, clock)?;
        Ok(Self {
            broker,
            verifier: options.verifier,
            token_from: options.token_from,
            keys,
            revocations,
            revocations_applied: Cell::new(0),
            memory: RefCell::default(),
            sessions: RefCell::new(Sessions::new(Sessions::DEFAULT_MAX_PARTED)),
            denials: RefCell::new(DenialLog::new()),
            kept_at: Cell::new(UnixSeconds(0)),
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
        let outcome = known.unwrap_or_else(|| {
            let token = self.token_from.choose(client.username(), password);
            let verified = self.verify(client, token, now);
            let token = Self::name(client, verified)?;
            self.sessions.borrow_mut().connect(client.handle(), token);
            Ok(())
        });
        self.verdict(client, outcome, now)
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
        let verified = check_method(method).and_then(|()| self.verify(client, token_in(data), now));
        let handle = client.handle();
        let outcome = if is_connected {
            let renewed = verified.and_then(|token| self.sessions.borrow_mut().renew(handle, token));
            // The broker ends the connection; should it not, we do.
            renewed.inspect_err(|refusal| self.sessions.borrow_mut().bar(handle, refusal.clone()))
        } else {
            Self::name(client, verified)
                .map(|token| self.sessions.borrow_mut().connect_enhanced(handle, token))
        };
        let code = match &outcome {
            Ok(()) => Authentication::Succeeded,
            Err(Refusal::MethodUnknown { .. }) => Authentication::MethodUnknown,
            Err(Refusal::ReceivesLess) => Authentication::ConnectAgain,
            Err(_) => Authentication::Failed,
        };
        self.verdict(client, outcome, now);
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
        self.sessions.borrow_mut().bar(client.handle(), Refusal::AuthenticationContinued);
        self.verdict(client, Err(Refusal::AuthenticationContinued), now);
        Authentication::Awaited
    }

    /// Replaces the user name of a client by the name of its device, or, if it
    /// is not let in, by nothing: it may be a good token for something else.
    fn name(
        client: &mut impl Client,
        verified: Result<VerifiedToken, Refusal>,
    ) -> Result<VerifiedToken, Refusal> {
        let name = verified.as_ref().ok().map(VerifiedToken::subject);
        client.set_username(name).map_err(|_| Refusal::UsernameRefused)?;
        verified
    }

    fn verify(
        &self,
        client: &impl Client,
        token: Result<&str, Denied>,
        now: UnixSeconds,
    ) -> Result<VerifiedToken, Refusal> {
        let (id, username) = (client.id().unwrap_or_default(), client.username());
        check_name(id).map_err(|invalid| match username {
            Some(username) if username == id => Refusal::ClientIdIsUsername,
            _ => Refusal::ClientIdMalformed(invalid),
        })?;
        let token = token?;
        let (keys, revocations) = (self.keys.current(), self.revocations.state());
        let judge = |certificate| {
            let (connecting, memory) =
                (Connecting { client_id: id, certificate }, &mut self.memory.borrow_mut());
            self.verifier.verify_remembered(token, connecting, &keys, &revocations, memory, now)
        };
        // Only a token that is bound to one is worth asking for a certificate.
        let mut verified = judge(None);
        if matches!(verified, Err(Denied::CertificateMissing { .. }))
            && let Some(certificate) = client.certificate()
        {
            verified = judge(Some(certificate));
        }
        verified.map_err(|denied| {
            // By a clock that was set back the keys are of the future.
            let is_mended_by_keys = matches!(
                denied,
                Denied::KeyUnknown { .. } | Denied::ConfirmedInFuture { state: StaleState::Keys, .. }
            );
            if is_mended_by_keys {
                self.keys.key_missing();
            }
            denied.into()
        })
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
        let outcome = match topic {
            Some(topic) => self.sessions.borrow().allows(client, access, topic, now),
            None => Err(Refusal::TopicNotUtf8),
        };
        self.verdict(client, outcome, now)
    }

    /// `DISCONNECT` and `CLIENT_OFFLINE`: a connection has ended.
    pub(crate) fn disconnect(&self, handle: ClientHandle) {
        self.sessions.borrow_mut().part(handle);
    }

    /// `RELOAD`: the operator sent SIGHUP. The broker will ask for every
    /// session again, before the next tick.
    pub(crate) fn reload(&self, now: UnixSeconds) {
        self.reload_at.set(Some(now));
        self.sessions.borrow_mut().reload();
        self.keys.reload();
        self.revocations.reload();
        self.log_notices();
    }

    /// `TICK`: many times a second, thousands under load.
    pub(crate) fn tick(&self, now: UnixSeconds) {
        self.reload_at.set(None);
        self.apply_revocations();
        self.send_barred_away();
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
        self.memory.borrow_mut().forget_expired(now);
        let summary = self.denials.borrow_mut().summary(now);
        if let Some(summary) = summary {
            self.broker.log(Level::Notice, &summary);
        }
        self.log_notices();
    }

    /// Tells the sessions what was revoked since the last time.
    fn apply_revocations(&self) {
        let changes = self.revocations.changes();
        if self.revocations_applied.replace(changes) == changes {
            return;
        }
        if let RevocationState::Known { revocations, .. } = self.revocations.state() {
            self.sessions.borrow_mut().revoke(&revocations);
        }
    }

    /// Disconnects clients that are barred; with many, the next tick goes on.
    fn send_barred_away(&self) {
        let barred = self.sessions.borrow_mut().take_barred(Self::MAX_KICKS);
        for (client_id, refusal) in &barred {
            self.broker.log(Level::Notice, &format!("disconnecting client {client_id}: {refusal}"));
            self.broker.kick(client_id, if refusal.is_revocation() { Will::Dropped } else { Will::Sent });
        }
    }

    fn is_reloading(&self, now: UnixSeconds) -> bool {
        self.reload_at.get().is_some_and(|began| now.since(began) <= Self::RELOAD_S && now >= began)
    }

    fn log_notices(&self) {
        for notice in self.keys.take_notices().into_iter().chain(self.revocations.take_notices()) {
            match notice {
                Notice::Info(line) => self.broker.log(Level::Info, &line),
                Notice::Warning(line) => self.broker.log(Level::Warning, &line),
            }
        }
    }

    /// Logs a denial.
    fn verdict(&self, client: &impl Client, outcome: Result<(), Refusal>, now: UnixSeconds) -> Verdict {
        let Err(refusal) = outcome else { return Verdict::Allow };
        // A line that is published to somebody who may not read it would
        // cause the next.
        if !self.logging.replace(true) {
            let line = self.denials.borrow_mut().line(client, &refusal, now);
            if let Some(line) = line {
                self.broker.log(Level::Notice, &line);
            }
            self.logging.set(false);
        }
        Verdict::Deny
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

/// Three segments (RFC 7515 §7.1), the first of them a JSON object in base64url:
/// no other user name or password looks like that by chance.
fn looks_like_a_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

#[cfg(test)]
mod tests;
