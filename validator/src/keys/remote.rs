//! An issuer's keys over HTTP, on a thread of their own.
//!
//! 1. [`RemoteKeys::start`] reads the last good set from disk and returns at
//!    once: a broker that restarts while the issuer is away goes on.
//! 2. The thread fetches the set, again when it is old, and soon after
//!    [`RemoteKeys::key_missing`], but never more often than the cool-down
//!    allows, whoever sends unknown `kid`s and how many.
//! 3. A good answer replaces the set whole and is written to disk. Anything
//!    else leaves the last good set as it is.
//! 4. [`RemoteKeys::current`] never waits for any of this.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use reqwest::Client;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;
use url::Url;

use self::last_good::LastGood;
use super::http::{self, FetchError, HttpSetupError};
use super::{InvalidKeySet, KeySet};

mod last_good;

/// Where keys come from and how.
#[derive(Clone, Debug)]
pub struct RemoteKeysConfig {
    /// Whose keys these are: the issuer identifier.
    pub issuer: String,
    /// The URL of the JWK Set.
    pub url: Url,
    /// The folder in which the last good set is kept.
    pub state_dir: PathBuf,
    /// Certificates (PEM) that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether plain HTTP to another machine is allowed.
    pub allow_insecure_http: bool,
    /// The least time between two fetches that were asked for; a failed one
    /// is tried again after a tenth of it, then twice that, and so on.
    pub cool_down: Duration,
}

impl RemoteKeysConfig {
    /// The cool-down unless told otherwise.
    pub const DEFAULT_COOL_DOWN: Duration = Duration::from_secs(10);
}

/// The keys cannot be fetched from such a place.
#[derive(Debug, thiserror::Error)]
pub enum RemoteKeysError {
    /// The URL or the certificates.
    #[error(transparent)]
    Http(#[from] HttpSetupError),
    /// The state folder cannot be used.
    #[error("state folder {}: {reason}", path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The thread cannot be started.
    #[error("cannot start fetching keys: {reason}")]
    Start {
        /// What is wrong.
        reason: String,
    },
}

/// Something that an operator should read, once per change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// For the record.
    Info(String),
    /// Something does not work.
    Warning(String),
}

/// The keys of an issuer, kept current. Ends its thread when dropped.
#[derive(Debug)]
pub struct RemoteKeys {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwap<KeySet>,
    key_missing: Notify,
    notices: Mutex<VecDeque<Notice>>,
}

