//! A right ends with its token, in the middle of a session too.

use std::time::Duration;

use fleetbadge_tests::badges::Badges;
use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::paho::Paho;
use fleetbadge_tests::patience::Deadline;
use fleetbadge_tests::wire::{Connect, Packet, Protocol, Received, Wire};
use serde_json::json;

on_every_mosquitto!(
    idle_client_is_disconnected_when_its_token_ends,
    nothing_is_delivered_after_the_end,
    will_goes_out_with_the_disconnect,
    reload_keeps_good_clients_and_lets_nobody_stay_longer,
    new_token_takes_the_rights_of_the_old_one_away,
    offline_session_goes_on_queueing,
);

/// A broker that allows no skew, so that tests need not wait for it.
fn strict(badges: &Badges, version: MosquittoVersion) -> Mosquitto {
    badges.guarded(version).plugin_opt("skew_s", "0").start()
}

/// Connects as `pump-1`.
fn admitted(broker: &Mosquitto, protocol: Protocol, token: &str) -> Wire {
    let mut wire = Wire::open(protocol, broker.port());
    let connect = Connect { client_id: "pump-1", username: Some(token), ..Connect::default() };
    assert_eq!(wire.connect(&connect), Some(0));
    wire
}

fn idle_client_is_disconnected_when_its_token_ends(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = strict(&badges, version);
    for protocol in Protocol::ALL {
        let mut long = Wire::open(protocol, broker.port());
        let token = badges.token("pump-2");
        let connect = Connect { client_id: "pump-2", username: Some(&token), ..Connect::default() };
        assert_eq!(long.connect(&connect), Some(0));

        let mut idle = admitted(&broker, protocol, &badges.token_for_s("pump-1", 3));
        assert_eq!(idle.packet_within(Duration::from_millis(1500)), Received::Nothing, "not before its end");
        assert!(idle.ended_within(Duration::from_millis(1500 + 2000)), "3 s of life and 2 s of grace");
        assert_eq!(long.packet_within(Duration::from_millis(50)), Received::Nothing, "others stay");
    }
}

fn nothing_is_delivered_after_the_end(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = strict(&badges, version);
    let mut idle = admitted(&broker, Protocol::V5, &badges.token_for_s("pump-1", 2));
    assert_eq!(idle.subscribe("devices/pump-1/#", 0), Some(0));
    let writer = badges.token_with("writer", &json!({"acl": {"pub": ["devices/#"], "sub": []}}));
    let mut writer =
        Paho::builder(Protocol::V5, broker.port()).client_id("writer").username(&writer).connect();

    let until_the_end = Deadline::after(Duration::from_millis(2100));
    while until_the_end.left().is_some() {
        writer.publish("devices/pump-1/x", "early", 1);
        std::thread::sleep(Duration::from_millis(50));
    }
    // Whatever came so far came in time; from now on there must be nothing.
    while let Received::Packet(Packet::Publish { payload, .. }) =
        idle.packet_within(Duration::from_millis(100))
    {
        assert_eq!(payload, b"early");
    }
    for _ in 0..5 {
        writer.publish("devices/pump-1/x", "late", 1);
    }
    let deadline = Deadline::after(Duration::from_secs(2));
    while let Some(left) = deadline.left() {
        if let Received::Packet(Packet::Publish { payload, .. }) = idle.packet_within(left) {
            assert_eq!(String::from_utf8_lossy(&payload), "nothing", "delivered after the end");
        }
    }
}

fn will_goes_out_with_the_disconnect(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = strict(&badges, version);
    let watch = badges.token_with("watcher", &json!({"acl": {"pub": [], "sub": ["devices/#"]}}));
    let mut watcher =
        Paho::builder(Protocol::V5, broker.port()).client_id("watcher").username(&watch).connect();
    assert_eq!(watcher.subscribe("devices/#", 1), 1);
    for protocol in Protocol::ALL {
        let token = badges.token_for_s("pump-1", 2);
        let device = Paho::builder(protocol, broker.port()).client_id("pump-1").username(&token);
        let mut device = device.will("devices/pump-1/will", "gone", 1).connect();
        assert_eq!(device.connack(), Some(0));
        assert!(device.disconnected_within(Duration::from_secs(5)).is_some());
        assert_eq!(watcher.message().topic, "devices/pump-1/will", "{protocol:?}");
    }
}

