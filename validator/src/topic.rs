//! MQTT topic names and topic filters (MQTT 5 §4.7, §4.8.2; the same in 3.1.1).
//!
//! Both are views of text that somebody else owns; parsing checks once what
//! the comparisons then rely on. Levels are compared byte for byte, and no
//! text is ever taken for a pattern that did not stand in a filter as one:
//! `+` and `#` are wildcards only where they are a whole level.

use std::fmt;

/// The most bytes that a topic name or filter may have (MQTT 5 §4.7.3).
pub const MAX_TOPIC_LENGTH: usize = 65_535;

/// A topic name: what a message is published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicName<'a>(&'a str);

/// A topic filter: a set of topic names. Has no `$share/…` prefix, see
/// [`Subscription`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter<'a>(&'a str);

/// What a SUBSCRIBE asks for: a filter, possibly shared (MQTT 5 §4.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// The `ShareName`, if the subscription is shared.
    pub share_name: Option<&'a str>,
    /// Which messages are asked for.
    pub filter: TopicFilter<'a>,
}

/// A string is not a topic name, a topic filter or a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// The string is empty.
    #[error("is empty")]
    Empty,
    /// More than [`MAX_TOPIC_LENGTH`] bytes.
    #[error("has {length} bytes; at most {MAX_TOPIC_LENGTH} are allowed")]
    TooLong {
        /// How many it has.
        length: usize,
    },
    /// U+0000, a control character or a non-character (MQTT 5 §1.5.4).
    #[error("has the character U+{:04X}, which MQTT does not allow", *.0 as u32)]
    Character(char),
    /// A topic name with `+` or `#` in it.
    #[error("has a wildcard, which a topic name must not have")]
    WildcardInName,
    /// `+` or `#` that is not a whole level, or `#` that is not the last one.
    #[error("has a wildcard that is not a whole level, or a '#' before the end")]
    MisplacedWildcard,
    /// `$share` without a name, with a wildcard in the name, without a filter
    /// or inside another one.
    #[error("is not of the form $share/NAME/FILTER")]
    MalformedShare,
}

impl<'a> TopicName<'a> {
    /// Reads a topic name (MQTT 5 §4.7.3).
    ///
    /// # Errors
    /// [`InvalidTopic`] says what is wrong.
    pub fn parse(text: &'a str) -> Result<Self, InvalidTopic> {
        check_text(text)?;
        if text.bytes().any(|b| matches!(b, b'+' | b'#')) {
            return Err(InvalidTopic::WildcardInName);
        }
        Ok(Self(text))
    }

    /// The name as text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl<'a> TopicFilter<'a> {
    /// Reads a topic filter (MQTT 5 §4.7.1). `$share/…` is refused: as a rule
    /// it would grant nothing, as a request it is a [`Subscription`].
    ///
    /// # Errors
    /// [`InvalidTopic`] says what is wrong.
    pub fn parse(text: &'a str) -> Result<Self, InvalidTopic> {
        check_text(text)?;
        if text == "$share" || text.starts_with("$share/") {
            return Err(InvalidTopic::MalformedShare);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            let misplaced = match level {
                "+" => false,
                "#" => levels.peek().is_some(),
                other => other.bytes().any(|b| matches!(b, b'+' | b'#')),
            };
            if misplaced {
                return Err(InvalidTopic::MisplacedWildcard);
            }
        }
        Ok(Self(text))
    }

    /// A filter that [`TopicFilter::parse`] has accepted before.
    pub(crate) const fn parsed_before(text: &'a str) -> Self {
        Self(text)
    }

    /// The filter as text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether a message to `topic` is meant (MQTT 5 §4.7.1, §4.7.2).
    #[must_use]
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        let (mut filter, mut topic) = (self.0.as_bytes(), topic.0.as_bytes());
        if is_hidden_from_wildcards(topic) && starts_with_wildcard(filter) {
            return false;
        }
        // A wildcard never equals a byte of a topic name, so that walking over
        // what is equal stops in front of it, at the start of a level.
        loop {
            let equal = filter.iter().zip(topic).take_while(|(f, t)| f == t).count();
            (filter, topic) = (filter.split_at(equal).1, topic.split_at(equal).1);
            match filter {
                [] => return topic.is_empty(),
                [b'#', ..] => return true,
                // "a/#" means "a" too.
                [b'/', b'#'] => return topic.is_empty(),
                [b'+', rest @ ..] => {
                    let level = topic.iter().take_while(|b| **b != b'/').count();
                    (filter, topic) = (rest, topic.split_at(level).1);
                }
                _ => return false,
            }
        }
    }

    /// Whether every topic name that `other` matches is matched by this
    /// filter too: whoever may subscribe to this one may subscribe to `other`.
    #[must_use]
    pub fn covers(self, other: TopicFilter<'_>) -> bool {
        if is_hidden_from_wildcards(other.0.as_bytes()) && starts_with_wildcard(self.0.as_bytes()) {
            return false;
        }
        // No topic name is empty, so these are the same, written with the level
        // that cannot be missing.
        let other = match other.0 {
            "#" => "+/#",
            "/#" => "/+/#",
            text => text,
        };
        let (mut these, mut others) = (self.0.split('/'), other.split('/'));
        loop {
            match (these.next(), others.next()) {
                (Some("#"), _) | (None, None) => return true,
                // "#" also matches what has no further level, and what has
                // many: only "#" covers that.
                (_, Some("#")) => return false,
                (Some("+"), Some(_)) => {}
                (Some(this), Some(other)) if this == other => {}
                (Some(_), _) | (None, Some(_)) => return false,
            }
        }
    }
}

impl<'a> Subscription<'a> {
    /// Reads the topic filter field of a SUBSCRIBE.
    ///
    /// # Errors
    /// [`InvalidTopic`] says what is wrong.
    pub fn parse(text: &'a str) -> Result<Self, InvalidTopic> {
        let Some(shared) = text.strip_prefix("$share/") else {
            return Ok(Self { share_name: None, filter: TopicFilter::parse(text)? });
        };
        let (share_name, filter) = shared.split_once('/').ok_or(InvalidTopic::MalformedShare)?;
        if share_name.is_empty() || share_name.contains(['+', '#']) || filter.is_empty() {
            return Err(InvalidTopic::MalformedShare);
        }
        check_text(text)?;
        Ok(Self { share_name: Some(share_name), filter: TopicFilter::parse(filter)? })
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// `$SYS/…` and the like: no filter that begins with a wildcard means them
/// (MQTT 5 §4.7.2).
fn is_hidden_from_wildcards(topic: &[u8]) -> bool {
    topic.first() == Some(&b'$')
}

fn starts_with_wildcard(filter: &[u8]) -> bool {
    matches!(filter.first(), Some(b'+' | b'#'))
}

fn check_text(text: &str) -> Result<(), InvalidTopic> {
    if text.is_empty() {
        return Err(InvalidTopic::Empty);
    }
    if text.len() > MAX_TOPIC_LENGTH {
        return Err(InvalidTopic::TooLong { length: text.len() });
    }
    if text.bytes().all(|b| (0x20..0x7F).contains(&b)) {
        return Ok(());
    }
    match text.chars().find(|c| c.is_control() || is_non_character(*c)) {
        Some(character) => Err(InvalidTopic::Character(character)),
        None => Ok(()),
    }
}

/// Code points that Unicode keeps free for internal use, U+FDD0 to U+FDEF and
/// the last two of each plane.
const fn is_non_character(c: char) -> bool {
    let code = c as u32;
    matches!(code, 0xFDD0..=0xFDEF) || code & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests;
