//! Which names the devices of an enrolment may have.

use std::fmt;

use aws_lc_rs::rand::SecureRandom;
use fleetbadge_validator::ids::{InvalidName, check_name};
use serde::{Deserialize, Serialize};

use crate::random::{NoRandomness, random_bytes};

/// How many characters the issuer puts in the place of a `*`: 60 random bits.
const ASSIGNED_LENGTH: usize = 12;

/// Which names devices may have: a name, or one with a `*` that stands for one
/// or more characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(Box<str>);

/// A string is not a pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNamePattern {
    /// More than one `*`.
    #[error("has {count} times '*'; at most one is allowed")]
    Stars {
        /// How many.
        count: usize,
    },
    /// With something in the place of the `*` it is no name.
    #[error("{reason}")]
    Name {
        /// Why not.
        reason: InvalidName,
    },
    /// Too long for the name that the issuer would assign.
    #[error("is too long: with the {ASSIGNED_LENGTH} characters that stand for '*', {reason}")]
    NoRoom {
        /// What is wrong with such a name.
        reason: InvalidName,
    },
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`InvalidNamePattern`].
    pub fn parse(text: &str) -> Result<Self, InvalidNamePattern> {
        let count = text.matches('*').count();
        if count > 1 {
            return Err(InvalidNamePattern::Stars { count });
        }
        check_name(&text.replace('*', "a")).map_err(|reason| InvalidNamePattern::Name { reason })?;
        check_name(&text.replace('*', &"a".repeat(ASSIGNED_LENGTH)))
            .map_err(|reason| InvalidNamePattern::NoRoom { reason })?;
        Ok(Self(text.into()))
    }

    /// How it is written.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one name and no other.
    #[must_use]
    pub fn is_one_name(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether a device may have this name.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        match self.0.split_once('*') {
            None => name == &*self.0,
            Some((prefix, suffix)) => {
                let middle = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
                middle.is_some_and(|middle| !middle.is_empty())
            }
        }
    }

    /// A name that it allows, its `*` replaced by random characters.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn draw(&self, random: &dyn SecureRandom) -> Result<String, NoRandomness> {
        // RFC 4648 §6 in lower case.
        const ALPHABET: [u8; 32] = *b"abcdefghijklmnopqrstuvwxyz234567";
        let bytes: [u8; ASSIGNED_LENGTH] = random_bytes(random)?;
        let character = |byte: u8| ALPHABET.get(usize::from(byte % 32)).copied().map(char::from);
        Ok(self.0.replace('*', &bytes.into_iter().filter_map(character).collect::<String>()))
    }
}

impl TryFrom<String> for NamePattern {
    type Error = InvalidNamePattern;

    fn try_from(text: String) -> Result<Self, InvalidNamePattern> {
        Self::parse(&text)
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.0.into()
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;

    use super::*;

    fn pattern(text: &str) -> NamePattern {
        NamePattern::parse(text).unwrap()
    }

    #[test]
    fn a_pattern_is_a_name_or_one_with_a_star() {
        for good in ["pump-1", "*", "pump-*", "*.north", "a*b", &format!("{}*", "x".repeat(52))] {
            assert_eq!(pattern(good).as_str(), good);
        }
        assert_eq!(NamePattern::parse("*-*"), Err(InvalidNamePattern::Stars { count: 2 }));
        for bad in ["", "pump/*", "pump #", "${x}*", ".", "ä*"] {
            assert!(matches!(NamePattern::parse(bad), Err(InvalidNamePattern::Name { .. })), "{bad}");
        }
        let no_room = NamePattern::parse(&format!("{}*", "x".repeat(53)));
        assert!(matches!(no_room, Err(InvalidNamePattern::NoRoom { .. })));
    }

    #[test]
    fn what_a_pattern_allows() {
        assert!(pattern("pump-1").allows("pump-1"));
        assert!(!pattern("pump-1").allows("pump-11"));
        assert!(pattern("a*b").allows("axb"));
        for other in ["ab", "axbc", "xaxb", "AxB", "", "b", "a"] {
            assert!(!pattern("a*b").allows(other), "{other}");
        }
        // What stands before and after the star does not overlap.
        assert!(!pattern("aba*aba").allows("ababa"));
        assert!(!pattern("*").allows(""));
    }

    #[test]
    fn a_drawn_name_is_allowed_and_a_name() {
        #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable name")]
        let random = SystemRandom::new();
        for text in ["*", "pump-*", "*.north", &format!("{}*", "x".repeat(52))] {
            let name = pattern(text).draw(&random).unwrap();
            assert!(pattern(text).allows(&name) && check_name(&name).is_ok(), "{name}");
            assert_eq!(name.len(), text.len() - 1 + ASSIGNED_LENGTH);
        }
        assert_eq!(pattern("pump-1").draw(&random).unwrap(), "pump-1");
    }
}
