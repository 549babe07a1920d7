//! A broker with the plugin lets in whom it should, as what it should.

use std::time::Duration;

use fleetbadge_tests::badges::Badges;
use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::device::mosquitto_pub;
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::paho::Paho;
use fleetbadge_tests::process::run;
use fleetbadge_tests::wire::{Connect, Protocol, Received, Wire};
use serde_json::json;

on_every_mosquitto!(
    good_token_is_let_in,
    bad_tokens_are_refused_with_the_code_of_the_protocol,
    token_from_the_password_or_either_field,
    topics_are_checked,
    will_outside_the_topics_is_not_published,
    token_stays_out_of_log_and_database,
    wrong_options_stop_the_start,
);

fn good_token_is_let_in(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).start();
    let token = badges.token("pump-1");
    for (protocol, name) in [(Protocol::V3_1_1, "mqttv311"), (Protocol::V5, "mqttv5")] {
        let mut device =
            Paho::builder(protocol, broker.port()).client_id("pump-1").username(&token).connect();
        assert_eq!(device.connack(), Some(0));
        assert_eq!(device.subscribe("devices/pump-1/#", 1), 1);
        assert_eq!(device.publish("devices/pump-1/temperature", "21", 1), 0);
        assert_eq!(device.message().payload, "21");
        device.disconnect();

        let mut publish = mosquitto_pub(broker.port());
        publish.args([
            "-V",
            name,
            "-i",
            "pump-1",
            "-u",
            &token,
            "-t",
            "devices/pump-1/x",
            "-m",
            "1",
            "-q",
            "1",
        ]);
        let published = run(publish);
        assert_eq!((published.code, published.stderr.as_str()), (Some(0), ""));
    }
}

fn bad_tokens_are_refused_with_the_code_of_the_protocol(version: MosquittoVersion) {
    let (badges, stranger) = (Badges::new(), Badges::new());
    let mut broker = badges.guarded(version).start();
    for protocol in Protocol::ALL {
        for number in 0..bad_tokens(&badges, &stranger, "any").len() {
            // The log tells the same client only once in a while.
            let client_id = format!("pump-{number}-{}", protocol.level());
            let (code, token) = bad_tokens(&badges, &stranger, &client_id).swap_remove(number);
            let before = broker.log_position();
            let connect = Connect { client_id: &client_id, username: token.as_deref(), ..Connect::default() };
            let answer = Wire::open(protocol, broker.port()).connect(&connect);
            assert_eq!(answer, Some(protocol.not_authorized()), "{code}");
            let line = broker.wait_for_log_since(before, code);
            assert!(line.contains(&client_id), "{line}");
            let signature = token.as_deref().unwrap_or_default().rsplit('.').next().unwrap_or_default();
            assert!(signature.len() < 20 || !broker.log().contains(signature), "{code}");
        }
        let good = badges.token("pump-1");
        let connect = Connect { client_id: "pump-1", username: Some(&good), ..Connect::default() };
        let answer = Wire::open(protocol, broker.port()).connect(&connect);
        assert_eq!(answer, Some(0), "a good one among them");
    }
    assert!(broker.is_running());
}

/// Tokens that do not let this client in, and the codes that say why.
fn bad_tokens(badges: &Badges, stranger: &Badges, client_id: &str) -> Vec<(&'static str, Option<String>)> {
    let with = |changes| Some(badges.token_with(client_id, &changes));
    let with_header = |changes| Some(badges.token_with_header(client_id, &changes));
    vec![
        ("token_missing", None),
        ("token_malformed", Some(client_id.to_owned())),
        ("token_malformed", Some(format!("Bearer {}", badges.token(client_id)))),
        ("client_id_differs", Some(badges.token("somebody-else"))),
        ("expired", with(json!({"iat": 1_000_000, "nbf": 1_000_000, "exp": 1_000_900}))),
        ("audience_differs", with(json!({"aud": "mqtt2"}))),
        ("issuer_differs", with(json!({"iss": "https://id.example/"}))),
        ("key_unknown", Some(stranger.token(client_id))),
        ("scope_missing", with(json!({"scope": "mqtt.connected"}))),
        ("confirmation_unproven", with(json!({"cnf": {"jkt": "x"}}))),
        ("algorithm_not_allowed", Some(badges.unsigned_token(client_id))),
        ("algorithm_not_allowed", with_header(json!({"alg": "HS256"}))),
        ("type_not_allowed", with_header(json!({"typ": "JWT"}))),
        ("header_malformed", with_header(json!({"crit": ["exp"]}))),
        ("signature_invalid", Some(tampered(&badges.token(client_id)))),
        ("token_too_long", Some("x".repeat(9000))),
    ]
}

