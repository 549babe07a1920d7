//! The validator in front of the embedded broker: its `AuthProvider`, which is
//! asked at CONNECT, PUBLISH and SUBSCRIBE, and its `BrokerEventHandler`, which
//! sees every publication once more before it is routed.
//!
//! 1. CONNECT: the token is the user name; the password is ignored. The broker
//!    knows the client by the name of its device from then on, never by the
//!    token: it gives that name to subscribers and writes it into its log.
//! 2. CONNECT with one of the [`METHODS`] (enhanced authentication, MQTT 5
//!    §4.12): the token is the authentication data; user name and password are
//!    not shown here. The will is shown once the client is connected; one that
//!    the token does not allow ends the connection then and never goes out.
//! 3. AUTH (re-authentication, MQTT 5 §4.12.1): the new token replaces the old
//!    one at once. A refused one ends the connection with 0x87. One that allows
//!    less to a connection that has subscribed ends it with 0x98, as the broker
//!    holds messages in places that nobody can look into; the client may come
//!    back with the same token.
//! 4. PUBLISH: decided before routing. On MQTT 5 a denial is acknowledged with
//!    0x87. On 3.1.1 it is acknowledged like a success, for which
//!    MQTT 3.1.1 §3.3.5 leaves a choice: the broker would send an MQTT 5 packet.
//! 5. SUBSCRIBE: the filter as it stands in the packet, `$share/…` included.
//! 6. The end of the token, and its being taken back: [`Guard::send_away`],
//!    several times a second.
//!
//! The broker does not ask at delivery. It need not: no subscription outlives
//! its connection (see [`crate::broker`]), and none a token whose successor does
//! not cover it, but for the fraction of a second after a token was taken back.

use std::future::ready;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError, Weak};

use fleetbadge_validator::access::Action;
use fleetbadge_validator::denied::{Denied, Excerpt};
use fleetbadge_validator::freshness::Freshness;
use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::revocations::{RevocationState, Revocations};
use fleetbadge_validator::time::{Clock, UnixSeconds};
use fleetbadge_validator::verify::Verifier;
use mqtt5::broker::auth::{AuthProvider, AuthResult, EnhancedAuthResult};
use mqtt5::broker::events::{BrokerEventHandler, ClientConnectEvent, ClientPublishEvent, PublishAction};
use mqtt5::broker::router::MessageRouter;
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;

use crate::sessions::{Connect, NotRenewed, Sessions, Version};

/// The authentication methods whose data is a token (Azure Event Grid has
/// named them).
pub(crate) const METHODS: [&str; 2] = ["OAUTH2-JWT", "CUSTOM-JWT"];

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
    /// Has the connections. It holds the guard, too.
    router: OnceLock<Weak<MessageRouter>>,
}

impl Guard {
    /// A guard that has let nobody in yet.
    pub(crate) fn new(verifier: Verifier, keys: Keys, revoked: Revoked, clock: Arc<dyn Clock>) -> Self {
        let sessions = std::sync::Mutex::new(Sessions::new(verifier));
        let turnover = tokio::sync::Mutex::new(());
        Self { keys, revoked, clock, sessions, turnover, router: OnceLock::new() }
    }

    /// Tells the guard, once, by which it disconnects clients.
    pub(crate) fn watch(&self, router: &Arc<MessageRouter>) {
        self.router.get_or_init(|| Arc::downgrade(router));
    }

    /// Disconnects the clients whose token has ended or was taken back, and ends
    /// their subscriptions.
    pub(crate) async fn send_away(&self) {
        let _turnover = self.turnover.lock().await;
        let ended = self.sessions().ended(&(self.revoked)(), self.clock.now());
        for client_id in ended {
            self.disconnect(&client_id, "token ended, disconnecting").await;
        }
    }

    /// Disconnects a client, if it is connected, and ends its subscriptions.
    async fn disconnect(&self, client_id: &str, why: &str) {
        let Some(router) = self.router.get().and_then(Weak::upgrade) else { return };
        if router.is_connected(client_id).await {
            tracing::info!(client_id, "{why}");
        }
        router.unregister_client(client_id).await;
    }

    /// Lets a client in, or says in the log why not.
    fn admit(&self, connect: Connect<'_>) -> Option<String> {
        let client_id = connect.client_id;
        let (keys, revocations, now) = self.present();
        let admitted = self.sessions().admit(connect, &keys, &revocations, now);
        admitted
            .inspect(|device| tracing::info!(device, client_id, "let in"))
            .inspect_err(|refusal| log(refusal, client_id))
            .ok()
    }