impl RemoteKeys {
    /// Reads the last good set from disk and starts the thread. Does not wait
    /// for the network.
    ///
    /// # Errors
    /// [`RemoteKeysError`]: the configuration cannot work.
    pub fn start(config: RemoteKeysConfig) -> Result<Self, RemoteKeysError> {
        let start_error =
            |error: &dyn std::fmt::Display| RemoteKeysError::Start { reason: error.to_string() };
        http::check_url(&config.url, config.allow_insecure_http)?;
        let client = http::client(&config.url, config.ca_file.as_deref())?;
        let last_good = LastGood::open(&config)?;
        let shared = Arc::new(Shared {
            current: ArcSwap::from_pointee(KeySet::empty(&config.issuer)),
            key_missing: Notify::new(),
            notices: Mutex::default(),
        });
        match last_good.read() {
            Ok(Some(json)) => shared.replace(&config.issuer, &json, "from disk").map_or_else(
                |error| shared.notice(Notice::Warning(format!("keys on disk are not usable: {error}"))),
                |_| (),
            ),
            Ok(None) => {}
            Err(reason) => shared.notice(Notice::Warning(format!("keys on disk are not used: {reason}"))),
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| start_error(&error))?;
        let (stop, stopped) = oneshot::channel();
        let fetcher = Fetcher { config, client, last_good, shared: Arc::clone(&shared), failures: 0 };
        let thread = std::thread::Builder::new()
            .name("fleetbadge-keys".into())
            .spawn(move || {
                let shared = Arc::clone(&fetcher.shared);
                let run = AssertUnwindSafe(|| runtime.block_on(fetcher.run(stopped)));
                if std::panic::catch_unwind(run).is_err() {
                    let fault = "a fault ended the fetching of keys: they stay as they are until a restart";
                    shared.notice(Notice::Warning(fault.into()));
                }
            })
            .map_err(|error| start_error(&error))?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The present set. Empty, so that everything is denied, until there is a
    /// good one.
    #[must_use]
    pub fn current(&self) -> Arc<KeySet> {
        self.shared.current.load_full()
    }

    /// Says that somebody brought a `kid` that is not in the set. Does not
    /// wait; causes one fetch when the cool-down allows it.
    pub fn key_missing(&self) {
        self.shared.key_missing.notify_one();
    }

    /// What there is to log since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        self.shared.notices.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

impl Drop for RemoteKeys {
    fn drop(&mut self) {
        // Dropping the sender is the signal.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panicked thread has nothing left to end.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The most notices that are kept for a caller that does not fetch them.
    const MAX_NOTICES: usize = 64;

    fn notice(&self, notice: Notice) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() == Self::MAX_NOTICES {
            notices.pop_front();
        }
        notices.push_back(notice);
    }

    /// Puts a set in force if it is good. Returns whether its keys are others
    /// than before.
    fn replace(&self, issuer: &str, json: &[u8], origin: &str) -> Result<bool, InvalidKeySet> {
        let (keys, skipped) = KeySet::from_json(issuer, json)?;
        let mut kids: Vec<&str> = keys.key_ids().collect();
        kids.sort_unstable();
        let changed = !keys.has_the_keys_of(&self.current.load());
        if changed {
            self.notice(Notice::Info(format!("keys of {issuer} {origin}: {kids:?}")));
            for key in skipped {
                self.notice(Notice::Warning(format!("key {:?} is not used: {}", key.kid, key.reason)));
            }
        }
        self.current.store(Arc::new(keys));
        Ok(changed)
    }
}

/// Lives on the thread.
struct Fetcher {
    config: RemoteKeysConfig,
    client: Client,
    last_good: LastGood,
    shared: Arc<Shared>,
    failures: u32,
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
    /// How old a set may become where the issuer does not say.
    const REFRESH: Duration = Duration::from_secs(300);
    /// What the issuer may say, as `max-age`.
    const REFRESH_RANGE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));
    /// The longest wait after failures.
    const MAX_BACKOFF: Duration = Duration::from_secs(30);

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            // Every wait ends when the owner is gone.
            tokio::select! {
                _ = &mut stopped => return,
                () = self.refresh_and_wait() => {}
            }
        }
    }

    async fn refresh_and_wait(&mut self) {
        match self.refresh().await {
            Ok(refresh) => {
                if self.failures > 0 {
                    self.shared
                        .notice(Notice::Info(format!("keys can be fetched again from {}", self.config.url)));
                }
                self.failures = 0;
                sleep(self.config.cool_down).await;
                tokio::select! {
                    () = self.shared.key_missing.notified() => {}
                    () = sleep(refresh.saturating_sub(self.config.cool_down)) => {}
                }
            }
            Err(error) => {
                if self.failures == 0 {
                    let goes_on = match self.shared.current.load().key_ids().count() {
                        0 => "there are none yet: everything is denied",
                        _ => "the last good ones stay in force",
                    };
                    let url = &self.config.url;
                    self.shared.notice(Notice::Warning(format!("keys from {url}: {error}; {goes_on}")));
                }
                let first_retry = self.config.cool_down / 10;
                let backoff = first_retry.saturating_mul(1 << self.failures.min(10)).min(Self::MAX_BACKOFF);
                self.failures += 1;
                sleep(backoff).await;
            }
        }
    }

    /// Fetches once. Returns how long the answer stays fresh.
    async fn refresh(&self) -> Result<Duration, RefreshError> {
        let document = http::get(&self.client, &self.config.url).await?;
        let changed = self.shared.replace(&self.config.issuer, &document.body, "fetched")?;
        if (changed || !self.last_good.is_written())
            && let Err(reason) = self.last_good.write(&document.body)
        {
            self.shared.notice(Notice::Warning(format!("keys cannot be kept on disk: {reason}")));
        }
        let (least, most) = Self::REFRESH_RANGE;
        Ok(document.max_age.map_or(Self::REFRESH, |max_age| max_age.clamp(least, most)))
    }
}

#[cfg(test)]
mod tests;
