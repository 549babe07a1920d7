//! RabbitMQ with its own OAuth 2 plugin, which knows the issuer's keys and
//! nothing else of it, reads tokens of the profile `rabbitmq`.

use std::process::Command;
use std::time::Duration;

use fleetbadge_tests::authority::Authority;
use fleetbadge_tests::badges::Badges;
use fleetbadge_tests::device::{mosquitto_pub, mosquitto_sub};
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::on_every_rabbitmq;
use fleetbadge_tests::paho::{Paho, PahoBuilder};
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::process::run;
use fleetbadge_tests::rabbitmq::{RabbitMq, RabbitMqVersion};
use fleetbadge_tests::wire::{Connect, Protocol, Wire};
use serde_json::json;

on_every_rabbitmq!(
    device_uses_its_own_topics_and_no_others,
    client_id_of_another_gets_no_queue,
    will_goes_only_where_its_device_may_publish,
    what_is_no_good_token_for_this_broker_is_refused,
    token_ends,
    tokens_of_other_algorithms_are_accepted,
    keys_come_from_whom_the_broker_was_told_to_believe,
);

const OWN: &str = "devices/${clientid}/#";

/// An issuer with the group `rabbits`, whose tokens are for one RabbitMQ.
struct Farm {
    issuer: Issuer,
    broker: RabbitMq,
    version: RabbitMqVersion,
}

impl Farm {
    fn start(version: RabbitMqVersion) -> Self {
        let issuer = Issuer::start_tls(Authority::new());
        let add = ["broker", "add", "rabbit", "--audience", "rabbit", "--profile", "rabbitmq"];
        let unaccepted = issuer.command(&add);
        assert_ne!(unaccepted.code, Some(0));
        assert!(unaccepted.stderr.contains("accept-unbound-publishers"), "{}", unaccepted.stderr);
        let added = issuer.json(&[&add[..], &["--accept-unbound-publishers"]].concat());
        assert_eq!(
            (added["client_id"].as_str(), added["audience"].as_str(), added["profile"].as_str()),
            (Some("rabbit"), Some("rabbit"), Some("rabbitmq")),
        );
        let group = ["group", "set", "rabbits", "--audience", "rabbit", "--publish", OWN, "--subscribe", OWN];
        let _: serde_json::Value = issuer.json(&group);
        let broker = RabbitMq::start(version, &oauth2(&issuer, issuer.authority()));
        Self { issuer, broker, version }
    }

    fn device(&self, name: &str) -> Device {
        let added = self.issuer.json(&["device", "add", name, "--group", "rabbits"]);
        serde_json::from_value(added).expect("the promised object")
    }

    /// A token of a new device.
    fn token_of(&self, name: &str) -> String {
        self.issuer.token(&self.device(name))
    }

    /// RSA keys are made in the background; until then the issuer says 503.
    fn token_when_ready(&self, device: &Device) -> String {
        let deadline = Deadline::after(3 * PATIENCE);
        while self.issuer.request_token(device, &[]).status == 503 && deadline.left().is_some() {
            std::thread::sleep(Duration::from_millis(200));
        }
        self.issuer.token(device)
    }

    fn protocols(&self) -> &'static [Protocol] {
        match self.version {
            RabbitMqVersion::V3_10 => &[Protocol::V3_1_1],
            RabbitMqVersion::V4_0 => &Protocol::ALL,
        }
    }

    fn paho(&self, protocol: Protocol, client_id: &str, token: &str) -> PahoBuilder {
        let paho = Paho::builder(protocol, self.broker.port()).client_id(client_id);
        paho.username("anything").password(token)
    }

    /// A connection by hand; it must be accepted.
    fn wire(&self, protocol: Protocol, client_id: &str, token: &str) -> Wire {
        let mut wire = Wire::open(protocol, self.broker.port());
        assert_eq!(wire.connect(&connect(client_id, token)), Some(0), "{}", self.broker.log());
        wire
    }

    /// The code of the CONNACK to a first connection.
    fn connack(&self, protocol: Protocol, client_id: &str, token: &str) -> Option<u8> {
        Wire::open(protocol, self.broker.port()).connect(&connect(client_id, token))
    }
}

