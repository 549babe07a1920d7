//! What happens at each event of the broker.
//!
//! Everything runs on the broker's one thread, and the broker may come back
//! with another event while it is being talked to: a kick reports the end of
//! the connection, a log line may be published and so be a delivery. So
//! nothing is borrowed while the broker is called.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use fleetbadge_validator::denied::{Denied, StaleState};
use fleetbadge_validator::ids::check_name;
use fleetbadge_validator::memory::Memory;
use fleetbadge_validator::remote::notices::Notice;
use fleetbadge_validator::reports::activity::Activity;
use fleetbadge_validator::reports::status_file::StatusFile;
use fleetbadge_validator::revocations::RevocationState;
use fleetbadge_validator::time::{Clock, SystemClock, UnixSeconds};
use fleetbadge_validator::verify::{VerifiedToken, Verifier};

use crate::broker::{Access, Broker, Client, ClientHandle, Level, Verdict, Will};
use crate::denial_log::DenialLog;
use crate::keys::Keys;
use crate::options::{InvalidOption, Options, TokenFrom};
use crate::refusal::Refusal;
use crate::revocations::Revocations;
use crate::sessions::Sessions;
use crate::status;

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
    /// What the reports and the status file tell of.
    activity: Arc<Activity>,
    status_file: Option<StatusFile>,
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
        let activity = Arc::new(Activity::new(clock.now()));
        let keys = Keys::start(options.keys, Arc::clone(&clock))?;
        let status_file = status::start(options.status_file, &keys, &activity, &clock)?;
        let revocations = Revocations::start(options.feed, &keys, &activity, clock)?;
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
            activity,
            status_file,
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
            // Mosquitto 2.0.11 has no ticks with per_listener_settings.
            if now.since(self.kept_at.get()) > 1 {
                self.keep_house(now);
            }
            None
        };
        let outcome = match known {
            Some(known) => known.map_err(Refusal::from),
            None => self.admit(client, password, now),
        };
        self.verdict(client, outcome, now)
    }

    fn admit(
        &self,
        client: &mut impl Client,
        password: Option<&str>,
        now: UnixSeconds,
    ) -> Result<(), Refusal> {
        let verified = self.verify(client, password, now);
        match verified {
            Ok(token) => {
                client.set_username(Some(token.subject())).map_err(|_| Refusal::UsernameRefused)?;
                self.activity.let_in(token.mqtt_client_id(), now, token.ends_at());
                self.sessions.borrow_mut().connect(client.handle(), token);
                Ok(())
            }
            Err(refusal) => {
                // It may be a good token for something else.
                client.set_username(None).map_err(|_| Refusal::UsernameRefused)?;
                Err(refusal)
            }
        }
    }

    fn verify(
        &self,
        client: &impl Client,
        password: Option<&str>,
        now: UnixSeconds,
    ) -> Result<VerifiedToken, Refusal> {
        let (id, username) = (client.id().unwrap_or_default(), client.username());
        check_name(id).map_err(|invalid| match username {
            Some(username) if username == id => Refusal::ClientIdIsUsername,
            _ => Refusal::ClientIdMalformed(invalid),
        })?;
        let token = self.token_from.choose(username, password)?;
        let (keys, revocations) = (self.keys.current(), self.revocations.state());
        let memory = &mut self.memory.borrow_mut();
        self.verifier.verify_remembered(token, id, &keys, &revocations, memory, now).map_err(|denied| {
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
        let parted = self.sessions.borrow_mut().part(handle);
        if let Some(client_id) = parted {
            self.activity.parted(&client_id);
        }
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
        self.send_revoked_away();
        if now != self.kept_at.get() {
            self.keep_house(now);
        }
    }

    /// What has to be done once a second.
    fn keep_house(&self, now: UnixSeconds) {
        self.send_revoked_away();
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

    /// Disconnects clients whose token was revoked; with many, the next tick
    /// goes on.
    fn send_revoked_away(&self) {
        let revoked = self.sessions.borrow_mut().take_revoked(Self::MAX_KICKS);
        for (client_id, denied) in &revoked {
            self.broker.log(Level::Notice, &format!("disconnecting client {client_id}: {denied}"));
            self.broker.kick(client_id, Will::Dropped);
        }
    }

    fn is_reloading(&self, now: UnixSeconds) -> bool {
        self.reload_at.get().is_some_and(|began| now.since(began) <= Self::RELOAD_S && now >= began)
    }

    fn log_notices(&self) {
        let of_status = self.status_file.iter().flat_map(StatusFile::take_notices);
        let notices = self.keys.take_notices().into_iter().chain(self.revocations.take_notices());
        for notice in notices.chain(of_status) {
            match notice {
                Notice::Info(line) => self.broker.log(Level::Info, &line),
                Notice::Warning(line) => self.broker.log(Level::Warning, &line),
            }
        }
    }

    /// Logs a denial.
    fn verdict(&self, client: &impl Client, outcome: Result<(), Refusal>, now: UnixSeconds) -> Verdict {
        let Err(refusal) = outcome else { return Verdict::Allow };
        self.activity.denied(refusal.code());
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
