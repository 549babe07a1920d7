//! Several authenticators in one broker: issuers beside each other, a password
//! file, static passwords; and who tries to get from one to the other.

use std::path::Path;
use std::time::Duration;

use fleetbadge_tests::badges::Badges;
use fleetbadge_tests::broker::{Mosquitto, MosquittoBuilder, MosquittoVersion};
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::programs::mosquitto_plugin;
use fleetbadge_tests::wire::{Connect, Packet, Protocol, Wire};
use serde_json::Value;

mod hand_on;
mod issuers;
mod static_passwords;

/// What a PUBLISH that is allowed, and that nobody wants, is answered.
const NO_SUBSCRIBERS: u8 = 0x10;

/// A Mosquitto with the plugin and these authenticators, whose options must
/// follow.
fn authenticated_by(list: &str, version: MosquittoVersion) -> MosquittoBuilder {
    Mosquitto::builder(version)
        .config_line("allow_anonymous false")
        .plugin(mosquitto_plugin())
        .plugin_opt("authenticators", list)
        .plugin_opt("audience", "mqtt")
}

/// The options of an authenticator for tokens of `badges` that name `issuer`.
fn trusting(broker: MosquittoBuilder, name: &str, issuer: &str, badges: &Badges) -> MosquittoBuilder {
    let keys = broker.dir().write(&format!("{name}.json"), badges.jwks().as_bytes());
    broker
        .plugin_opt(&format!("{name}.issuer"), issuer)
        .plugin_opt(&format!("{name}.jwks_file"), &keys.to_string_lossy())
}

/// The options of an authenticator that follows a real issuer.
fn following(broker: MosquittoBuilder, name: &str, issuer: &Issuer, credentials: &Path) -> MosquittoBuilder {
    broker
        .plugin_opt(&format!("{name}.issuer"), issuer.identifier())
        .plugin_opt(&format!("{name}.jwks_url"), &issuer.jwks_url())
        .plugin_opt(&format!("{name}.credentials_file"), &credentials.to_string_lossy())
}

/// Registers a broker at an issuer.
fn broker_at(issuer: &Issuer) -> Value {
    issuer.json(&["broker", "add", "hall", "--audience", "mqtt", "--profile", "fleetbadge"])
}

/// A connection with what a CONNECT brings, and the code of its answer.
fn connect(broker: &Mosquitto, connect: &Connect<'_>) -> (Wire, Option<u8>) {
    let mut wire = Wire::open(Protocol::V5, broker.port());
    let code = wire.connect(connect);
    (wire, code)
}

fn with_token<'a>(client_id: &'a str, token: &'a str) -> Connect<'a> {
    Connect { client_id, username: Some(token), ..Connect::default() }
}

fn with_password<'a>(client_id: &'a str, username: &'a str, password: &'a str) -> Connect<'a> {
    let password = Some(password.as_bytes());
    Connect { client_id, username: Some(username), password, ..Connect::default() }
}

/// A connection that the broker has accepted.
fn admitted(broker: &Mosquitto, asked: &Connect<'_>) -> Wire {
    let (wire, code) = connect(broker, asked);
    assert_eq!(code, Some(0), "{}:\n{}", asked.client_id, broker.log());
    wire
}

/// Tries until the broker knows the issuer's keys and revocations.
fn admitted_in_time(broker: &Mosquitto, asked: &Connect<'_>) -> Wire {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let (wire, code) = connect(broker, asked);
        if code == Some(0) {
            return wire;
        }
        assert!(deadline.left().is_some(), "never let in:\n{}", broker.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn message(topic: &str, payload: &[u8]) -> Packet {
    Packet::Publish { topic: topic.into(), payload: payload.into() }
}
