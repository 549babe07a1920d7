//! The whole way: issuer, keys over HTTP, broker, device.

use std::io::Read as _;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use fleetbadge_tests::badges::guarded_by;
use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::device::mosquitto_pub;
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::paho::Paho;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::ports;
use fleetbadge_tests::process::run;
use fleetbadge_tests::wire::{Connect, Protocol, Wire};

on_every_mosquitto!(
    device_gets_a_token_and_is_let_in,
    tokens_of_a_retired_key_stay_good_and_new_keys_are_found,
    fleet_gets_in_while_the_issuer_is_away,
    keys_that_cannot_be_had_let_nobody_in_and_hold_nobody_up,
);

fn connack(broker: &Mosquitto, client_id: &str, token: &str) -> Option<u8> {
    let connect = Connect { client_id, username: Some(token), ..Connect::default() };
    Wire::open(Protocol::V5, broker.port()).connect(&connect)
}

/// Tries until the broker lets the client in: it fetches keys by itself.
fn let_in(broker: &Mosquitto, client_id: &str, token: &str) {
    let deadline = Deadline::after(PATIENCE);
    while connack(broker, client_id, token) != Some(0) {
        assert!(deadline.left().is_some(), "never let in:\n{}", broker.log());
        thread::sleep(Duration::from_millis(100));
    }
}

fn device_gets_a_token_and_is_let_in(version: MosquittoVersion) {
    let issuer = Issuer::start();
    let broker = guarded_by(&issuer.url(), &issuer.jwks_url(), version).start();
    let device = issuer.add_device("pump-1");
    let token = issuer.token(&device);
    let_in(&broker, "pump-1", &token);

    let mut publish = mosquitto_pub(broker.port());
    publish.args(["-i", "pump-1", "-u", &token, "-t", "devices/pump-1/x", "-m", "21", "-q", "1"]);
    assert_eq!(run(publish).code, Some(0));
    for protocol in Protocol::ALL {
        let mut paho = Paho::builder(protocol, broker.port()).client_id("pump-1").username(&token).connect();
        assert_eq!(paho.connack(), Some(0));
        assert_eq!(paho.subscribe("devices/pump-1/#", 1), 1);
        assert_eq!(paho.publish("devices/pump-1/x", "21", 1), 0);
        assert_eq!(paho.message().payload, "21");
        assert!(paho.subscribe("#", 1) >= 0x80);
        paho.disconnect();
    }
    let stranger = issuer.add_device("pump-2");
    assert_eq!(connack(&broker, "pump-1", &issuer.token(&stranger)), Some(0x87));
    let connect_only = issuer.request_token(&device, &["scope=mqtt.publish"]).json();
    assert_eq!(connack(&broker, "pump-1", connect_only["access_token"].as_str().unwrap()), Some(0x87));
    assert!(!broker.log().contains(token.rsplit('.').next().unwrap()));
}

fn tokens_of_a_retired_key_stay_good_and_new_keys_are_found(version: MosquittoVersion) {
    let issuer = Issuer::start();
    let broker = guarded_by(&issuer.url(), &issuer.jwks_url(), version).start();
    let device = issuer.add_device("pump-1");
    let old = issuer.token(&device);
    let_in(&broker, "pump-1", &old);

    assert_eq!(issuer.command(&["key", "rotate", "--now"]).code, Some(0));
    let new = issuer.token(&device);
    assert_ne!(kid(&old), kid(&new), "another key signs");
    let_in(&broker, "pump-1", &new);
    assert_eq!(connack(&broker, "pump-1", &old), Some(0), "the old key is still published");
}

fn kid(token: &str) -> &str {
    token.split('.').next().unwrap_or_default()
}

fn fleet_gets_in_while_the_issuer_is_away(version: MosquittoVersion) {
    let mut issuer = Issuer::start();
    let mut broker = guarded_by(&issuer.url(), &issuer.jwks_url(), version).start();
    let device = issuer.add_device("pump-1");
    let token = issuer.token(&device);
    let_in(&broker, "pump-1", &token);

    issuer.stop();
    broker.restart();
    assert_eq!(connack(&broker, "pump-1", &token), Some(0), "at once, with the keys on disk");
}

fn keys_that_cannot_be_had_let_nobody_in_and_hold_nobody_up(version: MosquittoVersion) {
    let issuer = Issuer::start();
    let device = issuer.add_device("pump-1");
    let token = issuer.token(&device);

    let nobody = format!("http://127.0.0.1:{}/jwks", ports::free());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}/jwks", silent.local_addr().unwrap());
    // Takes the request and never answers; ends with the test process.
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in silent.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            held.push(stream);
        }
    });
    for jwks_url in [&nobody, &silent_url] {
        let broker = guarded_by(&issuer.url(), jwks_url, version).start();
        let deadline = Deadline::after(Duration::from_secs(5));
        for _ in 0..20 {
            assert_eq!(connack(&broker, "pump-1", &token), Some(0x87));
        }
        assert!(deadline.left().is_some(), "twenty answers within 5 s");
    }
}
