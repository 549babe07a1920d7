//! OAuth scope: which of the three things a token is for.
//!
//! The grammar is RFC 6749 §3.3: case-sensitive words of `%x21 / %x23-5B /
//! %x5D-7E`, one space between two of them. A word counts only when it is
//! equal to one of ours, byte for byte: `mqtt.connected` grants nothing.

use std::fmt;

/// One of the scope words that Fleetbadge knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ScopeWord {
    /// Open an MQTT connection. Without it no broker lets the device in.
    MqttConnect = 1,
    /// Publish to the topics of `acl.pub`.
    MqttPublish = 2,
    /// Subscribe to and receive from the topics of `acl.sub`.
    MqttSubscribe = 4,
}

impl ScopeWord {
    /// All of them, in the order in which a scope is written.
    pub const ALL: [Self; 3] = [Self::MqttConnect, Self::MqttPublish, Self::MqttSubscribe];

    /// The word as it stands in a `scope`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MqttConnect => "mqtt.connect",
            Self::MqttPublish => "mqtt.publish",
            Self::MqttSubscribe => "mqtt.subscribe",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// A set of [`ScopeWord`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope(u8);

/// A string is not a scope, or not one that can be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    /// The string does not follow RFC 6749 §3.3.
    #[error("scope is not a list of words with one space between them")]
    Grammar,
    /// A word that is none of ours.
    #[error("scope has {word:?}; known are mqtt.connect, mqtt.publish and mqtt.subscribe")]
    Unknown {
        /// The word.
        word: String,
    },
}

impl Scope {
    /// No word at all.
    pub const EMPTY: Self = Self(0);
    /// Every word.
    pub const ALL: Self =
        Self(ScopeWord::MqttConnect as u8 | ScopeWord::MqttPublish as u8 | ScopeWord::MqttSubscribe as u8);

    /// Reads the scope that a token carries. Words of others are passed over,
    /// as a token may serve other resource servers too.
    ///
    /// # Errors
    /// [`InvalidScope::Grammar`].
    pub fn from_claim(text: &str) -> Result<Self, InvalidScope> {
        let mut scope = Self::EMPTY;
        for word in words(text)? {
            if let Some(known) = ScopeWord::from_word(word) {
                scope = scope.with(known);
            }
        }
        Ok(scope)
    }

    /// Reads the scope that somebody asks for: every word must be known.
    ///
    /// # Errors
    /// [`InvalidScope`] says what is wrong.
    pub fn from_request(text: &str) -> Result<Self, InvalidScope> {
        let mut scope = Self::EMPTY;
        for word in words(text)? {
            let known =
                ScopeWord::from_word(word).ok_or_else(|| InvalidScope::Unknown { word: word.to_owned() })?;
            scope = scope.with(known);
        }
        Ok(scope)
    }

    /// Whether `word` is in the set.
    #[must_use]
    pub const fn contains(self, word: ScopeWord) -> bool {
        self.0 & word as u8 != 0
    }

    /// The set with `word` in it.
    #[must_use]
    pub const fn with(self, word: ScopeWord) -> Self {
        Self(self.0 | word as u8)
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is nothing in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The words, as they stand in a `scope`.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "a set has three bits")]
    pub const fn as_str(self) -> &'static str {
        const SETS: [&str; 8] = [
            "",
            "mqtt.connect",
            "mqtt.publish",
            "mqtt.connect mqtt.publish",
            "mqtt.subscribe",
            "mqtt.connect mqtt.subscribe",
            "mqtt.publish mqtt.subscribe",
            "mqtt.connect mqtt.publish mqtt.subscribe",
        ];
        SETS[self.0 as usize]
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn words(text: &str) -> Result<impl Iterator<Item = &str>, InvalidScope> {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E));
    if text.split(' ').all(is_word) { Ok(text.split(' ')) } else { Err(InvalidScope::Grammar) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_written_as_its_words() {
        for bits in 0..8 {
            let scope = Scope(bits);
            let words: Vec<_> = ScopeWord::ALL
                .into_iter()
                .filter(|word| scope.contains(*word))
                .map(ScopeWord::as_str)
                .collect();
            assert_eq!(scope.as_str(), words.join(" "));
        }
    }

    #[test]
    fn whole_words_only() {
        for text in
            ["mqtt.connected", "xmqtt.connect", "MQTT.CONNECT", "mqtt.connect,x", "mqtt.connect/x", "mqtt"]
        {
            assert_eq!(Scope::from_claim(text), Ok(Scope::EMPTY), "{text}");
        }
        let scope = Scope::from_claim("openid mqtt.connect other").unwrap();
        assert!(scope.contains(ScopeWord::MqttConnect));
        assert!(!scope.contains(ScopeWord::MqttPublish));
    }

    #[test]
    fn the_grammar_of_rfc_6749() {
        for text in [
            "",
            " ",
            " mqtt.connect",
            "mqtt.connect ",
            "mqtt.connect  x",
            "mqtt.connect\tx",
            "mqtt.connect\u{a0}x",
            "a\"b",
            "a\\b",
        ] {
            assert_eq!(Scope::from_claim(text), Err(InvalidScope::Grammar), "{text:?}");
        }
    }

    #[test]
    fn a_request_names_only_what_is_known() {
        assert_eq!(
            Scope::from_request("mqtt.subscribe mqtt.connect").unwrap().to_string(),
            "mqtt.connect mqtt.subscribe"
        );
        assert_eq!(
            Scope::from_request("mqtt.connect admin"),
            Err(InvalidScope::Unknown { word: "admin".into() })
        );
    }

    #[test]
    fn writing_and_reading_agree_for_every_set() {
        for bits in 1..8 {
            assert_eq!(Scope::from_request(&Scope(bits).to_string()), Ok(Scope(bits)));
        }
    }
}
