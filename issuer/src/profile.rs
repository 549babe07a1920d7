//! How a grant is written for a broker.
//!
//! There is one permission model, [`Grant`]; a profile writes it as the claims
//! that a broker reads, or refuses a rule that the broker cannot express
//! exactly. Refused is refused when the rule is set ([`Profile::check_policy`]);
//! what depends on the device and its request, when a token is asked for
//! ([`Profile::check_grant`]).
//!
//! To add one: a variant here, a file beside this one, a case in each match.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::scope::ScopeWord;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::mint::TokenId;
use crate::policy::{FilterTemplate, Grant, Policy};
use crate::signing_keys::{KeyFetch, TokenType};

mod azure_event_grid;
mod emqx;
mod fleetbadge;
mod hivemq;
mod native;
mod rabbitmq;
mod rmqtt;

/// How the permissions in a broker's tokens are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// For the validator: its plugin, its HTTP service, its library.
    #[default]
    Fleetbadge,
    /// For EMQX's own JWT authentication, which reads the same `acl`.
    Emqx,
    /// For RabbitMQ's own OAuth 2 plugin.
    Rabbitmq {
        /// The virtual host that MQTT clients come to.
        vhost: Box<str>,
    },
    /// For rmqtt's JWT plugin.
    Rmqtt,
    /// For `HiveMQ`'s Enterprise Security Extension and its hosted plans.
    Hivemq,
    /// For Azure Event Grid's custom JWT authentication.
    AzureEventGrid,
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