/// With the last letter but three of the signature changed.
fn tampered(token: &str) -> String {
    let (start, end) = token.split_at(token.len() - 4);
    let (letter, rest) = end.split_at(1);
    format!("{start}{}{rest}", if letter == "A" { "B" } else { "A" })
}

fn token_from_the_password_or_either_field(version: MosquittoVersion) {
    let badges = Badges::new();
    let (token, other) = (badges.token("pump-1"), badges.token_for_s("pump-1", 100));
    let connect = |broker: &Mosquitto, username: Option<&str>, password: Option<&str>| {
        let connect = Connect {
            client_id: "pump-1",
            username,
            password: password.map(str::as_bytes),
            ..Connect::default()
        };
        Wire::open(Protocol::V5, broker.port()).connect(&connect)
    };
    let from_username = badges.guarded(version).start();
    assert_eq!(connect(&from_username, Some(&token), Some("anything")), Some(0));
    assert_eq!(connect(&from_username, Some("pump-1"), Some(&token)), Some(0x87));

    let from_password = badges.guarded(version).plugin_opt("token_from", "password").start();
    assert_eq!(connect(&from_password, Some("pump-1"), Some(&token)), Some(0));
    assert_eq!(connect(&from_password, Some(&token), Some("anything")), Some(0x87));

    let either = badges.guarded(version).plugin_opt("token_from", "either").start();
    for (username, password, code) in [
        (Some(&*token), None, 0),
        (Some(&*token), Some("anything"), 0),
        (Some("pump-1"), Some(&*token), 0),
        (Some(&*token), Some(&*token), 0),
        (Some(&*token), Some(&*other), 0x87),
        (Some("pump-1"), Some("anything"), 0x87),
    ] {
        assert_eq!(connect(&either, username, password), Some(code), "{username:?} {password:?}");
    }
}

fn topics_are_checked(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).start();
    let (token, other) = (badges.token("pump-1"), badges.token("pump-2"));
    let outside = [
        "#",
        "+/#",
        "$SYS/#",
        "devices/#",
        "devices/+/x",
        "devices/pump-2/#",
        "$share/g/#",
        "devices/pump-11",
    ];
    for protocol in Protocol::ALL {
        let mut wire = Wire::open(protocol, broker.port());
        let connect = Connect { client_id: "pump-1", username: Some(&token), ..Connect::default() };
        assert_eq!(wire.connect(&connect), Some(0));
        assert_eq!(wire.subscribe("devices/pump-1/#", 1), Some(1));
        if protocol == Protocol::V5 {
            assert_eq!(wire.subscribe("$share/g/devices/pump-1/+", 1), Some(1));
        }
        let denied = if protocol == Protocol::V5 { 0x87 } else { 0x80 };
        for filter in outside {
            assert_eq!(wire.subscribe(filter, 1), Some(denied), "{filter}");
        }
        for topic in ["devices/pump-2/x", "devices/pump-11", "devices", "$SYS/x"] {
            let code = wire.publish(topic, b"x");
            assert!(
                matches!(code, Some(0x87)) || (protocol == Protocol::V3_1_1 && code == Some(0)),
                "{topic} {code:?}"
            );
        }

        // What another device publishes is not delivered.
        let mut neighbour =
            Paho::builder(protocol, broker.port()).client_id("pump-2").username(&other).connect();
        let code = neighbour.publish("devices/pump-2/x", "x", 1);
        assert!(code == 0 || code == 0x10, "good, or good and nobody subscribes: {code:#x}");
        neighbour.disconnect();
        assert_eq!(wire.packet_within(Duration::from_millis(200)), Received::Nothing);
    }
}

