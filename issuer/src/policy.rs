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

mod document;
mod template;

pub use document::{InvalidPolicy, MAX_AUDIENCES, MAX_FILTERS, MIN_TOKEN_LIFETIME_S, PolicyDocument};
pub(crate) use document::{MAX_AUDIENCE_LENGTH, check_audience};
pub(crate) use template::LONGEST_NAME;
pub use template::{FilterTemplate, InvalidTemplate, Names, Placeholder};

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

impl Policy {
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

#[cfg(test)]
mod tests;