/// A grant that a broker would take for another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misread {
    /// The broker lets in whoever has a token.
    #[error(
        "scope: a token for this broker ({profile}) cannot lack mqtt.connect, as the broker does not look for it"
    )]
    NoConnect {
        /// The profile.
        profile: &'static str,
    },
    /// The broker compares the client ID of a connection with `sub` alone.
    #[error(
        "this broker ({profile}) can only bind a token to the device's name, not to {found}: the device's first \
         MQTT client ID must be {device}, or ask with mqtt_client_id={device}"
    )]
    OtherClientId {
        /// The profile.
        profile: &'static str,
        /// The device.
        device: String,
        /// The MQTT client identifier that was asked for, or is the device's
        /// first.
        found: String,
    },
    /// A name with a character that means something to the broker.
    #[error("{what} {found} has '.' or ':', which mean something to this broker ({profile})")]
    Name {
        /// The profile.
        profile: &'static str,
        /// Which name.
        what: &'static str,
        /// The name.
        found: String,
    },
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
    pub const NAMES: [&str; 6] = ["fleetbadge", "emqx", "rabbitmq", "rmqtt", "hivemq", "azure-event-grid"];

    /// The profile of this name. `vhost` is for RabbitMQ, `/` if none.
    ///
    /// # Errors
    /// [`InvalidProfile`].
    pub fn from_parts(name: &str, vhost: Option<String>) -> Result<Self, InvalidProfile> {
        let profile = match name {
            "fleetbadge" => Self::Fleetbadge,
            "emqx" => Self::Emqx,
            "rabbitmq" => {
                let vhost = parse_vhost(vhost.unwrap_or_else(|| "/".into()))?;
                return Ok(Self::Rabbitmq { vhost });
            }
            "rmqtt" => Self::Rmqtt,
            "hivemq" => Self::Hivemq,
            "azure-event-grid" => Self::AzureEventGrid,
            other => return Err(InvalidProfile::Unknown { found: other.into() }),
        };
        match vhost {
            Some(_) => Err(InvalidProfile::NoVhost { profile: profile.as_str() }),
            None => Ok(profile),
        }
    }

    /// How it is written.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Fleetbadge => "fleetbadge",
            Self::Emqx => "emqx",
            Self::Rabbitmq { .. } => "rabbitmq",
            Self::Rmqtt => "rmqtt",
            Self::Hivemq => "hivemq",
            Self::AzureEventGrid => "azure-event-grid",
        }
    }

    /// The virtual host of its broker, if its brokers have such.
    #[must_use]
    pub fn vhost(&self) -> Option<&str> {
        match self {
            Self::Rabbitmq { vhost } => Some(vhost),
            Self::Fleetbadge | Self::Emqx | Self::Rmqtt | Self::Hivemq | Self::AzureEventGrid => None,
        }
    }

    /// The `typ` of its tokens.
    #[must_use]
    pub const fn token_type(&self) -> TokenType {
        match self {
            Self::Fleetbadge | Self::Emqx | Self::Rabbitmq { .. } | Self::Rmqtt | Self::Hivemq => {
                TokenType::AccessToken
            }
            Self::AzureEventGrid => TokenType::Jwt,
        }
    }

    /// How its brokers come by a new signing key.
    #[must_use]
    pub const fn key_fetch(&self) -> KeyFetch {
        match self {
            // Validators say themselves what they hold; before they do, the
            // announcement is as long as they need.
            Self::Fleetbadge => KeyFetch::Within(0),
            // `refresh_interval` of a JWKS: 300 s unless it is set otherwise.
            Self::Emqx => KeyFetch::Within(300),
            // Fetches the keys when it meets a kid that it does not know.
            Self::Rabbitmq { .. } => KeyFetch::Within(0),
            // The Enterprise Security Extension keeps a JWKS for so long.
            Self::Hivemq => KeyFetch::Within(1_800),
            // rmqtt-auth-jwt reads one PEM file, Event Grid two certificates
            // of a Key Vault.
            Self::Rmqtt | Self::AzureEventGrid => KeyFetch::ByHand,
        }
    }

    /// What its broker can verify; the first is the default.
    #[must_use]
    pub const fn algorithms(&self) -> &'static [Algorithm] {
        match self {
            Self::Fleetbadge | Self::Emqx | Self::Rabbitmq { .. } => {
                &[Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA]
            }
            // Neither is known to verify Ed25519.
            Self::Rmqtt | Self::Hivemq => &[Algorithm::ES256, Algorithm::RS256],
            Self::AzureEventGrid => &[Algorithm::RS256],
        }
    }

    /// Whether its broker checks that a client has the key that a token is
    /// bound to. For another, no bound token is minted: it would be taken for
    /// one that anybody may bear.
    #[must_use]
    pub const fn checks_confirmation(&self) -> bool {
        self.has_validator()
    }

    /// Whether its broker lets a client that never subscribes connect under
    /// another client ID than its token says.
    #[must_use]
    pub const fn leaves_publishers_unbound(&self) -> bool {
        match self {
            Self::Rabbitmq { .. } => true,
            Self::Fleetbadge | Self::Emqx | Self::Rmqtt | Self::Hivemq | Self::AzureEventGrid => false,
        }
    }

    /// Whether its tokens say which topics a device may use. For the others
    /// that is set at the broker.
    #[must_use]
    pub const fn carries_topics(&self) -> bool {
        match self {
            Self::Fleetbadge | Self::Emqx | Self::Rabbitmq { .. } | Self::Rmqtt => true,
            Self::Hivemq | Self::AzureEventGrid => false,
        }
    }

    /// Whether the validator judges its tokens, and not the broker by itself.
    const fn has_validator(&self) -> bool {
        match self {
            Self::Fleetbadge => true,
            Self::Emqx | Self::Rabbitmq { .. } | Self::Rmqtt | Self::Hivemq | Self::AzureEventGrid => false,
        }
    }

    /// Whether every rule of a policy can be expressed exactly.
    ///
    /// # Errors
    /// [`Inexpressible`] names the rule.
    pub fn check_policy(&self, policy: &Policy) -> Result<(), Inexpressible> {
        let check = match self {
            Self::Fleetbadge => return Ok(()),
            Self::Emqx => emqx::check_filter,
            Self::Rabbitmq { .. } => rabbitmq::check_filter,
            Self::Rmqtt => rmqtt::check_filter,
            Self::Hivemq => hivemq::check_filter,
            Self::AzureEventGrid => azure_event_grid::check_filter,
        };
        let directions = [
            ("publish", Direction::Publish, &policy.publish),
            ("subscribe", Direction::Subscribe, &policy.subscribe),
        ];
        for (field, direction, filters) in directions {
            for filter in filters {
                check(filter, direction).map_err(|reason| Inexpressible {
                    field,
                    rule: filter.as_str().into(),
                    reason,
                })?;
            }
        }
        Ok(())
    }

    /// Whether a broker would read a grant as it is meant.
    ///
    /// # Errors
    /// [`Misread`] says what it would not.
    pub fn check_grant(&self, grant: &Grant<'_>) -> Result<(), Misread> {
        if !self.has_validator() && !grant.scope.contains(ScopeWord::MqttConnect) {
            return Err(Misread::NoConnect { profile: self.as_str() });
        }
        match self {
            Self::Fleetbadge | Self::Emqx | Self::Rmqtt | Self::AzureEventGrid => Ok(()),
            Self::Rabbitmq { .. } => rabbitmq::check_grant(grant),
            Self::Hivemq => hivemq::check_client_id(grant),
        }
    }

    /// Whether there are names that its broker would take for others.
    #[must_use]
    pub const fn misreads_names(&self) -> bool {
        match self {
            Self::Rabbitmq { .. } => true,
            Self::Fleetbadge | Self::Emqx | Self::Rmqtt | Self::Hivemq | Self::AzureEventGrid => false,
        }
    }

    /// Whether its broker would read a device's name or an MQTT client
    /// identifier as it is meant; `what` says which of them it is.
    ///
    /// # Errors
    /// [`Misread::Name`].
    pub fn check_name(&self, what: &'static str, name: &str) -> Result<(), Misread> {
        if self.misreads_names() { rabbitmq::check_name(what, name) } else { Ok(()) }
    }

    /// Whether a topic, or what is subscribed to, is to its broker what it is
    /// to us: otherwise no rule tells what it would answer.
    ///
    /// # Errors
    /// What it is taken for.
    pub fn check_topic(&self, topic: &str) -> Result<(), &'static str> {
        match self {
            Self::Rabbitmq { .. } => rabbitmq::check_topic(topic),
            Self::Fleetbadge | Self::Emqx | Self::Rmqtt | Self::Hivemq | Self::AzureEventGrid => Ok(()),
        }
    }

    /// Whether its broker lets a filter that covers `topic` allow it.
    ///
    /// # Errors
    /// Why not.
    pub fn check_use(&self, filter: &str, topic: &str) -> Result<(), &'static str> {
        match self {
            Self::Rmqtt => rmqtt::check_use(filter, topic),
            Self::Fleetbadge | Self::Emqx | Self::Rabbitmq { .. } | Self::Hivemq | Self::AzureEventGrid => {
                Ok(())
            }
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
            Self::Rabbitmq { vhost } => rabbitmq::write(content, vhost, &mut payload)?,
            Self::Rmqtt => rmqtt::write(content, &mut payload)?,
            Self::Hivemq => hivemq::write(content, &mut payload)?,
            Self::AzureEventGrid => azure_event_grid::write(content, &mut payload)?,
        }
        Ok(payload)
    }
}

