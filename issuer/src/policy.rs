//! Who may have which scope and which topics: a pure decision.
//!
//! A group carries a [`Policy`]. A token request names what it wants less of
//! (RFC 6749 §3.3); [`Policy::grant`] says what the device gets:
//!
//! 1. the MQTT client identifier: a registered one, the first unless asked;
//! 2. the scope: the group's, or the part of it that was asked for;
//! 3. the topics: the group's filters with the names put in, `pub` only with
//!    `mqtt.publish` and `sub` only with `mqtt.subscribe`.
//!
//! Which broker the token is for is decided before, see [`Policy::audience`];
//! how it is written for that broker after, see [`crate::profile`].

use fleetbadge_validator::ids::{DeviceName, GroupName, MqttClientId};
use fleetbadge_validator::scope::{InvalidScope, Scope, ScopeWord};
use serde::{Deserialize, Serialize};

use crate::store::{Attributes, DeviceRecord};

pub(crate) mod explain;
mod template;

pub(crate) use template::LONGEST_NAME;
pub use template::{FilterTemplate, InvalidTemplate, Names, Placeholder};

/// The most filters that a policy may have in each direction.
pub const MAX_FILTERS: usize = 64;
/// The shortest life of a token that can be configured, in seconds: what tests
/// of renewals want. A fleet wants minutes.
pub const MIN_TOKEN_LIFETIME_S: u64 = 1;
/// The most audiences that a policy may have.
pub const MAX_AUDIENCES: usize = 16;
/// The most bytes that an audience may have.
pub(crate) const MAX_AUDIENCE_LENGTH: usize = 255;

/// What the devices of a group may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which topics a device may publish to.
    pub publish: Vec<FilterTemplate>,
    /// What a device may subscribe to.
    pub subscribe: Vec<FilterTemplate>,
    /// What a token may be for.
    pub scope: Scope,
    /// Which brokers the tokens may be for: their `aud`, the first unless
    /// asked. Never empty.
    pub audiences: Vec<Box<str>>,
    /// How long a token is good, in seconds.
    pub token_lifetime_s: u64,
    /// When agents are to renew a token.
    pub refresh_window: RefreshWindow,
    /// Whether devices may have static passwords, which registered brokers
    /// exchange for tokens.
    pub static_passwords: bool,
    /// Whether a device may itself exchange its static password for a token:
    /// for old firmware, as RFC 9700 §2.4 forbids it for users.
    pub device_password_grant: bool,
}

/// In which part of a token's life agents are to renew it, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshWindow {
    /// Not before.
    pub from_percent: u8,
    /// Not after.
    pub to_percent: u8,
}

impl Default for RefreshWindow {
    fn default() -> Self {
        Self { from_percent: 50, to_percent: 80 }
    }
}

impl RefreshWindow {
    /// The window of a token that is good for so many seconds: seconds after
    /// it was issued.
    #[must_use]
    pub fn of_lifetime(self, lifetime_s: u64) -> (u64, u64) {
        let part = |percent: u8| lifetime_s * u64::from(percent) / 100;
        (part(self.from_percent), part(self.to_percent))
    }
}

/// A [`Policy`] as the admin API, the CLI and the database write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Filters, with placeholders.
    pub publish: Vec<String>,
    /// Filters, with placeholders.
    pub subscribe: Vec<String>,
    /// Scope words with one space between them.
    pub scope: String,
    /// The `aud` that tokens may have, the first by default.
    pub audiences: Vec<String>,
    /// The life of tokens, in seconds.
    pub token_lifetime_s: u64,
    /// When agents are to renew, in percent of the life.
    #[serde(default)]
    pub refresh_window: RefreshWindow,
    /// Whether devices may have static passwords.
    #[serde(default)]
    pub static_passwords: bool,
    /// Whether a device may itself exchange its static password.
    #[serde(default)]
    pub device_password_grant: bool,
}

