//! One MQTT 5 session over several connections.
//!
//! 1. The first connection starts a clean session, each later one resumes it
//!    (`Clean Start` 0), so that subscriptions and messages in flight outlive a
//!    renewal of the token.
//! 2. The token is presented by enhanced authentication (MQTT 5 §4.12), so that
//!    [`Session::reauthenticate`] can replace it on the open connection, or in
//!    user name and password.
//! 3. [`Session::leave`] ends a connection in order: everything sent is
//!    acknowledged first, then DISCONNECT; the broker keeps the session and
//!    publishes no will.
//! 4. After a connection that broke, what was in flight is sent again, as MQTT
//!    5 §4.4 demands. What was lost with the broker's session is reported to
//!    whoever published it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{
    AsyncClient, AuthProperties, ClientError, ConnectAuth, DisconnectProperties, DisconnectReasonCode,
    EventLoop, IncomingPacketSizeLimit, MqttOptions, NetworkOptions, PublishNoticeError, PublishOptions,
    PublishResult, QoS, SubscribeFilter, TlsConfiguration, Transport,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::config::MqttConfig;
use crate::options::{Auth, TokenIn};
use crate::secret::AccessToken;

mod link;
mod session_store;

pub use self::link::{Ended, Incoming};
use self::session_store::MemoryStore;

/// The authentication method. Its data is the token, nothing else.
pub const METHOD: &str = "OAUTH2-JWT";
/// How many messages may be on their way at one time.
pub const WINDOW: u16 = 64;
/// The longest message that is received, in bytes; the broker is told.
pub const MAX_INCOMING: u32 = 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Events that wait for whoever is slow to take them.
const EVENT_QUEUE: usize = 64;

/// The outcome of a publish, to be awaited.
pub type Outcome = Pin<Box<dyn Future<Output = Result<PublishResult, PublishNoticeError>> + Send>>;

/// A session with a broker, connected or not.
pub struct Session {
    /// No longer [`Auth::Auto`] once the broker has said that it is not that.
    auth: Auth,
    token_in: TokenIn,
    /// For the next event loop; never with credentials.
    options: MqttOptions,
    client: AsyncClient,
    /// While there is no connection.
    event_loop: Option<Box<EventLoop>>,
    /// While there is one, or an attempt.
    driven: Option<Driven>,
}

/// The task that drives the event loop of a connection, and the ways to it.
/// (Polling the loop cannot be interrupted without harm, so it has a task of
/// its own.)
struct Driven {
    incoming: mpsc::Receiver<Incoming>,
    abort: Option<oneshot::Sender<()>>,
    task: JoinHandle<(Box<EventLoop>, Ended)>,
}

/// What a session reports.
pub enum SessionEvent {
    /// Something from the broker.
    Incoming(Incoming),
    /// The connection is over, or the attempt failed.
    Ended(Ended),
}

impl Session {
    /// A session that is not connected yet.
    #[must_use]
    pub fn new(config: &MqttConfig, tls: rustls::ClientConfig) -> Self {
        let options = mqtt_options(config, tls);
        let (client, event_loop) = open(options.clone());
        let (auth, token_in) = (config.auth, config.token_in);
        Self { auth, token_in, options, client, event_loop: Some(event_loop), driven: None }
    }

    /// Opens a connection with this token, unless there is one. The outcome
    /// comes as an event.
    pub fn connect(&mut self, token: &AccessToken, mqtt_client_id: &str, device: &str) {
        let Some(mut event_loop) = self.event_loop.take() else { return };
        self.options.set_client_id(mqtt_client_id.to_owned());
        event_loop.options.set_client_id(mqtt_client_id.to_owned());
        present(&mut event_loop.options, self.auth, self.token_in, token, device);
        let (sender, incoming) = mpsc::channel(EVENT_QUEUE);
        let (abort, aborted) = oneshot::channel();
        let task = tokio::spawn(link::drive(event_loop, sender, aborted));
        self.driven = Some(Driven { incoming, abort: Some(abort), task });
    }