fn will_outside_the_topics_is_not_published(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).start();
    let token = badges.token("pump-1");
    let watch = badges.token_with("watcher", &json!({"acl": {"pub": [], "sub": ["devices/#"]}}));
    let mut watcher =
        Paho::builder(Protocol::V5, broker.port()).client_id("watcher").username(&watch).connect();
    assert_eq!(watcher.subscribe("devices/#", 1), 1);
    for protocol in Protocol::ALL {
        for topic in ["devices/pump-2/will", "devices/pump-1/will"] {
            let device = Paho::builder(protocol, broker.port()).client_id("pump-1").username(&token);
            device.will(topic, "gone", 1).connect().vanish();
        }
        assert_eq!(watcher.message().topic, "devices/pump-1/will");
        assert_eq!(watcher.message_within(Duration::from_millis(200)), None);
    }
}

fn token_stays_out_of_log_and_database(version: MosquittoVersion) {
    let badges = Badges::new();
    let builder = badges.guarded(version).config_line("persistence true");
    let location = format!("persistence_location {}/", builder.dir().path().display());
    let mut broker = builder.config_line(&location).start();
    let token = badges.token("pump-1");
    let refused = badges.token("pump-2");
    for protocol in Protocol::ALL {
        let mut wire = Wire::open(protocol, broker.port());
        let connect = Connect {
            client_id: "pump-1",
            username: Some(&token),
            password: Some(b"anything"),
            will: Some(("devices/pump-1/will", b"gone")),
            keep_session: true,
            ..Connect::default()
        };
        assert_eq!(wire.connect(&connect), Some(0));
        assert_eq!(wire.subscribe("devices/pump-1/#", 1), Some(1));
        assert_eq!(wire.publish("devices/pump-1/x", b"x"), Some(0));
        let connect = Connect { username: Some(&refused), ..connect };
        assert_eq!(Wire::open(protocol, broker.port()).connect(&connect), Some(protocol.not_authorized()));
    }
    broker.wait_for_log("pump-1");
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let database = std::fs::read(broker.dir().path().join("mosquitto.db")).expect("a database");
    let stored = String::from_utf8_lossy(&database);
    assert!(stored.contains("pump-1"), "the database has the session");
    for secret in [&token, &refused].into_iter().flat_map(|token| token.split('.')) {
        assert!(!stored.contains(secret) && !ended.stderr.contains(secret));
    }
}

fn wrong_options_stop_the_start(version: MosquittoVersion) {
    let badges = Badges::new();
    let plain = || Mosquitto::builder(version).config_line("allow_anonymous true");
    let plugin = || plain().plugin(fleetbadge_tests::programs::mosquitto_plugin());
    let url = "https://id.example/oauth2/jwks";
    let attempts = [
        ("issuer", plugin().plugin_opt("audience", "mqtt").plugin_opt("jwks_url", url)),
        ("audience", plugin().plugin_opt("issuer", "https://id.example").plugin_opt("jwks_url", url)),
        ("jwks", plugin().plugin_opt("issuer", "https://id.example").plugin_opt("audience", "mqtt")),
        ("audiense", badges.guarded(version).plugin_opt("audiense", "mqtt")),
        ("skew_s", badges.guarded(version).plugin_opt("skew_s", "soon")),
        ("token_from", badges.guarded(version).plugin_opt("token_from", "header")),
        (
            "jwks_file",
            plugin()
                .plugin_opt("issuer", "https://id.example")
                .plugin_opt("audience", "a")
                .plugin_opt("jwks_file", "/nowhere"),
        ),
        ("issuer", badges.guarded(version).plugin_opt("issuer", "https://other.example")),
    ];
    for (named, attempt) in attempts {
        let ended = attempt.fails_to_start();
        assert_ne!(ended.code, Some(0));
        let line = ended.stderr.lines().find(|line| line.contains(named) && line.contains("leetbadge"));
        assert!(line.is_some(), "{named}: {}", ended.stderr);
    }
    let test_keys = concat!(env!("CARGO_MANIFEST_DIR"), "/../keys/test-jwks.json");
    let keys = std::fs::read(test_keys).expect("the test keys");
    let builder = plugin().plugin_opt("issuer", "https://id.example").plugin_opt("audience", "mqtt");
    let file = builder.dir().write("test-jwks.json", &keys);
    let ended = builder.plugin_opt("jwks_file", &file.to_string_lossy()).fails_to_start();
    assert!(ended.stderr.contains("test key"), "{}", ended.stderr);
}
