//! What runs on the thread: connect, listen, keep, connect again.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::feed::{check_count, unusable};
use super::*;
use crate::remote::backoff::chance;
use crate::revocations::{Heartbeat, Revocation};

/// Lives on the thread.
pub(super) struct Follower {
    pub(super) config: RemoteRevocationsConfig,
    pub(super) client: Client,
    pub(super) last_good: LastGood,
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

/// What is kept on disk.
#[derive(Deserialize, Serialize)]
pub(super) struct Kept {
    event_id: String,
    revocations: Vec<Revocation>,
}

impl Follower {
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
                // Nobody but the operator can help.
                FeedError::Unauthorized | FeedError::Credentials(_) => {
                    self.backoff.failed(0.0);
                    Backoff::MAX
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
        let silence = self.config.silence;
        let silent = |_| FeedError::Silent { seconds: silence.as_secs() };
        let credentials = Credentials::read(&self.config.credentials_file)?;
        let held = self.shared.held.load_full().filter(|_| self.resumes);
        let last_event_id = held.map(|held| held.event_id.clone());
        let url = &self.config.endpoint.url;
        let open = Feed::open(&self.client, url, &credentials, last_event_id);
        let mut feed = timeout(silence, open).await.map_err(silent)??;
        let mut assembly = Assembly::default();
        loop {
            timeout(silence, self.listen(&mut feed, &mut assembly)).await.map_err(silent)??;
        }
    }

    /// Listens until there is a heartbeat, or a part of a snapshot: a stream
    /// of revocations alone is no proof that none is missing.
    async fn listen(&mut self, feed: &mut Feed, assembly: &mut Assembly) -> Result<(), FeedError> {
        loop {
            let (mut next, mut is_alive, mut heartbeat) = (None, false, None);
            for message in feed.next().await? {
                is_alive |= !matches!(message, Message::Revocation(..));
                match message {
                    Message::Snapshot(part, id) => {
                        next = assembly.add(part, id.is_some())?.zip(id).or(next);
                    }
                    Message::Revocation(_, _) if assembly.is_open() => {
                        return Err(unusable(&"a revocation within a snapshot"));
                    }
                    Message::Revocation(revocation, id) => {
                        let (mut revocations, _) = next
                            .or_else(|| self.held())
                            .ok_or_else(|| unusable(&"a revocation before the first snapshot"))?;
                        revocations.add(revocation);
                        check_count(&revocations)?;
                        next = Some((revocations, id));
                    }
                    Message::Heartbeat(_) if assembly.is_open() => {}
                    Message::Heartbeat(beat) => heartbeat = Some(beat),
                }
            }
            let changed = next.is_some();
            if let Some((revocations, id)) = next {
                self.put_in_force(revocations, id);
            }
            if let Some(beat) = heartbeat
                && self.shared.held.load().is_some()
            {
                self.confirm(beat);
            }
            if is_alive {
                return Ok(());
            }
            if changed {
                sleep(Self::LEAST_PAUSE).await;
            }
        }
    }

    /// A copy of what is in force, to be changed.
    fn held(&self) -> Option<(Revocations, HeaderValue)> {
        let held = self.shared.held.load();
        held.as_ref().map(|held| ((*held.revocations).clone(), held.event_id.clone()))
    }

    fn put_in_force(&mut self, revocations: Revocations, event_id: HeaderValue) {
        let shared = &self.shared;
        let count = revocations.len();
        let is_first = shared.held.load().is_none();
        // A heartbeat alone says that nothing is missing; but before the first
        // one of all there is something to age.
        if is_first {
            shared.confirmed_at.store(self.clock.now().0, Ordering::Release);
        }
        self.hold(revocations, event_id);
        self.resumes = true;
        if is_first {
            self.shared.notices.info(format!("revocations of {}: {count}", self.config.issuer));
        }
        self.write();
    }

    fn hold(&self, revocations: Revocations, event_id: HeaderValue) {
        self.shared.held.store(Some(Arc::new(Held { event_id, revocations: Arc::new(revocations) })));
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
        if let Some((mut revocations, id)) = self.held() {
            let count = revocations.len();
            // Both clocks must say so: were this one set forward and back, the
            // tokens would live again, and nobody would tell it once more.
            revocations.forget_expired(now.min(issuer_now));
            if revocations.len() < count || !self.last_good.is_written() {
                self.put_in_force(revocations, id);
                return;
            }
        }
        self.kept(|last_good| last_good.confirm(now));
    }

    fn write(&mut self) {
        let Some(held) = self.shared.held.load_full() else { return };
        let kept = Kept {
            event_id: held.event_id.to_str().unwrap_or_default().to_owned(),
            revocations: held.revocations.iter().collect(),
        };
        let confirmed_at = self.shared.confirmed_at();
        self.kept(|last_good| {
            let json = serde_json::to_vec(&kept).map_err(|error| error.to_string())?;
            last_good.write(&json, confirmed_at)
        });
    }

    fn kept(&mut self, keep: impl FnOnce(&LastGood) -> Result<(), String>) {
        self.written_at = self.clock.now();
        let kept = keep(&self.last_good);
        let told = std::mem::replace(&mut self.told_unwritable, kept.is_err());
        if let Err(reason) = kept
            && !told
        {
            self.shared.notices.warning(format!("revocations cannot be kept on disk: {reason}"));
        }
    }

    pub(super) fn take_up_last_good(&mut self) {
        let notices = &self.shared.notices;
        let kept = match self.last_good.read() {
            Ok(Some(kept)) => kept,
            Ok(None) => return,
            Err(reason) => return notices.warning(format!("revocations on disk are not used: {reason}")),
        };
        let read = serde_json::from_slice::<Kept>(&kept.bytes).map_err(|error| error.to_string());
        let read = read.and_then(|Kept { event_id, revocations }| {
            let event_id = HeaderValue::from_str(&event_id).map_err(|error| error.to_string())?;
            Ok((revocations.into_iter().collect::<Revocations>(), event_id))
        });
        match read {
            Ok((revocations, event_id)) => {
                let (issuer, count) = (&self.config.issuer, revocations.len());
                notices.info(format!("revocations of {issuer} from disk: {count}"));
                self.shared.confirmed_at.store(kept.confirmed_at.0, Ordering::Release);
                self.hold(revocations, event_id);
            }
            Err(reason) => notices.warning(format!("revocations on disk are not usable: {reason}")),
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
