//! Authentication methods of MQTT 5, and new tokens on a connection in use, as
//! a client sees them that knows nothing of ours.

use std::time::Duration;

use fleetbadge_tests::auth_client::AuthClient;
use fleetbadge_tests::badges::{Badges, following};
use fleetbadge_tests::broker::MosquittoVersion::{self, V2_0_11, V2_1};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::wire::{Connect, Protocol, Wire};
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::test_support::feed_server::FeedServer;
use fleetbadge_validator::time::UnixSeconds;
use serde_json::{Value, json};

on_every_mosquitto!(
    method_lets_in_by_its_data_alone,
    other_methods_and_bad_tokens_are_refused,
    new_token_replaces_the_old_one,
    failed_renewal_ends_the_connection,
    connection_keeps_its_method,
    empty_auth_packet_harms_nobody,
    old_token_has_no_end_and_new_one_has,
    revocation_of_the_old_token_spares_the_session,
    reload_keeps_who_came_with_a_method,
    token_as_client_id_is_refused_with_a_method_too,
);

fn acl(publish: &[&str], subscribe: &[&str]) -> Value {
    json!({"acl": {"pub": publish, "sub": subscribe}})
}

/// What a client hears when its authentication on a connection in use fails.
fn assert_refused(version: MosquittoVersion, client: &mut AuthClient, first: &Value) {
    // The one says CONNACK where it should say DISCONNECT; the others say
    // DISCONNECT twice.
    let packet = if version == V2_0_11 { "CONNACK" } else { "DISCONNECT" };
    assert_eq!((&first["packet"], &first["reason"]), (&json!(packet), &json!(0x87)));
    let words = client.last_words();
    assert!(words.iter().all(|word| *word == ("DISCONNECT".to_owned(), 0x82)), "{words:?}");
}

fn method_lets_in_by_its_data_alone(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let (token, other) = (badges.token("pump-1"), badges.token("pump-2"));
    let given = json!({"client_id": "pump-1", "method": "OAUTH2-JWT", "data": token});
    for changes in [
        json!({}),
        json!({"method": "CUSTOM-JWT"}),
        json!({"username": "root", "password": "toor"}),
        json!({"username": other, "password": other}),
    ] {
        let mut connect = given.clone();
        connect.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let (mut client, answer) = AuthClient::connect(broker.port(), &connect);
        assert_eq!((&answer["packet"], &answer["reason"]), (&json!("CONNACK"), &json!(0)));
        assert_eq!(answer["properties"]["authentication_method"], connect["method"]);
        assert_eq!(answer["properties"]["authentication_data"], Value::Null);
        assert_eq!(client.subscribe("devices/pump-1/#", 1), 1);
        assert_eq!(client.subscribe("devices/pump-2/#", 1), 0x87);
        assert_eq!(client.publish("devices/pump-2/x", "not mine"), 0x87);
    }
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for token in [token, other] {
        assert!(!ended.stderr.contains(token.rsplit('.').next().unwrap()), "{}", ended.stderr);
    }
    assert!(ended.stderr.contains("u'pump-1'") && !ended.stderr.contains("u'root'"), "{}", ended.stderr);
}

fn other_methods_and_bad_tokens_are_refused(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).start();
    let good = badges.token("pump-1");
    let expired = badges.token_with("pump-1", &json!({"iat": 1000, "nbf": 1000, "exp": 1900}));
    let cases = [
        ("oauth2-jwt", Some(good.clone()), 0x8C),
        ("OAUTH2-JWT ", Some(good.clone()), 0x8C),
        // The newest says that this is no MQTT.
        ("", Some(good.clone()), if version == V2_1 { 0x82 } else { 0x8C }),
        ("SCRAM-SHA-256", Some(good.clone()), 0x8C),
        ("OAUTH2-JWT", Some(badges.token("pump-2")), 0x87),
        ("OAUTH2-JWT", Some(expired), 0x87),
        ("OAUTH2-JWT", Some(badges.unsigned_token("pump-1")), 0x87),
        ("OAUTH2-JWT", Some(format!("{good}\0")), 0x87),
        ("OAUTH2-JWT", Some("x".repeat(60_000)), 0x87),
        ("OAUTH2-JWT", Some(String::new()), 0x87),
        ("OAUTH2-JWT", None, 0x87),
    ];
    for (method, data, reason) in cases {
        let what = format!("{method:?} {data:.30?}");
        // The good token as user name and password is no help.
        let connect = json!({"client_id": "pump-1", "method": method, "data": data,
                             "username": good, "password": good});
        let (mut client, answer) = AuthClient::connect(broker.port(), &connect);
        assert_eq!((&answer["packet"], &answer["reason"]), (&json!("CONNACK"), &json!(reason)), "{what}");
        assert_eq!(client.last_words(), [], "{what}");
    }
    let _admitted = AuthClient::admitted(broker.port(), "pump-1", &good);
    assert!(!broker.log().contains(good.rsplit('.').next().unwrap()));
}

