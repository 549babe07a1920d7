//! An issuer's keys over HTTP, on a thread of their own.
//!
//! 1. [`RemoteKeys::start`] reads the last good set from disk and returns at
//!    once: a broker that restarts while the issuer is away goes on.
//! 2. The thread fetches the set, again when it is old, and soon after
//!    [`RemoteKeys::key_missing`], but never more often than the cool-down
//!    allows, whoever sends unknown `kid`s and how many. Only when the issuer
//!    has revoked a key it is fetched at once ([`KeyRefresh`]).
//! 3. A good answer replaces the set whole and is written to disk. Anything
//!    else leaves the last good set as it is.
//! 4. [`RemoteKeys::current`] never waits for any of this.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use reqwest::Client;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::{InvalidKeySet, KeySet, MAX_JWKS_LENGTH};
use crate::freshness::Freshness;
use crate::remote::RemoteError;
use crate::remote::backoff::{Backoff, chance};
use crate::remote::http::{self, Answer, Endpoint, FetchError};
use crate::remote::last_good::LastGood;
use crate::remote::notices::{Notice, Notices};
use crate::remote::worker::Worker;
use crate::time::{Clock, UnixSeconds};

/// Where keys come from and how.
#[derive(Clone, Debug)]
pub struct RemoteKeysConfig {
    /// Whose keys these are: the issuer identifier.
    pub issuer: String,
    /// Where the JWK Set is.
    pub endpoint: Endpoint,
    /// The folder in which the last good set is kept.
    pub state_dir: PathBuf,
    /// For how long the last good set counts, in seconds.
    pub max_staleness_s: u64,
    /// The least time between two fetches that were asked for; a failed one
    /// is tried again after a tenth of it, then twice that, and so on.
    pub cool_down: Duration,
}

impl RemoteKeysConfig {
    /// The cool-down unless told otherwise.
    pub const DEFAULT_COOL_DOWN: Duration = Duration::from_secs(10);
}

/// The keys of an issuer, kept current. Ends its thread when dropped.
#[derive(Debug)]
pub struct RemoteKeys {
    shared: Arc<Shared>,
    _worker: Worker,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwap<KeySet>,
    key_ids: watch::Sender<Vec<String>>,
    key_missing: Notify,
    at_once: Notify,
    notices: Notices,
}

/// Has the keys of an issuer fetched.
#[derive(Clone, Debug)]
pub struct KeyRefresh(Arc<Shared>);

impl KeyRefresh {
    /// Does not wait, and heeds no cool-down: for what the issuer itself says,
    /// not for what a client does.
    pub fn at_once(&self) {
        self.0.at_once.notify_one();
    }
}

impl RemoteKeys {
    /// Reads the last good set from disk and starts the thread. Does not wait
    /// for the network.
    ///
    /// # Errors
    /// [`RemoteError`]: the configuration cannot work.
    pub fn start(config: RemoteKeysConfig, clock: Arc<dyn Clock>) -> Result<Self, RemoteError> {
        let RemoteKeysConfig { issuer, endpoint, state_dir, .. } = &config;
        let client = endpoint.client(Answer::Document)?;
        let last_good = LastGood::open(state_dir, "jwks", issuer, &endpoint.url, MAX_JWKS_LENGTH)?;
        let shared = Arc::new(Shared {
            current: ArcSwap::from_pointee(KeySet::empty(issuer)),
            key_ids: watch::Sender::default(),
            key_missing: Notify::new(),
            at_once: Notify::new(),
            notices: Notices::default(),
        });
        let backoff = Backoff::new(config.cool_down / 10, Fetcher::LONGEST_RETRY);
        let fetcher = Fetcher { config, client, last_good, shared: Arc::clone(&shared), backoff, clock };
        fetcher.take_up_last_good();
        let at_fault = Arc::clone(&shared);
        let worker = Worker::start("fleetbadge-keys", fetcher.run(), move || {
            at_fault
                .notices
                .warning("a fault ended the fetching of keys: they stay as they are until a restart".into());
        })?;
        Ok(Self { shared, _worker: worker })
    }

    /// The present set. Empty, so that everything is denied, until there is a
    /// good one.
    #[must_use]
    pub fn current(&self) -> Arc<KeySet> {
        self.shared.current.load_full()
    }

    /// The `kid`s of the present set, in order, and whenever they change.
    #[must_use]
    pub fn key_ids(&self) -> watch::Receiver<Vec<String>> {
        self.shared.key_ids.subscribe()
    }

