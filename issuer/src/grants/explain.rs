//! Why a device may or may not: what an operator asks about a policy. Pure.
//!
//! Nothing is decided here: [`decide`] is what the token endpoint asks, and
//! topics are compared as the validator compares them. What is added is why.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::scope::ScopeWord;
use fleetbadge_validator::topic::{InvalidTopic, Subscription, TopicFilter, TopicName};
use serde::{Deserialize, Serialize};

use super::{Decision, TokenRequest, decide};
use crate::brokers::Brokers;
use crate::policy::{FilterTemplate, Names, Policy, Subject};
use crate::store::{DeviceRecord, DeviceStatus};

/// What is asked about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question<'a> {
    /// Whether it gets a token.
    Token,
    /// Whether that lets it publish to this topic.
    Publish(TopicName<'a>),
    /// Whether that lets it subscribe to this.
    Subscribe(TopicFilter<'a>),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// The device.
    pub(crate) device: String,
    pub(crate) status: DeviceStatus,
    /// Its group, whose policy decides.
    pub(crate) group: String,
    /// The answer itself,
    pub(crate) allowed: bool,
    /// and why, for people.
    pub(crate) reason: String,
    /// Its token, if it would get one.
    pub(crate) token: Option<TokenExplanation>,
    /// Every rule of the group.
    pub(crate) rules: Vec<RuleExplanation>,
}

/// What a token would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenExplanation {
    pub(crate) audience: String,
    pub(crate) profile: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) scope: String,
    pub(crate) mqtt_client_id: String,
}

/// A rule, for this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuleExplanation {
    /// `publish` or `subscribe`.
    pub(crate) field: String,
    /// As it was written.
    pub(crate) rule: String,
    /// With the names put in; none if the device lacks an attribute for it, or
    /// no token would be had.
    pub(crate) filter: Option<String>,
    /// Which attributes are lacking.
    pub(crate) missing_attributes: Vec<String>,
    /// Whether it is the one that allows what was asked.
    pub(crate) matched: bool,
}

impl<'a> Question<'a> {
    /// Reads a question; the error goes with the name of the field.
    ///
    /// # Errors
    /// [`InvalidTopic`] for what is no topic name or subscription.
    pub(crate) fn parse(
        publish: Option<&'a str>,
        subscribe: Option<&'a str>,
    ) -> Result<Self, InvalidQuestion<'a>> {
        let invalid = |field, found| move |reason| InvalidQuestion::Topic { field, found, reason };
        match (publish, subscribe) {
            (None, None) => Ok(Self::Token),
            (Some(topic), None) => {
                TopicName::parse(topic).map(Self::Publish).map_err(invalid("publish", topic))
            }
            (None, Some(filter)) => Subscription::parse(filter)
                .map(|subscription| Self::Subscribe(subscription.filter))
                .map_err(invalid("subscribe", filter)),
            (Some(_), Some(_)) => Err(InvalidQuestion::Two),
        }
    }

    /// What may be done, which word of the scope it takes, what it is done to,
    /// and the rules for it.
    fn parts(self, policy: &Policy) -> Option<Asked<'a, '_>> {
        let (verb, word, topic, rules) = match self {
            Self::Token => return None,
            Self::Publish(topic) => ("publish", ScopeWord::MqttPublish, topic.as_str(), &policy.publish),
            Self::Subscribe(filter) => {
                ("subscribe", ScopeWord::MqttSubscribe, filter.as_str(), &policy.subscribe)
            }
        };
        Some(Asked { question: self, verb, word, topic, rules })
    }

    /// Whether a rule of a token allows it.
    fn is_allowed_by(self, filter: &str) -> bool {
        TopicFilter::parse(filter).is_ok_and(|filter| match self {
            Self::Token => false,
            Self::Publish(topic) => filter.matches(topic),
            Self::Subscribe(asked) => filter.covers(asked),
        })
    }
}

/// Not a question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidQuestion<'a> {
    /// No topic name, or nothing that can be subscribed to.
    #[error("{field}: {found:?} {reason}")]
    Topic { field: &'static str, found: &'a str, reason: InvalidTopic },
    /// Two at a time.
    #[error("publish, subscribe: ask about one at a time")]
    Two,
}

