//! The claims that native profiles have in common: those of RFC 9068, and whose
//! token it is. What a broker reads beside them is each profile's own.

use fleetbadge_validator::time::UnixSeconds;
use serde::Serialize;

use super::Content;
use super::rmqtt::Rule;

#[derive(Serialize)]
pub(super) struct NativeClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: UnixSeconds,
    iat: UnixSeconds,
    nbf: UnixSeconds,
    jti: String,
    client_id: &'a str,
    pub(super) scope: String,
    mqtt_client_id: &'a str,
    groups: [&'a str; 1],
    /// rmqtt's alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) acl: Vec<Rule<'a>>,
}

impl<'a> NativeClaims<'a> {
    /// Those of a token. Nothing says that it is bound: for a broker that does
    /// not look at that no bound token is minted.
    pub(super) fn of(content: &Content<'a>) -> Self {
        let Content { grant, issuer, audience, token_id, now, lifetime_s, certificate: _ } = *content;
        Self {
            iss: issuer,
            sub: grant.device.as_str(),
            aud: audience,
            exp: now.plus(lifetime_s),
            iat: now,
            nbf: now,
            jti: token_id.to_string(),
            client_id: grant.device.as_str(),
            scope: grant.scope.to_string(),
            mqtt_client_id: grant.mqtt_client_id.as_str(),
            groups: [grant.group.as_str()],
            acl: Vec::new(),
        }
    }
}
