//! The program as operators and devices meet it: a real server, its files,
//! its exit codes and what it says. One file for each noun of the command line.

#![expect(clippy::unwrap_used, reason = "tests")]

mod backup;
mod broker;
mod device;
mod device_key;
mod enrolment;
mod group;
mod key;
mod migrate_store;
mod place;
mod policy;
mod revocation;
mod root_key;
mod secret;
mod serve;
mod static_password;
