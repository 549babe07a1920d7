//! What runs on the thread: connect, listen, keep, connect again.

use std::convert::Infallible;
use std::pin::pin;

use tokio::time::sleep;

use super::feed::check_count;
use super::heard::Heard;
use super::journal::{Batch, Kept};
use super::*;
use crate::remote::backoff::chance;
use crate::revocations::{Heartbeat, Revocation, RevocationTarget};

/// Lives on the thread.
pub(super) struct Follower {
    pub(super) config: RemoteRevocationsConfig,
    pub(super) client: Client,
    /// Fetches the keys.
    pub(super) keys: Option<KeyRefresh>,
    pub(super) journal: Journal,
    pub(super) copies: Copies,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) backoff: Backoff,
    /// Whether the next connection asks for what came after the last event.
    pub(super) resumes: bool,
    /// The failure that was told last.
    pub(super) told: Option<String>,
    /// When the file was last written or confirmed.
    pub(super) written_at: UnixSeconds,
    /// Whether it was told that it cannot be.
    pub(super) told_unwritable: bool,
}

impl Follower {
    /// How long the wait between two tries becomes: nobody new is let in while
    /// what is held is too old, so it must end soon after an outage does.
    pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(5);
    /// How long the wait is where only an operator can help.
    const RETRY_UNAUTHORIZED: Duration = Duration::from_secs(30);
    /// How often the file is confirmed, in seconds: after a restart the state
    /// looks older by so much at most.
    const CONFIRM_EVERY_S: u64 = 30;
    /// The least time between two changes that are put in force: whoever goes
    /// through all sessions then must not be kept busy by it.
    const LEAST_PAUSE: Duration = Duration::from_millis(100);