    /// Presents another token on the open connection (MQTT 5 §4.12.1). The broker
    /// answers with [`Incoming::Reauthenticated`], or ends the connection. `false`
    /// if this cannot be done here: the connection was opened in another way, or
    /// for another client identifier.
    pub fn reauthenticate(&self, token: &AccessToken, mqtt_client_id: &str) -> bool {
        if self.auth == Auth::Basic || self.options.client_id() != mqtt_client_id {
            return false;
        }
        let properties = AuthProperties {
            method: Some(METHOD.to_owned()),
            data: Some(token.expose().to_owned().into()),
            ..AuthProperties::default()
        };
        // An error means that the connection is on its way out already.
        self.client.try_reauth(Some(properties)).is_ok()
    }

    /// From now on tokens are presented in basic authentication, if that was
    /// left to the broker. Whether it was.
    pub fn fall_back(&mut self) -> bool {
        let falls_back = self.auth == Auth::Auto;
        if falls_back {
            self.auth = Auth::Basic;
        }
        falls_back
    }

    /// The next event; waits for ever while there is no connection. May be
    /// dropped and called again at any time.
    pub async fn next(&mut self) -> SessionEvent {
        let Some(driven) = &mut self.driven else { return std::future::pending().await };
        if let Some(incoming) = driven.incoming.recv().await {
            return SessionEvent::Incoming(incoming);
        }
        let joined = (&mut driven.task).await;
        self.driven = None;
        let (event_loop, ended) = match joined {
            Ok((event_loop, ended)) => (Some(event_loop), ended),
            Err(error) => (None, Ended::Lost(format!("the connection's task failed: {error}"))),
        };
        let clean_start = event_loop.as_ref().is_none_or(|event_loop| event_loop.options.clean_start());
        self.options.set_clean_start(clean_start);
        self.event_loop = Some(match (event_loop, &ended) {
            // A loop that broke keeps what is in flight and goes on with it.
            (Some(event_loop), Ended::Lost(_) | Ended::Refused(_) | Ended::MethodUnknown(_)) => event_loop,
            // One that said goodbye cannot be used again; the rest of its
            // session is in the store.
            (Some(_), Ended::Left) | (None, _) => {
                let (client, event_loop) = open(self.options.clone());
                self.client = client;
                event_loop
            }
        });
        SessionEvent::Ended(ended)
    }

    /// Publishes a message. The outcome comes when the broker has acknowledged
    /// it, over however many connections that takes.
    ///
    /// # Errors
    /// More than [`WINDOW`] messages are on their way, or `topic` is no topic name.
    pub fn publish(&self, topic: &str, payload: Bytes, qos: QoS) -> Result<Outcome, ClientError> {
        let options = PublishOptions::new(qos);
        let notice = self.client.try_publish_tracked(topic.to_owned(), payload, options)?;
        Ok(Box::pin(notice.wait_async()))
    }

    /// Subscribes. The outcome comes as [`Incoming::Subscribed`].
    ///
    /// # Errors
    /// A filter that is not one (MQTT 5 §4.7).
    pub fn subscribe(&self, filters: &[String], qos: QoS) -> Result<(), ClientError> {
        self.client
            .try_subscribe_many(filters.iter().map(|filter| SubscribeFilter::new(filter.as_str(), qos)))
    }

    /// Ends the connection in order. The broker keeps the session if it is to
    /// be `resumed`.
    pub fn leave(&self, resumed: bool) {
        let session_expiry_interval = if resumed { None } else { Some(0) };
        let properties = DisconnectProperties {
            session_expiry_interval,
            reason_string: None,
            user_properties: Vec::new(),
            server_reference: None,
        };
        let reason = DisconnectReasonCode::NormalDisconnection;
        // An error means that the connection is on its way out already.
        let _ = self.client.try_disconnect_with_properties(reason, properties);
    }

    /// Drops the connection as it is: for a broker that does not answer.
    pub fn abort(&mut self) {
        if let Some(abort) = self.driven.as_mut().and_then(|driven| driven.abort.take()) {
            // An error means that it has just ended by itself.
            let _ = abort.send(());
        }
    }
}

