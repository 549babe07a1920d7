//! The ways to get a token (RFC 6749 §1.3), one file each.

use crate::error::TokenError;
use crate::form::Form;

pub(crate) mod client_credentials;

/// A grant type that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantType {
    /// RFC 6749 §4.4.
    ClientCredentials,
}

impl GrantType {
    /// Which one a request asks for.
    ///
    /// # Errors
    /// [`TokenError::InvalidRequest`] without one,
    /// [`TokenError::UnsupportedGrantType`] for another.
    pub(crate) fn from_form(form: &Form<'_>) -> Result<Self, TokenError> {
        match form.get("grant_type") {
            Some("client_credentials") => Ok(Self::ClientCredentials),
            Some(_) => Err(TokenError::UnsupportedGrantType),
            None => Err(TokenError::InvalidRequest("grant_type is missing".into())),
        }
    }
}
