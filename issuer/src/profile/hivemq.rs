//! HiveMQ takes topics from its own permissions, per user or role, and binds
//! the client ID of a connection to `sub` at most. Its hosted plans take no
//! other claims than these.

use fleetbadge_validator::time::UnixSeconds;
use serde::Serialize;

use super::{Checked, Content, Direction, Misread};
use crate::policy::{FilterTemplate, Grant};

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: UnixSeconds,
    iat: UnixSeconds,
    scope: String,
}

pub(super) const fn check_filter(_: &FilterTemplate, _: Direction) -> Checked {
    Err("HiveMQ takes no topics from a token; leave them empty here and set them in HiveMQ's own permissions")
}

pub(super) fn check_client_id(grant: &Grant<'_>) -> Result<(), Misread> {
    if grant.mqtt_client_id.as_str() == grant.device.as_str() {
        return Ok(());
    }
    Err(Misread::OtherClientId {
        profile: "hivemq",
        device: grant.device.to_string(),
        found: grant.mqtt_client_id.to_string(),
    })
}

pub(super) fn write(content: &Content<'_>, payload: &mut Vec<u8>) -> serde_json::Result<()> {
    let Content { grant, issuer, audience, token_id: _, now, lifetime_s, certificate: _ } = *content;
    let claims = Claims {
        iss: issuer,
        sub: grant.device.as_str(),
        aud: audience,
        exp: now.plus(lifetime_s),
        iat: now,
        scope: grant.scope.to_string(),
    };
    serde_json::to_writer(payload, &claims)
}
