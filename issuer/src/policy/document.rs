//! How a policy is written, and what is wrong with one that cannot be read.

use fleetbadge_validator::scope::{InvalidScope, Scope, ScopeWord};
use serde::{Deserialize, Serialize};

use super::{FilterTemplate, InvalidTemplate, Policy, RefreshWindow};

/// The most filters that a policy may have in each direction.
pub const MAX_FILTERS: usize = 64;
/// The shortest life of a token that can be configured, in seconds: what tests
/// of renewals want. A fleet wants minutes.
pub const MIN_TOKEN_LIFETIME_S: u64 = 1;
/// The most audiences that a policy may have.
pub const MAX_AUDIENCES: usize = 16;
/// The most bytes that an audience may have.
pub(crate) const MAX_AUDIENCE_LENGTH: usize = 255;

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
