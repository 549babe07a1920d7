//! The claims that [`fleetbadge_validator::claims`] defines. Their `acl` is
//! EMQX's, too: no match denies.

use fleetbadge_validator::claims::{Acl, Audience, Claims, Confirmation, Text};

use super::Content;

pub(super) fn write(content: &Content<'_>, payload: &mut Vec<u8>) -> serde_json::Result<()> {
    let Content { grant, issuer, audience, token_id, now, lifetime_s, certificate } = *content;
    let claims = Claims {
        iss: issuer.into(),
        sub: grant.device.as_str().into(),
        aud: Audience::One(audience.into()),
        exp: now.plus(lifetime_s),
        iat: now,
        nbf: Some(now),
        jti: token_id.to_string().into(),
        client_id: grant.device.as_str().into(),
        scope: grant.scope.as_str().into(),
        mqtt_client_id: grant.mqtt_client_id.as_str().into(),
        // Always there: a broker that finds none might ask somebody else.
        acl: Some(Acl { publish: borrowed(&grant.publish), subscribe: borrowed(&grant.subscribe) }),
        groups: Some(vec![grant.group.as_str().into()]),
        cnf: certificate.map(Confirmation::certificate),
    };
    serde_json::to_writer(payload, &claims)
}

fn borrowed(filters: &[String]) -> Vec<Text<'_>> {
    filters.iter().map(|filter| filter.as_str().into()).collect()
}
