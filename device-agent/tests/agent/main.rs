//! The program `fleetbadge-agent` against parts in this process.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod parts;
mod reauthentication;
mod token;
