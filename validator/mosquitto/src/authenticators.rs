//! Who judges whom: the authenticators in their order.
//!
//! A token is judged by exactly one, the enabled one whose issuer it names,
//! and by that one's keys, audience, limits and revocations alone. Where there
//! is one for tokens it judges them all, and says itself what it thinks of
//! another issuer.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use fleetbadge_validator::claims::CertificateThumbprint;
use fleetbadge_validator::denied::{Denied, Excerpt, StaleState};
use fleetbadge_validator::memory::Memory;
use fleetbadge_validator::remote::notices::Notice;
use fleetbadge_validator::remote::own_state_dir;
use fleetbadge_validator::reports::activity::Activity;
use fleetbadge_validator::reports::status_file::StatusFile;
use fleetbadge_validator::revocations::{RevocationState, Revocations as Revoked};
use fleetbadge_validator::time::{Clock, UnixSeconds};
use fleetbadge_validator::token::unverified_issuer;
use fleetbadge_validator::verify::{Connecting, VerifiedToken, Verifier};

use crate::bad_signatures::{BadSignatures, Origin};
use crate::counters::{Counters, Counts};
use crate::keys::Keys;
use crate::options::{AuthenticatorKind, AuthenticatorOptions, HAND_ON, InvalidOption, JwtOptions};
use crate::passwords::Passwords;
use crate::revocations::Revocations;
use crate::status;

/// All of them.
pub(crate) struct Authenticators {
    /// As the operator lists them, those that are off included.
    listed: Vec<Listed>,
    /// Those that are on and go by tokens.
    jwt: Vec<JwtAuthenticator>,
    /// The one that goes by static passwords.
    passwords: Option<PasswordAuthenticator>,
    /// What is counted of those that are handed on, if any are.
    hand_on: Option<Counters>,
    /// Tokens that any of them has seen before: each is of the issuer whose
    /// key signed it.
    memory: RefCell<Memory>,
    bad_signatures: BadSignatures,
    /// What none of them has judged.
    unjudged: Counters,
}

/// An authenticator in the operator's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: Box<str>,
    /// Whether it is on.
    pub(crate) enabled: bool,
    /// What it goes by, for people.
    pub(crate) what: String,
}

/// The authenticator for static passwords.
pub(crate) struct PasswordAuthenticator {
    name: Box<str>,
    pub(crate) passwords: RefCell<Passwords>,
    pub(crate) counters: Counters,
}

/// An authenticator for the tokens of one issuer.
pub(crate) struct JwtAuthenticator {
    name: Box<str>,
    verifier: Verifier,
    pub(crate) keys: Keys,
    pub(crate) revocations: Revocations,
    /// Which of the changes of the revocations were told on.
    revocations_told: Cell<u64>,
    counters: Counters,
    /// What the reports to its issuer and its status file tell of.
    pub(crate) activity: Arc<Activity>,
    pub(crate) status_file: Option<StatusFile>,
}

