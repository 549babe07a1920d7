//! Sessions that are taken over, left, or found again, and what they left
//! behind.

use std::time::Duration;

use fleetbadge_tests::badges::Badges;
use fleetbadge_tests::broker::MosquittoVersion;
use fleetbadge_tests::device::mosquitto_pub;
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::paho::Paho;
use fleetbadge_tests::patience::PATIENCE;
use fleetbadge_tests::process::run;
use fleetbadge_tests::wire::{Packet, Protocol, Received};
use serde_json::json;

use super::{admitted, connack};

on_every_mosquitto!(
    session_is_taken_over_with_its_own_token_only,
    queued_messages_survive_a_restart_of_the_broker,
    retained_message_is_delivered_while_its_source_may_publish,
    delayed_will_does_not_outlive_the_token,
);

/// What may publish and subscribe everything about the devices.
fn overseer(badges: &Badges) -> String {
    badges.token_with("overseer", &json!({"acl": {"pub": ["devices/#"], "sub": ["devices/#"]}}))
}

fn session_is_taken_over_with_its_own_token_only(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).plugin_opt("skew_s", "0").start();
    let heirs = Protocol::ALL.map(|protocol| {
        let name = format!("pump-{}", protocol.level());
        let mut device = admitted(protocol, broker.port(), &name, &badges.token_for_s(&name, 4));
        assert_eq!(device.subscribe(&format!("devices/{name}/#"), 0), Some(0));
        for username in [&badges.token("pump-1"), &name] {
            let answer = connack(protocol, broker.port(), &name, username);
            assert_eq!(answer, Some(protocol.not_authorized()));
        }
        let topic = format!("devices/{name}/x");
        assert_eq!(device.publish(&topic, b"undisturbed"), Some(0));
        assert_eq!(device.packet(), Some(Packet::Publish { topic, payload: b"undisturbed".to_vec() }));

        let heir = admitted(protocol, broker.port(), &name, &badges.token(&name));
        assert!(device.ended_within(PATIENCE));
        (name, heir)
    });
    std::thread::sleep(Duration::from_secs(4));
    for (name, mut heir) in heirs {
        assert_eq!(heir.packet_within(Duration::from_millis(500)), Received::Nothing, "the old token's end");
        assert!(heir.publish(&format!("devices/{name}/x"), b"still here").is_some());
    }
}

fn queued_messages_survive_a_restart_of_the_broker(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).config_line("persistence true");
    let location = format!("persistence_location {}/", broker.dir().path().display());
    let mut broker = broker.config_line(&location).start();
    let devices = Protocol::ALL.map(|protocol| {
        let name = format!("pump-{}", protocol.level());
        (Paho::builder(protocol, broker.port()).client_id(&name).session_expiry_s(60), name)
    });
    let mut writer = admitted(Protocol::V5, broker.port(), "overseer", &overseer(&badges));
    for (device, name) in &devices {
        let mut before = device.clone().username(&badges.token(name)).connect();
        assert_eq!(before.subscribe(&format!("devices/{name}/#"), 1), 1);
        before.disconnect();
        assert_eq!(writer.publish(&format!("devices/{name}/x"), b"while it was away"), Some(0));
    }

    assert_eq!(broker.stop().code, Some(0));
    let database = std::fs::read(broker.dir().path().join("mosquitto.db")).expect("a database");
    assert!(!String::from_utf8_lossy(&database).contains("eyJ"), "a token in the database");
    broker.start();
    broker.signal_hup();
    for (device, name) in devices {
        let new_token = badges.token_for_s(&name, 600);
        let mut after = device.username(&new_token).connect();
        assert_eq!(after.message().payload, "while it was away", "{name}");
    }
    assert_eq!(broker.stop().code, Some(0));
}

fn retained_message_is_delivered_while_its_source_may_publish(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).config_line("check_retain_source true").start();
    let mut publish = mosquitto_pub(broker.port());
    publish.args(["-i", "pump-1", "-u", &badges.token("pump-1")]);
    publish.args(["-t", "devices/pump-1/x", "-m", "kept", "-r", "-q", "1"]);
    assert_eq!(run(publish).code, Some(0));
    let overseer = overseer(&badges);
    let found = || {
        let mut reader = admitted(Protocol::V5, broker.port(), "overseer", &overseer);
        assert_eq!(reader.subscribe("devices/pump-1/#", 0), Some(0));
        let kept = Packet::Publish { topic: "devices/pump-1/x".to_owned(), payload: b"kept".to_vec() };
        reader.packet_within(Duration::from_millis(300)) == Received::Packet(kept)
    };
    assert!(found(), "the source has gone");
    let source = admitted(Protocol::V5, broker.port(), "pump-1", &badges.token("pump-1"));
    assert!(found(), "the source is connected");
    drop(source);
    let silenced = badges.token_with("pump-1", &json!({"acl": {"pub": [], "sub": []}}));
    let _source = admitted(Protocol::V5, broker.port(), "pump-1", &silenced);
    assert!(!found(), "the source may publish no more");
}

fn delayed_will_does_not_outlive_the_token(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).plugin_opt("skew_s", "0").start();
    let mut watcher = admitted(Protocol::V5, broker.port(), "overseer", &overseer(&badges));
    assert_eq!(watcher.subscribe("devices/#", 0), Some(0));
    let vanish = |name: &str, token: &str, will_delay_s| {
        let device = Paho::builder(Protocol::V5, broker.port()).client_id(name).username(token);
        let will = device.will(&format!("devices/{name}/will"), "gone", 1).will_delay_s(will_delay_s);
        let device = will.session_expiry_s(60).connect();
        assert_eq!(device.connack(), Some(0));
        device.vanish();
    };
    vanish("pump-1", &badges.token_for_s("pump-1", 3), 6);
    vanish("pump-2", &badges.token("pump-2"), 1);
    let will = Packet::Publish { topic: "devices/pump-2/will".to_owned(), payload: b"gone".to_vec() };
    assert_eq!(watcher.packet(), Some(will), "within the life of the token");
    let line = broker.wait_for_log("(expired)");
    assert!(line.contains("pump-1"), "{line}");
    assert_eq!(watcher.packet_within(Duration::from_millis(500)), Received::Nothing);
}
