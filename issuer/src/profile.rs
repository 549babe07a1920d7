//! How a grant is written for a broker.
//!
//! There is one permission model, [`Grant`]; a profile writes it as the claims
//! that a broker reads, or refuses a rule that the broker cannot express
//! exactly. Refused is refused when the rule is set ([`Profile::check_policy`]),
//! so that no device ever meets it.
//!
//! To add one: a variant here, a file beside this one, a case in each match.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::mint::TokenId;
use crate::policy::{Grant, Policy};
use crate::signing_keys::TokenType;

mod fleetbadge;

/// How the permissions in a broker's tokens are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// For the validator: its plugin, its HTTP service, its library.
    #[default]
    Fleetbadge,
    /// For EMQX's own JWT authentication, which reads the same `acl`.
    Emqx,
}

/// What a token says, before it is written.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the claims, by their meaning in `fleetbadge_validator::claims`")]
pub struct Content<'a> {
    pub grant: &'a Grant<'a>,
    pub issuer: &'a str,
    pub audience: &'a str,
    pub token_id: TokenId,
    pub now: UnixSeconds,
    pub lifetime_s: u64,
    /// The SHA-256 of the certificate that the token is bound to (RFC 8705
    /// §3.1).
    pub certificate: Option<[u8; 32]>,
}

/// A rule of a policy that a broker cannot express exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inexpressible {
    /// The field that it stands in.
    pub field: &'static str,
    /// The rule.
    pub rule: String,
    /// Why not.
    pub reason: &'static str,
}

impl Profile {
    /// How it is written.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Fleetbadge => "fleetbadge",
            Self::Emqx => "emqx",
        }
    }

    /// The `typ` of its tokens.
    #[must_use]
    pub const fn token_type(&self) -> TokenType {
        match self {
            Self::Fleetbadge | Self::Emqx => TokenType::AccessToken,
        }
    }

    /// What its broker can verify; the first is the default.
    #[must_use]
    pub const fn algorithms(&self) -> &'static [Algorithm] {
        match self {
            Self::Fleetbadge | Self::Emqx => &[Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA],
        }
    }

    /// Whether its broker checks that a client has the key that a token is
    /// bound to. For another, no bound token is minted: it would be taken for
    /// one that anybody may bear.
    #[must_use]
    pub const fn checks_confirmation(&self) -> bool {
        match self {
            Self::Fleetbadge => true,
            Self::Emqx => false,
        }
    }

    /// Whether every rule of a policy can be expressed exactly.
    ///
    /// # Errors
    /// [`Inexpressible`] names the rule.
    pub fn check_policy(&self, _policy: &Policy) -> Result<(), Inexpressible> {
        match self {
            Self::Fleetbadge | Self::Emqx => Ok(()),
        }
    }

    /// Writes the claims.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub fn write(&self, content: &Content<'_>) -> serde_json::Result<Vec<u8>> {
        let mut payload = Vec::with_capacity(1024);
        match self {
            Self::Fleetbadge | Self::Emqx => fleetbadge::write(content, &mut payload)?,
        }
        Ok(payload)
    }
}
