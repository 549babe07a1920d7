//! RabbitMQ's OAuth 2 plugin reads permissions from `scope`:
//! `RESOURCE_SERVER.PERMISSION:VHOST/NAME/ROUTING_KEY`, where the resource
//! server is the audience, each part is percent-encoded and `*` outside of the
//! encoding stands for any text, `.` included.
//!
//! Its MQTT plugin writes `/` of a topic as `.` and `+` of a filter as `*`, and
//! compares a filter that a client subscribes to like a topic. So only a
//! literal topic, and one with `#` last, can be said exactly. A client
//! subscribes by way of queues that are named after its client ID: the token
//! has the right to its own two, and that binds the client ID. Who never
//! subscribes is bound by nothing.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::native::NativeClaims;
use super::{Checked, Content, Direction, Misread};
use crate::policy::{FilterTemplate, Grant};

/// Everything but the characters of names, so that the longest name makes the
/// longest token. `+` is among it, as it would be decoded as a space.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b':').remove(b'_').remove(b'~');

/// What MQTT topics go through.
const EXCHANGE: &str = "amq.topic";

pub(super) fn check_filter(filter: &FilterTemplate, _: Direction) -> Checked {
    // The placeholders' own braces and dots are none of the topic's.
    let has = |character| filter.literals().any(|text| text.contains(character));
    if has('+') {
        return Err("RabbitMQ cannot express \"+\"; use \"#\" at the end, or one filter for each topic");
    }
    if filter.as_str().starts_with('#') {
        return Err("in RabbitMQ this would reach $-topics; name the first level");
    }
    if has('.') {
        return Err("RabbitMQ takes '.' in a topic for '/'");
    }
    if has('*') {
        return Err("RabbitMQ takes '*' in a topic for a wildcard");
    }
    if has('{') || has('}') {
        return Err("RabbitMQ takes braces in a scope for a variable");
    }
    Ok(())
}

/// A `.` in a name would be a level, and what stands before a `:` in a user
/// name is taken for a virtual host.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), Misread> {
    if name.contains(['.', ':']) { Err(misread(what, name)) } else { Ok(()) }
}

pub(super) fn check_grant(grant: &Grant<'_>) -> Result<(), Misread> {
    check_name("the device", grant.device.as_str())?;
    check_name("mqtt_client_id", grant.mqtt_client_id.as_str())?;
    // No rule has a '.' of its own: it came with the group or an attribute.
    match grant.publish.iter().chain(&grant.subscribe).find(|filter| filter.contains('.')) {
        Some(filter) => Err(misread("with the device's names, the filter", filter)),
        None => Ok(()),
    }
}

fn misread(what: &'static str, found: &str) -> Misread {
    Misread::Name { profile: "rabbitmq", what, found: found.into() }
}

pub(super) fn check_topic(topic: &str) -> Checked {
    if topic.contains('.') {
        return Err("RabbitMQ takes '.' in a topic for '/'; ask about the topic with '/'");
    }
    Ok(())
}

pub(super) fn write(content: &Content<'_>, vhost: &str, payload: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut claims = NativeClaims::of(content);
    claims.scope = scope(content.grant, content.audience, vhost);
    serde_json::to_writer(payload, &claims)
}

/// Our own words, and RabbitMQ's.
fn scope(grant: &Grant<'_>, audience: &str, vhost: &str) -> String {
    let vhost = encoded(vhost);
    let word = |permission: &str, resource: &str| format!("{audience}.{permission}:{vhost}/{resource}");
    let mut words = vec![grant.scope.to_string()];
    for (permission, filters) in [("write", &grant.publish), ("read", &grant.subscribe)] {
        let keys = filters.iter().flat_map(|filter| routing_keys(filter));
        words.extend(keys.map(|key| word(permission, &format!("{EXCHANGE}/{key}"))));
    }
    // Also for who only publishes: without any right in a virtual host, nobody
    // is let into it.
    for qos in ["qos0", "qos1"] {
        let queue = format!("mqtt-subscription-{}{qos}", encoded(grant.mqtt_client_id.as_str()));
        words.extend(["configure", "write", "read"].map(|permission| word(permission, &queue)));
    }
    words.join(" ")
}

/// The patterns that mean what a filter means: one, or two for `a/#`, which
/// means `a` too.
fn routing_keys(filter: &str) -> impl Iterator<Item = String> {
    let key = |topic: &str| encoded(&topic.replace('/', "."));
    let (exactly, below) = match filter.strip_suffix("/#") {
        // There is no empty topic.
        Some("") => (None, Some(".*".into())),
        Some(topic) => (Some(key(topic)), Some(key(topic) + ".*")),
        None => (Some(key(filter)), None),
    };
    exactly.into_iter().chain(below)
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}
