//! Keeps a token and a connection: carries out what [`renewal`](crate::renewal)
//! decides and tells it what came of it.
//!
//! Requests to the issuer run beside the connection, which goes on with the old
//! token until there is a new one. A new token renews the connection by
//! re-authentication (MQTT 5 §4.12.1), which nobody but the broker notices;
//! where that cannot be, by an orderly DISCONNECT and a CONNECT that resumes the
//! session.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{ClientError, QoS};

use crate::config::{MqttConfig, TokenConfig};
use crate::exit::Exit;
use crate::machine::{Machine, Moment, UnixSeconds};
use crate::mqtt::{Ended, Incoming, METHOD, Outcome, Session, SessionEvent};
use crate::renewal::{Action, Cached, Event, Renewal, Validity};
use crate::secret::AccessToken;
use crate::token_cache::{CachedToken, Freshness, TokenCache};
use crate::token_client::{IssuedToken, TokenClient, TokenError};

/// How long the broker has to acknowledge what is in flight before a
/// connection is given up instead of left.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the broker has to answer a re-authentication before the connection
/// is given up and opened anew with the new token.
const ANSWER: Duration = Duration::from_secs(15);

/// The attempt to get a connection was given up.
#[derive(Debug, thiserror::Error)]
#[error("no connection for {} s: {reason}", after.as_secs())]
pub struct GaveUp {
    /// How long there was none.
    pub after: Duration,
    /// What stood in the way last.
    pub reason: String,
    /// The exit code that goes with it.
    pub exit: Exit,
}

/// A device's token and connection, kept.
pub struct Keeper {
    machine: Machine,
    device: String,
    client: Arc<TokenClient>,
    cache: TokenCache,
    renewal: Renewal,
    token: Option<Token>,
    request: Option<TokenFuture>,
    session: Session,
    phase: Phase,
    give_up_after: Option<Duration>,
    down_since: Moment,
    obstacle: Obstacle,
}

type TokenFuture = Pin<Box<dyn Future<Output = Result<IssuedToken, TokenError>> + Send>>;

/// The token in use.
struct Token {
    access_token: AccessToken,
    mqtt_client_id: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Connecting, or waiting to.
    Down,
    Up,
    /// Up with the old token until the broker, by `deadline`, takes the new one.
    Reauthenticating {
        deadline: Moment,
    },
    /// Up with the old token for the last time: the broker has until
    /// `deadline` to acknowledge what is in flight.
    Leaving {
        deadline: Moment,
    },
    /// It did not; the connection is being dropped.
    Aborting,
    /// Connecting with the new token.
    Returning,
}

/// What stood in the way of a connection last.
#[derive(Clone)]
struct Obstacle {
    reason: String,
    exit: Exit,
}

impl Keeper {
    /// Prepares everything; the token from before the start is read from disk.
    ///
    /// # Errors
    /// [`TokenError::Setup`]
    pub fn new(
        token_config: &TokenConfig,
        mqtt_config: &MqttConfig,
        tls: rustls::ClientConfig,
        machine: Machine,
    ) -> Result<Self, TokenError> {
        let client = TokenClient::new(token_config, tls.clone())?;
        let cache = TokenCache::new(token_config.state_dir.clone());
        let usable = |token: &CachedToken| token.freshness(machine.unix_now()) != Freshness::Expired;
        let cached = cache.find(client.request()).filter(usable);
        let now = machine.now();
        let plan = cached.as_ref().map(|token| plan(token, now, machine.unix_now()));
        let renewal = Renewal::start(plan, mqtt_config.start_spread, now, machine.draw());
        Ok(Self {
            machine,
            device: token_config.client_id.clone(),
            client: Arc::new(client),
            cache,
            renewal,
            token: cached.map(|CachedToken { access_token, mqtt_client_id, .. }| Token {
                access_token,
                mqtt_client_id,
            }),
            request: None,
            session: Session::new(mqtt_config, tls),
            phase: Phase::Down,
            give_up_after: mqtt_config.give_up_after,
            down_since: now,
            obstacle: Obstacle { reason: "no token yet".to_owned(), exit: Exit::IssuerUnreachable },
        })
    }

