//! Azure Event Grid wants the five claims of its documentation, and makes
//! attributes of the client of the others, if they are strings, numbers or
//! arrays of strings. Its permission bindings, set there, say which topics
//! clients with which attributes may use.

use fleetbadge_validator::time::UnixSeconds;
use serde::Serialize;

use super::{Checked, Content, Direction};
use crate::policy::FilterTemplate;

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: UnixSeconds,
    nbf: UnixSeconds,
    iat: UnixSeconds,
    jti: String,
    client_id: &'a str,
    mqtt_client_id: &'a str,
    scope: String,
    groups: [&'a str; 1],
}

pub(super) const fn check_filter(_: &FilterTemplate, _: Direction) -> Checked {
    Err(
        "Azure Event Grid takes no topics from a token; leave them empty here and set them in its permission \
         bindings",
    )
}

pub(super) fn write(content: &Content<'_>, payload: &mut Vec<u8>) -> serde_json::Result<()> {
    let Content { grant, issuer, audience, token_id, now, lifetime_s, certificate: _ } = *content;
    let claims = Claims {
        iss: issuer,
        sub: grant.device.as_str(),
        aud: audience,
        exp: now.plus(lifetime_s),
        nbf: now,
        iat: now,
        jti: token_id.to_string(),
        client_id: grant.device.as_str(),
        mqtt_client_id: grant.mqtt_client_id.as_str(),
        scope: grant.scope.to_string(),
        groups: [grant.group.as_str()],
    };
    serde_json::to_writer(payload, &claims)
}
