//! The validator in front of the embedded broker: its `AuthProvider`, which is
//! asked at CONNECT, PUBLISH and SUBSCRIBE, and its `BrokerEventHandler`, which
//! sees every publication once more before it is routed.
//!
//! 1. CONNECT: the token is the user name; the password is ignored. The broker
//!    knows the client by the name of its device from then on, never by the
//!    token: it gives that name to subscribers and writes it into its log.
//! 2. PUBLISH: decided before routing. On MQTT 5 a denial is acknowledged with
//!    0x87. On 3.1.1 it is acknowledged like a success, for which
//!    MQTT 3.1.1 §3.3.5 leaves a choice: the broker would send an MQTT 5 packet.
//! 3. SUBSCRIBE: the filter as it stands in the packet, `$share/…` included.
//! 4. The end of the token, and its being taken back: [`Guard::send_away`],
//!    several times a second.
//!
//! The broker does not ask at delivery. It need not: a subscription lives as
//! long as its connection (see [`crate::broker`]), and so no longer than the
//! token that allowed it, but for the fraction of a second after that was taken
//! back.

use std::future::ready;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};

use fleetbadge_validator::access::Action;
use fleetbadge_validator::denied::Denied;
use fleetbadge_validator::freshness::Freshness;
use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::revocations::{RevocationState, Revocations};
use fleetbadge_validator::time::Clock;
use fleetbadge_validator::verify::Verifier;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::events::{BrokerEventHandler, ClientPublishEvent, PublishAction};
use mqtt5::broker::router::MessageRouter;
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;

use crate::sessions::{Connect, Sessions, Version};

/// The answer of the broker's hooks.
type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tells the issuer's present keys.
pub(crate) type Keys = Box<dyn Fn() -> Arc<KeySet> + Send + Sync>;
/// Tells which tokens the issuer has taken back.
pub(crate) type Revoked = Box<dyn Fn() -> Arc<Revocations> + Send + Sync>;

/// Judges what the clients of the embedded broker ask for.
pub(crate) struct Guard {
    keys: Keys,
    revoked: Revoked,
    clock: Arc<dyn Clock>,
    sessions: std::sync::Mutex<Sessions>,
    /// Held while a client is let in and while ended ones are sent away, so
    /// that whoever comes back with a new token is not taken for the one
    /// whose token has ended.
    turnover: tokio::sync::Mutex<()>,
}

impl Guard {
    /// A guard that has let nobody in yet.
    pub(crate) fn new(verifier: Verifier, keys: Keys, revoked: Revoked, clock: Arc<dyn Clock>) -> Self {
        let sessions = std::sync::Mutex::new(Sessions::new(verifier));
        Self { keys, revoked, clock, sessions, turnover: tokio::sync::Mutex::new(()) }
    }

    /// Disconnects the clients whose token has ended or was taken back, and ends
    /// their subscriptions.
    pub(crate) async fn send_away(&self, router: &MessageRouter) {
        let _turnover = self.turnover.lock().await;
        let ended = self.sessions().ended(&(self.revoked)(), self.clock.now());
        for client_id in ended {
            if router.is_connected(&client_id).await {
                tracing::info!(client_id, "token ended, disconnecting");
            }
            router.unregister_client(&client_id).await;
        }
    }

    fn allows(&self, client_id: &str, action: Action, topic: &str) -> bool {
        let allowed = self.sessions().allows(client_id, action, topic, &(self.revoked)(), self.clock.now());
        allowed.inspect_err(|refusal| log(refusal, client_id)).is_ok()
    }

    /// What the broker asks for a PUBLISH, and again for a will when it goes
    /// out. [`BrokerEventHandler::on_client_publish`] has the last word on the
    /// former; the latter was allowed at CONNECT and goes out with the
    /// disconnection, also with the one at the end of the token.
    fn may_reach_routing(&self, client_id: &str, topic: &str) -> bool {
        let (version, is_will) = {
            let sessions = self.sessions();
            // Nothing goes out for a token that was taken back, no will either.
            if sessions.revoked_by(client_id, &(self.revoked)()).is_some() {
                return false;
            }
            (sessions.version(client_id), sessions.is_will(client_id, topic))
        };
        match version {
            None => false,
            Some(Version::V3) => true,
            Some(Version::V5) => is_will || self.allows(client_id, Action::Publish, topic),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // Whoever panicked while holding the lock left no half-made session.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AuthProvider for Guard {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _client_addr: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            let _turnover = self.turnover.lock().await;
            let (keys, now) = ((self.keys)(), self.clock.now());
            // The issuer is in this process: what it says is never old.
            let freshness = Freshness { confirmed_at: now, max_staleness_s: 0 };
            let revocations = RevocationState::Known { revocations: (self.revoked)(), freshness };
            let admitted = self.sessions().admit(connect_of(connect), &keys, &revocations, now);
            Ok(match admitted {
                Ok(device) => {
                    tracing::info!(device, client_id = connect.client_id, "let in");
                    AuthResult::success_with_user(device)
                }
                Err(refusal) => {
                    log(&refusal, &connect.client_id);
                    AuthResult::fail(ReasonCode::NotAuthorized)
                }
            })
        })
    }

    fn authorize_publish<'a>(
        &'a self,
        client_id: &str,
        _user_id: Option<&'a str>,
        topic: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(ready(self.may_reach_routing(client_id, topic)))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        client_id: &str,
        _user_id: Option<&'a str>,
        topic_filter: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(ready(self.allows(client_id, Action::Subscribe, topic_filter)))
    }

    /// An MQTT 5 AUTH exchange would pass by [`Self::authenticate`].
    fn supports_enhanced_auth(&self) -> bool {
        false
    }
}

impl BrokerEventHandler for Guard {
    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Answer<'a, PublishAction> {
        let allowed = self.allows(&event.client_id, Action::Publish, &event.topic);
        Box::pin(ready(if allowed { PublishAction::Continue } else { PublishAction::Handled }))
    }
}

fn connect_of(packet: &ConnectPacket) -> Connect<'_> {
    Connect {
        client_id: &packet.client_id,
        token: packet.username.as_deref(),
        will_topic: packet.will.as_ref().map(|will| will.topic.as_str()),
        version: if packet.protocol_version == 5 { Version::V5 } else { Version::V3 },
    }
}

/// The client learns "not authorised"; why is for the log. The client ID is
/// whatever a stranger sent, a token in the wrong field for example.
fn log(denied: &Denied, client_id: &str) {
    let client_id = fleetbadge_validator::denied::Excerpt::of(client_id);
    tracing::warn!(%client_id, code = denied.code(), "denied: {denied}");
}
