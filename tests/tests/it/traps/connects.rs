//! CONNECTs as no device sends them, and settings that let in others.

use std::time::Duration;

use fleetbadge_tests::badges::Badges;
use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::wire::{Connect, Packet, Protocol, Received, Wire};
use serde_json::json;

use super::{admitted, connack};

on_every_mosquitto!(
    odd_connects_are_refused,
    strings_that_are_not_utf8_are_refused,
    password_alone_is_a_token_where_the_options_say_so,
    token_as_client_id_is_refused_and_the_log_says_why,
    password_file_and_acl_file_and_anonymous_add_nobody,
    log_as_messages_reaches_only_who_may_read_it,
);

fn odd_connects_are_refused(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let (token, nameless) = (badges.token("pump-1"), badges.token(""));
    let (nul, long) = (format!("{token}\0"), "x".repeat(60_000));
    let long_token = format!("{token}{long}");
    let named = Connect { client_id: "pump-1", ..Connect::default() };
    let odd = [
        ("no user name", named),
        ("an empty user name", Connect { username: Some(""), ..named }),
        ("a user name of 60,000 bytes", Connect { username: Some(&long), ..named }),
        ("a token and 60,000 bytes", Connect { username: Some(&long_token), ..named }),
        ("a token and NUL", Connect { username: Some(&nul), ..named }),
        ("a password alone", Connect { password: Some(token.as_bytes()), ..named }),
        ("no client ID", Connect { username: Some(&token), ..Connect::default() }),
        ("no client ID, as in the token", Connect { username: Some(&nameless), ..Connect::default() }),
        (
            "no client ID and a session",
            Connect { username: Some(&token), keep_session: true, ..Connect::default() },
        ),
        ("a format", Connect { client_id: "%s%n%s%n", username: Some("%s%n%s%n"), ..Connect::default() }),
        (
            "a client ID of 60,000 bytes",
            Connect { client_id: &long, username: Some(&token), ..Connect::default() },
        ),
    ];
    for protocol in Protocol::ALL {
        for (name, connect) in &odd {
            let answer = Wire::open(protocol, broker.port()).connect(connect);
            assert_ne!(answer, Some(0), "{protocol:?}, {name}");
        }
        admitted(protocol, broker.port(), "pump-1", &token);
    }
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let signature = token.rsplit('.').next().unwrap();
    assert!(!ended.stderr.contains(signature), "{}", ended.stderr);
}

fn strings_that_are_not_utf8_are_refused(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let token = badges.token("pump-1");
    // Client ID `a`, and a user name of four bytes.
    let start: [&[u8]; 2] =
        [b"\x10\x13\0\x04MQTT\x04\x82\0\x3C\0\x01a", b"\x10\x14\0\x04MQTT\x05\x82\0\x3C\0\0\x01a"];
    for (protocol, start) in Protocol::ALL.into_iter().zip(start) {
        let answer = |username: &[u8; 4]| {
            let mut wire = Wire::open(protocol, broker.port());
            wire.send(&[start, b"\0\x04", username].concat());
            wire.packet()
        };
        let heard = Packet::Connack { session_present: false, code: protocol.not_authorized() };
        assert_eq!(answer(b"pump"), Some(heard), "the packet is right but for this");
        for username in [b"pu\xFFp", b"\xC0\x80\xC0\x80", b"a\xED\xA0\x80", b"a\0\0b"] {
            let answer = answer(username);
            assert!(!matches!(answer, Some(Packet::Connack { code: 0, .. })), "{protocol:?} {username:02x?}");
        }
        admitted(protocol, broker.port(), "pump-1", &token);
    }
    assert_eq!(broker.stop().code, Some(0));
}

fn password_alone_is_a_token_where_the_options_say_so(version: MosquittoVersion) {
    let badges = Badges::new();
    for token_from in ["password", "either"] {
        let broker = badges.guarded(version).plugin_opt("token_from", token_from).start();
        // MQTT 5 allows a password without a user name; 3.1.1 does not.
        for (token, code) in [(badges.token("pump-1"), 0), (badges.token("pump-2"), 0x87)] {
            let connect =
                Connect { client_id: "pump-1", password: Some(token.as_bytes()), ..Connect::default() };
            let mut wire = Wire::open(Protocol::V5, broker.port());
            assert_eq!(wire.connect(&connect), Some(code), "{token_from}");
            if code == 0 {
                assert_eq!(wire.subscribe("devices/pump-1/#", 1), Some(1));
                assert_eq!(wire.subscribe("devices/pump-2/#", 1), Some(0x87));
            }
        }
    }
}

