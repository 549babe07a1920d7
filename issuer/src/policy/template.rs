//! Topic filters with placeholders: `devices/${clientid}/#`.
//!
//! A template is parsed once, when the group is set. Filling it in puts names
//! beside literal text and parses nothing again, and names have no character
//! that means anything in a topic, so no name can become a pattern or another
//! placeholder (CVE-2017-7650).

use std::fmt;

use fleetbadge_validator::ids::{
    AttributeName, AttributeValue, DeviceName, GroupName, MAX_NAME_LENGTH, MqttClientId,
};
use fleetbadge_validator::topic::{InvalidTopic, TopicFilter};

use super::Subject;
use crate::store::Attributes;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `${clientid}`: the MQTT client identifier of the token.
    ClientId,
    /// `${device}`: the name of the device.
    Device,
    /// `${group}`: the name of its group.
    Group,
    /// `${attr.NAME}`: an attribute of the device. A filter with one that the
    /// device does not have gives it nothing.
    Attribute(AttributeName),
}

impl Placeholder {
    /// Reads what stands between `${` and `}`.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "clientid" => Some(Self::ClientId),
            "device" => Some(Self::Device),
            "group" => Some(Self::Group),
            other => other.strip_prefix("attr.")?.parse().ok().map(Self::Attribute),
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
    /// Its attributes.
    pub attributes: &'a Attributes,
}

impl<'a> Names<'a> {
    /// Those of a device under one of its client identifiers.
    #[must_use]
    pub const fn of(subject: &Subject<'a>, client_id: &'a MqttClientId) -> Self {
        let Subject { device, group, attributes, .. } = *subject;
        Self { client_id, device, group, attributes }
    }

    fn get(&self, placeholder: &Placeholder) -> Option<&'a str> {
        match placeholder {
            Placeholder::ClientId => Some(self.client_id.as_str()),
            Placeholder::Device => Some(self.device.as_str()),
            Placeholder::Group => Some(self.group.as_str()),
            Placeholder::Attribute(name) => self.attributes.get(name).map(AttributeValue::as_str),
        }
    }
}

/// A string is not a template of a topic filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A placeholder that does not exist.
    #[error(
        "has the placeholder {found:?}; known are ${{clientid}}, ${{device}}, ${{group}} and ${{attr.NAME}}"
    )]
    UnknownPlaceholder {
        /// What stands there.
        found: String,
    },
    /// `${` without `}`.
    #[error("has a \"${{\" without a closing brace")]
    Unterminated,
    /// What looks like a placeholder of brokers, and is none here.
    #[error("has {found:?}, which is no placeholder here; write {instead:?}")]
    ForeignPlaceholder {
        /// What stands there.
        found: &'static str,
        /// What is meant.
        instead: &'static str,
    },
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
            let placeholder = Placeholder::parse(name)
                .ok_or_else(|| InvalidTemplate::UnknownPlaceholder { found: format!("${{{name}}}") })?;
            parts.push(Part::Placeholder(placeholder));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        let template = Self { text: text.into(), parts: parts.into() };
        template.refuse_foreign_placeholders()?;
        template.check_first_level()?;
        // A name is made of characters that are nothing special in a topic:
        // what holds for the longest holds for all.
        TopicFilter::parse(&template.longest())?;
        Ok(template)
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The topic filter of one device; none if it lacks an attribute.
    #[must_use]
    pub fn fill(&self, names: &Names<'_>) -> Option<String> {
        let pieces = || self.parts.iter().map(|part| part.fill(names));
        let mut filter = String::with_capacity(pieces().map(|piece| piece.map_or(0, str::len)).sum());
        for piece in pieces() {
            filter.push_str(piece?);
        }
        Some(filter)
    }

    /// The filter with the longest names that there can be.
    pub(crate) fn longest(&self) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text,
                Part::Placeholder(_) => LONGEST_NAME,
            })
            .collect()
    }

    /// The text between the names.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(&**text),
            Part::Placeholder(_) => None,
        })
    }

    /// The attributes that a device needs for it.
    pub fn attributes(&self) -> impl Iterator<Item = &AttributeName> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(Placeholder::Attribute(name)) => Some(name),
            Part::Placeholder(Placeholder::ClientId | Placeholder::Device | Placeholder::Group)
            | Part::Literal(_) => None,
        })
    }

    /// `%c` and `$clientid` are placeholders of brokers; here they would be
    /// topics that nobody meant.
    fn refuse_foreign_placeholders(&self) -> Result<(), InvalidTemplate> {
        const FOREIGN: [(&str, &str); 4] = [
            ("%c", "${clientid}"),
            ("%u", "${device}"),
            ("$clientid", "${clientid}"),
            ("$username", "${device}"),
        ];
        let has = |foreign: &str| self.literals().any(|text| text.split('/').any(|level| level == foreign));
        match FOREIGN.into_iter().find(|(found, _)| has(found)) {
            Some((found, instead)) => Err(InvalidTemplate::ForeignPlaceholder { found, instead }),
            None => Ok(()),
        }
    }

    fn check_first_level(&self) -> Result<(), InvalidTemplate> {
        let first_level = self.text.split('/').next().unwrap_or_default();
        let begins_with_dollar =
            matches!(self.parts.first(), Some(Part::Literal(text)) if text.starts_with('$'));
        if begins_with_dollar && first_level.contains("${") {
            return Err(InvalidTemplate::PlaceholderInDollarLevel);
        }
        Ok(())
    }
}

impl Part {
    fn fill<'a>(&'a self, names: &Names<'a>) -> Option<&'a str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Placeholder(placeholder) => names.get(placeholder),
        }
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

#[cfg(test)]
mod tests {
    use fleetbadge_validator::ids::check_name;
    use proptest::prelude::*;

    use super::*;

    fn filled(template: &str, client_id: &str) -> String {
        filled_if_possible(template, client_id).unwrap()
    }

    fn filled_if_possible(template: &str, client_id: &str) -> Option<String> {
        let template = FilterTemplate::parse(template).unwrap();
        template.fill(&Names {
            client_id: &client_id.parse().unwrap(),
            device: &"pump-1".parse().unwrap(),
            group: &"pumps".parse().unwrap(),
            attributes: &[("site".parse().unwrap(), "north".parse().unwrap())].into(),
        })
    }

    #[test]
    fn an_attribute_that_is_missing_gives_nothing() {
        assert_eq!(filled("sites/${attr.site}/#", "c1"), "sites/north/#");
        assert_eq!(filled_if_possible("sites/${attr.site}/${attr.line}", "c1"), None);
        let template = FilterTemplate::parse("${attr.site}/${attr.line}/${device}").unwrap();
        assert_eq!(template.attributes().map(AttributeName::as_str).collect::<Vec<_>>(), ["site", "line"]);
    }

    #[test]
    fn placeholders_of_brokers_are_refused() {
        for (text, instead) in [("a/%c", "${clientid}"), ("%u/a", "${device}"), ("$clientid", "${clientid}")]
        {
            let error = FilterTemplate::parse(text).unwrap_err().to_string();
            assert!(error.contains(instead), "{text}: {error}");
        }
        assert!(FilterTemplate::parse("a/100%complete").is_ok());
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
            "has the placeholder \"${client_id}\"; known are ${clientid}, ${device}, ${group} and ${attr.NAME}"
        );
        assert_eq!(
            refused("a/${}"),
            "has the placeholder \"${}\"; known are ${clientid}, ${device}, ${group} and ${attr.NAME}"
        );
        assert!(refused("a/${attr.a/b}").contains("${attr.a/b}"));
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
