//! SIGHUP makes Mosquitto authenticate every session again, with the name that
//! replaced the token.

use std::thread;
use std::time::Duration;

use fleetbadge_tests::badges::Badges;
use fleetbadge_tests::broker::MosquittoVersion;
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::paho::Paho;
use fleetbadge_tests::patience::Deadline;
use fleetbadge_tests::wire::{Connect, Protocol, Wire};
use serde_json::json;

use super::{admitted, connack};

on_every_mosquitto!(
    name_is_no_way_in_while_connections_come_and_go,
    name_is_no_way_in_at_the_address_of_a_client_that_has_just_gone,
    sessions_of_clients_that_are_away_go_on_queueing,
);

fn name_is_no_way_in_while_connections_come_and_go(version: MosquittoVersion) {
    const NAMES: [&str; 4] = ["pump-0", "pump-1", "pump-2", "pump-3"];
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let port = broker.port();
    let mut steady = admitted(Protocol::V5, port, "steady", &badges.token("steady"));
    let deadline = Deadline::after(Duration::from_secs(2));
    let names = || NAMES.into_iter().cycle().take_while(|_| deadline.left().is_some());

    let (admissions, refusals, reloads) = thread::scope(|scope| {
        let fleet = scope.spawn(|| {
            // Of the four, one is connected and three have just gone.
            let mut connected = None;
            let mut admit = |(number, client_id)| {
                let token = badges.token(client_id);
                let keep_session = number % 3 == 0;
                let connect =
                    Connect { client_id, username: Some(&token), keep_session, ..Connect::default() };
                let wire = connected.insert(Wire::open(Protocol::V5, port));
                assert_eq!(wire.connect(&connect), Some(0), "{client_id}");
            };
            names().enumerate().map(&mut admit).count()
        });
        let intruder = scope.spawn(|| {
            let refused = |name| assert_eq!(connack(Protocol::V5, port, name, name), Some(0x87), "{name}");
            names().map(refused).count()
        });
        let reloads = names().map(|_| broker.signal_hup()).count();
        (fleet.join().unwrap(), intruder.join().unwrap(), reloads)
    });
    assert!(admissions > 20 && refusals > 20 && reloads > 5, "{admissions}, {refusals}, {reloads}");
    assert_eq!(steady.publish("devices/steady/x", b"still here"), Some(0x10), "nobody subscribes");
    assert_eq!(broker.stop().code, Some(0));
}

fn name_is_no_way_in_at_the_address_of_a_client_that_has_just_gone(version: MosquittoVersion) {
    let badges = Badges::new();
    let token = badges.token("pump-1");
    for per_listener in [false, true] {
        let setting = format!("per_listener_settings {per_listener}");
        let mut broker = badges.guarded(version).global_config_line(&setting).start();
        for _ in 0..10 {
            for _ in 0..5 {
                // The broker's record of one of these may well be where that of
                // the device was.
                for mut intruder in [(); 5].map(|()| Wire::open(Protocol::V5, broker.port())) {
                    let connect =
                        Connect { client_id: "pump-1", username: Some("pump-1"), ..Connect::default() };
                    if intruder.connect(&connect) != Some(0x87) {
                        // Without a tick the plugin cannot tell when a reload is
                        // over: then a stranger may be acknowledged, no more.
                        assert!(per_listener && version == MosquittoVersion::V2_0_11);
                        assert_eq!(intruder.publish("devices/pump-1/x", b"x"), Some(0x87));
                        assert_eq!(intruder.subscribe("devices/pump-1/#", 1), Some(0x87));
                    }
                }
                drop(admitted(Protocol::V5, broker.port(), "pump-1", &token));
            }
            broker.signal_hup();
        }
    }
}

fn sessions_of_clients_that_are_away_go_on_queueing(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let writer = badges.token_with("writer", &json!({"acl": {"pub": ["devices/#"], "sub": []}}));
    let mut writer = admitted(Protocol::V5, broker.port(), "writer", &writer);
    let names = ["pump-3", "pump-5"];
    let device = |protocol, name| {
        let device = Paho::builder(protocol, broker.port()).client_id(name).session_expiry_s(60);
        device.username(&badges.token(name))
    };
    let devices: Vec<_> =
        Protocol::ALL.into_iter().zip(names).map(|(protocol, name)| (name, device(protocol, name))).collect();
    for (name, device) in &devices {
        let mut before = device.clone().connect();
        assert_eq!(before.subscribe(&format!("devices/{name}/#"), 1), 1);
        before.disconnect();
    }
    broker.signal_hup();
    broker.signal_hup();
    for (name, device) in devices {
        assert_eq!(writer.publish(&format!("devices/{name}/x"), b"while it was away"), Some(0));
        assert_eq!(connack(Protocol::V5, broker.port(), name, name), Some(0x87), "the name is no way in");
        assert_eq!(device.connect().message().payload, "while it was away");
    }
}
