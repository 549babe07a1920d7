//! Several listeners, and other kinds of them.

use std::time::Duration;

use fleetbadge_tests::badges::{Badges, ISSUER, plugged};
use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::paho::Paho;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::ports;
use fleetbadge_tests::wire::{Packet, Protocol, Received};
use serde_json::json;

use super::{admitted, connack};

on_every_mosquitto!(
    keys_of_two_listeners_never_cross,
    end_of_a_token_needs_no_tick,
    websockets_are_guarded_too,
);

const OTHER_ISSUER: &str = "https://id.other.example";

/// A broker with a listener for each of two issuers, and the port of the
/// second.
fn with_two_issuers(one: &Badges, other: &Badges, version: MosquittoVersion) -> (Mosquitto, u16) {
    let port = ports::free();
    let broker = one
        .guarded(version)
        .plugin_opt("skew_s", "0")
        .global_config_line("per_listener_settings true")
        .config_line(&format!("listener {port} 127.0.0.1"));
    let jwks = broker.dir().write("other-jwks.json", other.jwks().as_bytes());
    let broker = plugged(broker, OTHER_ISSUER).plugin_opt("jwks_file", &jwks.to_string_lossy());
    (broker.start(), port)
}

fn keys_of_two_listeners_never_cross(version: MosquittoVersion) {
    let (one, other) = (Badges::new(), Badges::new());
    let (mut broker, other_port) = with_two_issuers(&one, &other, version);
    let refused = Protocol::V5.not_authorized();
    for _ in 0..2 {
        for (port, signed_by, issuer, code) in [
            (broker.port(), &one, ISSUER, 0),
            (other_port, &other, OTHER_ISSUER, 0),
            (broker.port(), &other, OTHER_ISSUER, refused),
            (other_port, &one, ISSUER, refused),
            (broker.port(), &other, ISSUER, refused),
            (other_port, &one, OTHER_ISSUER, refused),
            (broker.port(), &one, OTHER_ISSUER, refused),
            (other_port, &other, ISSUER, refused),
        ] {
            let token = signed_by.token_with("pump-1", &json!({"iss": issuer}));
            let answer = connack(Protocol::V5, port, "pump-1", &token);
            assert_eq!(
                answer,
                Some(code),
                "{issuer} on the listener of {}",
                if port == other_port { OTHER_ISSUER } else { ISSUER }
            );
        }
        broker.signal_hup();
    }
    assert_eq!(broker.stop().code, Some(0));
}

/// Mosquitto 2.0.11 has no ticks with `per_listener_settings`.
fn end_of_a_token_needs_no_tick(version: MosquittoVersion) {
    let (one, other) = (Badges::new(), Badges::new());
    let (broker, _) = with_two_issuers(&one, &other, version);
    let writer = one.token_with("writer", &json!({"acl": {"pub": ["devices/#"], "sub": []}}));
    let mut writer = admitted(Protocol::V5, broker.port(), "writer", &writer);
    let mut idle = admitted(Protocol::V5, broker.port(), "pump-1", &one.token_for_s("pump-1", 3));
    assert_eq!(idle.subscribe("devices/pump-1/#", 0), Some(0));
    assert_eq!(writer.publish("devices/pump-1/x", b"early"), Some(0));
    let early = Packet::Publish { topic: "devices/pump-1/x".to_owned(), payload: b"early".to_vec() };
    assert_eq!(idle.packet(), Some(early));

    std::thread::sleep(Duration::from_millis(3100));
    assert!(writer.publish("devices/pump-1/x", b"late").is_some());
    let next = idle.packet_within(Duration::from_millis(500));
    assert!(!matches!(next, Received::Packet(Packet::Publish { .. })), "{next:?}");
    let gone = matches!(next, Received::Closed | Received::Packet(Packet::Disconnect { .. }));
    admitted(Protocol::V5, broker.port(), "pump-2", &one.token("pump-2"));
    assert!(gone || idle.ended_within(Duration::from_secs(2)), "at the next CONNECT at the latest");
}

fn websockets_are_guarded_too(version: MosquittoVersion) {
    let badges = Badges::new();
    let port = ports::free();
    let mut broker = badges
        .guarded(version)
        .plugin_opt("skew_s", "0")
        .config_line(&format!("listener {port} 127.0.0.1"))
        .config_line("protocol websockets")
        .start();
    for protocol in Protocol::ALL {
        let device = Paho::builder(protocol, port).client_id("pump-1").websockets();
        for refused in [badges.token("pump-2"), "pump-1".to_owned()] {
            assert_eq!(device.clone().username(&refused).connect().connack(), Some(0x87));
        }
        let mut short = device.clone().username(&badges.token_for_s("pump-1", 3)).connect();
        assert_eq!(short.connack(), Some(0));
        let soon = Deadline::after(Duration::from_secs(3 + 2));
        assert_eq!(short.subscribe("devices/pump-1/#", 1), 1);
        assert!(short.subscribe("devices/pump-2/#", 1) >= 0x80);
        assert_eq!(short.publish("devices/pump-1/x", "21", 1), 0);
        assert_eq!(short.message().payload, "21");
        broker.signal_hup();
        assert!(short.disconnected_within(PATIENCE).is_some());
        assert!(soon.left().is_some(), "2 s after the end of the token at the latest");
    }
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("eyJ"), "a token in the log");
}
