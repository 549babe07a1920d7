//! When to ask for a token, when to connect and when to wait. Pure: the
//! present moment and the random draws are arguments.
//!
//! 1. The first token is asked for within the start spread, so that a fleet
//!    that gets power back does not come all at once.
//! 2. Its refresh point is drawn once, evenly: 10 to 80 % of the lifetime for
//!    the first one after a start, 50 to 80 % for each later one. Drawing again
//!    and again would pull the whole fleet to the early end.
//! 3. A failed request is repeated after a full-jitter backoff. While a token
//!    is good the cap is a quarter of what remains of it, so that there are
//!    several more tries, and never so small that it becomes a hot loop.
//! 4. A device that the issuer refuses goes straight to the longest waits.
//! 5. A broker that refuses the token gets a new one at once, one time; after
//!    that the waits grow.
//! 6. A new token renews the connection that an older one opened.

use std::time::Duration;

use crate::machine::{Draw, Moment};

/// After a failure nothing is repeated sooner.
pub const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait between two token requests, unless the issuer asks for more.
pub const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// The least that the cap shrinks to when a token is about to expire, and the
/// upper end of the first wait.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(5);
/// The longest wait that an issuer can ask for with `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// The longest wait between two attempts to reach the broker.
pub const MAX_RECONNECT: Duration = Duration::from_secs(60);
/// A connection that lived this long has proved that the broker is well; a
/// shorter one leaves the count of failures as it was.
pub const STABLE_AFTER: Duration = Duration::from_secs(30);

/// The upper end of the first wait before the broker is tried again.
const FIRST_RECONNECT: Duration = Duration::from_secs(2);

/// The point of a token's life at which the next one is asked for.
#[must_use]
pub fn refresh_point(lifetime: Duration, draw: Draw) -> Duration {
    draw.between(lifetime.mul_f64(0.5), lifetime.mul_f64(0.8))
}

/// How long a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// When the agent got it.
    pub obtained_at: Moment,
    /// When it ends.
    pub expires_at: Moment,
}

/// A token from before the program started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// How long it is good.
    pub validity: Validity,
    /// The refresh point that was drawn for it.
    pub refresh_at: Moment,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The issuer gave a token.
    TokenObtained {
        /// Its `expires_in`.
        lifetime: Duration,
    },
    /// The issuer gave none.
    TokenRequestFailed(TokenFailure),
    /// The broker accepted the connection.
    Connected,
    /// The broker cannot be reached, or the connection is gone.
    ConnectionLost,
    /// The broker does not accept the token, or accepts it no more.
    BrokerRefused,
}

/// Why the issuer gave no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFailure {
    /// No answer, or none that can be used.
    Unreachable,
    /// An answer that says when to come again.
    Busy {
        /// Its `Retry-After`.
        retry_after: Duration,
    },
    /// An answer that will be the same next time: `invalid_client` and the like.
    Refused,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the issuer for a token.
    RequestToken,
    /// Open a connection with the present token.
    Connect,
    /// Go on with the newer token on the connection that an older one opened, or
    /// on one in its place.
    RenewConnection,
    /// Nothing before this moment, if any, unless an event comes.
    Wait(Option<Moment>),
}

/// The state of a device that wants a token and a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    token: Option<Validity>,
    request: Request,
    /// In a row.
    request_failures: u32,
    first_after_start: bool,
    connection: Connection,
    /// In a row, the same for both.
    connection_failures: u32,
    refusals: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    At(Moment),
    Sent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Down {
        connect_at: Moment,
    },
    /// Refused: there is no use in another attempt before a token request has
    /// had its outcome.
    AwaitsToken,
    /// `token` is when the token was obtained that it is made with.
    Connecting {
        token: Moment,
        up_since: Option<Moment>,
    },
    Up {
        token: Moment,
        up_since: Moment,
    },
}

impl Renewal {
    /// The state at the start of the program.
    #[must_use]
    pub fn start(cached: Option<Cached>, spread: Duration, now: Moment, draw: Draw) -> Self {
        let spread_start = now.plus(draw.between(Duration::ZERO, spread));
        let request_at = match cached {
            Some(cached) if cached.refresh_at > now => cached.refresh_at,
            Some(_) | None => spread_start,
        };
        Self {
            token: cached.map(|cached| cached.validity),
            request: Request::At(request_at),
            request_failures: 0,
            first_after_start: cached.is_none(),
            connection: Connection::Down { connect_at: now },
            connection_failures: 0,
            refusals: 0,
        }
    }

    /// The next thing to do. An action that is not a wait counts as begun: it
    /// comes once, and its outcome is awaited as an [`Event`].
    #[must_use]
    pub fn next(mut self, now: Moment) -> (Self, Action) {
        if let Request::At(at) = self.request
            && now >= at
        {
            self.request = Request::Sent;
            return (self, Action::RequestToken);
        }
        let good_token = self.token.filter(|token| now < token.expires_at);
        match (self.connection, good_token) {
            (Connection::Down { connect_at }, Some(token)) if now >= connect_at => {
                self.connection = Connection::Connecting { token: token.obtained_at, up_since: None };
                (self, Action::Connect)
            }
            (Connection::Up { token: older, up_since }, Some(token)) if token.obtained_at > older => {
                self.connection =
                    Connection::Connecting { token: token.obtained_at, up_since: Some(up_since) };
                (self, Action::RenewConnection)
            }
            (connection, good_token) => {
                let connect_at = match connection {
                    Connection::Down { connect_at } => good_token.map(|_| connect_at),
                    Connection::AwaitsToken | Connection::Connecting { .. } | Connection::Up { .. } => None,
                };
                let wake = [self.request_at(), connect_at].into_iter().flatten().min();
                (self, Action::Wait(wake))
            }
        }
    }

