//! What a client that was let in may do: publish, subscribe, receive.
//!
//! The rules are the token's `acl`: allow-only, so that "is this subscription
//! covered" has one answer; no rule means no. Every question is asked with
//! the time, as a right ends with its token (RFC 9431 §4), and every delivery
//! is asked too, as a subscription may be older than the present token.

use std::fmt;

use crate::denied::{Denied, Excerpt};
use crate::scope::ScopeWord;
use crate::time::UnixSeconds;
use crate::topic::{InvalidTopic, Subscription, TopicName};
use crate::verify::VerifiedToken;

/// What a client does with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish to a topic name; a will is a publication too.
    Publish,
    /// Subscribe to a filter, shared or not.
    Subscribe,
    /// Be sent a message of a topic name.
    Receive,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Receive => "receive",
        })
    }
}

impl VerifiedToken {
    /// Whether the token allows `action` on `topic`: a topic name, or what
    /// stands in a SUBSCRIBE.
    ///
    /// # Errors
    /// [`Denied`]: expired, out of scope, malformed, or no rule.
    pub fn allows(&self, action: Action, topic: &str, now: UnixSeconds) -> Result<(), Denied> {
        if now >= self.ends_at() {
            let skew_s = self.ends_at().since(self.expires_at());
            return Err(Denied::Expired { exp: self.expires_at(), now, skew_s });
        }
        let word = match action {
            Action::Publish => ScopeWord::MqttPublish,
            Action::Subscribe | Action::Receive => ScopeWord::MqttSubscribe,
        };
        if !self.scope().contains(word) {
            return Err(Denied::ScopeMissing { word });
        }
        let allowed = self.has_rule(action, topic).map_err(|reason| Denied::TopicMalformed {
            action,
            topic: Excerpt::of(topic),
            reason,
        })?;
        if allowed { Ok(()) } else { Err(Denied::TopicNotAllowed { action, topic: Excerpt::of(topic) }) }
    }

    /// Whether every message that `other` lets its client receive is one that
    /// this token lets its client receive, too; what only several filters
    /// together cover counts as not covered.
    #[must_use]
    pub fn receives_all_of(&self, other: &Self) -> bool {
        let may_receive = |token: &Self| token.scope().contains(ScopeWord::MqttSubscribe);
        let covered = |filter| self.signed().subscribe_filters().any(|wider| wider.covers(filter));
        !may_receive(other)
            || other.signed().subscribe_filters().all(|filter| may_receive(self) && covered(filter))
    }

    fn has_rule(&self, action: Action, topic: &str) -> Result<bool, InvalidTopic> {
        let token = self.signed();
        Ok(match action {
            Action::Publish => {
                let topic = TopicName::parse(topic)?;
                token.publish_filters().any(|filter| filter.matches(topic))
            }
            Action::Receive => {
                let topic = TopicName::parse(topic)?;
                token.subscribe_filters().any(|filter| filter.matches(topic))
            }
            Action::Subscribe => {
                let asked = Subscription::parse(topic)?.filter;
                token.subscribe_filters().any(|filter| filter.covers(asked))
            }
        })
    }
}