impl InvalidQuestion<'_> {
    /// The field that is wrong.
    pub(crate) const fn field(&self) -> &'static str {
        match self {
            Self::Topic { field, .. } => field,
            Self::Two => "subscribe",
        }
    }
}

/// A question about a topic.
struct Asked<'a, 'p> {
    question: Question<'a>,
    verb: &'static str,
    word: ScopeWord,
    topic: &'a str,
    rules: &'p [FilterTemplate],
}

/// Answers a question about a device, and says why.
pub(crate) fn explain(
    brokers: &Brokers,
    policy: &Policy,
    device: &DeviceRecord,
    request: &TokenRequest<'_>,
    question: Question<'_>,
) -> Explanation {
    let subject = Subject::from(device);
    let decision = decide(brokers, policy, &subject, request);
    let mut explanation = Explanation {
        device: device.name.to_string(),
        status: device.status,
        group: device.group.to_string(),
        allowed: false,
        reason: String::new(),
        token: decision.as_ref().ok().map(TokenExplanation::from),
        rules: rules(policy, &subject, decision.as_ref().ok()),
    };
    let name = &device.name;
    let answer = match (device.status, &decision) {
        (DeviceStatus::Disabled, _) => {
            Err(format!("the device is disabled; enable it with: fleetbadge-issuer device enable {name}"))
        }
        (DeviceStatus::Pending, _) => Err(format!(
            "the device enrolled and waits for approval: fleetbadge-issuer device approve {name}"
        )),
        (DeviceStatus::Enabled, Err(reason)) => Err(format!("there is no such token: {reason}")),
        (DeviceStatus::Enabled, Ok(decision)) => match question.parts(policy) {
            None => Ok(format!(
                "it gets a token for audience {} as {}",
                decision.target.audience, decision.grant.mqtt_client_id
            )),
            Some(asked) => asked.answer(decision, policy, &mut explanation.rules),
        },
    };
    explanation.allowed = answer.is_ok();
    explanation.reason = answer.unwrap_or_else(|reason| reason);
    explanation
}

impl From<&Decision<'_>> for TokenExplanation {
    fn from(Decision { target, grant }: &Decision<'_>) -> Self {
        Self {
            audience: target.audience.into(),
            profile: target.profile.as_str().into(),
            algorithm: target.algorithm,
            scope: grant.scope.to_string(),
            mqtt_client_id: grant.mqtt_client_id.to_string(),
        }
    }
}

/// Every rule of a policy, for one device.
fn rules(policy: &Policy, subject: &Subject<'_>, decision: Option<&Decision<'_>>) -> Vec<RuleExplanation> {
    let names = decision.map(|decision| Names::of(subject, decision.grant.mqtt_client_id));
    let rule = |field: &str, template: &FilterTemplate| RuleExplanation {
        field: field.into(),
        rule: template.as_str().into(),
        filter: names.as_ref().and_then(|names| template.fill(names)),
        missing_attributes: missing(template, subject),
        matched: false,
    };
    let publish = policy.publish.iter().map(|template| rule("publish", template));
    publish.chain(policy.subscribe.iter().map(|template| rule("subscribe", template))).collect()
}

fn missing(template: &FilterTemplate, subject: &Subject<'_>) -> Vec<String> {
    let lacks = template.attributes().filter(|name| !subject.attributes.contains_key(*name));
    lacks.map(ToString::to_string).collect()
}

