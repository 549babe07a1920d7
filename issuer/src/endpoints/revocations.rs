//! `GET /oauth2/revocations`: registered brokers are told which tokens were
//! taken back, as it happens: server-sent events.
//!
//! 1. authenticate the broker, with a secret in the header;
//! 2. go on after its `Last-Event-ID` if that is of this database, or begin with
//!    a snapshot of everything. This node asks the database first, so that
//!    nobody who was elsewhere before is told less than it knew;
//! 3. each revocation as it comes, an event each; those that wait are written
//!    together, so that a reader takes in a flood at once;
//! 4. a heartbeat at once and then every [`Heartbeat::EVERY_S`] seconds while
//!    this node is current. When it is not, the stream ends: another node may
//!    be. A heartbeat is true when it is written: this node knew of nothing that
//!    was not written before it. So what waits goes first.
//!
//! What is written is made when the connection can take it, from what is in
//! memory: nothing waits for a slow reader, who is cut off when it reads nothing
//! for long (see [`crate::serve`]).

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use fleetbadge_validator::ids::BrokerName;
use fleetbadge_validator::revocations::{Heartbeat, Revocation, Snapshot};
use futures_util::{FutureExt as _, stream};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::app::App;
use crate::client_auth::{AuthenticatedBroker, PresentedCredentials, authenticate};
use crate::credentials::CredentialId;
use crate::error::TokenError;
use crate::form::Form;
use crate::issued_revocations::{Page, Position};
use crate::node::NotCurrent;
use crate::peer::Peer;
use crate::store::NumberedRevocation;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How many feeds a broker may have at one node: each connection of a cluster's
/// members, and some to spare.
const MAX_FEEDS_PER_BROKER: usize = 64;

pub(crate) async fn get(State(app): State<Arc<App>>, parts: Parts) -> Response {
    match follow(&app, &parts).await {
        Ok(feed) => {
            let events = stream::unfold(feed, |mut feed| async {
                Some((Ok::<_, Infallible>(feed.next().await?), feed))
            });
            ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
        }
        Err(error) => error.into_response_to_wrong_client(),
    }
}

async fn follow(app: &Arc<App>, parts: &Parts) -> Result<Feed, TokenError> {
    // Credentials must not be in the URL, and nothing else has a reason to be.
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(TokenError::InvalidRequest("nothing belongs into the URL's query".into()));
    }
    let form = Form::parse(b"")?;
    let credentials = PresentedCredentials::from_request(&parts.headers, &form, &Peer::default())?;
    let broker = authenticate(app, &credentials).await?.into_broker()?;
    let place = app.feeds.take_place(&broker)?;
    app.node.catch_up(app).await.map_err(|error| {
        tracing::warn!(%error, "nobody can follow the revocations here");
        TokenError::TemporarilyUnavailable { retry_after_s: 1 }
    })?;
    let mut position = app.revocations.follow();
    let here = position.borrow_and_update().clone();
    let resumed = resume_after(&parts.headers, &here);
    tracing::info!(broker = %broker.name, is_resumed = resumed.is_some(), "a broker follows the revocations");
    let mut heartbeat = interval(Duration::from_secs(Heartbeat::EVERY_S));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    Ok(Feed {
        secret: broker.secret.clone(),
        place,
        ended: app.feeds.ended.subscribe(),
        epoch: here.epoch,
        sent: resumed.unwrap_or(0),
        is_snapshot: resumed.is_none(),
        position,
        heartbeat,
        // Whoever comes back is current at once.
        is_beat_due: true,
        app: Arc::clone(app),
    })
}

/// After which revocation a client goes on: None if it is to begin anew.
fn resume_after(headers: &HeaderMap, here: &Position) -> Option<u64> {
    let mut ids = headers.get_all(LAST_EVENT_ID).iter();
    let (Some(id), None) = (ids.next(), ids.next()) else { return None };
    let (epoch, number) = id.to_str().ok()?.rsplit_once('-')?;
    // Only as it is written here: `parse` also reads a sign.
    let number = number.parse().ok().filter(|parsed: &u64| parsed.to_string() == number)?;
    // An issuer that was moved to PostgreSQL has its history from SQLite; there
    // the timeline stands after the epoch, whichever it is by now.
    let moved = here.epoch.rsplit_once('_').map(|(before, _)| before);
    ((epoch == &*here.epoch || Some(epoch) == moved) && number <= here.last).then_some(number)
}

/// What one client is told.
struct Feed {
    app: Arc<App>,
    place: Place,
    /// The broker's secret, without which it ends.
    secret: CredentialId,
    position: watch::Receiver<Position>,
    ended: watch::Receiver<bool>,
    heartbeat: Interval,
    /// Whether a heartbeat is to be written once nothing waits before it.
    is_beat_due: bool,
    epoch: Box<str>,
    /// The id of the last revocation that it was told.
    sent: u64,
    /// Whether it is being told what there is, before what is new.
    is_snapshot: bool,
}

