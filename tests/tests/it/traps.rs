//! What a Mosquitto does that a plugin could stumble over, or be fooled by.

use fleetbadge_tests::wire::{Connect, Protocol, Wire};

mod connects;
mod listeners;
mod plugin;
mod reloads;
mod sessions;

/// The code of the answer to a CONNECT.
fn connack(protocol: Protocol, port: u16, client_id: &str, username: &str) -> Option<u8> {
    let connect = Connect { client_id, username: Some(username), ..Connect::default() };
    Wire::open(protocol, port).connect(&connect)
}

/// A connection that the broker has accepted.
fn admitted(protocol: Protocol, port: u16, client_id: &str, token: &str) -> Wire {
    let mut wire = Wire::open(protocol, port);
    let connect = Connect { client_id, username: Some(token), ..Connect::default() };
    assert_eq!(wire.connect(&connect), Some(0), "{client_id}");
    wire
}