impl Asked<'_, '_> {
    fn answer(
        &self,
        decision: &Decision<'_>,
        policy: &Policy,
        rules: &mut [RuleExplanation],
    ) -> Result<String, String> {
        let Self { question, verb, word, topic, .. } = *self;
        let Decision { target, grant } = decision;
        if !target.profile.carries_topics() {
            return Err(format!(
                "tokens for audience {} ({}) say nothing about topics; whether it may {verb} is set at the broker",
                target.audience,
                target.profile.as_str()
            ));
        }
        if !grant.scope.contains(word) {
            return Err(format!("the scope of group {} lacks {}", grant.group, word.as_str()));
        }
        target.profile.check_topic(topic)?;
        let granted = match question {
            Question::Token => &[][..],
            Question::Publish(_) => &grant.publish,
            Question::Subscribe(_) => &grant.subscribe,
        };
        let mut unused = None;
        for rule in rules.iter_mut().filter(|rule| rule.field == verb) {
            let filter = rule.filter.as_ref().filter(|filter| granted.contains(filter));
            let Some(filter) = filter.filter(|filter| question.is_allowed_by(filter)) else { continue };
            match target.profile.check_use(filter, topic) {
                Ok(()) => {
                    rule.matched = true;
                    return Ok(format!("the {verb} rule {} covers {topic}", rule.rule));
                }
                Err(reason) => unused = Some(reason),
            }
        }
        if let Some(reason) = unused {
            return Err(reason.into());
        }
        Err(self.nearest_miss(granted, policy, rules))
    }

    /// Why no rule allows it, in plain words.
    fn nearest_miss(&self, granted: &[String], policy: &Policy, rules: &[RuleExplanation]) -> String {
        let Self { question, verb, topic, .. } = *self;
        if self.rules.is_empty() {
            return format!("the group has no {verb} rules");
        }
        if let Some(hidden) = topic.strip_prefix('$') {
            // As if it were any other topic.
            let visible = format!("x{hidden}");
            let allows = |filter: &&String| match question {
                Question::Token => false,
                Question::Publish(_) => TopicName::parse(&visible)
                    .is_ok_and(|topic| Question::Publish(topic).is_allowed_by(filter)),
                Question::Subscribe(_) => TopicFilter::parse(&visible)
                    .is_ok_and(|asked| Question::Subscribe(asked).is_allowed_by(filter)),
            };
            if let Some(filter) = granted.iter().find(allows) {
                return format!("a wildcard in front never reaches topics that begin with '$': {filter}");
            }
        }
        let others = match question {
            Question::Publish(_) => ("subscribe", &policy.subscribe),
            Question::Token | Question::Subscribe(_) => ("publish", &policy.publish),
        };
        let of_other = |rule: &&RuleExplanation| {
            rule.field == others.0 && rule.filter.as_deref().is_some_and(|f| question.is_allowed_by(f))
        };
        if let Some(rule) = rules.iter().find(of_other) {
            return format!("no {verb} rule allows it; {} would, but that is a {} rule", rule.rule, others.0);
        }
        if let Some(nearest) = granted.iter().max_by_key(|filter| common_levels(filter, topic)) {
            return format!("no {verb} rule allows it; nearest is {nearest}: {}", difference(nearest, topic));
        }
        let lacking =
            rules.iter().filter(|rule| rule.field == verb).flat_map(|rule| &rule.missing_attributes);
        let lacking: std::collections::BTreeSet<&str> = lacking.map(String::as_str).collect();
        format!(
            "every {verb} rule needs an attribute that the device does not have: {}",
            lacking.into_iter().collect::<Vec<_>>().join(", ")
        )
    }
}

/// How many levels a rule and what was asked have in common.
fn common_levels(filter: &str, topic: &str) -> usize {
    let pairs = filter.split('/').zip(topic.split('/'));
    pairs.take_while(|(allowed, asked)| level_allows(allowed, asked)).count()
}

fn level_allows(allowed: &str, asked: &str) -> bool {
    allowed == asked || (allowed == "+" && asked != "#")
}

/// Where a rule and what was asked part.
fn difference(filter: &str, topic: &str) -> String {
    let common = common_levels(filter, topic);
    let level = common + 1;
    match (filter.split('/').nth(common), topic.split('/').nth(common)) {
        (Some(allowed), Some(asked @ ("+" | "#"))) => {
            format!("at level {level} it has {allowed:?}, and {asked:?} would be more than that")
        }
        (Some(allowed), Some(asked)) => format!("at level {level} it has {allowed:?}, not {asked:?}"),
        (Some(allowed), None) => format!("it goes on with {allowed:?} at level {level}, where {topic} ends"),
        (None, Some(asked)) => format!("it ends where {topic} goes on with {asked:?} at level {level}"),
        (None, None) => "it differs".into(),
    }
}

#[cfg(test)]
mod tests;
