//! What devices and brokers ask over HTTP, one file for each endpoint.

pub(crate) mod body;
pub(crate) mod form_request;
pub(crate) mod introspect;
pub(crate) mod issued_token;
pub(crate) mod jwks;
pub(crate) mod metadata;
pub(crate) mod ops;
pub(crate) mod register;
pub(crate) mod reports;
pub(crate) mod revocations;
pub(crate) mod revoke;
pub(crate) mod token;
