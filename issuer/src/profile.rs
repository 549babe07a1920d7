//! How a grant is written for a broker.
//!
//! There is one permission model, [`Grant`]; a profile writes it as the claims
//! that a broker reads, or refuses a rule that the broker cannot express
//! exactly. Refused is refused when the rule is set ([`Profile::check_policy`]),
//! so that no device ever meets it.
//!
//! To add one: a variant here, a file beside this one, a case in each match.

use fleetbadge_validator::claims::TOKEN_TYPE;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::mint::TokenId;
use crate::policy::{Grant, Policy};

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

/// There is no such profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages say")]
pub enum InvalidProfile {
    /// No profile of this name.
    #[error("profile: there is no {found:?}; there are {}", Profile::NAMES.join(", "))]
    Unknown { found: String },
    /// Only RabbitMQ has virtual hosts.
    #[error("vhost: is for profile rabbitmq, not for {profile}")]
    NoVhost { profile: &'static str },
    /// Not the name of a virtual host, or one that a scope cannot name.
    #[error("vhost: {found:?} is not 1 to {MAX_VHOST_LENGTH} bytes without control characters and braces")]
    Vhost { found: String },
}

impl InvalidProfile {
    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "profile",
            Self::NoVhost { .. } | Self::Vhost { .. } => "vhost",
        }
    }
}

/// The most bytes of the name of a virtual host.
const MAX_VHOST_LENGTH: usize = 255;

impl Profile {
    /// The names of all of them.
    pub const NAMES: [&str; 2] = ["fleetbadge", "emqx"];

    /// The profile of this name; `vhost` is for RabbitMQ.
    ///
    /// # Errors
    /// [`InvalidProfile`].
    pub fn from_parts(name: &str, vhost: Option<String>) -> Result<Self, InvalidProfile> {
        let profile = match name {
            "fleetbadge" => Self::Fleetbadge,
            "emqx" => Self::Emqx,
            other => return Err(InvalidProfile::Unknown { found: other.into() }),
        };
        match vhost {
            Some(_) => Err(InvalidProfile::NoVhost { profile: profile.as_str() }),
            None => Ok(profile),
        }
    }

    /// The virtual host of its broker, if its brokers have such.
    #[must_use]
    pub const fn vhost(&self) -> Option<&str> {
        match self {
            Self::Fleetbadge | Self::Emqx => None,
        }
    }

    /// Whether its broker lets a client that never subscribes connect under
    /// another client ID than its token says.
    #[must_use]
    pub const fn leaves_publishers_unbound(&self) -> bool {
        match self {
            Self::Fleetbadge | Self::Emqx => false,
        }
    }

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
    pub const fn token_type(&self) -> &'static str {
        match self {
            Self::Fleetbadge | Self::Emqx => TOKEN_TYPE,
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
