//! `GET /oauth2/revocations`: registered brokers are told which tokens were
//! taken back, as it happens: server-sent events.
//!
//! 1. authenticate the broker, with a secret in the header;
//! 2. go on after its `Last-Event-ID` if that is of this database, or begin with
//!    a snapshot of everything. This node asks the database first, so that
//!    nobody who was elsewhere before is told less than it knew;
//! 3. each revocation as it comes;
//! 4. a heartbeat every [`Heartbeat::EVERY_S`] seconds while this node is
//!    current. When it is not, the stream ends: another node may be.
//!
//! An event is made when the connection can take it, from what is in memory:
//! nothing waits for a slow reader, who is cut off when it reads nothing for
//! long (see [`crate::serve`]).

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use fleetbadge_validator::ids::BrokerName;
use fleetbadge_validator::revocations::{Heartbeat, Revocation, Snapshot};
use futures_util::stream;
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
            Sse::new(events).into_response()
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
    // Its first tick is at once.
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
    epoch: Box<str>,
    /// The id of the last revocation that it was told.
    sent: u64,
    /// Whether it is being told what there is, before what is new.
    is_snapshot: bool,
}

impl Feed {
    /// The next event, as soon as there is one; None at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if *self.ended.borrow() {
                return None;
            }
            if let Some(event) = self.pending()? {
                return Some(event);
            }
            tokio::select! {
                changed = self.ended.changed() => changed.ok()?,
                changed = self.position.changed() => changed.ok()?,
                _ = self.heartbeat.tick() => return self.beat(),
            }
        }
    }

    /// What is there to be told; None at the end.
    fn pending(&mut self) -> Option<Option<Event>> {
        let limit = if self.is_snapshot { Snapshot::MAX_LENGTH } else { 1 };
        let Page { revocations, end } = self.app.revocations.after(&self.epoch, self.sent, limit)?;
        let last = revocations.last().map(|numbered| numbered.id);
        self.sent = last.unwrap_or(self.sent);
        let mut revocations = revocations.into_iter().map(|NumberedRevocation { revocation, .. }| revocation);
        if !self.is_snapshot {
            return match revocations.next() {
                Some(revocation) => Some(Some(self.with_id(Revocation::EVENT, &revocation)?)),
                None => Some(None),
            };
        }
        let snapshot = Snapshot { revocations: revocations.collect(), more: end.is_none() };
        match end {
            None => Some(Some(event(Snapshot::EVENT, &snapshot)?)),
            Some(end) => {
                self.is_snapshot = false;
                // Those of the newest ids may have been forgotten already.
                self.sent = end.last;
                Some(Some(self.with_id(Snapshot::EVENT, &snapshot)?))
            }
        }
    }

    fn with_id(&self, name: &str, data: &impl Serialize) -> Option<Event> {
        Some(event(name, data)?.id(format!("{}-{}", self.epoch, self.sent)))
    }

    /// That nothing else happened; None if that is not known, or none of the
    /// client's business any more.
    fn beat(&self) -> Option<Event> {
        let (app, broker) = (&self.app, &self.place.broker);
        let now = app.now();
        let is_known = app.brokers.find(broker.as_str()).is_some_and(|broker| {
            broker.secrets.iter().any(|secret| secret.id == self.secret && secret.is_in_time(now))
        });
        if !is_known {
            tracing::info!(%broker, "a broker follows the revocations no more: its secret is gone");
            return None;
        }
        if let Err(reason) = app.node.check_current(now) {
            tracing::warn!(%broker, %reason, "a broker is sent away from the revocations");
            return None;
        }
        event(Heartbeat::EVENT, &Heartbeat { now })
    }
}

fn event(name: &str, data: &impl Serialize) -> Option<Event> {
    let event = Event::default().event(name).json_data(data);
    event.inspect_err(|error| tracing::error!(%error, "an event of the feed cannot be written")).ok()
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
