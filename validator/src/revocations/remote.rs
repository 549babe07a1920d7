//! The feed of revocations over HTTP, followed by a thread of its own.
//!
//! 1. [`RemoteRevocations::start`] reads the last good state from disk and
//!    returns at once: a broker that restarts while the issuer is away still
//!    refuses what was revoked.
//! 2. The thread asks for what came after the last event it knows. A snapshot,
//!    once all its parts are there, and each revocation add to what is held:
//!    nothing is taken off before it has expired by both clocks, whichever node
//!    of the issuer tells less.
//! 3. What is new goes to disk and is in force then: a restart while the issuer
//!    is away never lets in what was refused. A disk that cannot be written is
//!    told once, and stops nothing.
//! 4. What comes within a tenth of a second of that is taken in together: each
//!    time all sessions are gone through.
//! 5. A heartbeat says that nothing is missing. Without one for some seconds,
//!    or when the connection ends, the thread connects again, after a wait
//!    that grows and is drawn. What it has heard stays in force, and ages.
//! 6. An event that cannot be understood is worth nothing, and neither is what
//!    would follow it: the thread asks for everything anew.
//! 7. The revocation of a key has the keys fetched at once: another signs by
//!    then.
//! 8. [`RemoteRevocations::state`] never waits for any of this.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use reqwest::Client;
use reqwest::header::HeaderValue;
use tokio::sync::Notify;
use tokio::time::timeout;
use url::Url;

pub use self::feed::FeedError;
use self::feed::{Assembly, Feed, Message};
use self::follower::Follower;
use self::heard::Copies;
use self::journal::Journal;
use super::{RevocationState, Revocations};
use crate::freshness::Freshness;
use crate::keys::remote::KeyRefresh;
use crate::remote::RemoteError;
use crate::remote::backoff::Backoff;
use crate::remote::credentials::Credentials;
use crate::remote::http::{Answer, Endpoint};
use crate::remote::last_good::LastGood;
use crate::remote::notices::{Notice, Notices};
use crate::remote::worker::Worker;
use crate::reports::RevocationsHeld;
use crate::time::{Clock, UnixSeconds};

mod feed;
mod follower;
mod heard;
mod journal;
mod sse;

/// Which feed to follow and how.
#[derive(Clone, Debug)]
pub struct RemoteRevocationsConfig {
    /// Whose revocations these are: the issuer identifier.
    pub issuer: String,
    /// Where the feed is.
    pub endpoint: Endpoint,
    /// The broker's credentials; the file is read again at each connection.
    pub credentials_file: PathBuf,
    /// The folder in which the last good state is kept.
    pub state_dir: PathBuf,
    /// For how long the last good state counts, in seconds.
    pub max_staleness_s: u64,
    /// How long to wait after the first failure; then twice that, and so on.
    pub first_retry: Duration,
    /// After how long without a heartbeat to connect anew.
    pub silence: Duration,
}

impl RemoteRevocationsConfig {
    /// The first wait unless told otherwise.
    pub const DEFAULT_FIRST_RETRY: Duration = Duration::from_secs(1);
    /// The silence unless told otherwise: three heartbeats.
    pub const DEFAULT_SILENCE: Duration = Duration::from_secs(15);
}

/// The revocations of an issuer, kept current. Ends its thread when dropped.
#[derive(Debug)]
pub struct RemoteRevocations {
    shared: Arc<Shared>,
    _worker: Worker,
}

#[derive(Debug)]
struct Shared {
    /// `None` before the first snapshot.
    held: ArcSwapOption<Held>,
    /// When it was last known to be current, in seconds.
    confirmed_at: AtomicU64,
    /// Counts the changes of `held`.
    changes: AtomicU64,
    max_staleness_s: u64,
    retry: Notify,
    notices: Notices,
}

/// The revocations after an event.
#[derive(Debug)]
struct Held {
    event_id: HeaderValue,
    revocations: Arc<Revocations>,
}

impl RemoteRevocations {
    /// The most bytes that are kept on disk.
    const MAX_FILE_LENGTH: usize = 128 * 1024 * 1024;

