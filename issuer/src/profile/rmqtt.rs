//! rmqtt reads `acl` as an array of rules, the first that matches decides, and
//! asks whoever else is configured if none does: so the last rules deny
//! everything.
//!
//! Its `topic.rs` lets no wildcard begin to stand for a level that begins with
//! `$`, wherever that is. So `a/#` denies a topic such as `a/$b`, which our own
//! model would grant: never more than was granted, but less.

use serde::Serialize;

use super::native::NativeClaims;
use super::{Checked, Content, Direction, check_no_eq, takes_hash_for_a_level};
use crate::policy::FilterTemplate;

#[derive(Serialize)]
pub(super) struct Rule<'a> {
    permission: &'static str,
    action: &'static str,
    topic: &'a str,
}

/// What denies everything: `#` all topics that do not begin with `$`. A `+`
/// gives up comparing at a level with `$`, and the `#` behind it matches then:
/// so the second denies the others. The third needs no such reading.
const EVERYTHING: [&str; 3] = ["#", "+/#", "$SYS/#"];

pub(super) fn check_filter(filter: &FilterTemplate, _: Direction) -> Checked {
    if filter.longest().split('/').skip(1).any(|level| level.starts_with('$')) {
        return Err("rmqtt refuses tokens with a level that begins with '$' behind the first");
    }
    if takes_hash_for_a_level(filter) {
        return Err(
            "rmqtt would take a level that begins with '$', and \"#\" in a subscription, for the last \
                    \"+\" and let in what is below; grant \"#\" there, or name a level behind it",
        );
    }
    check_no_eq(filter)
}

pub(super) fn check_use(filter: &str, topic: &str) -> Checked {
    let is_hidden = |(allowed, level): (&str, &str)| matches!(allowed, "+" | "#") && level.starts_with('$');
    if filter.split('/').zip(topic.split('/')).any(is_hidden) {
        return Err("rmqtt lets no wildcard stand for a level that begins with '$'");
    }
    Ok(())
}

pub(super) fn write(content: &Content<'_>, payload: &mut Vec<u8>) -> serde_json::Result<()> {
    let grant = content.grant;
    let publish = grant.publish.iter().map(|topic| ("allow", "publish", topic.as_str()));
    let subscribe = grant.subscribe.iter().map(|topic| ("allow", "subscribe", topic.as_str()));
    let rest = EVERYTHING.into_iter().map(|topic| ("deny", "all", topic));
    let rules = publish.chain(subscribe).chain(rest);
    let mut claims = NativeClaims::of(content);
    claims.acl = rules.map(|(permission, action, topic)| Rule { permission, action, topic }).collect();
    serde_json::to_writer(payload, &claims)
}