fn new_token_replaces_the_old_one(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).start();
    let mut client = AuthClient::admitted(broker.port(), "pump-1", &badges.token("pump-1"));
    assert_eq!(client.subscribe("devices/pump-1/#", 1), 1);
    assert_eq!((client.subscribe("all", 1), client.publish("all", "x")), (0x87, 0x87));

    let succeeded = json!({"packet": "AUTH", "reason": 0,
                           "properties": {"authentication_method": "OAUTH2-JWT"}});
    let wider = badges.token_with("pump-1", &acl(&["all"], &["all", "devices/pump-1/#"]));
    assert_eq!(client.reauthenticate(&wider), succeeded);
    assert_eq!(client.subscribe("all", 1), 1);
    assert_eq!(client.publish("devices/pump-1/x", "x"), 0x87, "what the new one does not say is gone");
    client.send(b"\x30\x09\0\x03all\0now");
    let message = client.receive();
    assert_eq!((&message["topic"], &message["payload"]), (&json!("all"), &json!("now")));

    let mute = badges.token_with("pump-1", &acl(&[], &["all", "devices/pump-1/#"]));
    assert_eq!(client.reauthenticate(&mute), succeeded);
    assert_eq!(client.publish("all", "x"), 0x87);
    assert_eq!(client.reauthenticate(&wider), succeeded, "again and again");
    assert!(client.is_alive());

    // To receive less takes a new connection: see `kept_sessions`.
    let deaf = badges.token_with("pump-1", &acl(&["all"], &["devices/pump-1/#"]));
    let heard = client.reauthenticate(&deaf);
    assert!(heard["packet"] == "closed" || heard["reason"] == 0x80, "{heard}");
    broker.wait_for_log("(receives_less)");
    let mut again = AuthClient::admitted(broker.port(), "pump-1", &deaf);
    assert_eq!((again.subscribe("all", 1), again.publish("all", "x")), (0x87, 0x10));
}

fn failed_renewal_ends_the_connection(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let another = json!({"sub": "pump-2", "client_id": "pump-2"});
    for (code, token) in [
        ("token_missing", String::new()),
        ("token_malformed", "rubbish".to_owned()),
        ("client_id_differs", badges.token("pump-2")),
        ("subject_differs", badges.token_with("pump-1", &another)),
        ("key_unknown", Badges::new().token("pump-1")),
        ("expired", badges.token_with("pump-1", &json!({"iat": 1000, "nbf": 1000, "exp": 1900}))),
        ("certificate_missing", badges.token_with("pump-1", &json!({"cnf": {"x5t#S256": "A".repeat(43)}}))),
    ] {
        let since = broker.log_position();
        let mut client = AuthClient::admitted(broker.port(), "pump-1", &badges.token("pump-1"));
        assert_eq!(client.subscribe("devices/pump-1/#", 0), 0);
        // What comes right behind it finds no open door.
        let mut both = auth_packet("OAUTH2-JWT", &token);
        both.extend(b"\x32\x19\0\x10devices/pump-1/x\0\x07\0late");
        client.send(&both);
        let first = client.receive();
        assert_refused(version, &mut client, &first);
        broker.wait_for_log_since(since, &format!("({code})"));
    }
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("devices/pump-1/x"), "nothing was published: {}", ended.stderr);
}