/// The lines that README.md shows; without an authority those that leave out
/// whom to believe.
fn oauth2(issuer: &Issuer, authority: Option<&Authority>) -> String {
    let mut lines =
        format!("auth_oauth2.resource_server_id = rabbit\nauth_oauth2.jwks_url = {}\n", issuer.jwks_url());
    if let Some(authority) = authority {
        lines += "auth_oauth2.https.peer_verification = verify_peer\n";
        lines +=
            &format!("auth_oauth2.https.cacertfile = {}\n", authority.certificate_of_authority().display());
    }
    lines
}

fn connect<'a>(client_id: &'a str, token: &'a str) -> Connect<'a> {
    let password = Some(token.as_bytes());
    Connect { client_id, username: Some("anything"), password, ..Connect::default() }
}

/// RabbitMQ 4 says no to a SUBSCRIBE, then hangs up; 3.10 only hangs up.
fn refuses_subscribe(wire: &mut Wire, filter: &str, qos: u8) -> bool {
    wire.subscribe(filter, qos).is_none_or(|code| code >= 0x80) && wire.ended_within(Duration::from_secs(10))
}

/// RabbitMQ hangs up on a PUBLISH that is not permitted.
fn refuses_publish(wire: &mut Wire, topic: &str) -> bool {
    wire.publish(topic, b"intruder").is_none_or(|code| code >= 0x80)
}

fn device_uses_its_own_topics_and_no_others(version: RabbitMqVersion) {
    let farm = Farm::start(version);
    let (mine, other) = (farm.token_of("pump-1"), farm.token_of("pump-10"));
    for &protocol in farm.protocols() {
        let mut neighbour = farm.paho(protocol, "pump-10", &other).connect();
        assert_eq!(neighbour.subscribe("devices/pump-10/#", 1), 1);
        for qos in [0, 1] {
            let mut device = farm.paho(protocol, "pump-1", &mine).connect();
            assert_eq!(device.connack(), Some(0), "{protocol:?}: {}", farm.broker.log());
            assert_eq!(device.subscribe("devices/pump-1/#", qos), qos, "{protocol:?}");
            for topic in ["devices/pump-1/a", "devices/pump-1/a/b", "devices/pump-1"] {
                assert_eq!(device.publish(topic, "mine", qos), 0, "{protocol:?} {topic}");
                let message = device.message();
                assert_eq!((message.topic.as_str(), message.qos), (topic, qos), "{protocol:?}");
            }
        }

        for filter in
            ["devices/pump-10/#", "devices/pump-10/a", "devices/+/a", "devices/#", "#", "+/pump-10/a"]
        {
            for qos in [0, 1] {
                let mut wire = farm.wire(protocol, "pump-1", &mine);
                assert!(refuses_subscribe(&mut wire, filter, qos), "{protocol:?} {filter} {qos}");
            }
        }
        for topic in ["devices/pump-10/a", "devices.pump-10.a", "devices/pump-10", "devices", "all", "$SYS/a"]
        {
            let mut wire = farm.wire(protocol, "pump-1", &mine);
            assert!(refuses_publish(&mut wire, topic), "{protocol:?} {topic}");
        }
        assert_eq!(neighbour.publish("devices/pump-10/b", "its own", 1), 0);
        assert_eq!(neighbour.message().payload, "its own", "nothing of the intruder's came before");
    }

    // As somebody would try it.
    let listen = |client_id: &str, topic: &str| {
        let mut sub = mosquitto_sub(farm.broker.port());
        with_credentials(&mut sub, client_id, &mine).args(["-t", topic, "-d", "-C", "1"]);
        fleetbadge_tests::process::Running::spawn(sub)
    };
    let mut sub = listen("pump-1", "devices/pump-1/#");
    sub.wait_for("Subscribed");
    let mut publish = mosquitto_pub(farm.broker.port());
    with_credentials(&mut publish, "pump-10", &other).args([
        "-t",
        "devices/pump-10/x",
        "-m",
        "hello",
        "-q",
        "1",
    ]);
    assert_eq!(run(publish).code, Some(0));
    let mut publish = mosquitto_pub(farm.broker.port());
    with_credentials(&mut publish, "pump-1-pub", &mine).args([
        "-t",
        "devices/pump-1/x",
        "-m",
        "hello",
        "-q",
        "1",
    ]);
    assert_eq!(run(publish).code, Some(0));
    assert!(sub.wait().stdout.contains("hello"));
}

fn with_credentials<'a>(command: &'a mut Command, client_id: &str, token: &str) -> &'a mut Command {
    command.args(["-i", client_id, "-u", "anything", "-P", token])
}

