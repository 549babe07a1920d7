//! Real parts for end-to-end tests: brokers, devices and our own programs,
//! each started for one test on a free loopback port and gone with it.
//!
//! - [`broker`]: Mosquitto in three versions; [`on_every_mosquitto!`] makes a
//!   test for each.
//! - [`rabbitmq`]: RabbitMQ in two versions, with its own OAuth 2 plugin;
//!   [`on_every_rabbitmq!`] makes a test for each.
//! - [`device`]: the Mosquitto clients and curl; [`paho`]: a device that a test
//!   leads step by step; [`wire`]: MQTT packets by hand, for exact codes.
//! - [`auth_client`]: a device that authenticates with a method of MQTT 5.
//! - [`python`]: OAuth clients that are not ours.
//! - [`quickstart`]: issuer and embedded broker in one process.
//! - [`issuer`]: the real issuer, with TLS by an [`authority`]; [`badges`]: tokens that it would never mint.
//! - [`postgres`]: a PostgreSQL of one's own;
//! - [`programs`]: our binaries and the plugin, always freshly built.
//! - [`process`]: what all of these are made of. [`ports`], [`patience`].
//!
//! Whatever goes wrong is a panic that tells what the programs of the test
//! have said. `tests/install` gets the parts that are not ours.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test harness reports to the test runner, by panics and stderr"
)]

pub mod auth_client;
pub mod authority;
pub mod badges;
pub mod broker;
mod debian;
pub mod device;
pub mod issuer;
pub mod paho;
pub mod patience;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod python;
pub mod quickstart;
pub mod rabbitmq;
pub mod wire;