/// AUTH with reason 0x19.
fn auth_packet(method: &str, data: &str) -> Vec<u8> {
    let mut properties = vec![0x15];
    for (index, content) in [method, data].into_iter().enumerate() {
        properties.extend((index == 1).then_some(0x16));
        properties.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        properties.extend(content.bytes());
    }
    let variable = |mut length: usize| {
        let mut bytes = Vec::new();
        while length > 0x7F {
            bytes.push(0x80 | u8::try_from(length & 0x7F).unwrap());
            length >>= 7;
        }
        bytes.push(u8::try_from(length).unwrap());
        bytes
    };
    let body = [vec![0x19], variable(properties.len()), properties].concat();
    [vec![0xF0], variable(body.len()), body].concat()
}

fn connection_keeps_its_method(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let token = badges.token("pump-1");
    let mut client = AuthClient::admitted(broker.port(), "pump-1", &token);
    let heard = client.reauthenticate_by("CUSTOM-JWT", &token);
    assert_eq!((&heard["packet"], &heard["reason"]), (&json!("DISCONNECT"), &json!(0x82)));

    let plain = json!({"client_id": "pump-1", "username": token});
    let (mut client, answer) = AuthClient::connect(broker.port(), &plain);
    assert_eq!(answer["reason"], 0);
    client.send(&auth_packet("OAUTH2-JWT", &token));
    let words = client.last_words();
    let said = if version == V2_0_11 { vec![] } else { vec![("DISCONNECT".to_owned(), 0x82)] };
    assert_eq!(words, said, "it did not begin with a method");

    let mut old = Wire::open(Protocol::V3_1_1, broker.port());
    let connect = Connect { client_id: "pump-1", username: Some(&token), ..Connect::default() };
    assert_eq!(old.connect(&connect), Some(0));
    old.send(&auth_packet("OAUTH2-JWT", &token));
    assert_eq!(old.packet(), None, "MQTT 3.1.1 has no such packet");
    assert_eq!(broker.stop().code, Some(0));
}

/// An AUTH packet without content makes Mosquitto take a connection in use for
/// one that is still being authenticated. Refused, it forgets the client ID,
/// but keeps the client under it: memory that is used after it was freed.
fn empty_auth_packet_harms_nobody(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let watch = badges.token_with("watcher", &acl(&["#"], &["#"]));
    let mut watcher = AuthClient::admitted(broker.port(), "watcher", &watch);
    assert_eq!(watcher.subscribe("#", 0), 0);
    for round in 0..20 {
        let name = format!("pump-{}", round % 3);
        let connect = json!({"client_id": name, "method": "OAUTH2-JWT", "data": badges.token(&name),
                             "clean_start": false, "session_expiry_s": round % 2 * 60,
                             "will": {"topic": format!("devices/{name}/will"), "payload": "gone"}});
        let (mut client, answer) = AuthClient::connect(broker.port(), &connect);
        assert_eq!(answer["reason"], 0, "{name}");
        assert_eq!(client.subscribe("devices/+/x", 0), 0x87);
        assert_eq!(client.subscribe(&format!("devices/{name}/x"), 0), 0);
        client.send(b"\xF0\0");
        let awaited = client.receive();
        assert_eq!((&awaited["packet"], &awaited["reason"]), (&json!("AUTH"), &json!(0x18)));
        if round % 4 > 1 {
            client.send(b"\xF0\0");
        }
        let topic = format!("devices/{name}/x");
        let told = watcher.publish(&topic, "for nobody but the watcher");
        assert_eq!(told, 0);
        let words = client.last_words();
        assert_eq!(words.last(), Some(&("DISCONNECT".to_owned(), 0x98)));
        assert!(!words.iter().any(|(packet, _)| packet == "PUBLISH" || packet == "CONNACK"), "{words:?}");
        let mut heard = [watcher.receive(), watcher.receive()].map(|packet| packet["topic"].to_string());
        heard.sort();
        assert_eq!(heard, [format!("\"devices/{name}/will\""), format!("\"{topic}\"")]);
    }
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

fn old_token_has_no_end_and_new_one_has(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).plugin_opt("skew_s", "0").start();
    let mut longer = AuthClient::admitted(broker.port(), "pump-1", &badges.token_for_s("pump-1", 3));
    let mut shorter = AuthClient::admitted(broker.port(), "pump-2", &badges.token("pump-2"));
    assert_eq!(longer.subscribe("devices/pump-1/#", 1), 1);
    assert_eq!(longer.reauthenticate(&badges.token("pump-1"))["packet"], "AUTH");
    assert_eq!(shorter.reauthenticate(&badges.token_for_s("pump-2", 3))["packet"], "AUTH");
    let words = shorter.last_words();
    assert_eq!(words, [("DISCONNECT".to_owned(), 0x98)], "the new token's end is the session's");
    std::thread::sleep(Duration::from_secs(1));
    assert!(longer.is_alive(), "the old token's end is nobody's");
    longer.send(b"\x30\x17\0\x10devices/pump-1/x\0late");
    assert_eq!(longer.receive()["payload"], "late");
}