    /// What comes from the broker next, over however many connections. May be
    /// dropped and called again at any time.
    ///
    /// # Errors
    /// [`GaveUp`], if that is configured.
    pub async fn next(&mut self) -> Result<Incoming, GaveUp> {
        loop {
            let wake = self.act()?;
            let answer = async {
                match &mut self.request {
                    Some(request) => request.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = answer => {
                    self.request = None;
                    self.answered(outcome);
                }
                event = self.session.next() => match event {
                    SessionEvent::Incoming(incoming) => {
                        match incoming {
                            Incoming::Connected { .. } => self.connected(),
                            Incoming::Reauthenticated => self.reauthenticated(),
                            Incoming::Message(_) | Incoming::Subscribed(_) => {}
                        }
                        return Ok(incoming);
                    }
                    SessionEvent::Ended(ended) => self.ended(ended),
                },
                () = self.machine.sleep_until(wake) => {}
            }
        }
    }

    /// Whether there is a connection to publish on.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Reauthenticating { .. })
    }

    /// The MQTT client identifier of the present token.
    #[must_use]
    pub fn mqtt_client_id(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.mqtt_client_id.as_str())
    }

    /// Publishes; see [`Session::publish`].
    ///
    /// # Errors
    /// See there.
    pub fn publish(&self, topic: &str, payload: Bytes, qos: QoS) -> Result<Outcome, ClientError> {
        self.session.publish(topic, payload, qos)
    }

    /// Subscribes; see [`Session::subscribe`].
    ///
    /// # Errors
    /// See there.
    pub fn subscribe(&self, filters: &[String], qos: QoS) -> Result<(), ClientError> {
        self.session.subscribe(filters, qos)
    }

    /// Ends connection and session in order, as far as the broker lets us.
    pub async fn close(mut self) {
        if self.phase == Phase::Down {
            return;
        }
        self.session.leave(false);
        let ended = async { while let SessionEvent::Incoming(_) = self.session.next().await {} };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            tracing::warn!("the broker does not let the connection end in order");
        }
    }

    /// Does what is due. Returns when to look again.
    fn act(&mut self) -> Result<Option<Moment>, GaveUp> {
        loop {
            let now = self.machine.now();
            let phase_ends = match self.phase {
                Phase::Down => self.give_up_after.map(|after| self.down_since.plus(after)),
                Phase::Reauthenticating { deadline } | Phase::Leaving { deadline } => Some(deadline),
                Phase::Up | Phase::Aborting | Phase::Returning => None,
            };
            if phase_ends.is_some_and(|end| now >= end) {
                self.phase_over(now)?;
                continue;
            }
            let (renewal, action) = self.renewal.next(now);
            self.renewal = renewal;
            match action {
                Action::RequestToken => {
                    let client = Arc::clone(&self.client);
                    self.request = Some(Box::pin(async move { client.obtain().await }));
                }
                Action::Connect => self.connect(),
                Action::RenewConnection => self.renew_connection(now),
                Action::Wait(wake) => return Ok([phase_ends, wake].into_iter().flatten().min()),
            }
        }
    }

    fn phase_over(&mut self, now: Moment) -> Result<(), GaveUp> {
        match self.phase {
            Phase::Down => {
                let Obstacle { reason, exit } = self.obstacle.clone();
                Err(GaveUp { after: now.since(self.down_since), reason, exit })
            }
            Phase::Reauthenticating { .. } | Phase::Leaving { .. } => {
                self.phase = Phase::Aborting;
                self.session.abort();
                Ok(())
            }
            Phase::Up | Phase::Aborting | Phase::Returning => Ok(()),
        }
    }

    fn connect(&mut self) {
        if let Some(token) = &self.token {
            self.session.connect(&token.access_token, &token.mqtt_client_id, &self.device);
        }
    }

    fn renew_connection(&mut self, now: Moment) {
        let Some(token) = &self.token else { return };
        if self.session.reauthenticate(&token.access_token, &token.mqtt_client_id) {
            tracing::debug!("re-authenticating with the new token");
            self.phase = Phase::Reauthenticating { deadline: now.plus(ANSWER) };
        } else {
            tracing::debug!("renewing the connection with the new token");
            self.phase = Phase::Leaving { deadline: now.plus(DRAIN) };
            self.session.leave(true);
        }
    }

    fn answered(&mut self, outcome: Result<IssuedToken, TokenError>) {
        self.observe(match &outcome {
            Ok(issued) => Event::TokenObtained { lifetime: issued.lifetime },
            Err(error) => Event::TokenRequestFailed(error.failure()),
        });
        let until_next = self.renewal.request_at().map_or(Duration::ZERO, |at| at.since(self.machine.now()));
        let next_request_s = until_next.as_secs();
        match outcome {
            Ok(issued) => {
                let lifetime_s = issued.lifetime.as_secs();
                let mqtt_client_id = &issued.mqtt_client_id;
                tracing::info!(lifetime_s, next_request_s, mqtt_client_id, "got a token");
                self.token = Some(Token {
                    access_token: issued.access_token.clone(),
                    mqtt_client_id: issued.mqtt_client_id.clone(),
                });
                let request = self.client.request().clone();
                self.cache.keep(&CachedToken::new(request, issued, until_next, self.machine.unix_now()));
            }
            Err(error) => {
                tracing::warn!(next_request_s, "got no token: {error}");
                self.obstacle = Obstacle { reason: error.to_string(), exit: error.exit() };
            }
        }
    }

    fn connected(&mut self) {
        let mqtt_client_id = self.mqtt_client_id().unwrap_or_default();
        match self.phase {
            Phase::Returning => tracing::debug!(mqtt_client_id, "renewed the connection"),
            Phase::Down
            | Phase::Up
            | Phase::Reauthenticating { .. }
            | Phase::Leaving { .. }
            | Phase::Aborting => {
                tracing::info!(mqtt_client_id, "connected to the broker");
            }
        }
        self.phase = Phase::Up;
        self.observe(Event::Connected);
    }

    fn reauthenticated(&mut self) {
        // Else an answer that nobody waits for any more.
        if let Phase::Reauthenticating { .. } = self.phase {
            tracing::debug!("re-authenticated");
            self.phase = Phase::Up;
            self.observe(Event::Connected);
        }
    }

    fn ended(&mut self, ended: Ended) {
        let was = self.phase;
        match was {
            // Whichever way the old connection went: on with the new one.
            Phase::Leaving { .. } | Phase::Aborting => {
                self.phase = Phase::Returning;
                self.connect();
                return;
            }
            Phase::Down | Phase::Up | Phase::Reauthenticating { .. } | Phase::Returning => {}
        }
        if let Ended::MethodUnknown(reason) = &ended
            && self.session.fall_back()
        {
            tracing::info!("the broker does not know {METHOD} ({reason}); basic authentication from now on");
            self.connect();
            return;
        }
        if was != Phase::Down {
            self.down_since = self.machine.now();
        }
        self.phase = Phase::Down;
        let event = match ended {
            Ended::Refused(reason) => self.refused(reason),
            // A broker should say why with a DISCONNECT, but need not (MQTT 5
            // §4.12.1), and what it says may be lost with the connection.
            Ended::Lost(reason) if matches!(was, Phase::Reauthenticating { .. }) => {
                self.refused(format!("{reason}, instead of an answer to AUTH"))
            }
            Ended::MethodUnknown(reason) => {
                tracing::warn!("the broker does not know {METHOD}, and auth is \"enhanced\": {reason}");
                self.obstacle = Obstacle { reason, exit: Exit::Refused };
                Event::ConnectionLost
            }
            Ended::Lost(reason) => {
                tracing::warn!("no connection to the broker: {reason}");
                self.obstacle = Obstacle { reason, exit: Exit::BrokerUnreachable };
                Event::ConnectionLost
            }
            // Nobody asked for it.
            Ended::Left => Event::ConnectionLost,
        };
        self.observe(event);
    }

    fn refused(&mut self, reason: String) -> Event {
        tracing::warn!("the broker refused the token: {reason}");
        self.obstacle = Obstacle { reason, exit: Exit::Refused };
        Event::BrokerRefused
    }

    fn observe(&mut self, event: Event) {
        self.renewal = self.renewal.after(event, self.machine.now(), self.machine.draw());
    }
}

/// What a token from the disk means on the program's own clock. Its end is
/// never further away than it was at the beginning, whatever the real-time
/// clock says.
fn plan(token: &CachedToken, now: Moment, unix_now: UnixSeconds) -> Cached {
    let lifetime = token.expires_at.since(token.obtained_at);
    let remaining = token.expires_at.since(unix_now).min(lifetime);
    let refresh_at = match token.freshness(unix_now) {
        Freshness::Fresh => now.plus(token.refresh_at.since(unix_now)),
        Freshness::RefreshDue | Freshness::Expired => now,
    };
    Cached { validity: Validity { obtained_at: now, expires_at: now.plus(remaining) }, refresh_at }
}

#[cfg(test)]
mod tests;