    /// The state after an event.
    #[must_use]
    pub fn after(self, event: Event, now: Moment, draw: Draw) -> Self {
        match event {
            Event::TokenObtained { lifetime } => self.token_obtained(lifetime, now, draw),
            Event::TokenRequestFailed(failure) => self.request_failed(failure, now, draw),
            Event::Connected => self.connected(now),
            Event::ConnectionLost => self.connection_lost(now, draw),
            Event::BrokerRefused => self.refused(now, draw),
        }
    }

    /// When the next token request is due; `None` while one is under way.
    #[must_use]
    pub const fn request_at(&self) -> Option<Moment> {
        match self.request {
            Request::At(at) => Some(at),
            Request::Sent => None,
        }
    }

    /// How long the present token is good.
    #[must_use]
    pub const fn token(&self) -> Option<Validity> {
        self.token
    }

    fn token_obtained(mut self, lifetime: Duration, now: Moment, draw: Draw) -> Self {
        let refresh = if self.first_after_start {
            draw.between(lifetime.mul_f64(0.1), lifetime.mul_f64(0.8))
        } else {
            refresh_point(lifetime, draw)
        };
        self.token = Some(Validity { obtained_at: now, expires_at: now.plus(lifetime) });
        self.request = Request::At(now.plus(refresh));
        self.request_failures = 0;
        self.first_after_start = false;
        if self.connection == Connection::AwaitsToken {
            self.connection = Connection::Down { connect_at: now };
        }
        self
    }

    fn request_failed(mut self, failure: TokenFailure, now: Moment, draw: Draw) -> Self {
        self.request_failures = self.request_failures.saturating_add(1);
        let cap = match self.token {
            Some(token) if now < token.expires_at => {
                (token.expires_at.since(now) / 4).clamp(FIRST_BACKOFF, MAX_BACKOFF)
            }
            Some(_) | None => MAX_BACKOFF,
        };
        let jitter = backoff(self.request_failures, FIRST_BACKOFF, cap, draw);
        let wait = match failure {
            TokenFailure::Unreachable => jitter,
            // The jitter on top keeps those apart who were told the same.
            TokenFailure::Busy { retry_after } => retry_after.min(MAX_RETRY_AFTER) + jitter,
            TokenFailure::Refused => draw.between(MAX_BACKOFF / 2, MAX_BACKOFF),
        };
        self.request = Request::At(now.plus(wait));
        if self.connection == Connection::AwaitsToken {
            // The issuer may be away and the refusal a mistake: try the old
            // token again, slowly.
            let wait = backoff(self.refusals, FIRST_BACKOFF, MAX_BACKOFF, draw);
            self.connection = Connection::Down { connect_at: now.plus(wait) };
        }
        self
    }

    fn connected(mut self, now: Moment) -> Self {
        if let Connection::Connecting { token, up_since } = self.connection {
            self.connection = Connection::Up { token, up_since: up_since.unwrap_or(now) };
        }
        self
    }

    fn connection_lost(mut self, now: Moment, draw: Draw) -> Self {
        self.forgive_if_stable(now);
        self.connection_failures = self.connection_failures.saturating_add(1);
        let wait = backoff(self.connection_failures, FIRST_RECONNECT, MAX_RECONNECT, draw);
        self.connection = Connection::Down { connect_at: now.plus(wait) };
        self
    }

    fn refused(mut self, now: Moment, draw: Draw) -> Self {
        self.forgive_if_stable(now);
        self.refusals = self.refusals.saturating_add(1);
        let refused_token = match self.connection {
            Connection::Connecting { token, .. } | Connection::Up { token, .. } => Some(token),
            Connection::Down { .. } | Connection::AwaitsToken => None,
        };
        let wait = match self.refusals {
            1 => Duration::ZERO,
            again => backoff(again - 1, FIRST_BACKOFF, MAX_BACKOFF, draw),
        };
        let newer = self.token.is_some_and(|token| Some(token.obtained_at) > refused_token);
        if newer {
            self.connection = Connection::Down { connect_at: now.plus(wait) };
            return self;
        }
        self.connection = Connection::AwaitsToken;
        // The issuer's own backoff stands.
        if self.request != Request::Sent && self.request_failures == 0 {
            self.request = Request::At(now.plus(wait));
        }
        self
    }

    fn forgive_if_stable(&mut self, now: Moment) {
        let up_since = match self.connection {
            Connection::Up { up_since, .. } => Some(up_since),
            Connection::Connecting { up_since, .. } => up_since,
            Connection::Down { .. } | Connection::AwaitsToken => None,
        };
        if up_since.is_some_and(|since| now.since(since) >= STABLE_AFTER) {
            self.connection_failures = 0;
            self.refusals = 0;
        }
    }
}

/// Full jitter: a wait drawn from the whole range up to a ceiling that doubles
/// with each failure.
fn backoff(failures: u32, first: Duration, cap: Duration, draw: Draw) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let ceiling = first.saturating_mul(1 << doublings).min(cap);
    draw.between(Duration::ZERO, ceiling).max(MIN_BACKOFF)
}

#[cfg(test)]
mod tests;