    /// What there is to judge a token by.
    fn present(&self) -> (Arc<KeySet>, RevocationState, UnixSeconds) {
        let (keys, now) = ((self.keys)(), self.clock.now());
        // The issuer is in this process: what it says is never old.
        let freshness = Freshness { confirmed_at: now, max_staleness_s: 0 };
        (keys, RevocationState::Known { revocations: (self.revoked)(), freshness }, now)
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
            Ok(match self.admit(connect_of(connect)) {
                Some(device) => AuthResult::success_with_user(device),
                None => AuthResult::fail(ReasonCode::NotAuthorized),
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
        let (revoked, now) = ((self.revoked)(), self.clock.now());
        let allowed = self.sessions().subscribe(client_id, topic_filter, &revoked, now);
        Box::pin(ready(allowed.inspect_err(|refusal| log(refusal, client_id)).is_ok()))
    }

    fn supports_enhanced_auth(&self) -> bool {
        true
    }

    /// The broker asks this for a CONNECT, and also for an AUTH "continue" that
    /// nobody has asked for, on an open connection: that one must not get around
    /// [`Self::reauthenticate`]. So whatever is connected with this client ID
    /// goes: the connection that sent it, or one that is being taken over.
    fn authenticate_enhanced<'a>(
        &'a self,
        method: &'a str,
        data: Option<&'a [u8]>,
        client_id: &'a str,
    ) -> Answer<'a, mqtt5::Result<EnhancedAuthResult>> {
        Box::pin(async move {
            if !METHODS.contains(&method) {
                return Ok(EnhancedAuthResult::fail(method, ReasonCode::BadAuthenticationMethod));
            }
            let _turnover = self.turnover.lock().await;
            let connect =
                Connect { client_id, token: token_in(data), will_topic: None, version: Version::V5 };
            Ok(match self.admit(connect) {
                Some(device) => {
                    self.disconnect(client_id, "taken over, disconnecting").await;
                    EnhancedAuthResult::success_with_user(method, device)
                }
                None => EnhancedAuthResult::fail(method, ReasonCode::NotAuthorized),
            })
        })
    }

    /// The broker has compared `method` with that of the CONNECT.
    fn reauthenticate<'a>(
        &'a self,
        method: &'a str,
        data: Option<&'a [u8]>,
        client_id: &'a str,
        _user_id: Option<&'a str>,
    ) -> Answer<'a, mqtt5::Result<EnhancedAuthResult>> {
        Box::pin(async move {
            let _turnover = self.turnover.lock().await;
            let (keys, revocations, now) = self.present();
            let renewed = self.sessions().renew(client_id, token_in(data), &keys, &revocations, now);
            Ok(match renewed {
                Ok(device) => {
                    tracing::info!(device, client_id, "re-authenticated");
                    EnhancedAuthResult::success_with_user(method, device)
                }
                Err(refusal) => {
                    tracing::warn!(client_id, code = refusal.code(), "not re-authenticated: {refusal}");
                    EnhancedAuthResult::fail(method, reason_of(&refusal))
                }
            })
        })
    }
}

impl BrokerEventHandler for Guard {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> Answer<'a, ()> {
        Box::pin(async move {
            let (client_id, will_topic) = (&*event.client_id, event.will_topic.as_deref());
            let connected = self.sessions().connected(client_id, will_topic, self.clock.now());
            if let Err(refusal) = connected {
                log(&refusal, client_id);
                self.disconnect(client_id, "its will is not allowed, disconnecting").await;
            }
        })
    }

    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Answer<'a, PublishAction> {
        let allowed = self.allows(&event.client_id, Action::Publish, &event.topic);
        Box::pin(ready(if allowed { PublishAction::Continue } else { PublishAction::Handled }))
    }
}

/// The token in authentication data. One that is not UTF-8 is none.
fn token_in(data: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(data?).ok()
}

const fn reason_of(refusal: &NotRenewed) -> ReasonCode {
    match refusal {
        NotRenewed::Denied(_) | NotRenewed::SubjectDiffers { .. } => ReasonCode::NotAuthorized,
        // Not the client's fault: with the same token it can come back.
        NotRenewed::SubscribesToLess { .. } => ReasonCode::AdministrativeAction,
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
    let client_id = Excerpt::of(client_id);
    tracing::warn!(%client_id, code = denied.code(), "denied: {denied}");
}
