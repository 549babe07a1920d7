//! How each broker compares, written after its own source as naively as it
//! can be, and what our model says about the same question.

use fleetbadge_validator::topic::{TopicFilter, TopicName};
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use serde_json::Value;

use crate::profile::Profile;

/// A publication to `asked` under the one rule `rule`.
pub(super) fn publish(
    profile: &Profile,
    claims: &Value,
    rule: &str,
    asked: &str,
) -> Result<(), TestCaseError> {
    let Ok(topic) = TopicName::parse(asked) else { return Ok(()) };
    agree(profile, claims, "publish", rule, asked, TopicFilter::parse(rule).unwrap().matches(topic))
}

/// A subscription to `asked` under the one rule `rule`.
pub(super) fn subscribe(
    profile: &Profile,
    claims: &Value,
    rule: &str,
    asked: &str,
) -> Result<(), TestCaseError> {
    let Ok(filter) = TopicFilter::parse(asked) else { return Ok(()) };
    agree(profile, claims, "subscribe", rule, asked, TopicFilter::parse(rule).unwrap().covers(filter))
}

fn agree(
    profile: &Profile,
    claims: &Value,
    action: &str,
    rule: &str,
    asked: &str,
    granted: bool,
) -> Result<(), TestCaseError> {
    let (acl, scope) = (&claims["acl"], claims["scope"].as_str().unwrap());
    match profile {
        Profile::Emqx => {
            let rules = &acl[if action == "publish" { "pub" } else { "sub" }];
            for version in [Emqx::Earlier, Emqx::Later] {
                let allowed =
                    rules.as_array().unwrap().iter().any(|rule| version.matches(asked, string(rule)));
                prop_assert_eq!(allowed, granted, "{:?}: {} {}: {}", version, action, asked, rules);
            }
        }
        Profile::Rabbitmq { .. } => {
            let allowed = rabbitmq_allows(scope, if action == "publish" { "write" } else { "read" }, asked);
            prop_assert_eq!(allowed, granted, "{} {}: {}", action, asked, scope);
        }
        Profile::Rmqtt => match rmqtt_decides(acl, action, asked) {
            Some(allowed) => {
                prop_assert!(granted || !allowed, "more than was granted: {} {}: {}", action, asked, acl);
                let used = profile.check_use(rule, asked).is_ok();
                prop_assert_eq!(allowed, granted && used, "{} {}: {}", action, asked, acl);
            }
            None => prop_assert!(false, "left to whoever else is configured: {} {}: {}", action, asked, acl),
        },
        Profile::Fleetbadge | Profile::Hivemq | Profile::AzureEventGrid => unreachable!(),
    }
    Ok(())
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// `emqx_topic:match/2` on lists of words, as `emqx_authz_rule` calls it.
#[derive(Clone, Copy, Debug)]
enum Emqx {
    /// Did not think of `$` there.
    Earlier,
    /// Does.
    Later,
}

impl Emqx {
    fn matches(self, name: &str, filter: &str) -> bool {
        if let Some(literally) = filter.strip_prefix("eq ") {
            return name == literally;
        }
        let (name, filter): (Vec<_>, Vec<_>) = (name.split('/').collect(), filter.split('/').collect());
        if matches!(self, Self::Later) && name[0].starts_with('$') && matches!(filter[0], "+" | "#") {
            return false;
        }
        Self::tokens_match(&name, &filter)
    }

    fn tokens_match(name: &[&str], filter: &[&str]) -> bool {
        match (name, filter) {
            ([], []) | (_, ["#"]) => true,
            ([n, names @ ..], [f, filters @ ..]) if n == f || *f == "+" => Self::tokens_match(names, filters),
            _ => false,
        }
    }
}

/// `rabbit_oauth2_scope:topic_access` with `wildcard:match`, after the MQTT
/// plugin has translated the topic.
fn rabbitmq_allows(scope: &str, permission: &str, topic: &str) -> bool {
    let key = topic.replace('/', ".").replace('+', "*");
    scope.split(' ').filter_map(|word| word.strip_prefix("fleet.")).any(|word| {
        let Some(pattern) = word.strip_prefix(permission).and_then(|rest| rest.strip_prefix(':')) else {
            return false;
        };
        match pattern.split('/').collect::<Vec<_>>()[..] {
            [vhost, exchange, routing_key] => {
                glob("/", vhost) && glob("amq.topic", exchange) && glob(&key, routing_key)
            }
            _ => false,
        }
    })
}

fn glob(subject: &str, pattern: &str) -> bool {
    // As cowlib decodes: '+' is a space.
    let decoded = |part: &str| percent_decode_str(&part.replace('+', " ")).collect::<Vec<u8>>();
    let parts: Vec<Vec<u8>> = pattern.split('*').map(decoded).collect();
    let Some(mut rest) = subject.as_bytes().strip_prefix(&parts[0][..]) else { return false };
    for (n, part) in parts.iter().enumerate().skip(1) {
        if part.is_empty() && n == parts.len() - 1 {
            return true;
        }
        let found = (0..=rest.len()).find(|at| rest[*at..].starts_with(part));
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// The first rule that matches; none if none does.
fn rmqtt_decides(acl: &Value, action: &str, topic: &str) -> Option<bool> {
    let rules = acl.as_array().unwrap().iter();
    let applies = |rule: &&Value| {
        (rule["action"] == action || rule["action"] == "all") && rmqtt_matches(string(&rule["topic"]), topic)
    };
    rules.filter(applies).map(|rule| rule["permission"] == "allow").next()
}

/// `matches!` of its `topic.rs`: a `+` that meets a level with `$` ends the
/// comparison, and what is left of the filter decides.
fn rmqtt_matches(filter: &str, topic: &str) -> bool {
    if let Some(literally) = filter.strip_prefix("eq ") {
        return topic == literally;
    }
    let mut filter = filter.split('/');
    for level in topic.split('/') {
        match filter.next() {
            Some("+") if level.starts_with('$') => break,
            Some("#") => return !level.starts_with('$'),
            Some("+") => {}
            Some(expected) if expected == level => {}
            Some(_) | None => return false,
        }
    }
    matches!(filter.next(), Some("#") | None)
}

#[test]
fn the_comparisons_do_what_was_seen() {
    // What makes rules inexpressible.
    assert!(Emqx::Later.matches("a/#", "a/+"));
    assert!(Emqx::Later.matches("a/#", "a/+/#"));
    assert!(Emqx::Earlier.matches("$SYS/x", "#") && !Emqx::Later.matches("$SYS/x", "#"));
    assert!(rmqtt_matches("a/+", "a/$x/below") && rmqtt_matches("+", "$SYS/x"));
    assert!(!rmqtt_matches("#", "$SYS/x") && rmqtt_matches("+/#", "$SYS/x"));
    assert!(glob("a.b", "a.*") && !glob("a.b", "a.%2A") && glob("a b", "a+b"));
}