impl Feed {
    /// The next events, as soon as there are some; None at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if *self.ended.borrow() {
                return None;
            }
            // Also while there is always something to be told.
            self.is_beat_due |= self.heartbeat.tick().now_or_never().is_some();
            let waiting = self.waiting()?;
            if !waiting.is_empty() {
                return Some(waiting);
            }
            tokio::select! {
                changed = self.ended.changed() => changed.ok()?,
                changed = self.position.changed() => changed.ok()?,
                _ = self.heartbeat.tick() => self.is_beat_due = true,
            }
        }
    }

    /// What is there to be told, so much at a time; None at the end.
    fn waiting(&mut self) -> Option<String> {
        // Before it is looked what waits: the answer counts for what is found.
        let beat = self.is_beat_due.then(|| self.beat());
        let Page { revocations, end } =
            self.app.revocations.after(&self.epoch, self.sent, Snapshot::MAX_LENGTH)?;
        let mut events = if self.is_snapshot {
            self.snapshot(revocations, end.as_ref())?
        } else {
            self.revocations(&revocations, end.as_ref())?
        };
        if end.is_none() {
            return Some(events);
        }
        match beat {
            Some(Ok(beat)) => {
                self.is_beat_due = false;
                events += &event(Heartbeat::EVENT, None, &beat)?;
            }
            Some(Err(parting)) if events.is_empty() => {
                tracing::warn!(broker = %self.place.broker, %parting, "a broker follows the revocations no more");
                return None;
            }
            // What waited is told before the stream ends.
            Some(Err(_)) | None => {}
        }
        Some(events)
    }

    fn snapshot(&mut self, part: Vec<NumberedRevocation>, end: Option<&Position>) -> Option<String> {
        self.sent = part.last().map_or(self.sent, |numbered| numbered.id);
        let revocations = part.into_iter().map(|numbered| numbered.revocation).collect();
        let snapshot = Snapshot { revocations, more: end.is_none() };
        let Some(end) = end else { return event(Snapshot::EVENT, None, &snapshot) };
        self.is_snapshot = false;
        // Those of the newest ids may have been forgotten already.
        self.sent = end.last;
        event(Snapshot::EVENT, Some(self.id(end.last)), &snapshot)
    }

    fn revocations(&mut self, news: &[NumberedRevocation], end: Option<&Position>) -> Option<String> {
        let mut events = String::new();
        for NumberedRevocation { id, revocation } in news {
            events += &event(Revocation::EVENT, Some(self.id(*id)), revocation)?;
            self.sent = *id;
        }
        self.sent = end.map_or(self.sent, |end| end.last);
        Some(events)
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.epoch)
    }

    /// That nothing else happened, if that is known and the client's business.
    fn beat(&self) -> Result<Heartbeat, Parting> {
        let (app, broker) = (&self.app, &self.place.broker);
        let now = app.now();
        let is_known = app.brokers.find(broker.as_str()).is_some_and(|broker| {
            broker.secrets.iter().any(|secret| secret.id == self.secret && secret.is_in_time(now))
        });
        if !is_known {
            return Err(Parting::Secret);
        }
        app.node.check_current(now)?;
        Ok(Heartbeat { now })
    }
}

/// Why a client is told no more.
#[derive(Debug, thiserror::Error)]
enum Parting {
    #[error("its secret is gone")]
    Secret,
    #[error("another node may know more: {0}")]
    Node(#[from] NotCurrent),
}

/// An event as it is written (HTML Living Standard §9.2.6). JSON has no line
/// ends, and an id is of ours.
fn event(name: &str, id: Option<String>, data: &impl Serialize) -> Option<String> {
    let mut event = format!("event: {name}\n");
    if let Some(id) = id {
        let _ = writeln!(event, "id: {id}");
    }
    let data = serde_json::to_string(data);
    let data = data.inspect_err(|error| tracing::error!(%error, "an event of the feed cannot be written"));
    let _ = writeln!(event, "data: {}\n", data.ok()?);
    Some(event)
}

/// Who follows the revocations at this node.
pub(crate) struct Feeds {
    by_broker: Mutex<HashMap<BrokerName, usize>>,
    ended: watch::Sender<bool>,
}

impl Default for Feeds {
    fn default() -> Self {
        Self { by_broker: Mutex::default(), ended: watch::Sender::new(false) }
    }
}

impl Feeds {
    /// Ends all of them, and those that come later.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.by_broker.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    fn take_place(self: &Arc<Self>, broker: &AuthenticatedBroker) -> Result<Place, TokenError> {
        let mut by_broker = self.by_broker.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = by_broker.entry(broker.name.clone()).or_default();
        if *taken >= MAX_FEEDS_PER_BROKER {
            tracing::warn!(broker = %broker.name, "it follows the revocations {MAX_FEEDS_PER_BROKER} times already");
            return Err(TokenError::TooManyFeeds { max: MAX_FEEDS_PER_BROKER });
        }
        *taken += 1;
        Ok(Place { feeds: Arc::clone(self), broker: broker.name.clone() })
    }
}

/// The place of one feed, given back at its end.
struct Place {
    feeds: Arc<Feeds>,
    broker: BrokerName,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_broker = self.feeds.by_broker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = by_broker.get_mut(&self.broker) {
            *taken -= 1;
            if *taken == 0 {
                by_broker.remove(&self.broker);
            }
        }
    }
}

#[cfg(test)]
mod tests;
