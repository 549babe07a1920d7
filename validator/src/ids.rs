//! The names of things: devices, groups, brokers, attributes and MQTT clients.
//!
//! One alphabet for all of them, `[A-Za-z0-9_~.:-]`, 1 to 64 characters. None
//! of these characters means anything in a topic, an ACL template, a URL path
//! or a log line, so a name that is put into one of those stays a name
//! (CVE-2017-7650 is what happens otherwise). Names are compared byte for
//! byte: no case folding, no Unicode normalisation, no trimming.
//!
//! Those of up to 23 bytes are kept in place: an issuer looks at several names
//! for each token, and with many devices each look elsewhere is one past every
//! cache.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// The most characters that a name may have.
pub const MAX_NAME_LENGTH: usize = 64;

/// A string is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The string is empty.
    #[error("is empty; give it 1 to {MAX_NAME_LENGTH} characters")]
    Empty,
    /// The string is too long.
    #[error("has {length} characters; at most {MAX_NAME_LENGTH} are allowed")]
    TooLong {
        /// How long it is, in bytes.
        length: usize,
    },
    /// A character outside the alphabet.
    #[error("has {character:?} at position {position}; allowed are A-Z a-z 0-9 _ ~ . : -")]
    Character {
        /// The first offending character.
        character: char,
        /// Where it stands, counted from 1.
        position: usize,
    },
    /// `.` or `..`, which mean a folder in every URL path (RFC 3986 §3.3).
    #[error("means a folder in every path; choose another name")]
    DotSegment,
}

/// Checks the alphabet and the length of a name.
///
/// # Errors
/// [`InvalidName`] says what is wrong.
pub fn check_name(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    let offending = text
        .char_indices()
        .find(|(_, c)| !matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '~' | '.' | ':' | '-'));
    if let Some((position, character)) = offending {
        // What stands before it is ASCII.
        return Err(InvalidName::Character { character, position: position + 1 });
    }
    if text.len() > MAX_NAME_LENGTH {
        return Err(InvalidName::TooLong { length: text.len() });
    }
    if matches!(text, "." | "..") { Err(InvalidName::DotSegment) } else { Ok(()) }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(SmolStr);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check_name(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                check_name(&text)?;
                Ok(Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// The name of a device: its OAuth `client_id`, and the `sub` of its tokens.
    DeviceName
}
name_type! {
    /// An MQTT client identifier (MQTT 5 §3.1.3.1) that a device may connect as.
    MqttClientId
}
name_type! {
    /// The name of a group: the part of the fleet that shares a policy.
    GroupName
}
name_type! {
    /// The name of a broker: its OAuth `client_id` as a resource server.
    BrokerName
}
name_type! {
    /// The name of an attribute of devices.
    AttributeName
}
name_type! {
    /// The value of an attribute: put into topics, as names are.
    AttributeValue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_names() {
        for name in ["a", "pump-1", "A.b:c_d~e", &"x".repeat(64)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn nothing_that_a_topic_a_template_or_a_log_could_read_as_more_than_a_name() {
        let bad = [
            "+",
            "#",
            "a/b",
            "%c",
            "${x}",
            ".*|",
            "a|b",
            "^a",
            "a b",
            "a ",
            " a",
            "a\0",
            "a\n",
            "ä",
            "ａ",
            "a\u{200b}",
            "*",
            "\\",
        ];
        for name in bad {
            assert!(matches!(check_name(name), Err(InvalidName::Character { .. })), "{name:?}");
        }
        assert_eq!(check_name(""), Err(InvalidName::Empty));
        for name in [".", ".."] {
            assert_eq!(check_name(name), Err(InvalidName::DotSegment));
        }
        assert_eq!(check_name(&"x".repeat(65)), Err(InvalidName::TooLong { length: 65 }));
    }

    #[test]
    fn a_refused_name_says_where() {
        let error = "pump/1".parse::<DeviceName>().unwrap_err();
        assert_eq!(error.to_string(), "has '/' at position 5; allowed are A-Z a-z 0-9 _ ~ . : -");
    }
}