    /// Reads the last good state from disk and starts the thread. Does not
    /// wait for the network. `keys` are fetched when one is revoked.
    ///
    /// # Errors
    /// [`RemoteError`]: the configuration cannot work.
    pub fn start(
        config: RemoteRevocationsConfig,
        keys: Option<KeyRefresh>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RemoteError> {
        let RemoteRevocationsConfig { issuer, endpoint, credentials_file, state_dir, .. } = &config;
        let client = endpoint.client(Answer::Stream)?;
        Credentials::read(credentials_file)?;
        let max = Self::MAX_FILE_LENGTH;
        let last_good = LastGood::open(state_dir, "revocations", issuer, &endpoint.url, max)?;
        let shared = Arc::new(Shared {
            held: ArcSwapOption::empty(),
            confirmed_at: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            max_staleness_s: config.max_staleness_s,
            retry: Notify::new(),
            notices: Notices::default(),
        });
        let mut follower = Follower {
            backoff: Backoff::new(config.first_retry, Follower::LONGEST_RETRY),
            config,
            client,
            keys,
            journal: Journal::new(last_good),
            copies: Copies::default(),
            shared: Arc::clone(&shared),
            clock,
            resumes: true,
            told: None,
            written_at: UnixSeconds(0),
            told_unwritable: false,
        };
        follower.take_up_last_good();
        let at_fault = Arc::clone(&shared);
        let worker = Worker::start("fleetbadge-feed", follower.run(), move || {
            let fault = "a fault ended the following of revocations: they age until a restart";
            at_fault.notices.warning(fault.into());
        })?;
        Ok(Self { shared, _worker: worker })
    }

    /// What is known now.
    #[must_use]
    pub fn state(&self) -> RevocationState {
        self.shared.held.load().as_ref().map_or(RevocationState::Missing, |held| RevocationState::Known {
            revocations: Arc::clone(&held.revocations),
            freshness: Freshness {
                confirmed_at: self.shared.confirmed_at(),
                max_staleness_s: self.shared.max_staleness_s,
            },
        })
    }

    /// How often the revocations have changed: costs next to nothing to ask.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Acquire)
    }

    /// Connects at once, if it is waiting to do so.
    pub fn retry(&self) {
        self.shared.retry.notify_one();
    }

    /// How far the feed has been followed, for reports.
    #[must_use]
    pub fn followed(&self) -> Followed {
        Followed(Arc::clone(&self.shared))
    }

    /// What there is to log since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        self.shared.notices.take()
    }
}

impl Shared {
    fn confirmed_at(&self) -> UnixSeconds {
        UnixSeconds(self.confirmed_at.load(Ordering::Acquire))
    }
}

/// Says how far the feed has been followed.
#[derive(Debug)]
pub struct Followed(Arc<Shared>);

impl Followed {
    /// The last event, and how old what it told is; `None` before the first.
    #[must_use]
    pub fn at(&self, now: UnixSeconds) -> Option<RevocationsHeld> {
        let held = self.0.held.load();
        let event_id = held.as_ref()?.event_id.to_str().ok()?.to_owned();
        // A clock that was set back proves nothing either.
        let age_s = now.0.abs_diff(self.0.confirmed_at().0);
        Some(RevocationsHeld { event_id, age_s })
    }
}

/// Fetches all revocations once, with a client for a [`Answer::Stream`].
///
/// # Errors
/// [`FeedError`]: the feed does not tell them within `patience`.
pub async fn fetch(
    client: &Client,
    url: &Url,
    credentials: &Credentials,
    patience: Duration,
) -> Result<Revocations, FeedError> {
    let snapshot = async {
        let mut feed = Feed::open(client, url, credentials, None).await?;
        let mut assembly = Assembly::default();
        loop {
            for message in feed.next().await? {
                if let Message::Snapshot(part, id) = message
                    && let Some(whole) = assembly.add(part, id.is_some())?
                {
                    return Ok(whole.into_iter().collect());
                }
            }
        }
    };
    timeout(patience, snapshot).await.map_err(|_| FeedError::Silent { seconds: patience.as_secs() })?
}

#[cfg(test)]
mod tests;
