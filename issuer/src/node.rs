//! One issuer among others over the same database: hears what the others have
//! changed, and knows whether it is current.
//!
//! 1. every quarter of a second, and as soon as the database says so, it reads
//!    the log of changes and takes up what is new;
//! 2. it is then current as of the moment at which it asked;
//! 3. when that moment is longer ago than the propagation bound, or its clock
//!    is not the database's, or is behind the latest time at which any node has
//!    worked, it issues nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fleetbadge_validator::time::UnixSeconds;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::app::App;
use crate::date::date;
use crate::groups::GroupError;
use crate::keys::KeyError;
use crate::started::Started;
use crate::store::{ChangeLog, ChangedSubject, FleetTerms, StoreError};
use crate::terms::{self, TermsError};

mod clock;

pub(crate) use clock::AcceptClockError;
use clock::LookedAtClock;

/// How often the database is asked though it has not called.
const POLL: Duration = Duration::from_millis(250);
/// How far the clocks of a node and of the database may differ, in seconds.
pub(crate) const MAX_CLOCK_DIFFERENCE_S: u64 = 2;
/// How many changes a database keeps: a node that missed more reads everything.
const KEPT_CHANGES: u64 = 100_000;

/// Why a node issues nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCurrent {
    /// It has not heard of the database for too long.
    #[error("this node has not heard of the database for {since_s} s, at most {bound_s} s are allowed")]
    Behind { since_s: u64, bound_s: u64 },
    /// Its clock, or the database's, is wrong.
    #[error("the clocks of this node and of the database differ by more than {MAX_CLOCK_DIFFERENCE_S} s")]
    ClockDiffers,
    /// It has been later already.
    #[error(
        "the clock shows {}, but it was {} already; set it right, or say that it is: \
         fleetbadge-issuer clock accept --yes",
        date(*now), date(*latest)
    )]
    ClockBehind { now: UnixSeconds, latest: UnixSeconds },
}

/// A moment at which this node was current: only [`Node::moment`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CurrentMoment(UnixSeconds);

impl CurrentMoment {
    /// The time of it.
    pub(crate) const fn now(self) -> UnixSeconds {
        self.0
    }
}

/// What others have changed could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Groups and brokers cannot be used.
    #[error(transparent)]
    Groups(#[from] GroupError),
    /// Signing keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// This node is no longer one of those over its database.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// Nobody waits longer.
    #[error("the database does not answer within {} s", .0.as_secs())]
    TooSlow(Duration),
}

#[derive(Default)]
struct Followed {
    epoch: Box<str>,
    last: u64,
}

