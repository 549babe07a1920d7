use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::test_support::{TestKey, claims};
use fleetbadge_validator::time::{ManualClock, UnixSeconds};
use fleetbadge_validator::verify::Verifier;
use rumqttc::{ConnectReturnCode, LastWill, PubAckReason, QoS, SessionMode, SubscribeReasonCode};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::test_client::{Client, V3, options};

mod enhanced;

const IAT: u64 = 1_000_000;
const LIFETIME_S: u64 = 60;

/// A running broker, whose keys and time are in the test's hand.
struct Running {
    mqtt: SocketAddr,
    key: TestKey,
    clock: ManualClock,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), BrokerError>>,
}

impl Running {
    async fn start() -> Self {
        let (key, clock) = (TestKey::generate(), ManualClock::at(UnixSeconds(IAT)));
        let verifier = Verifier::new("https://id.example", "mqtt");
        let keys = Arc::new(KeySet::from_json("https://id.example", key.jwks().as_bytes()).unwrap().0);
        let keys = Box::new(move || Arc::clone(&keys));
        let guard = Arc::new(Guard::new(verifier, keys, Box::new(Arc::default), Arc::new(clock.clone())));
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let broker = Broker::bind(any, any, guard).await.unwrap();
        let mqtt = broker.broker.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(broker.serve(async { stopped.await.unwrap() }));
        Self { mqtt, key, clock, stop, serving }
    }

    fn token(&self, client: &str) -> String {
        self.key.token(&claims(client, IAT, IAT + LIFETIME_S))
    }

    fn options(&self, client: &str) -> rumqttc::MqttOptions {
        options(self.mqtt, client, &self.token(client))
    }

    async fn client(&self, client: &str) -> Client {
        Client::connect(self.options(client)).await.unwrap()
    }

    /// A client that may subscribe to the topics of all devices.
    async fn listener(&self) -> Client {
        let mut claims = claims("listener", IAT, IAT + 1000 * LIFETIME_S);
        claims["acl"] = json!({"sub": ["devices/#"]});
        let options = options(self.mqtt, "listener", &self.key.token(&claims));
        let mut client = Client::connect(options).await.unwrap();
        assert_eq!(client.subscribe("devices/#").await, SubscribeReasonCode::Success(QoS::AtLeastOnce));
        client
    }

