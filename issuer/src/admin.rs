//! The admin API, `/admin/v1/…`, one file for each resource.
//!
//! Reached over the unix socket alone, by the server's own user or root (see
//! [`crate::serve`]). Errors are problem details (RFC 9457) that name the
//! field. Each change is one line in the log.

pub(crate) mod backup;
pub(crate) mod broker_secrets;
pub(crate) mod broker_status;
pub(crate) mod brokers;
pub(crate) mod clock;
pub(crate) mod device_certificate;
pub(crate) mod device_keys;
pub(crate) mod device_secrets;
pub(crate) mod devices;
pub(crate) mod enrolments;
pub(crate) mod groups;
pub(crate) mod keys;
pub(crate) mod policy;
pub(crate) mod problem;
pub(crate) mod revocations;
pub(crate) mod root_keys;
pub(crate) mod secrets;
pub(crate) mod static_password;

#[cfg(test)]
mod tests;