fn reload_keeps_good_clients_and_lets_nobody_stay_longer(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = strict(&badges, version);
    let mut clients = Protocol::ALL.map(|protocol| {
        let name = format!("pump-{protocol:?}").replace('_', "-");
        let mut device =
            Paho::builder(protocol, broker.port()).client_id(&name).username(&badges.token(&name)).connect();
        assert_eq!(device.connack(), Some(0));
        device.subscribe(&format!("devices/{name}/#"), 1);
        (name, device)
    });
    let mut short = admitted(&broker, Protocol::V5, &badges.token_for_s("pump-1", 3));
    broker.signal_hup();
    broker.signal_hup();
    for (name, device) in &mut clients {
        assert_eq!(device.disconnected_within(Duration::from_millis(100)), None, "{name}");
        assert_eq!(device.publish(&format!("devices/{name}/x"), "still here", 1), 0);
        assert_eq!(device.message().payload, "still here");
    }
    assert!(short.ended_within(Duration::from_secs(5)));

    // The name that the broker knows a client by is no way in.
    for username in ["pump-1", "pump-V5"] {
        let mut wire = Wire::open(Protocol::V5, broker.port());
        let connect = Connect { client_id: username, username: Some(username), ..Connect::default() };
        assert_eq!(wire.connect(&connect), Some(0x87));
    }
}

fn new_token_takes_the_rights_of_the_old_one_away(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = strict(&badges, version);
    let wide = badges.token_with("pump-1", &json!({"acl": {"pub": [], "sub": ["devices/#", "all"]}}));
    let narrow = badges.token_with("pump-1", &json!({"acl": {"pub": [], "sub": ["all"]}}));
    let writer = badges.token_with("writer", &json!({"acl": {"pub": ["devices/#", "all"], "sub": []}}));
    for protocol in Protocol::ALL {
        let device = Paho::builder(protocol, broker.port()).client_id("pump-1").session_expiry_s(60);
        let mut before = device.clone().username(&wide).connect();
        assert_eq!(before.subscribe("devices/#", 1), 1);
        assert_eq!(before.subscribe("all", 1), 1);
        before.disconnect();

        let mut writer =
            Paho::builder(protocol, broker.port()).client_id("writer").username(&writer).connect();
        assert_eq!(writer.publish("devices/pump-2/x", "queued", 1), 0);
        let mut after = device.clone().username(&narrow).connect();
        assert_eq!(after.connack(), Some(0));
        assert_eq!(writer.publish("devices/pump-2/x", "live", 1), 0);
        assert_eq!(writer.publish("all", "for all", 1), 0);
        assert_eq!(after.message().payload, "for all");
        assert_eq!(after.message_within(Duration::from_millis(200)), None);
        after.disconnect();
        // So that the next protocol finds no session.
        Paho::builder(protocol, broker.port()).client_id("pump-1").username(&narrow).connect().disconnect();
    }
}

fn offline_session_goes_on_queueing(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = strict(&badges, version);
    let writer = badges.token_with("writer", &json!({"acl": {"pub": ["devices/#"], "sub": []}}));
    for protocol in Protocol::ALL {
        let device = Paho::builder(protocol, broker.port()).client_id("pump-1").session_expiry_s(60);
        let mut before = device.clone().username(&badges.token_for_s("pump-1", 2)).connect();
        assert_eq!(before.subscribe("devices/pump-1/#", 1), 1);
        assert!(before.disconnected_within(Duration::from_secs(5)).is_some(), "its token ends");

        let mut writer =
            Paho::builder(protocol, broker.port()).client_id("writer").username(&writer).connect();
        assert_eq!(writer.publish("devices/pump-1/x", "while it was away", 1), 0);
        let mut after = device.clone().username(&badges.token("pump-1")).connect();
        assert_eq!(after.message().payload, "while it was away", "{protocol:?}");
        after.disconnect();
        Paho::builder(protocol, broker.port())
            .client_id("pump-1")
            .username(&badges.token("pump-1"))
            .connect()
            .disconnect();
    }
}
