//! Static passwords: what a client brings that cannot do OAuth is exchanged
//! for a token at the issuer, and the token is judged like any other.
//!
//! The broker goes on meanwhile (Mosquitto 2.1: `MOSQ_ERR_AUTH_DELAYED`). It
//! knows a connection that waits by its client ID, and drops others that come
//! with the same one. So that nobody keeps a client ID busy, only what could
//! be a password is asked about, what failed for a client ID from one place
//! is soon not asked any more, an answer is awaited for a few seconds only,
//! and whoever was right a moment ago does not wait at all.
//!
//! A connection that has gone while it waited is not reported, and the next
//! one with its client ID may wait already: an answer counts for the
//! connection that caused it, and for no other.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use fleetbadge_validator::rate_limit::{RateLimit, network};
use fleetbadge_validator::remote::notices::Notice;
use fleetbadge_validator::remote::password_exchange::{ExchangeError, PasswordExchange, Question};
use fleetbadge_validator::static_password::{exchange_digest, looks_like_password};
use fleetbadge_validator::time::UnixSeconds;

use crate::broker::{Client, ClientHandle};
use crate::options::{InvalidOption, StaticPasswordOptions};
use crate::refusal::Refusal;

/// The exchange, and who waits for it.
#[derive(Debug)]
pub(crate) struct Passwords {
    exchange: Exchange,
    questions: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// The connection that waits with a client ID: the last one that came.
    by_client_id: HashMap<Box<str>, u64>,
    /// How many wait from each network.
    by_network: HashMap<Option<IpAddr>, usize>,
    /// The tokens of passwords that were good, until they end.
    good: HashMap<Digest, (UnixSeconds, String)>,
    /// Every key of `good` once, by its end.
    ends: BTreeMap<(UnixSeconds, Digest), ()>,
    failures: RateLimit,
}

type Digest = [u8; 32];

/// Who asks the issuer.
#[derive(Debug)]
enum Exchange {
    /// A thread.
    Remote(PasswordExchange),
    /// A test.
    #[cfg(test)]
    Fake(std::cell::RefCell<fake::FakeExchange>),
}

/// A connection that waits for an answer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) handle: ClientHandle,
    pub(crate) client_id: Box<str>,
    /// The device that it says it is.
    pub(crate) username: Box<str>,
    pub(crate) address: Option<Box<str>>,
    pub(crate) starts_clean: bool,
    network: Option<IpAddr>,
    digest: Digest,
    since: UnixSeconds,
    /// Whether the broker still waits for this one.
    is_current: bool,
}

/// What a client presents.
pub(crate) struct Presented<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) username: &'a str,
    pub(crate) password: &'a str,
}

impl<'a> Presented<'a> {
    /// What could be the name of a device and its password; `None` for all
    /// else.
    pub(crate) fn read(client: &'a impl Client, password: Option<&'a str>) -> Option<Self> {
        let password = password.filter(|password| looks_like_password(password))?;
        Some(Self { client_id: client.id().unwrap_or_default(), username: client.username()?, password })
    }

    fn digest(&self) -> Digest {
        exchange_digest(self.username, self.password, self.client_id)
    }
}

impl Passwords {
    /// How long a connection waits at most, in seconds: a little longer than
    /// the exchange may take.
    const WAIT_S: u64 = PasswordExchange::TIME_LIMIT.as_secs() + 2;
    /// How many wait at most, half of them from one network.
    const MAX_WAITING: usize = 128;
    /// How many passwords that were good are remembered.
    const MAX_GOOD: usize = 10_000;

    /// Starts the thread that asks.
    pub(crate) fn start(options: StaticPasswordOptions) -> Result<Self, InvalidOption> {
        let StaticPasswordOptions { exchange, prefix, issuer: _ } = options;
        let exchange = PasswordExchange::start(exchange).map_err(|error| InvalidOption::Remote {
            prefix,
            url_option: "token_url",
            error,
        })?;
        Ok(Self::new(Exchange::Remote(exchange)))
    }

    fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            questions: 0,
            waiting: BTreeMap::new(),
            by_client_id: HashMap::new(),
            by_network: HashMap::new(),
            good: HashMap::new(),
            ends: BTreeMap::new(),
            // For each client ID from each network: three at once, then one in
            // ten seconds.
            failures: RateLimit::new(3, Duration::from_secs(10)),
        }
    }

    /// The token that was had for the same a while ago.
    pub(crate) fn remembered(&self, presented: &Presented<'_>) -> Option<&str> {
        self.good.get(&presented.digest()).map(|(_, token)| &**token)
    }

    /// What was remembered is good for nothing any more.
    pub(crate) fn forget(&mut self, presented: &Presented<'_>) {
        let digest = presented.digest();
        if let Some((ends_at, _)) = self.good.remove(&digest) {
            self.ends.remove(&(ends_at, digest));
        }
    }

    /// Asks the issuer; the connection waits from here on.
    pub(crate) fn ask(
        &mut self,
        client: &impl Client,
        presented: &Presented<'_>,
        now: UnixSeconds,
    ) -> Result<(), Refusal> {
        let client_address: Option<IpAddr> = client.address().and_then(|address| address.parse().ok());
        let network = client_address.map(network);
        if !self.failures.has_room(&(network, presented.client_id), now) {
            return Err(Refusal::TooManyFailures);
        }
        let of_network = self.by_network.get(&network).copied().unwrap_or_default();
        if self.waiting.len() >= Self::MAX_WAITING || of_network >= Self::MAX_WAITING / 2 {
            return Err(Refusal::ExchangeBusy);
        }
        self.questions += 1;
        let question = Question {
            number: self.questions,
            username: presented.username.to_owned(),
            password: presented.password.to_owned().into(),
            mqtt_client_id: presented.client_id.to_owned(),
            client_address,
        };
        self.exchange.ask(question)?;
        let waiting = Waiting {
            handle: client.handle(),
            client_id: presented.client_id.into(),
            username: presented.username.into(),
            address: client.address().map(Into::into),
            starts_clean: client.starts_clean(),
            network,
            digest: presented.digest(),
            since: now,
            is_current: true,
        };
        // The broker asks: another with this client ID has gone.
        let before = self.by_client_id.insert(presented.client_id.into(), self.questions);
        if let Some(before) = before.and_then(|number| self.waiting.get_mut(&number)) {
            before.is_current = false;
        }
        self.waiting.insert(self.questions, waiting);
        *self.by_network.entry(network).or_default() += 1;
        Ok(())
    }

    /// Whatever the reason: while somebody waits, nobody else comes in with this
    /// client ID. One too many is one all the same.
    fn count_failure(&self, waiting: &Waiting, now: UnixSeconds) {
        let _ = self.failures.count(&(waiting.network, &*waiting.client_id), now);
    }

    /// Whether anybody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes those whose answer has come, or that have waited for too long,
    /// and with what. Not those that the broker no longer waits for.
    pub(crate) fn take_answered(&mut self, now: UnixSeconds) -> Vec<(Waiting, Result<String, Refusal>)> {
        let mut answered = Vec::new();
        if self.waiting.is_empty() {
            return answered;
        }
        for (number, answer) in self.exchange.take_answers() {
            let Some(waiting) = self.take(number) else { continue };
            let answer = answer.map_err(|error| {
                self.count_failure(&waiting, now);
                match error {
                    ExchangeError::Refused => Refusal::PasswordRefused,
                    ExchangeError::Failed(reason) => Refusal::ExchangeFailed { reason },
                }
            });
            answered.push((waiting, answer));
        }
        while let Some((number, waiting)) = self.waiting.first_key_value()
            && now.since(waiting.since) >= Self::WAIT_S
        {
            let number = *number;
            let Some(waiting) = self.take(number) else { break };
            self.count_failure(&waiting, now);
            let reason = "there is no answer".to_owned();
            answered.push((waiting, Err(Refusal::ExchangeFailed { reason })));
        }
        answered.retain(|(waiting, _)| waiting.is_current);
        answered
    }

    fn take(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        if self.by_client_id.get(&waiting.client_id) == Some(&number) {
            self.by_client_id.remove(&waiting.client_id);
        }
        if let Some(of_network) = self.by_network.get_mut(&waiting.network) {
            *of_network -= 1;
            if *of_network == 0 {
                self.by_network.remove(&waiting.network);
            }
        }
        Some(waiting)
    }

    /// What a connection brought was good for this token.
    pub(crate) fn remember(&mut self, waiting: &Waiting, token: String, ends_at: UnixSeconds) {
        if let Some((before, _)) = self.good.insert(waiting.digest, (ends_at, token)) {
            self.ends.remove(&(before, waiting.digest));
        }
        self.ends.insert((ends_at, waiting.digest), ());
        if self.good.len() > Self::MAX_GOOD
            && let Some(((_, first), ())) = self.ends.pop_first()
        {
            self.good.remove(&first);
        }
    }

    /// Forgets the tokens that have ended.
    pub(crate) fn forget_ended(&mut self, now: UnixSeconds) {
        while let Some(((ends_at, digest), ())) = self.ends.first_key_value().map(|(key, ())| (*key, ()))
            && ends_at <= now
        {
            self.ends.pop_first();
            self.good.remove(&digest);
        }
    }

    /// What there is to log.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        match &self.exchange {
            Exchange::Remote(exchange) => exchange.take_notices(),
            #[cfg(test)]
            Exchange::Fake(_) => Vec::new(),
        }
    }
}

impl Exchange {
    fn ask(&self, question: Question) -> Result<(), Refusal> {
        match self {
            Self::Remote(exchange) => exchange.ask(question).map_err(|_| Refusal::ExchangeBusy),
            #[cfg(test)]
            Self::Fake(exchange) => {
                exchange.borrow_mut().asked.push(question);
                Ok(())
            }
        }
    }

    fn take_answers(&self) -> Vec<(u64, Result<String, ExchangeError>)> {
        match self {
            Self::Remote(exchange) => exchange.take_answers(),
            #[cfg(test)]
            Self::Fake(exchange) => std::mem::take(&mut exchange.borrow_mut().answers),
        }
    }
}

#[cfg(test)]
pub(crate) mod fake;