/// RabbitMQ never compares the client ID of a connection with its token. Who
/// subscribes is bound by the rights to the queues of one client ID; who only
/// publishes is not, which is why the profile must be accepted with its risk.
fn client_id_of_another_gets_no_queue(version: RabbitMqVersion) {
    let farm = Farm::start(version);
    let (mine, other) = (farm.token_of("pump-1"), farm.token_of("pump-2"));
    for &protocol in farm.protocols() {
        let victim = || farm.paho(protocol, "pump-2", &other).session_expiry_s(600);
        let mut before = victim().connect();
        assert_eq!(before.subscribe("devices/pump-2/#", 1), 1);
        before.disconnect();
        // Another client of its own, so that something waits for it.
        let mut writer = farm.paho(protocol, "pump-2-writer", &other).connect();
        assert_eq!(writer.publish("devices/pump-2/a", "for pump-2 alone", 1), 0);

        // The thief would take up the session, or end it.
        for keep_session in [true, false] {
            let mut thief = Wire::open(protocol, farm.broker.port());
            let theft = Connect { keep_session, ..connect("pump-2", &mine) };
            assert_ne!(thief.connect(&theft), Some(0), "{protocol:?} {keep_session}");
        }
        let mut after = victim().connect();
        assert_eq!(after.message().payload, "for pump-2 alone", "{protocol:?}");
        after.disconnect();
        // Without a session of its own, nothing keeps the client ID for it.
        farm.paho(protocol, "pump-2", &other).connect().disconnect();

        for client_id in ["pump-2", "pump-3", "pump-1qos0"] {
            for qos in [0, 1] {
                let mut wire = farm.wire(protocol, client_id, &mine);
                assert!(refuses_subscribe(&mut wire, "devices/pump-1/#", qos), "{protocol:?} {client_id}");
            }
            // The known gap: its own topics, and no others.
            let mut wire = farm.wire(protocol, client_id, &mine);
            assert!(!refuses_publish(&mut wire, "devices/pump-1/a"), "{protocol:?} {client_id}");
            let mut wire = farm.wire(protocol, client_id, &mine);
            assert!(refuses_publish(&mut wire, "devices/pump-2/a"), "{protocol:?} {client_id}");
        }
    }
}

/// The broker publishes a will by itself, when nobody is there to be hung up
/// on; it asks for the same right as for any other message.
fn will_goes_only_where_its_device_may_publish(version: RabbitMqVersion) {
    let farm = Farm::start(version);
    let (mine, other) = (farm.token_of("pump-1"), farm.token_of("pump-2"));
    for &protocol in farm.protocols() {
        let mut device = farm.paho(protocol, "pump-1", &mine).connect();
        assert_eq!(device.subscribe("devices/pump-1/#", 1), 1);
        let mut neighbour = farm.paho(protocol, "pump-2", &other).connect();
        assert_eq!(neighbour.subscribe("devices/pump-2/#", 1), 1);
        // Without a DISCONNECT, so that the will goes out.
        let vanish = |topic: &str| {
            let will = Some((topic, &b"will"[..]));
            let mut wire = Wire::open(protocol, farm.broker.port());
            let code = wire.connect(&Connect { will, ..connect("pump-1-will", &mine) });
            assert_eq!(code, Some(0), "{protocol:?} {topic}: {}", farm.broker.log());
        };
        for topic in ["devices/pump-2/will", "devices.pump-2.will", "devices/pump-2"] {
            vanish(topic);
        }
        vanish("devices/pump-1/will");
        assert_eq!(device.message().topic, "devices/pump-1/will", "{protocol:?}: wills are published");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(neighbour.publish("devices/pump-2/b", "its own", 1), 0);
        assert_eq!(neighbour.message().payload, "its own", "{protocol:?}: no will came before");
    }
}