    fn end_tokens(&self) {
        self.clock.set(UnixSeconds(IAT + LIFETIME_S + Verifier::DEFAULT_SKEW_S));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_uses_its_own_topics_and_no_others() {
    let broker = Running::start().await;
    let mut pump = broker.client("pump-1").await;
    assert_eq!(pump.subscribe("devices/pump-1/#").await, SubscribeReasonCode::Success(QoS::AtLeastOnce));
    for filter in ["#", "devices/#", "$SYS/#", "$share/g/devices/pump-2/#"] {
        assert_eq!(pump.subscribe(filter).await, SubscribeReasonCode::NotAuthorized, "{filter}");
    }
    assert_eq!(pump.publish("devices/pump-2/state", "no").await, PubAckReason::NotAuthorized);
    assert_eq!(pump.publish("devices/pump-1/state", "yes").await, PubAckReason::Success);
    let (topic, payload, properties) = pump.message().await;
    assert_eq!((&*topic, &*payload), ("devices/pump-1/state", "yes"));
    let sender = properties.iter().find(|(name, _)| name == "x-mqtt-sender");
    assert_eq!(sender.unwrap().1, "pump-1", "the broker tells subscribers the device, never the token");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_good_token_of_its_own_is_refused() {
    let broker = Running::start().await;
    let refused = |client_id: &str, token: &str| Client::connect(options(broker.mqtt, client_id, token));
    let not_authorized = Some(ConnectReturnCode::NotAuthorized);
    let token = broker.token("pump-1");
    assert_eq!(refused("pump-2", &token).await.err(), not_authorized);
    assert_eq!(refused("pump-1", "no token").await.err(), not_authorized);
    let forged = TestKey::generate().token(&claims("pump-1", IAT, IAT + LIFETIME_S));
    assert_eq!(refused("pump-1", &forged).await.err(), not_authorized);
    broker.end_tokens();
    assert_eq!(refused("pump-1", &token).await.err(), not_authorized);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mqtt_3_client_hears_of_refusals_in_the_language_of_3_1_1() {
    let broker = Running::start().await;
    let token = broker.token("pump-1");
    assert_eq!(V3::connect(broker.mqtt, "pump-2", &token).1, 5);

    let mut listener = broker.listener().await;
    let (mut pump, code) = V3::connect(broker.mqtt, "pump-1", &token);
    assert_eq!(code, 0);
    assert_eq!(pump.subscribe("devices/pump-2/#"), 0x80);
    assert_eq!(pump.publish("devices/pump-2/state", "dropped"), [0x40, 2, 0, 1], "3.1.1 has no other PUBACK");
    assert_eq!(pump.publish("devices/pump-1/state", "routed"), [0x40, 2, 0, 1]);
    assert_eq!(listener.message().await.1, "routed", "what was denied does not come before it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_token_is_the_end_of_the_connection() {
    let broker = Running::start().await;
    let mut listener = broker.listener().await;
    let mut options = broker.options("pump-1");
    options.set_last_will(LastWill::new("devices/pump-1/gone", "token ended", QoS::AtLeastOnce, false, None));
    let mut pump = Client::connect(options).await.unwrap();
    assert_eq!(pump.subscribe("devices/pump-1/#").await, SubscribeReasonCode::Success(QoS::AtLeastOnce));

    broker.clock.set(UnixSeconds(IAT + LIFETIME_S));
    assert!(pump.hears_nothing().await, "the skew has not passed");
    broker.end_tokens();
    pump.is_disconnected().await;
    assert_eq!(listener.message().await.1, "token ended", "the will goes out with the disconnection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_came_back_with_a_new_token_stays() {
    let broker = Running::start().await;
    let mut old = broker.client("pump-1").await;
    let longer = broker.key.token(&claims("pump-1", IAT, IAT + 2 * LIFETIME_S));
    let mut new = Client::connect(options(broker.mqtt, "pump-1", &longer)).await.unwrap();
    old.is_disconnected().await;

    broker.end_tokens();
    assert!(new.hears_nothing().await);
    assert_eq!(new.publish("devices/pump-1/state", "still here").await, PubAckReason::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_with_its_connection_whatever_the_client_asks_for() {
    let broker = Running::start().await;
    let persistent = |mut options: rumqttc::MqttOptions| {
        options.set_session_mode(SessionMode::Persistent);
        options
    };
    let mut wide = Client::connect(persistent(broker.options("pump-1"))).await.unwrap();
    assert_eq!(wide.subscribe("devices/pump-1/#").await, SubscribeReasonCode::Success(QoS::AtLeastOnce));

    let mut narrow = claims("pump-1", IAT, IAT + LIFETIME_S);
    narrow["scope"] = json!("mqtt.connect mqtt.publish");
    let narrow = persistent(options(broker.mqtt, "pump-1", &broker.key.token(&narrow)));
    let mut narrow = Client::connect(narrow).await.unwrap();
    assert_eq!(narrow.publish("devices/pump-1/state", "to myself").await, PubAckReason::Success);
    assert!(narrow.hears_nothing().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_outside_of_the_token_is_refused_at_the_connect() {
    let broker = Running::start().await;
    let mut options = broker.options("pump-1");
    options.set_last_will(LastWill::new("devices/pump-2/gone", "x", QoS::AtMostOnce, false, None));
    assert_eq!(Client::connect(options).await.err(), Some(ConnectReturnCode::NotAuthorized));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_disconnects_everybody_and_ends() {
    let broker = Running::start().await;
    let mut pump = broker.client("pump-1").await;
    broker.stop.send(()).unwrap();
    pump.is_disconnected().await;
    let ended = tokio::time::timeout(Duration::from_secs(5), broker.serving).await;
    ended.expect("in time").unwrap().unwrap();
}