/// A document is not a policy. Each variant begins with the field's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages say")]
pub enum InvalidPolicy {
    /// A filter cannot be used.
    #[error("{field}: {filter:?} {reason}")]
    Filter { field: &'static str, filter: String, reason: InvalidTemplate },
    /// A filter stands twice.
    #[error("{field}: {filter:?} is there twice")]
    DuplicateFilter { field: &'static str, filter: String },
    /// More than [`MAX_FILTERS`].
    #[error("{field}: has {count} filters; at most {MAX_FILTERS} are allowed")]
    TooManyFilters { field: &'static str, count: usize },
    /// Not a scope, or an unknown word in it.
    #[error("{0}")]
    Scope(#[from] InvalidScope),
    /// Empty, too long, or with characters that do not belong there.
    #[error("audiences: {audience:?} is not 1 to {MAX_AUDIENCE_LENGTH} visible ASCII characters")]
    Audience { audience: String },
    /// That of the tokens for the issuer itself.
    #[error(
        "audiences: {audience:?} is this issuer, for which devices have tokens to manage their keys with"
    )]
    IssuerAudience { audience: String },
    /// None at all, too many, or one twice.
    #[error("audiences: {found:?} are not 1 to {MAX_AUDIENCES} different ones")]
    Audiences { found: Vec<String> },
    /// A scope that lets a device do nothing anywhere.
    #[error("scope: {found:?} lacks mqtt.connect, without which no broker lets a device in")]
    NoConnect { found: String },
    /// Not a part of the life.
    #[error("refresh_window: {from_percent} to {to_percent} percent is not a window between 1 and 95")]
    RefreshWindow { from_percent: u8, to_percent: u8 },
    /// A right that hangs in the air.
    #[error("device_password_grant: needs static_passwords, which this group does not have")]
    NoStaticPasswords,
    /// A rule that a broker among the audiences cannot express exactly.
    #[error("{field}: {rule:?} cannot be had for audience {audience:?} ({profile}): {reason}")]
    Inexpressible {
        field: &'static str,
        rule: String,
        audience: String,
        profile: &'static str,
        reason: &'static str,
    },
    /// Too short or too long.
    #[error(
        "token_lifetime_s: {found} is not between {MIN_TOKEN_LIFETIME_S} and {max} (max_token_lifetime_s)"
    )]
    Lifetime { found: u64, max: u64 },
    /// Devices could be registered whose tokens are too large to be minted.
    #[error(
        "publish, subscribe: the token of a device with the longest names would have {length} bytes, at most \
         {max} are minted; use fewer or shorter filters"
    )]
    TokenTooLarge { length: usize, max: usize },
}

impl InvalidPolicy {
    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Filter { field, .. }
            | Self::DuplicateFilter { field, .. }
            | Self::TooManyFilters { field, .. } => field,
            Self::Inexpressible { field, .. } => field,
            Self::Scope(_) | Self::NoConnect { .. } => "scope",
            Self::Audience { .. } | Self::IssuerAudience { .. } | Self::Audiences { .. } => "audiences",
            Self::RefreshWindow { .. } => "refresh_window",
            Self::NoStaticPasswords => "device_password_grant",
            Self::Lifetime { .. } => "token_lifetime_s",
            Self::TokenTooLarge { .. } => "publish",
        }
    }
}

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    /// [`InvalidPolicy`] says which field is wrong.
    pub fn from_document(
        document: &PolicyDocument,
        max_token_lifetime_s: u64,
    ) -> Result<Self, InvalidPolicy> {
        let lifetime_s = document.token_lifetime_s;
        if !(MIN_TOKEN_LIFETIME_S..=max_token_lifetime_s).contains(&lifetime_s) {
            return Err(InvalidPolicy::Lifetime { found: lifetime_s, max: max_token_lifetime_s });
        }
        let scope = Scope::from_request(&document.scope)?;
        if !scope.contains(ScopeWord::MqttConnect) {
            return Err(InvalidPolicy::NoConnect { found: document.scope.clone() });
        }
        let RefreshWindow { from_percent, to_percent } = document.refresh_window;
        if from_percent < 1 || from_percent > to_percent || to_percent > 95 {
            return Err(InvalidPolicy::RefreshWindow { from_percent, to_percent });
        }
        if document.device_password_grant && !document.static_passwords {
            return Err(InvalidPolicy::NoStaticPasswords);
        }
        Ok(Self {
            publish: parse_filters("publish", &document.publish)?,
            subscribe: parse_filters("subscribe", &document.subscribe)?,
            scope,
            audiences: parse_audiences(&document.audiences)?,
            token_lifetime_s: lifetime_s,
            refresh_window: document.refresh_window,
            static_passwords: document.static_passwords,
            device_password_grant: document.device_password_grant,
        })
    }

    /// The document that reads as this policy.
    #[must_use]
    pub fn to_document(&self) -> PolicyDocument {
        let write = |filters: &[FilterTemplate]| filters.iter().map(|f| f.as_str().to_owned()).collect();
        PolicyDocument {
            publish: write(&self.publish),
            subscribe: write(&self.subscribe),
            scope: self.scope.to_string(),
            audiences: self.audiences.iter().map(ToString::to_string).collect(),
            token_lifetime_s: self.token_lifetime_s,
            refresh_window: self.refresh_window,
            static_passwords: self.static_passwords,
            device_password_grant: self.device_password_grant,
        }
    }

    /// The audience of a token: the one that was asked for, the first unless
    /// one was. None if the group does not have it.
    #[must_use]
    pub fn audience(&self, wanted: Option<&str>) -> Option<&str> {
        let mut audiences = self.audiences.iter().map(AsRef::as_ref);
        match wanted {
            None => audiences.next(),
            Some(wanted) => audiences.find(|audience| *audience == wanted),
        }
    }

    /// Decides what `subject` gets of what it asks for.
    ///
    /// # Errors
    /// [`Refusal`] says what it cannot have.
    pub fn grant<'a>(&self, subject: &Subject<'a>, request: &Request<'_>) -> Result<Grant<'a>, Refusal> {
        let mqtt_client_id = match request.mqtt_client_id {
            None => subject.mqtt_client_ids.first(),
            Some(wanted) => subject.mqtt_client_ids.iter().find(|id| id.as_str() == wanted),
        }
        .ok_or(Refusal::MqttClientIdNotRegistered)?;
        let scope = match request.scope {
            None => self.scope,
            Some(wanted) => {
                let wanted = Scope::from_request(wanted)?;
                if wanted.intersection(self.scope) != wanted {
                    return Err(Refusal::ScopeNotGranted { wanted, of_group: self.scope });
                }
                wanted
            }
        };
        Ok(self.granted(subject, mqtt_client_id, scope))
    }

    /// What a device of the group gets under this client identifier and with
    /// this scope.
    fn granted<'a>(
        &self,
        subject: &Subject<'a>,
        mqtt_client_id: &'a MqttClientId,
        scope: Scope,
    ) -> Grant<'a> {
        let Subject { device, group, .. } = *subject;
        let names = Names::of(subject, mqtt_client_id);
        let filters = |word, templates: &[FilterTemplate]| -> Vec<String> {
            if !scope.contains(word) {
                return Vec::new();
            }
            templates.iter().filter_map(|template| template.fill(&names)).collect()
        };
        Grant {
            device,
            group,
            mqtt_client_id,
            scope,
            publish: filters(ScopeWord::MqttPublish, &self.publish),
            subscribe: filters(ScopeWord::MqttSubscribe, &self.subscribe),
        }
    }
}