fn what_is_no_good_token_for_this_broker_is_refused(version: RabbitMqVersion) {
    let farm = Farm::start(version);
    let device = farm.device("pump-1");
    let good = farm.issuer.token(&device);
    let elsewhere = farm.issuer.token(&farm.issuer.add_device("pump-2"));
    let _: serde_json::Value = farm.issuer.json(&["group", "set", "rabbits", "--token-lifetime-s", "1"]);
    let expired = farm.issuer.token(&device);
    std::thread::sleep(Duration::from_secs(2));
    let foreign = Badges::new().token_with("pump-1", &json!({"aud": "rabbit", "scope": scope_of(&good)}));
    let unsigned = Badges::new().unsigned_token("pump-1");
    let (signed, _) = good.rsplit_once('.').unwrap();
    let (_, signature) = elsewhere.rsplit_once('.').unwrap();
    for &protocol in farm.protocols() {
        assert_eq!(farm.connack(protocol, "pump-1", &good), Some(0), "{}", farm.broker.log());
        for (what, token) in [
            ("for another audience", &elsewhere),
            ("expired", &expired),
            ("signed by another", &foreign),
            ("with the signature of another token", &format!("{signed}.{signature}")),
            ("without a signature", &unsigned),
            ("not signed any more", &format!("{signed}.")),
            ("no token", &"password".to_owned()),
            ("nothing", &String::new()),
        ] {
            assert_ne!(farm.connack(protocol, "pump-1", token), Some(0), "{protocol:?}: {what}");
        }
        let nobody = Connect { client_id: "pump-1", ..Connect::default() };
        assert_ne!(Wire::open(protocol, farm.broker.port()).connect(&nobody), Some(0), "{protocol:?}");
    }
}

fn scope_of(token: &str) -> String {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    claims["scope"].as_str().unwrap().to_owned()
}

/// RabbitMQ 4 ends the session with the token. 3.10 does not look at the token
/// of a connection by itself: it refuses what must be checked anew.
fn token_ends(version: RabbitMqVersion) {
    let farm = Farm::start(version);
    let device = farm.device("pump-1");
    let _: serde_json::Value = farm.issuer.json(&["group", "set", "rabbits", "--token-lifetime-s", "4"]);
    for &protocol in farm.protocols() {
        let mut wire = farm.wire(protocol, "pump-1", &farm.issuer.token(&device));
        assert!(wire.subscribe("devices/pump-1/#", 1) == Some(1), "{protocol:?}");
        match version {
            RabbitMqVersion::V4_0 => assert!(wire.ended_within(Duration::from_secs(10)), "{protocol:?}"),
            RabbitMqVersion::V3_10 => {
                assert!(!wire.ended_within(Duration::from_secs(6)), "it has learned to: say so in the docs");
                assert!(refuses_subscribe(&mut wire, "devices/pump-1/later", 1));
            }
        }
    }
}

/// One RabbitMQ reads them all: it finds each key by its `kid`.
fn tokens_of_other_algorithms_are_accepted(version: RabbitMqVersion) {
    let farm = Farm::start(version);
    for algorithm in ["RS256", "EdDSA"] {
        let name = algorithm.to_lowercase();
        let removed = if algorithm == "RS256" { "rabbit" } else { "rs256" };
        let _: serde_json::Value = farm.issuer.json(&["broker", "remove", removed]);
        let add = ["broker", "add", &name, "--audience", "rabbit", "--profile", "rabbitmq"];
        let options = ["--accept-unbound-publishers", "--algorithm", algorithm];
        let _: serde_json::Value = farm.issuer.json(&[&add[..], &options].concat());
        let device = farm.device(&format!("pump-{name}"));
        let token = farm.token_when_ready(&device);
        for &protocol in farm.protocols() {
            let mut wire = farm.wire(protocol, &device.client_id, &token);
            let filter = format!("devices/{}/#", device.client_id);
            assert_eq!(wire.subscribe(&filter, 1), Some(1), "{algorithm} {protocol:?}");
        }
    }
}

/// Whoever can answer in the issuer's place would otherwise sign tokens. 3.10
/// believes everybody unless it is told whom, 4.0 whom its machine believes.
fn keys_come_from_whom_the_broker_was_told_to_believe(version: RabbitMqVersion) {
    let mut farm = Farm::start(version);
    let token = farm.token_of("pump-1");
    let protocol = Protocol::V3_1_1;
    assert_eq!(farm.connack(protocol, "pump-1", &token), Some(0), "{}", farm.broker.log());
    let stranger = Authority::new();
    farm.broker = RabbitMq::start(version, &oauth2(&farm.issuer, Some(&stranger)));
    assert_ne!(farm.connack(protocol, "pump-1", &token), Some(0));
    farm.broker = RabbitMq::start(version, &oauth2(&farm.issuer, None));
    let is_let_in = farm.connack(protocol, "pump-1", &token) == Some(0);
    match version {
        RabbitMqVersion::V3_10 => assert!(is_let_in, "it has learned to: say so in the docs"),
        RabbitMqVersion::V4_0 => assert!(!is_let_in),
    }
}