fn token_as_client_id_is_refused_and_the_log_says_why(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).config_line("use_username_as_clientid true").start();
    let token = badges.token("pump-1");
    for protocol in Protocol::ALL {
        let answer = connack(protocol, broker.port(), "pump-1", &token);
        assert_eq!(answer, Some(protocol.not_authorized()));
    }
    let line = broker.wait_for_log("(client_id_is_username)");
    assert!(line.contains("use_username_as_clientid"), "{line}");
    assert!(broker.is_running());
    let signature = token.rsplit('.').next().unwrap();
    // Newer versions of Mosquitto log the client ID by themselves.
    assert!(!broker.log().lines().any(|line| line.contains("fleetbadge:") && line.contains(signature)));
}

/// Of a user `bob` with the password `secret`, as `mosquitto_passwd` makes it.
const BOB: &str = "bob:$7$101$wGKMVV/yyfmNUBfo$\
    iQjR2v+XSQKl0ILXCLkXCAGdTE9xBPVwnhE/+wi24lhh9k4oHtyGsJaBe6OSGhlWTA9VBbsdtEOVZJcYk4dO7g==\n";

fn password_file_and_acl_file_and_anonymous_add_nobody(version: MosquittoVersion) {
    let badges = Badges::new();
    for protocol in Protocol::ALL {
        let bob = Connect {
            client_id: "bob",
            username: Some("bob"),
            password: Some(b"secret"),
            ..Connect::default()
        };
        let anonymous = Connect { client_id: "anonymous", ..Connect::default() };
        for guarded in [false, true] {
            let broker = if guarded { badges.guarded(version) } else { Mosquitto::builder(version) };
            let passwords = broker.dir().write("passwords", BOB.as_bytes());
            let acl = broker.dir().write("acl", b"topic readwrite #\nuser bob\ntopic readwrite #\n");
            let broker = broker
                .config_line("allow_anonymous true")
                .config_line(&format!("password_file {}", passwords.display()))
                .config_line(&format!("acl_file {}", acl.display()))
                .start();
            let expected = if guarded { protocol.not_authorized() } else { 0 };
            for connect in [&bob, &anonymous] {
                let answer = Wire::open(protocol, broker.port()).connect(connect);
                assert_eq!(answer, Some(expected), "{}, guarded: {guarded}", connect.client_id);
            }
            if guarded {
                let mut device = admitted(protocol, broker.port(), "pump-1", &badges.token("pump-1"));
                assert_eq!(device.subscribe("devices/pump-1/#", 1), Some(1));
                assert!(device.subscribe("#", 1) >= Some(0x80), "the ACL file allows nothing more");
            }
        }
    }
}

fn log_as_messages_reaches_only_who_may_read_it(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).global_config_line("log_dest topic").start();
    let wide = badges.token_with("reader", &json!({"acl": {"pub": [], "sub": ["$SYS/broker/log/#"]}}));
    let narrow = badges.token("reader");
    let reader = Connect { client_id: "reader", keep_session: true, ..Connect::default() };

    let mut allowed = Wire::open(Protocol::V5, broker.port());
    assert_eq!(allowed.connect(&Connect { username: Some(&wide), ..reader }), Some(0));
    assert_eq!(allowed.subscribe("$SYS/broker/log/#", 0), Some(0));
    assert_eq!(connack(Protocol::V5, broker.port(), "stranger", "x"), Some(0x87));
    let tells_of_the_stranger = |packet| {
        let message = if let Packet::Publish { payload, .. } = packet { payload } else { Vec::new() };
        String::from_utf8_lossy(&message).contains("stranger")
    };
    while !tells_of_the_stranger(allowed.packet().expect("a connection")) {}
    drop(allowed);

    // The subscription is still there, the right is not: every denied delivery
    // is a line that would be delivered.
    let mut denied = Wire::open(Protocol::V5, broker.port());
    assert_eq!(denied.connect(&Connect { username: Some(&narrow), ..reader }), Some(0));
    for number in 0..20 {
        let answer = connack(Protocol::V5, broker.port(), &format!("stranger-{number}"), "x");
        assert_eq!(answer, Some(0x87));
    }
    assert_eq!(denied.packet_within(Duration::from_millis(500)), Received::Nothing);
    assert_eq!(denied.subscribe("$SYS/broker/log/#", 0), Some(0x87));
    assert_eq!(broker.stop().code, Some(0));
}
