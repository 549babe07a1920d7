//! The `aud` of statements that are presented to the issuer.

use serde::{Deserialize, Serialize};

/// One audience or several (RFC 7519 §4.1.3), owned: what
/// [`fleetbadge_validator::claims::Audience`] borrows from a token.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    /// A string.
    One(String),
    /// An array of strings.
    Many(Vec<String>),
}

impl Audience {
    /// The audiences, whichever way they are written.
    pub(crate) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(audiences) => audiences,
        }
    }
}
