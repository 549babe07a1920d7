//! End-to-end tests against real brokers and clients, a module per behaviour.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, also in its helpers"
)]

mod agent;
mod assertion;
mod authentication;
mod authenticators;
mod backup;
mod brokers;
mod canaries;
mod certificates;
mod chain;
mod clients;
mod device_key;
mod expiry;

mod faults;
mod followed_issuer;
mod followed_revocations;
mod guard;
mod issue;
mod kept_sessions;
mod lint;
mod migrate;
mod model;
mod nodes;
mod programs;
mod quickstart;
mod rabbitmq;
mod readme;
mod reports;
mod revocations;
mod rotation;
mod signing_keys;
mod traps;