    /// Says that somebody brought a `kid` that is not in the set. Does not
    /// wait; causes one fetch when the cool-down allows it.
    pub fn key_missing(&self) {
        self.shared.key_missing.notify_one();
    }

    /// For whoever hears that a key was revoked.
    #[must_use]
    pub fn refresh(&self) -> KeyRefresh {
        KeyRefresh(Arc::clone(&self.shared))
    }

    /// What there is to log since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        self.shared.notices.take()
    }
}

/// Lives on the thread.
struct Fetcher {
    config: RemoteKeysConfig,
    client: Client,
    last_good: LastGood,
    shared: Arc<Shared>,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    KeySet(#[from] InvalidKeySet),
}

impl Fetcher {
    /// The longest wait after a failure.
    const LONGEST_RETRY: Duration = Duration::from_secs(30);
    /// How old a set may become where the issuer does not say.
    const REFRESH: Duration = Duration::from_secs(300);
    /// What the issuer may say, as `max-age`.
    const REFRESH_RANGE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));

    async fn run(mut self) {
        loop {
            self.refresh_and_wait().await;
        }
    }

    async fn refresh_and_wait(&mut self) {
        let url = &self.config.endpoint.url;
        match self.refresh().await {
            Ok(refresh) => {
                if self.backoff.worked() {
                    self.shared.notices.info(format!("keys can be fetched again from {url}"));
                }
                let cool_down = self.config.cool_down;
                let due = async {
                    sleep(cool_down).await;
                    tokio::select! {
                        () = self.shared.key_missing.notified() => {}
                        () = sleep(refresh.saturating_sub(cool_down)) => {}
                    }
                };
                tokio::select! {
                    () = due => {}
                    () = self.shared.at_once.notified() => {}
                }
            }
            Err(error) => {
                if self.backoff.failures() == 0 {
                    let goes_on = match self.shared.current.load().key_ids().count() {
                        0 => "there are none yet: everything is denied",
                        _ => "the last good ones stay in force",
                    };
                    self.shared.notices.warning(format!("keys from {url}: {error}; {goes_on}"));
                }
                let wait = self.backoff.failed(chance());
                tokio::select! {
                    () = sleep(wait) => {}
                    () = self.shared.at_once.notified() => {}
                }
            }
        }
    }

    /// Fetches once. Returns how long the answer stays fresh.
    async fn refresh(&self) -> Result<Duration, RefreshError> {
        let document = http::get(&self.client, &self.config.endpoint.url).await?;
        let now = self.clock.now();
        let changed = self.replace(&document.body, now, "fetched")?;
        let kept = match changed || !self.last_good.is_written() {
            true => self.last_good.write(&document.body, now),
            false => self.last_good.confirm(now),
        };
        if let Err(reason) = kept {
            self.shared.notices.warning(format!("keys cannot be kept on disk: {reason}"));
        }
        let (least, most) = Self::REFRESH_RANGE;
        let refresh = document.max_age.map_or(Self::REFRESH, |max_age| max_age.clamp(least, most));
        // Twice before they are too old.
        Ok(refresh.min(Duration::from_secs(self.config.max_staleness_s / 2)))
    }

    fn take_up_last_good(&self) {
        let notices = &self.shared.notices;
        match self.last_good.read() {
            Ok(Some(kept)) => {
                if let Err(error) = self.replace(&kept.bytes, kept.confirmed_at, "from disk") {
                    notices.warning(format!("keys on disk are not usable: {error}"));
                }
            }
            Ok(None) => {}
            Err(reason) => notices.warning(format!("keys on disk are not used: {reason}")),
        }
    }

    /// Puts a set in force if it is good. Returns whether its keys are others
    /// than before.
    fn replace(&self, json: &[u8], confirmed_at: UnixSeconds, origin: &str) -> Result<bool, InvalidKeySet> {
        let RemoteKeysConfig { issuer, max_staleness_s, .. } = &self.config;
        let (keys, skipped) = KeySet::from_json(issuer, json)?;
        let keys = keys.with_freshness(Freshness { confirmed_at, max_staleness_s: *max_staleness_s });
        let shared = &self.shared;
        let changed = !keys.has_the_keys_of(&shared.current.load());
        let kids = keys.sorted_key_ids();
        shared.current.store(Arc::new(keys));
        if changed {
            shared.notices.info(format!("keys of {issuer} {origin}: {kids:?}"));
            for key in skipped {
                shared.notices.warning(format!("key {:?} is not used: {}", key.kid, key.reason));
            }
            shared.key_ids.send_replace(kids);
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests;