/// Who asks: a device that has proven who it is.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name.
    pub device: &'a DeviceName,
    /// Its group.
    pub group: &'a GroupName,
    /// As whom it may connect; the first is the default.
    pub mqtt_client_ids: &'a [MqttClientId],
    /// What is known of it.
    pub attributes: &'a Attributes,
}

impl<'a> From<&'a DeviceRecord> for Subject<'a> {
    fn from(device: &'a DeviceRecord) -> Self {
        Self {
            device: &device.name,
            group: &device.group,
            mqtt_client_ids: &device.mqtt_client_ids,
            attributes: &device.attributes,
        }
    }
}

/// What a token request asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The `scope` parameter.
    pub scope: Option<&'a str>,
    /// The `mqtt_client_id` parameter.
    pub mqtt_client_id: Option<&'a str>,
}

/// What a token is to say about its device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the claims, by their meaning in `fleetbadge_validator::claims`")]
pub struct Grant<'a> {
    pub device: &'a DeviceName,
    pub group: &'a GroupName,
    pub mqtt_client_id: &'a MqttClientId,
    pub scope: Scope,
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
}

/// A device cannot have what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `mqtt_client_id` is none of the registered ones.
    #[error("mqtt_client_id is not registered for this device")]
    MqttClientIdNotRegistered,
    /// `scope` is malformed or has an unknown word.
    #[error("{0}")]
    InvalidScope(#[from] InvalidScope),
    /// `scope` has a word that the group does not have.
    #[error("the device may have the scope {of_group}, not {wanted}")]
    ScopeNotGranted {
        /// What was asked for.
        wanted: Scope,
        /// What could be had.
        of_group: Scope,
    },
}

fn parse_audiences(audiences: &[String]) -> Result<Vec<Box<str>>, InvalidPolicy> {
    let mut parsed: Vec<Box<str>> = Vec::with_capacity(audiences.len());
    for audience in audiences {
        check_audience(audience)?;
        if parsed.iter().any(|known| **known == **audience) {
            return Err(InvalidPolicy::Audiences { found: audiences.into() });
        }
        parsed.push(audience.as_str().into());
    }
    if (1..=MAX_AUDIENCES).contains(&parsed.len()) {
        Ok(parsed)
    } else {
        Err(InvalidPolicy::Audiences { found: audiences.into() })
    }
}

/// Checks that a string can be an `aud`.
pub(crate) fn check_audience(audience: &str) -> Result<(), InvalidPolicy> {
    if audience.is_empty()
        || audience.len() > MAX_AUDIENCE_LENGTH
        || !audience.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(InvalidPolicy::Audience { audience: audience.into() });
    }
    Ok(())
}

fn parse_filters(field: &'static str, filters: &[String]) -> Result<Vec<FilterTemplate>, InvalidPolicy> {
    if filters.len() > MAX_FILTERS {
        return Err(InvalidPolicy::TooManyFilters { field, count: filters.len() });
    }
    let mut templates: Vec<FilterTemplate> = Vec::with_capacity(filters.len());
    for filter in filters {
        let template = FilterTemplate::parse(filter).map_err(|reason| InvalidPolicy::Filter {
            field,
            filter: filter.clone(),
            reason,
        })?;
        if templates.contains(&template) {
            return Err(InvalidPolicy::DuplicateFilter { field, filter: filter.clone() });
        }
        templates.push(template);
    }
    Ok(templates)
}

#[cfg(test)]
mod tests;