/// What a filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Publish,
    Subscribe,
}

/// What is wrong with a filter, if anything.
type Checked = Result<(), &'static str>;

fn parse_vhost(name: String) -> Result<Box<str>, InvalidProfile> {
    let is_vhost = (1..=MAX_VHOST_LENGTH).contains(&name.len())
        && !name.chars().any(|c| c.is_control() || matches!(c, '{' | '}'));
    if is_vhost { Ok(name.into()) } else { Err(InvalidProfile::Vhost { found: name }) }
}

/// EMQX and rmqtt take a rule that begins with `eq ` literally, up to the
/// wildcards in it.
fn check_no_eq(filter: &FilterTemplate) -> Checked {
    let first_level = filter.as_str().split('/').next().unwrap_or_default();
    // A name put in front of a space could be, or end in, "eq".
    let may_be_eq =
        first_level.starts_with("eq ") || (first_level.contains("${") && first_level.contains(' '));
    if may_be_eq {
        return Err(
            "the broker takes what comes after \"eq \" literally; begin the filter with something else",
        );
    }
    Ok(())
}

/// EMQX and rmqtt compare a filter that a client subscribes to as if it were a
/// topic name, so that `+` in a rule takes a `#` for a level. Where nothing,
/// or only `#`, comes behind that `+`, more would be had than was granted.
fn takes_hash_for_a_level(filter: &FilterTemplate) -> bool {
    let filter = filter.as_str();
    let last = filter.strip_suffix("/#").unwrap_or(filter);
    last == "+" || last.ends_with("/+")
}

#[cfg(test)]
mod tests;
