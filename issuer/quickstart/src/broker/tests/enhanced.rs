//! Enhanced authentication and re-authentication.

use serde_json::Value;

use super::*;
use crate::guard::METHODS;
use crate::test_client::{V5, enhanced};

const REAUTHENTICATE: u8 = 0x19;
const CONTINUE: u8 = 0x18;
const AUTH: u8 = 0xF0;
const DISCONNECT: u8 = 0xE0;

impl Running {
    /// A good token with some claims replaced.
    fn token_with(&self, client: &str, changes: &Value) -> String {
        let mut claims = claims(client, IAT, IAT + LIFETIME_S);
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.key.token(&claims)
    }

    /// A good token that lives a second time as long.
    fn next_token(&self, client: &str) -> String {
        self.token_with(client, &json!({"exp": IAT + 2 * LIFETIME_S}))
    }

    fn enhanced(&self, client: &str) -> rumqttc::MqttOptions {
        enhanced(self.mqtt, client, METHODS[0], &self.token(client))
    }

    async fn enhanced_client(&self, client: &str) -> Client {
        Client::connect(self.enhanced(client)).await.unwrap()
    }
}

fn granted() -> SubscribeReasonCode {
    SubscribeReasonCode::Success(QoS::AtLeastOnce)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_as_authentication_data_lets_its_client_in_and_no_other() {
    let broker = Running::start().await;
    let token = broker.token("pump-1");
    for method in METHODS {
        let mut pump = Client::connect(enhanced(broker.mqtt, "pump-1", method, &token)).await.unwrap();
        assert_eq!(pump.subscribe("devices/pump-1/#").await, granted(), "{method}");
        assert_eq!(pump.subscribe("devices/#").await, SubscribeReasonCode::NotAuthorized);
        assert_eq!(pump.publish("devices/pump-2/state", "no").await, PubAckReason::NotAuthorized);
        assert_eq!(pump.publish("devices/pump-1/state", "yes").await, PubAckReason::Success);
        let sender = pump.message().await.2.into_iter().find(|(name, _)| name == "x-mqtt-sender");
        assert_eq!(sender.unwrap().1, "pump-1", "the broker tells subscribers the device, never the token");
    }

    let refused = async |client_id: &str, method: &str, token: &str| {
        Client::connect(enhanced(broker.mqtt, client_id, method, token)).await.err().unwrap()
    };
    for other in ["OAUTH2", "oauth2-jwt", "OAUTH2-JWT ", "SCRAM-SHA-256"] {
        let code = refused("pump-1", other, &token).await;
        assert_eq!(code, ConnectReturnCode::BadAuthenticationMethod, "{other}");
    }
    let forged = TestKey::generate().token(&claims("pump-1", IAT, IAT + LIFETIME_S));
    for (client_id, token) in
        [("pump-2", &*token), ("pump-1", &*forged), ("pump-1", "no token"), ("pump-1", "")]
    {
        assert_eq!(refused(client_id, METHODS[0], token).await, ConnectReturnCode::NotAuthorized);
    }
    broker.end_tokens();
    assert_eq!(refused("pump-1", METHODS[0], &token).await, ConnectReturnCode::NotAuthorized);
}

/// A good token in a place that is not looked at does not help a bad one.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_name_means_nothing_beside_a_method() {
    let broker = Running::start().await;
    let token = broker.token("pump-1");
    for data in [Some("no token"), None] {
        let mut options = broker.enhanced("pump-1");
        options.set_authentication_data(data.map(Into::into)).set_username(&token);
        assert_eq!(Client::connect(options).await.err(), Some(ConnectReturnCode::NotAuthorized), "{data:?}");
    }
    let mut options = broker.enhanced("pump-1");
    options.set_username("somebody-else");
    Client::connect(options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_on_with_the_next_token() {
    let broker = Running::start().await;
    let mut pump = broker.enhanced_client("pump-1").await;
    assert_eq!(pump.subscribe("devices/pump-1/#").await, granted());
    pump.reauthenticate(&broker.next_token("pump-1")).await;

    broker.end_tokens();
    assert_eq!(pump.publish("devices/pump-1/state", "still here").await, PubAckReason::Success);
    assert_eq!(pump.message().await.1, "still here", "the subscription is still there");
    broker.clock.set(UnixSeconds(IAT + 2 * LIFETIME_S + Verifier::DEFAULT_SKEW_S));
    pump.is_disconnected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_next_token_replace_the_old_ones_at_once() {
    let broker = Running::start().await;
    let mut pump = broker.enhanced_client("pump-1").await;
    assert_eq!(pump.subscribe("shared/#").await, SubscribeReasonCode::NotAuthorized);
    assert_eq!(pump.subscribe("devices/pump-1/#").await, granted());
    let own = "devices/pump-1/#";
    let wider =
        broker.token_with("pump-1", &json!({"acl": {"pub": [own, "shared/#"], "sub": ["shared/#", own]}}));
    pump.reauthenticate(&wider).await;
    assert_eq!(pump.subscribe("shared/#").await, granted());
    assert_eq!(pump.publish("shared/state", "both").await, PubAckReason::Success);
    assert_eq!(pump.message().await.1, "both");

    let silent = json!({"acl": {"pub": [], "sub": ["#"]}});
    pump.reauthenticate(&broker.token_with("pump-1", &silent)).await;
    assert_eq!(pump.publish("shared/state", "no").await, PubAckReason::NotAuthorized);
    assert!(pump.hears_nothing().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_for_the_connection_ends_it() {
    let broker = Running::start().await;
    let expired = broker.token_with("pump-1", &json!({"iat": IAT - 60, "nbf": IAT - 60, "exp": IAT - 10}));
    let forged = TestKey::generate().token(&claims("pump-1", IAT, IAT + LIFETIME_S));
    let of_another_device = broker.token_with("pump-1", &json!({"sub": "pump-2", "client_id": "pump-2"}));
    let cannot_connect = broker.token_with("pump-1", &json!({"scope": "mqtt.publish mqtt.subscribe"}));
    let [method, _] = METHODS;
    for (what, token) in [
        ("expired", expired),
        ("forged", forged),
        ("for another client ID", broker.token("pump-2")),
        ("of another device", of_another_device),
        ("without mqtt.connect", cannot_connect),
        ("none", "no token".to_owned()),
        ("empty", String::new()),
    ] {
        let mut pump = V5::connect(broker.mqtt, "pump-1", Some(method), &broker.token("pump-1"));
        assert_eq!(pump.auth(REAUTHENTICATE, method, &token), Some((DISCONNECT, 0x87)), "{what}");
        assert_eq!(pump.packet(), None, "{what}");
    }
    // The first token is as good as before.
    broker.enhanced_client("pump-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_next_token_may_not_have_does_not_come_any_more() {
    let broker = Running::start().await;
    let mut publisher = broker.enhanced_client("pump-1").await;
    let wide = broker.token_with("eve", &json!({"acl": {"sub": ["devices/#", "eve/#"]}}));
    let narrow = broker.token_with("eve", &json!({"acl": {"sub": ["eve/#"]}}));
    let mut eve = V5::connect(broker.mqtt, "eve", Some(METHODS[0]), &wide);
    assert_eq!(eve.subscribe("devices/#"), 1);
    assert_eq!(publisher.publish("devices/pump-1/state", "for the wide token").await, PubAckReason::Success);
    assert_eq!(eve.packet().expect("a PUBLISH").0 & 0xF0, 0x30);
    assert_eq!(eve.auth(REAUTHENTICATE, METHODS[0], &narrow), Some((DISCONNECT, 0x98)));
    assert_eq!(eve.packet(), None);

    let mut options = enhanced(broker.mqtt, "eve", METHODS[0], &narrow);
    options.set_session_mode(SessionMode::Persistent);
    let mut eve = Client::connect(options).await.unwrap();
    assert_eq!(publisher.publish("devices/pump-1/state", "for nobody").await, PubAckReason::Success);
    assert!(eve.hears_nothing().await);
    assert_eq!(eve.subscribe("devices/#").await, SubscribeReasonCode::NotAuthorized);
    assert_eq!(eve.subscribe("eve/#").await, granted());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_in_flight_do_not_reach_the_narrower_token_of_a_takeover() {
    let broker = Running::start().await;
    let mut publisher = broker.enhanced_client("pump-1").await;
    let wide = broker.token_with("eve", &json!({"acl": {"sub": ["devices/#"]}}));
    let narrow = broker.token_with("eve", &json!({"acl": {"sub": []}}));
    for (first, second) in [(None, Some(METHODS[0])), (Some(METHODS[0]), None)] {
        let mut eve = V5::connect(broker.mqtt, "eve", first, &wide);
        assert_eq!(eve.subscribe("devices/#"), 1);
        assert_eq!(
            publisher.publish("devices/pump-1/state", "not acknowledged").await,
            PubAckReason::Success
        );
        assert_eq!(eve.packet().expect("a PUBLISH").0 & 0xF0, 0x30);
        let mut options = match second {
            Some(method) => enhanced(broker.mqtt, "eve", method, &narrow),
            None => options(broker.mqtt, "eve", &narrow),
        };
        options.set_session_mode(SessionMode::Persistent);
        let mut taken_over = Client::connect(options).await.unwrap();
        assert!(taken_over.hears_nothing().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_outside_of_the_token_ends_the_connection_and_never_goes_out() {
    let broker = Running::start().await;
    let mut listener = broker.listener().await;
    let mut options = broker.enhanced("pump-1");
    options.set_last_will(LastWill::new("devices/pump-2/gone", "forged", QoS::AtLeastOnce, false, None));
    let mut pump = Client::connect(options).await.unwrap();
    pump.is_disconnected().await;
    assert!(listener.hears_nothing().await);

    let mut options = broker.enhanced("pump-1");
    options.set_last_will(LastWill::new("devices/pump-1/gone", "ended", QoS::AtLeastOnce, false, None));
    let mut pump = Client::connect(options).await.unwrap();
    broker.end_tokens();
    pump.is_disconnected().await;
    assert_eq!(listener.message().await.1, "ended", "the will goes out with the disconnection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_that_the_next_token_does_not_allow_is_dropped() {
    let broker = Running::start().await;
    let mut listener = broker.listener().await;
    let silent = broker.token_with("pump-1", &json!({"scope": "mqtt.connect mqtt.subscribe"}));
    for (token, goes_out) in [(silent, false), (broker.next_token("pump-1"), true)] {
        let mut options = broker.enhanced("pump-1");
        options.set_last_will(LastWill::new("devices/pump-1/gone", "gone", QoS::AtLeastOnce, false, None));
        let mut pump = Client::connect(options).await.unwrap();
        pump.reauthenticate(&token).await;
        drop(pump);
        if goes_out {
            assert_eq!(listener.message().await.1, "gone");
        } else {
            assert!(listener.hears_nothing().await);
        }
    }
}

/// MQTT 5 §4.12.1; §4.12.0-6 for the method.
#[tokio::test(flavor = "multi_thread")]
async fn an_auth_out_of_place_ends_the_connection() {
    let broker = Running::start().await;
    let (token, next) = (broker.token("pump-1"), broker.next_token("pump-1"));
    let connect = |method| V5::connect(broker.mqtt, "pump-1", method, &token);
    let [method, other] = METHODS;

    let mut with_username = connect(None);
    assert_eq!(with_username.auth(REAUTHENTICATE, method, &next), None);
    let mut with_another_method = connect(Some(method));
    assert_eq!(with_another_method.auth(REAUTHENTICATE, other, &next), Some((DISCONNECT, 0x8C)));
    assert_eq!(with_another_method.packet(), None);
    let mut in_order = connect(Some(method));
    assert_eq!(in_order.auth(REAUTHENTICATE, method, &next), Some((AUTH, 0)));

    // As an answer to a question that nobody has asked: it would be taken for a
    // CONNECT, whose token may allow less than the connection has subscribed to.
    let narrow = broker.token_with("pump-1", &json!({"acl": {}}));
    for method_of_connect in [None, Some(method)] {
        let mut unasked = connect(method_of_connect);
        assert_eq!(unasked.subscribe("devices/pump-1/#"), 1);
        let answer = unasked.auth(CONTINUE, method, &narrow);
        assert!(answer.is_none() || unasked.packet().is_none(), "it ends, whatever the broker says first");
    }
}