fn revocation_of_the_old_token_spares_the_session(version: MosquittoVersion) {
    let (badges, feed) = (Badges::new(), FeedServer::start(Duration::from_millis(500)));
    let broker = following(badges.guarded(version), &feed).start();
    let token = |jti: &str| badges.token_with("pump-1", &json!({ "jti": jti }));
    let connect = json!({"client_id": "pump-1", "method": "OAUTH2-JWT", "data": token("old")});
    // It hears of the feed by itself, and lets nobody in before.
    let mut client = loop {
        let (client, answer) = AuthClient::connect(broker.port(), &connect);
        if answer["reason"] == 0 {
            break client;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(client.reauthenticate(&token("new"))["packet"], "AUTH");
    let end = UnixSeconds(u64::MAX);
    feed.revoke(Revocation::of_token("old", end));
    // When somebody else goes, the feed was heard.
    let mut other = AuthClient::admitted(broker.port(), "pump-2", &badges.token("pump-2"));
    let now = UnixSeconds(u64::MAX - 1);
    feed.revoke(Revocation::of_device("pump-2", now, end));
    assert_eq!(other.last_words(), [("DISCONNECT".to_owned(), 0x98)]);
    assert!(client.is_alive());
    // And no token that was taken back before is taken up.
    let heard = client.reauthenticate(&token("old"));
    assert_refused(version, &mut client, &heard);
}

fn reload_keeps_who_came_with_a_method(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let mut nameless = AuthClient::admitted(broker.port(), "pump-1", &badges.token("pump-1"));
    let named = json!({"client_id": "pump-2", "method": "CUSTOM-JWT", "data": badges.token("pump-2"),
                       "username": "somebody", "password": "secret"});
    let (mut named, _) = AuthClient::connect(broker.port(), &named);
    for _ in 0..2 {
        broker.signal_hup();
        assert!(nameless.is_alive() && named.is_alive());
        assert_eq!(nameless.reauthenticate(&badges.token("pump-1"))["packet"], "AUTH");
    }
    // The name that the broker knows a client by is no way in.
    let plain = Connect { client_id: "pump-1", username: Some("pump-1"), ..Connect::default() };
    assert_eq!(Wire::open(Protocol::V5, broker.port()).connect(&plain), Some(0x87));
    assert_eq!(broker.stop().code, Some(0));
}

fn token_as_client_id_is_refused_with_a_method_too(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).config_line("use_username_as_clientid true").start();
    let token = badges.token("pump-1");
    let connect = Connect {
        client_id: "pump-1",
        username: Some(&token),
        authentication: Some(("OAUTH2-JWT", token.as_bytes())),
        ..Connect::default()
    };
    let mut wire = Wire::open(Protocol::V5, broker.port());
    assert_eq!(wire.connect(&connect), Some(0x87));
    let line = broker.wait_for_log("(client_id_is_username)");
    assert!(line.contains("use_username_as_clientid"), "{line}");
    // The broker itself refuses who has no user name.
    let mut wire = Wire::open(Protocol::V5, broker.port());
    let nameless = Connect { username: None, ..connect };
    assert_ne!(wire.connect(&nameless), Some(0));
}