impl Authenticators {
    /// Starts those that are on.
    pub(crate) fn start(
        options: Vec<AuthenticatorOptions>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, InvalidOption> {
        let (mut listed, mut jwt, mut passwords, mut hand_on) = (Vec::new(), Vec::new(), None, None);
        for AuthenticatorOptions { name, enabled, kind } in options {
            let what = match kind {
                AuthenticatorKind::Jwt(options) => {
                    let what = format!("tokens of {}", options.verifier.issuer);
                    if enabled {
                        jwt.push(JwtAuthenticator::start(name.clone(), *options, Arc::clone(clock))?);
                    }
                    what
                }
                AuthenticatorKind::StaticPassword(options) => {
                    let what = format!("static passwords, exchanged at {}", options.exchange.endpoint.url);
                    if enabled {
                        passwords = Some(PasswordAuthenticator {
                            name: name.clone(),
                            passwords: Passwords::start(*options)?.into(),
                            counters: Counters::default(),
                        });
                    }
                    what
                }
                AuthenticatorKind::HandOn => {
                    hand_on = enabled.then(Counters::default);
                    "what is no token is left to the broker's password file and next plugins; without an acl_file \
                     or such a plugin it may do nothing".into()
                }
            };
            listed.push(Listed { name, enabled, what });
        }
        Ok(Self {
            listed,
            jwt,
            passwords,
            hand_on,
            memory: RefCell::default(),
            bad_signatures: BadSignatures::default(),
            unjudged: Counters::default(),
        })
    }

    /// The list, for people.
    pub(crate) fn describe(&self) -> String {
        let describe = |Listed { name, enabled, what }: &Listed| {
            let off = if *enabled { "" } else { ", off" };
            format!("{name} ({what}{off})")
        };
        self.listed.iter().map(describe).collect::<Vec<_>>().join(", ")
    }

    /// Whether a token lets a client in.
    pub(crate) fn verify(
        &self,
        token: &str,
        client: &Origin<'_>,
        certificate: impl FnOnce() -> Option<CertificateThumbprint>,
        now: UnixSeconds,
    ) -> Result<VerifiedToken, Denied> {
        let judge = self.judge_of(token).inspect_err(|denied| self.unjudged.denied(denied.code()))?;
        let memory = &mut self.memory.borrow_mut();
        let admit = || self.bad_signatures.admit(client, now);
        let verified = judge.verify(token, client.id, certificate, memory, now, admit);
        verified.inspect_err(|denied| {
            judge.counters.denied(denied.code());
            if *denied == Denied::SignatureInvalid {
                self.bad_signatures.count(client, now);
            }
        })
    }

    /// The one by whose keys and rules a token is judged.
    fn judge_of(&self, token: &str) -> Result<&JwtAuthenticator, Denied> {
        if let [only] = &*self.jwt {
            return Ok(only);
        }
        let remembered = self.memory.borrow().issuer_of(token);
        let issuer = remembered.map_or_else(|| unverified_issuer(token).map(Into::into), Ok)?;
        let unknown = || Denied::IssuerUnknown { found: Excerpt::of(&issuer) };
        self.of_issuer(&issuer).ok_or_else(unknown)
    }

    fn of_issuer(&self, issuer: &str) -> Option<&JwtAuthenticator> {
        self.jwt.iter().find(|authenticator| *authenticator.verifier.issuer == *issuer)
    }

    /// Whose token this is.
    pub(crate) fn counters_of(&self, token: &VerifiedToken) -> &Counters {
        let judge = self.of_issuer(token.signed().issuer());
        judge.map_or(&self.unjudged, |authenticator| &authenticator.counters)
    }

    /// A client is connected with this token.
    pub(crate) fn connected(&self, token: &VerifiedToken, now: UnixSeconds) {
        if let Some(activity) = self.activity_of(token.signed().issuer()) {
            activity.let_in(token.mqtt_client_id(), now, token.ends_at());
        }
    }

    /// A client that is connected goes on with this token.
    pub(crate) fn renewed(&self, token: &VerifiedToken) {
        if let Some(activity) = self.activity_of(token.signed().issuer()) {
            activity.renewed(token.mqtt_client_id(), token.ends_at());
        }
    }

    /// A client that was connected with this token is not any more.
    pub(crate) fn parted(&self, token: &VerifiedToken) {
        if let Some(activity) = self.activity_of(token.signed().issuer()) {
            activity.parted(token.mqtt_client_id());
        }
    }

    /// Something was denied to a client that is connected with a token of this
    /// issuer, or with none.
    pub(crate) fn denied_in_session(&self, issuer: Option<&str>, code: &'static str) {
        let activity = match (&*self.jwt, issuer) {
            ([only], _) => Some(&only.activity),
            (_, Some(issuer)) => self.activity_of(issuer),
            (_, None) => None,
        };
        if let Some(activity) = activity {
            activity.denied(code);
        }
    }

    fn activity_of(&self, issuer: &str) -> Option<&Arc<Activity>> {
        self.of_issuer(issuer).map(|authenticator| &authenticator.activity)
    }

    /// Where a connection is counted that brought nothing to judge.
    pub(crate) fn counters_of_unjudged(&self) -> &Counters {
        match &*self.jwt {
            [only] => &only.counters,
            _ => &self.unjudged,
        }
    }

    /// The one for static passwords, if there is one.
    pub(crate) const fn passwords(&self) -> Option<&PasswordAuthenticator> {
        self.passwords.as_ref()
    }

    /// Where those are counted that are handed on; `None` if nobody is.
    pub(crate) const fn hand_on(&self) -> Option<&Counters> {
        self.hand_on.as_ref()
    }

    /// Each in the list, and what it has done. Last, without one: what none of
    /// them has judged.
    #[cfg_attr(not(test), expect(dead_code, reason = "for reports"))]
    pub(crate) fn status(&self) -> Vec<(Option<&Listed>, Counts)> {
        let counts = |listed: &Listed| {
            let jwt = self.jwt.iter().find(|one| one.name == listed.name).map(|one| &one.counters);
            let passwords = self.passwords.as_ref().filter(|one| one.name == listed.name);
            let hand_on = self.hand_on.as_ref().filter(|_| *listed.name == *HAND_ON);
            let counters = jwt.or(passwords.map(|one| &one.counters)).or(hand_on);
            counters.map(Counters::counts).unwrap_or_default()
        };
        let listed = self.listed.iter().map(|listed| (Some(listed), counts(listed)));
        listed.chain([(None, self.unjudged.counts())]).collect()
    }

    /// Tells whose revocations have changed since the last time, and to what.
    pub(crate) fn take_revoked(&self, mut tell: impl FnMut(&str, &Revoked)) {
        for authenticator in &self.jwt {
            let changes = authenticator.revocations.changes();
            if authenticator.revocations_told.replace(changes) == changes {
                continue;
            }
            if let RevocationState::Known { revocations, .. } = authenticator.revocations.state() {
                tell(&authenticator.verifier.issuer, &revocations);
            }
        }
    }

    /// The broker reloads.
    pub(crate) fn reload(&self) {
        for authenticator in &self.jwt {
            authenticator.keys.reload();
            authenticator.revocations.reload();
        }
    }

    /// Forgets the tokens whose `exp` has passed.
    pub(crate) fn forget_expired(&self, now: UnixSeconds) {
        self.memory.borrow_mut().forget_expired(now);
        if let Some(PasswordAuthenticator { passwords, .. }) = &self.passwords {
            passwords.borrow_mut().forget_ended(now);
        }
    }

    /// What there is to log.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        let of = |authenticator: &JwtAuthenticator| {
            let of_status =
                authenticator.status_file.as_ref().map(StatusFile::take_notices).unwrap_or_default();
            let of_keys = authenticator.keys.take_notices().into_iter();
            of_keys.chain(authenticator.revocations.take_notices()).chain(of_status)
        };
        let passwords = self.passwords.iter().flat_map(|one| one.passwords.borrow().take_notices());
        self.jwt.iter().flat_map(of).chain(passwords).collect()
    }

    #[cfg(test)]
    pub(crate) fn fake_passwords(&mut self) {
        let (name, passwords) = ("old".into(), Passwords::fake().into());
        self.passwords = Some(PasswordAuthenticator { name, passwords, counters: Counters::default() });
    }

    #[cfg(test)]
    pub(crate) fn jwt(&self, index: usize) -> &JwtAuthenticator {
        &self.jwt[index]
    }

    #[cfg(test)]
    pub(crate) fn jwt_mut(&mut self, index: usize) -> &mut JwtAuthenticator {
        &mut self.jwt[index]
    }
}

