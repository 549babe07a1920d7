//! The Mosquitto plugin: one shared object for Mosquitto 2.0 and 2.1.
//!
//! The broker asks, on its one thread, and is answered from memory:
//!
//! 1. `ffi` turns the broker's C events into calls of `guard::Guard`, and
//!    a panic into a denial. Nothing else here is unsafe.
//! 2. A connection brings a token, in the user name or password (`BASIC_AUTH`)
//!    or with an authentication method of MQTT 5 (`EXT_AUTH_START`); `guard`
//!    verifies it and replaces the user name by the device's name, so that the
//!    token reaches neither the broker's log nor its database. With a method a
//!    client can bring a new token later, which replaces the old one at once.
//! 3. Every subscription, publication and delivery (`ACL_CHECK`) is asked of
//!    the token of its session, see `sessions`.
//! 4. `TICK` disconnects the clients whose tokens have ended or were revoked.
//! 5. The keys come from a file or over HTTP, see `keys`, and what is revoked
//!    from the issuer's feed, see `revocations`; the broker's thread never
//!    waits for the network.
//! 6. What was let in and denied is counted, and who is connected noted, for the
//!    reports to the issuer and the file of `status`.
//!
//! The plugin has no global state but the panic hook: each `plugin` line of a configuration makes
//! an instance of its own.

// A panic must end as a denial, not as the end of the broker.
#[cfg(panic = "abort")]
compile_error!("the plugin needs panic = \"unwind\"");

mod authenticators;
mod bad_signatures;
mod broker;
mod counters;
mod denial_log;
mod ffi;
mod guard;
mod handed_on;
mod keys;
pub mod option_table;
mod options;
mod passwords;
mod refusal;
mod revocations;
mod sessions;
mod status;