/// This node.
pub(crate) struct Node {
    terms: FleetTerms,
    bound: Duration,
    started: Started,
    /// When the question was asked whose answer proved it current, in
    /// milliseconds since it started; 0 before the first.
    proven_ms: AtomicU64,
    clock_differs: AtomicBool,
    /// The latest time at which any node has worked, and by how much a clock
    /// may be behind it, in seconds.
    clock_high: AtomicU64,
    skew_s: u64,
    clock: std::sync::Mutex<LookedAtClock>,
    followed: Mutex<Followed>,
    /// How many times it began to take up what was changed, and the last of
    /// them that came to its end.
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Node {
    pub(crate) fn new(terms: FleetTerms, skew_s: u64) -> Self {
        Self {
            bound: Duration::from_secs(terms.propagation_bound_s),
            terms,
            started: Started::now(),
            proven_ms: AtomicU64::new(0),
            clock_differs: AtomicBool::new(false),
            clock_high: AtomicU64::new(0),
            skew_s,
            clock: std::sync::Mutex::default(),
            followed: Mutex::default(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        }
    }

    /// The moment `now`, as of which tokens may be issued.
    ///
    /// # Errors
    /// [`NotCurrent`].
    pub(crate) fn moment(&self, now: UnixSeconds) -> Result<CurrentMoment, NotCurrent> {
        self.check_current(now).map(|()| CurrentMoment(now))
    }

    /// Whether tokens may be issued.
    ///
    /// # Errors
    /// [`NotCurrent`].
    pub(crate) fn check_current(&self, now: UnixSeconds) -> Result<(), NotCurrent> {
        // First, as a clock that differs is not to be accepted but put right.
        if self.clock_differs.load(Ordering::Acquire) {
            return Err(NotCurrent::ClockDiffers);
        }
        let latest = UnixSeconds(self.clock_high.load(Ordering::Acquire));
        if now.plus(self.skew_s) < latest {
            return Err(NotCurrent::ClockBehind { now, latest });
        }
        let since = self.started.elapsed().saturating_sub(self.proven());
        if since < self.bound {
            Ok(())
        } else {
            Err(NotCurrent::Behind { since_s: since.as_secs(), bound_s: self.bound.as_secs() })
        }
    }

    fn proven(&self) -> Duration {
        Duration::from_millis(self.proven_ms.load(Ordering::Acquire))
    }

    /// What the database says of clocks.
    fn take_clock(&self, app: &App, log: &ChangeLog) {
        self.clock_high.store(log.clock_high.0, Ordering::Release);
        app.used_jtis.refuse_until(log.statements_after);
        app.revoker.allow_token_lifetime(log.max_token_lifetime_s);
        let differs = log
            .now
            .is_some_and(|now| now.since(app.now()).max(app.now().since(now)) > MAX_CLOCK_DIFFERENCE_S);
        if differs != self.clock_differs.swap(differs, Ordering::AcqRel) {
            if differs {
                tracing::error!("{}; no token is issued until they agree", NotCurrent::ClockDiffers);
            } else {
                tracing::info!("the clocks of this node and of the database agree again");
            }
        }
    }

    /// Takes up what was changed until now, for whoever waits for it: not
    /// longer than the propagation bound.
    pub(crate) async fn catch_up(&self, app: &App) -> Result<(), FollowError> {
        let answer = timeout(self.bound, self.catch_up_patiently(app)).await;
        answer.map_err(|_| FollowError::TooSlow(self.bound))?
    }

    /// The same, however much that is: each question to the database has its
    /// own limit.
    pub(crate) async fn catch_up_patiently(&self, app: &App) -> Result<(), FollowError> {
        // Whatever begins from here on asks for what was changed until now:
        // of those who wait together, one asks.
        let enough = self.begun.load(Ordering::Acquire) + 1;
        let mut followed = self.followed.lock().await;
        if self.ended.load(Ordering::Acquire) >= enough {
            return Ok(());
        }
        let this = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let asked = self.started.elapsed();
        self.take_up(app, &mut followed).await?;
        self.proven_ms.store(asked.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Release);
        self.ended.store(this, Ordering::Release);
        Ok(())
    }

    async fn take_up(&self, app: &App, followed: &mut Followed) -> Result<(), FollowError> {
        let log = app.store.changes(followed.last).await?;
        self.take_clock(app, &log);
        match log.changes {
            Some(changes) if *followed.epoch == *log.epoch => {
                // First: what else has changed may be under a new root key.
                if changes.iter().any(|change| change.subject == ChangedSubject::RootKeys) {
                    app.root_keys.refresh().await?;
                }
                let (mut settings, mut signing_keys, mut revocations) = (false, false, false);
                for change in changes {
                    match change.subject {
                        ChangedSubject::Device(name) => app.devices.forget(&name),
                        ChangedSubject::Devices => app.devices.forget_all(),
                        ChangedSubject::Settings => settings = true,
                        ChangedSubject::RootKeys => {}
                        ChangedSubject::SigningKeys => signing_keys = true,
                        ChangedSubject::Revocation => revocations = true,
                    }
                }
                if settings {
                    app.reload_settings().await?;
                }
                if signing_keys {
                    app.reload_keys().await?;
                }
                if revocations {
                    app.revocations.read_new(&*app.store, &log.epoch).await?;
                }
            }
            _ => {
                terms::check(&self.terms, &*app.store).await?;
                if *followed.epoch != *log.epoch {
                    self.forget_clock();
                }
                app.root_keys.refresh().await?;
                app.devices.forget_all();
                app.reload_settings().await?;
                app.reload_keys().await?;
                app.revocations.read_new(&*app.store, &log.epoch).await?;
            }
        }
        *followed = Followed { epoch: log.epoch, last: log.last };
        Ok(())
    }

    /// Forgets what no node needs any more.
    pub(crate) async fn forget_old_changes(&self, app: &App) -> Result<(), StoreError> {
        app.store.forget_changes(KEPT_CHANGES).await
    }
}

/// Follows the database until the issuer is gone.
pub(crate) fn start(app: &Arc<App>) {
    let app = Arc::downgrade(app);
    tokio::spawn(async move {
        let mut is_failing = false;
        while let Some(followed) = follow(&app).await {
            match (&followed, is_failing) {
                (Err(error), false) => tracing::error!(
                    %error, "what other nodes have changed cannot be read; soon no token is issued"
                ),
                (Ok(()), true) => tracing::info!("what other nodes have changed can be read again"),
                (Ok(()), false) | (Err(_), true) => {}
            }
            is_failing = followed.is_err();
        }
    });
}

/// Waits for a change, not for long, and takes it up; `None` when the issuer is
/// gone.
async fn follow(app: &Weak<App>) -> Option<Result<(), FollowError>> {
    let store = Arc::clone(&app.upgrade()?.store);
    // Nothing is lost by not having been called.
    let _ = timeout(POLL, store.changed()).await;
    drop(store);
    let app = app.upgrade()?;
    Some(app.node.catch_up_patiently(&app).await)
}

#[cfg(test)]
mod tests;