    pub(super) async fn run(mut self) {
        loop {
            let Err(error) = self.follow().await;
            self.tell(&error);
            let wait = match &error {
                FeedError::Unauthorized | FeedError::Credentials(_) => {
                    self.backoff.failed(0.0);
                    Self::RETRY_UNAUTHORIZED
                }
                FeedError::Unusable { .. } => {
                    self.resumes = false;
                    self.backoff.failed(chance())
                }
                FeedError::Fetch(_) | FeedError::NotAStream | FeedError::Ended | FeedError::Silent { .. } => {
                    self.backoff.failed(chance())
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.shared.retry.notified() => {}
            }
        }
    }

    async fn follow(&mut self) -> Result<Infallible, FeedError> {
        let credentials = Credentials::read(&self.config.credentials_file)?;
        let held = self.shared.held.load_full();
        let mut heard = Heard::new(held.is_some());
        let last_event_id = held.filter(|_| self.resumes).map(|held| held.event_id.clone());
        let url = &self.config.endpoint.url;
        let open = Feed::open(&self.client, url, &credentials, last_event_id);
        let feed = timeout(self.config.silence, open).await.map_err(|_| self.silent())??;
        let Err(error) = self.listen(feed, &mut heard).await;
        // The last that it told counts, too.
        self.put_in_force(&mut heard)?;
        Err(error)
    }

    async fn listen(&mut self, mut feed: Feed, heard: &mut Heard) -> Result<Infallible, FeedError> {
        let silence = self.config.silence;
        let mut silent = pin!(sleep(silence));
        let (mut pause, mut pauses) = (pin!(sleep(Duration::ZERO)), false);
        loop {
            tokio::select! {
                () = &mut silent => return Err(self.silent()),
                () = &mut pause, if pauses => pauses = false,
                told = feed.next(), if !(pauses && heard.is_full()) => {
                    if heard.add(told?)? {
                        silent.set(sleep(silence));
                    }
                }
            }
            if !pauses && heard.has_news() {
                self.put_in_force(heard)?;
                pause.set(sleep(Self::LEAST_PAUSE));
                pauses = true;
            }
            if let Some(beat) = heard.take_heartbeat() {
                self.confirm(beat);
            }
        }
    }

    const fn silent(&self) -> FeedError {
        FeedError::Silent { seconds: self.config.silence.as_secs() }
    }

    /// Keeps what was heard on disk, and then goes by it.
    fn put_in_force(&mut self, heard: &mut Heard) -> Result<(), FeedError> {
        let Some((batch, event_id)) = heard.take_news() else { return Ok(()) };
        let held = self.shared.held.load_full();
        let former = held.as_ref().map(|held| Arc::clone(&held.revocations)).unwrap_or_default();
        let revocations = self.copies.with(&former, &batch);
        check_count(revocations.len())?;
        if held.is_none() {
            // A heartbeat alone says that nothing is missing; but before the
            // first one of all there is something to age.
            self.shared.confirmed_at.store(self.clock.now().0, Ordering::Release);
            let (issuer, count) = (&self.config.issuer, revocations.len());
            self.shared.notices.info(format!("revocations of {issuer}: {count}"));
        }
        let after = held.as_ref().map(|held| &held.event_id);
        let kept = Batch { after, event_id: &event_id, revocations: &batch };
        self.keep(|journal, confirmed_at| journal.add(&kept, &revocations, confirmed_at));
        self.hold(revocations, event_id);
        self.resumes = true;
        if let Some(keys) = &self.keys
            && batch.iter().any(|revocation| is_new_key(revocation, &former))
        {
            keys.at_once();
        }
        drop(held);
        self.copies.keep(former, batch);
        Ok(())
    }

    fn hold(&self, revocations: Arc<Revocations>, event_id: HeaderValue) {
        self.shared.held.store(Some(Arc::new(Held { event_id, revocations })));
        self.shared.changes.fetch_add(1, Ordering::Release);
    }

    /// The issuer says that nothing is missing.
    fn confirm(&mut self, Heartbeat { now: issuer_now }: Heartbeat) {
        let now = self.clock.now();
        self.shared.confirmed_at.store(now.0, Ordering::Release);
        self.backoff.worked();
        if self.told.take().is_some() {
            let url = &self.config.endpoint.url;
            self.shared.notices.info(format!("revocations are followed again from {url}"));
        }
        if now.since(self.written_at) < Self::CONFIRM_EVERY_S && now >= self.written_at {
            return;
        }
        // Both clocks must say so: were this one set forward and back, the
        // tokens would live again, and nobody would tell it once more.
        if self.forget_expired(now.min(issuer_now)) || !self.journal.is_whole() {
            let Some(held) = self.shared.held.load_full() else { return };
            self.keep(|journal, at| journal.rewrite(&held.event_id, &held.revocations, at));
        } else {
            self.keep(|journal, _| journal.confirm(now));
        }
    }

    /// Whether there was any.
    fn forget_expired(&mut self, now: UnixSeconds) -> bool {
        let held = self.shared.held.load_full().filter(|held| held.revocations.is_any_expired(now));
        let Some(held) = held else { return false };
        let mut revocations = (*held.revocations).clone();
        revocations.forget_expired(now);
        self.copies.forget();
        self.hold(Arc::new(revocations), held.event_id.clone());
        true
    }

    fn keep(&mut self, keep: impl FnOnce(&mut Journal, UnixSeconds) -> Result<(), String>) {
        self.written_at = self.clock.now();
        let kept = keep(&mut self.journal, self.shared.confirmed_at());
        let told = std::mem::replace(&mut self.told_unwritable, kept.is_err());
        if let Err(reason) = kept
            && !told
        {
            self.shared.notices.warning(format!("revocations cannot be kept on disk: {reason}"));
        }
    }

    pub(super) fn take_up_last_good(&mut self) {
        let notices = &self.shared.notices;
        match self.journal.read() {
            Ok(Some(Kept { event_id, revocations, confirmed_at })) => {
                let (issuer, count) = (&self.config.issuer, revocations.len());
                notices.info(format!("revocations of {issuer} from disk: {count}"));
                self.shared.confirmed_at.store(confirmed_at.0, Ordering::Release);
                self.hold(Arc::new(revocations), event_id);
            }
            Ok(None) => {}
            Err(reason) => notices.warning(format!("revocations on disk are not used: {reason}")),
        }
    }

    /// Tells a failure, once. That a good connection has ended is none yet.
    fn tell(&mut self, error: &FeedError) {
        let text = error.to_string();
        let was_good = matches!(error, FeedError::Ended) && self.backoff.failures() == 0;
        if was_good || self.told.as_ref() == Some(&text) {
            return;
        }
        let goes_on = match self.shared.held.load().is_some() {
            true => "the last good ones stay in force until they are too old",
            false => "there are none yet: everything is denied",
        };
        let url = &self.config.endpoint.url;
        self.shared.notices.warning(format!("revocations from {url}: {text}; {goes_on}"));
        self.told = Some(text);
    }
}

/// Whether this takes back a key that was good before.
fn is_new_key(revocation: &Revocation, before: &Revocations) -> bool {
    matches!(&revocation.target, RevocationTarget::Key(kid) if !before.has_key(kid))
}
