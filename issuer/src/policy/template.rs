//! Topic filters with placeholders: `devices/${clientid}/#`.
//!
//! A template is parsed once, when the group is set. Filling it in puts names
//! beside literal text and parses nothing again, and names have no character
//! that means anything in a topic, so no name can become a pattern or another
//! placeholder (CVE-2017-7650).

use std::fmt;

use fleetbadge_validator::ids::{DeviceName, GroupName, MAX_NAME_LENGTH, MqttClientId};
use fleetbadge_validator::topic::{InvalidTopic, TopicFilter};

/// A topic filter with names still to be put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterTemplate {
    text: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Placeholder(Placeholder),
}

/// A name to be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `${clientid}`: the MQTT client identifier of the token.
    ClientId,
    /// `${device}`: the name of the device.
    Device,
    /// `${group}`: the name of its group.
    Group,
}

impl Placeholder {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ClientId, Self::Device, Self::Group];

    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientId => "${clientid}",
            Self::Device => "${device}",
            Self::Group => "${group}",
        }
    }
}

/// The names of one device, for one token.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// As whom the device connects.
    pub client_id: &'a MqttClientId,
    /// The device.
    pub device: &'a DeviceName,
    /// Its group.
    pub group: &'a GroupName,
}

impl<'a> Names<'a> {
    fn get(&self, placeholder: Placeholder) -> &'a str {
        match placeholder {
            Placeholder::ClientId => self.client_id.as_str(),
            Placeholder::Device => self.device.as_str(),
            Placeholder::Group => self.group.as_str(),
        }
    }
}

/// A string is not a template of a topic filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A placeholder that does not exist.
    #[error("has the placeholder {found:?}; known are {}", known_placeholders())]
    UnknownPlaceholder {
        /// What stands there.
        found: String,
    },
    /// `${` without `}`.
    #[error("has a \"${{\" without a closing brace")]
    Unterminated,
    /// A name in the first level of a `$`-topic could make it mean another
    /// one, `$share` for instance.
    #[error("has a placeholder in a first level that begins with '$'")]
    PlaceholderInDollarLevel,
    /// With names put in, it is no topic filter.
    #[error("{0}")]
    Topic(#[from] InvalidTopic),
}

impl FilterTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`InvalidTemplate`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once("${") {
            let (name, behind) = after.split_once('}').ok_or(InvalidTemplate::Unterminated)?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            let found = format!("${{{name}}}");
            let placeholder = Placeholder::ALL.into_iter().find(|known| known.as_str() == found);
            parts.push(Part::Placeholder(placeholder.ok_or(InvalidTemplate::UnknownPlaceholder { found })?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        let template = Self { text: text.into(), parts: parts.into() };
        template.check_first_level()?;
        // A name is made of characters that are nothing special in a topic:
        // what holds for the longest holds for all.
        TopicFilter::parse(&template.fill_with(|_| LONGEST_NAME))?;
        Ok(template)
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The topic filter of one device.
    #[must_use]
    pub fn fill(&self, names: &Names<'_>) -> String {
        self.fill_with(|placeholder| names.get(placeholder))
    }

    fn fill_with<'a>(&'a self, name: impl Fn(Placeholder) -> &'a str) -> String {
        let pieces = || {
            self.parts.iter().map(|part| match part {
                Part::Literal(text) => text,
                Part::Placeholder(placeholder) => name(*placeholder),
            })
        };
        let mut filter = String::with_capacity(pieces().map(str::len).sum());
        filter.extend(pieces());
        filter
    }

    fn check_first_level(&self) -> Result<(), InvalidTemplate> {
        let first_level = self.text.split('/').next().unwrap_or_default();
        let is_literal = !Placeholder::ALL.iter().any(|known| first_level.contains(known.as_str()));
        let begins_with_dollar =
            matches!(self.parts.first(), Some(Part::Literal(text)) if text.starts_with('$'));
        if begins_with_dollar && !is_literal {
            return Err(InvalidTemplate::PlaceholderInDollarLevel);
        }
        Ok(())
    }
}

impl fmt::Display for FilterTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A name of [`MAX_NAME_LENGTH`] characters.
pub(crate) const LONGEST_NAME: &str = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";
const _: () = assert!(LONGEST_NAME.len() == MAX_NAME_LENGTH);

fn known_placeholders() -> String {
    Placeholder::ALL.map(Placeholder::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use fleetbadge_validator::ids::check_name;
    use proptest::prelude::*;

    use super::*;

    fn filled(template: &str, client_id: &str) -> String {
        let template = FilterTemplate::parse(template).unwrap();
        template.fill(&Names {
            client_id: &client_id.parse().unwrap(),
            device: &"pump-1".parse().unwrap(),
            group: &"pumps".parse().unwrap(),
        })
    }

    #[test]
    fn names_are_put_in() {
        assert_eq!(filled("devices/${clientid}/#", "c1"), "devices/c1/#");
        assert_eq!(filled("${group}/${device}-${clientid}/+", "c1"), "pumps/pump-1-c1/+");
        assert_eq!(filled("plain/+/$x", "c1"), "plain/+/$x");
        assert_eq!(filled("$SYS/${device}", "c1"), "$SYS/pump-1");
    }

    #[test]
    fn what_is_refused_says_why() {
        let refused = |text| FilterTemplate::parse(text).unwrap_err().to_string();
        assert_eq!(
            refused("a/${client_id}"),
            "has the placeholder \"${client_id}\"; known are ${clientid}, ${device}, ${group}"
        );
        assert_eq!(
            refused("a/${}"),
            "has the placeholder \"${}\"; known are ${clientid}, ${device}, ${group}"
        );
        assert!(refused("a/${device").contains("closing brace"));
        assert!(refused("a/#/b").contains('#'));
        assert!(refused("a/+${device}").contains("wildcard"));
        assert!(refused("").contains("empty"));
        assert!(refused("$share/g/t").contains("$share"));
        assert!(refused("$sh${device}/g/t").contains("first level"));
        assert!(refused(&format!("{}${{device}}", "x".repeat(65_535 - 63))).contains("65535"));
    }

    proptest! {
        #[test]
        fn no_name_becomes_a_pattern(
            client_id in "[A-Za-z0-9_~.:-]{1,64}".prop_filter("is a name", |text| check_name(text).is_ok()),
        ) {
            let filter = filled("a/${clientid}/b", &client_id);
            let levels: Vec<&str> = filter.split('/').collect();
            prop_assert_eq!(levels, ["a", client_id.as_str(), "b"]);
            prop_assert!(TopicFilter::parse(&filter).is_ok());
        }
    }
}