impl JwtAuthenticator {
    fn start(name: Box<str>, options: JwtOptions, clock: Arc<dyn Clock>) -> Result<Self, InvalidOption> {
        let JwtOptions { verifier, keys, feed, state_in, status_file, prefix } = options;
        if let Some(folder) = state_in {
            own_state_dir(&folder, &name).map_err(|error| InvalidOption::Remote {
                prefix: prefix.clone(),
                url_option: "jwks_url",
                error,
            })?;
        }
        let keys = Keys::start(keys, &prefix, Arc::clone(&clock))?;
        let activity = Arc::new(Activity::new(clock.now()));
        let status_file = status::start(status_file, &prefix, &keys, &activity, &clock)?;
        let revocations = Revocations::start(feed, &prefix, &keys, &activity, clock)?;
        let (revocations_told, counters) = (Cell::new(0), Counters::telling(Arc::clone(&activity)));
        Ok(Self { name, verifier, keys, revocations, revocations_told, counters, activity, status_file })
    }

    fn verify(
        &self,
        token: &str,
        client_id: &str,
        certificate: impl FnOnce() -> Option<CertificateThumbprint>,
        memory: &mut Memory,
        now: UnixSeconds,
        admit: impl Fn() -> Result<(), Denied>,
    ) -> Result<VerifiedToken, Denied> {
        let (keys, revocations) = (self.keys.current(), self.revocations.state());
        let mut judge = |certificate| {
            let connecting = Connecting { client_id, certificate };
            self.verifier.verify_remembered_if(token, connecting, &keys, &revocations, memory, now, &admit)
        };
        // Only a token that is bound to one is worth asking for a certificate.
        let mut verified = judge(None);
        if matches!(verified, Err(Denied::CertificateMissing { .. }))
            && let Some(certificate) = certificate()
        {
            verified = judge(Some(certificate));
        }
        verified.inspect_err(|denied| {
            // By a clock that was set back the keys are of the future.
            let is_mended_by_keys = matches!(
                denied,
                Denied::KeyUnknown { .. } | Denied::ConfirmedInFuture { state: StaleState::Keys, .. }
            );
            if is_mended_by_keys {
                self.keys.key_missing();
            }
        })
    }
}