fn mqtt_options(config: &MqttConfig, tls: rustls::ClientConfig) -> MqttOptions {
    let broker = rumqttc::Broker::tcp(config.broker.host.clone(), config.broker.port);
    let mut options = MqttOptions::new("", broker);
    if config.broker.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))));
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options
        .set_network_options(network)
        .set_keep_alive(config.keep_alive_s)
        .set_clean_start(true)
        .set_session_expiry_interval(Some(config.session_expiry_s))
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_INCOMING))
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_outgoing_inflight_upper_limit(WINDOW)
        .set_session_store(MemoryStore::default());
    options
}

fn open(options: MqttOptions) -> (AsyncClient, Box<EventLoop>) {
    let (client, event_loop) = AsyncClient::builder(options).capacity(usize::from(WINDOW)).build();
    (client, Box::new(event_loop))
}

fn present(options: &mut MqttOptions, auth: Auth, token_in: TokenIn, token: &AccessToken, device: &str) {
    let (method, data, fields) = match auth {
        Auth::Auto | Auth::Enhanced => {
            (Some(METHOD.to_owned()), Some(token.expose().to_owned().into()), ConnectAuth::None)
        }
        Auth::Basic => (None, None, credentials(token_in, token, device)),
    };
    options.set_authentication_method(method).set_authentication_data(data).set_auth(fields);
}

fn credentials(token_in: TokenIn, token: &AccessToken, device: &str) -> ConnectAuth {
    let token = token.expose().to_owned();
    match token_in {
        TokenIn::Username => ConnectAuth::Username { username: token },
        TokenIn::Password => {
            ConnectAuth::UsernamePassword { username: device.to_owned(), password: token.into() }
        }
        TokenIn::Both => ConnectAuth::UsernamePassword { username: token.clone(), password: token.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_where_it_is_told() {
        let token = AccessToken::new("t0ken".into());
        let (username, password) = ("t0ken".to_owned(), Bytes::from("t0ken"));
        assert_eq!(
            credentials(TokenIn::Username, &token, "pump-1"),
            ConnectAuth::Username { username: username.clone() }
        );
        assert_eq!(
            credentials(TokenIn::Password, &token, "pump-1"),
            ConnectAuth::UsernamePassword { username: "pump-1".into(), password: password.clone() }
        );
        assert_eq!(
            credentials(TokenIn::Both, &token, "pump-1"),
            ConnectAuth::UsernamePassword { username, password }
        );
    }

    #[test]
    fn a_token_is_never_presented_in_two_ways() {
        let token = AccessToken::new("t0ken".into());
        let mut options = MqttOptions::new("", rumqttc::Broker::tcp("localhost", 1883));
        for auth in [Auth::Auto, Auth::Enhanced] {
            present(&mut options, auth, TokenIn::Username, &token, "pump-1");
            assert_eq!(options.authentication_method().as_deref(), Some("OAUTH2-JWT"));
            assert_eq!(options.authentication_data().as_deref(), Some(b"t0ken".as_slice()));
            assert_eq!(*options.auth(), ConnectAuth::None);
            present(&mut options, Auth::Basic, TokenIn::Username, &token, "pump-1");
            assert_eq!((options.authentication_method(), options.authentication_data()), (None, None));
            assert_eq!(*options.auth(), ConnectAuth::Username { username: "t0ken".into() });
        }
    }

    #[test]
    fn only_what_is_left_to_the_broker_falls_back_and_for_good() {
        let session = |auth| {
            let config = MqttConfig {
                broker: crate::config::Broker { tls: false, host: "localhost".into(), port: 1883 },
                qos: QoS::AtLeastOnce,
                auth,
                token_in: TokenIn::Username,
                keep_alive_s: 60,
                session_expiry_s: 60,
                start_spread: Duration::ZERO,
                give_up_after: None,
            };
            crate::tls::install_provider();
            Session::new(&config, crate::tls::client_config(None).unwrap())
        };
        let token = AccessToken::new("t0ken".into());
        let mut auto = session(Auth::Auto);
        auto.options.set_client_id("pump-1".to_owned());
        assert!(auto.reauthenticate(&token, "pump-1"));
        assert!(!auto.reauthenticate(&token, "pump-1-b"), "another client ID is another connection");
        assert!(auto.fall_back());
        assert!(!auto.reauthenticate(&token, "pump-1"));
        assert!(!auto.fall_back());
        assert!(!session(Auth::Enhanced).fall_back());
    }
}
