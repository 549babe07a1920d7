//! The Fleetbadge device agent: gets a device its access tokens in time and
//! keeps its MQTT connection alive over their renewals.
//!
//! 1. [`options`]: what the command line, the environment and the file say,
//!    laid over each other; [`config`]: the same, checked.
//! 2. [`token_client`]: one token request to the issuer (RFC 6749 §4.4).
//! 3. [`token_cache`]: the token on disk, so that it outlives the program.
//! 4. [`renewal`]: when to ask, when to connect, when to wait; pure.
//! 5. [`mqtt`]: one MQTT session over several connections.
//! 6. [`keeper`]: puts 2 to 5 together and runs them.
//! 7. [`cli`]: the commands.
//!
//! To the agent an access token is an opaque string. It goes by what the token
//! response says beside it: `expires_in` and `mqtt_client_id`.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod exit;
pub mod keeper;
pub mod machine;
pub mod mqtt;
pub mod options;
pub mod renewal;
pub mod secret;
pub mod tls;
pub mod token_cache;
pub mod token_client;
