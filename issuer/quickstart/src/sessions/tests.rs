use std::sync::Arc;

use fleetbadge_validator::freshness::Freshness;
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::test_support::{TestKey, claims, vectors};
use serde_json::json;

use super::*;

const IAT: u64 = 1_000_000;
/// `exp` plus the default skew.
const ENDS_AT: UnixSeconds = UnixSeconds(IAT + 60 + Verifier::DEFAULT_SKEW_S);
const NOW: UnixSeconds = UnixSeconds(IAT + 1);

fn sessions() -> (Sessions, TestKey, KeySet) {
    let key = TestKey::generate();
    let (keys, _) = KeySet::from_json("https://id.example", key.jwks().as_bytes()).unwrap();
    (Sessions::new(Verifier::new("https://id.example", "mqtt")), key, keys)
}

fn connect<'a>(client_id: &'a str, token: &'a str) -> Connect<'a> {
    Connect { client_id, token: Some(token), will_topic: None, version: Version::V5 }
}

fn none() -> Revocations {
    Revocations::default()
}

fn known(revocations: Revocations) -> RevocationState {
    let freshness = Freshness { confirmed_at: NOW, max_staleness_s: 0 };
    RevocationState::Known { revocations: Arc::new(revocations), freshness }
}

#[test]
fn a_client_is_let_in_with_its_own_token_and_does_what_that_allows() {
    let (mut sessions, key, keys) = sessions();
    let token = key.token(&claims("pump-1", IAT, IAT + 60));

    assert_eq!(
        sessions.admit(connect("pump-1", &token), &keys, &known(none()), NOW),
        Ok("pump-1".to_owned())
    );
    assert_eq!(sessions.allows("pump-1", Action::Publish, "devices/pump-1/state", &none(), NOW), Ok(()));
    assert_eq!(
        sessions.allows("pump-1", Action::Subscribe, "$share/g/devices/pump-1/+", &none(), NOW),
        Ok(())
    );
    let denied = |action, topic| sessions.allows("pump-1", action, topic, &none(), NOW).unwrap_err().code();
    assert_eq!(denied(Action::Publish, "devices/pump-2/state"), "topic_not_allowed");
    assert_eq!(denied(Action::Subscribe, "#"), "topic_not_allowed");
    assert_eq!(denied(Action::Subscribe, "$SYS/#"), "topic_not_allowed");
}

#[test]
fn nobody_is_let_in_without_a_token_or_with_that_of_another() {
    let (mut sessions, key, keys) = sessions();
    let token = key.token(&claims("pump-1", IAT, IAT + 60));
    let forged = TestKey::generate().token(&claims("pump-1", IAT, IAT + 60));
    let without = Connect { token: None, ..connect("pump-1", "") };

    let mut denied = |connect| sessions.admit(connect, &keys, &known(none()), NOW).unwrap_err().code();
    assert_eq!(denied(without), "token_missing");
    assert_eq!(denied(connect("pump-2", &token)), "client_id_differs");
    assert_eq!(denied(connect("pump-1", &forged)), "key_unknown");
    let unknown = sessions.allows("pump-1", Action::Publish, "devices/pump-1/state", &none(), NOW);
    assert_eq!(unknown, Err(Denied::TokenMissing));
}

#[test]
fn every_vector_has_its_verdict() {
    for (file, vectors) in vectors() {
        let (keys, _) = KeySet::from_json(&vectors.issuer, vectors.jwks.to_string().as_bytes()).unwrap();
        let mut sessions = Sessions::new(Verifier::new(&vectors.issuer, &vectors.audience));
        // The embedded broker has no TLS, and so no certificates.
        for case in vectors.cases.iter().filter(|case| case.certificate.is_none()) {
            let (connect, now) = (connect(&case.client_id, &case.token), UnixSeconds(case.now));
            let admitted = sessions.admit(connect, &keys, &case.revocation_state(), now);
            let verdict = admitted.as_ref().map_or_else(Denied::code, |_| "allow");
            assert_eq!(verdict, case.expect, "{file}: {}", case.name);
        }
    }
}

#[test]
fn a_will_is_judged_at_the_connect() {
    let (mut sessions, key, keys) = sessions();
    let token = key.token(&claims("pump-1", IAT, IAT + 60));
    let with_will = |will_topic| Connect { will_topic: Some(will_topic), ..connect("pump-1", &token) };

    let denied = sessions.admit(with_will("devices/pump-2/gone"), &keys, &known(none()), NOW).unwrap_err();
    assert_eq!(denied.code(), "topic_not_allowed");
    assert!(!sessions.is_will("pump-1", "devices/pump-2/gone"));
    assert!(sessions.admit(with_will("devices/pump-1/gone"), &keys, &known(none()), NOW).is_ok());
    assert!(sessions.is_will("pump-1", "devices/pump-1/gone"));
}

#[test]
fn the_latest_token_decides() {
    let (mut sessions, key, keys) = sessions();
    let wide = key.token(&claims("pump-1", IAT, IAT + 60));
    let mut narrow = claims("pump-1", IAT, IAT + 120);
    narrow["scope"] = json!("mqtt.connect mqtt.publish");
    let narrow = key.token(&narrow);

    sessions.admit(connect("pump-1", &wide), &keys, &known(none()), NOW).unwrap();
    sessions
        .admit(Connect { version: Version::V3, ..connect("pump-1", &narrow) }, &keys, &known(none()), NOW)
        .unwrap();
    let denied = sessions.allows("pump-1", Action::Subscribe, "devices/pump-1/#", &none(), NOW).unwrap_err();
    assert_eq!(denied.code(), "scope_missing");
    assert_eq!(sessions.version("pump-1"), Some(Version::V3));
    assert!(sessions.ended(&none(), ENDS_AT).is_empty(), "the new token has not ended");
}

#[test]
fn an_ended_session_is_told_until_nobody_can_come_in_with_it_any_more() {
    let (mut sessions, key, keys) = sessions();
    let token = key.token(&claims("pump-1", IAT, IAT + 60));
    sessions.admit(connect("pump-1", &token), &keys, &known(none()), NOW).unwrap();

    assert!(sessions.ended(&none(), ENDS_AT.minus(1)).is_empty());
    let denied = sessions.allows("pump-1", Action::Publish, "devices/pump-1/state", &none(), ENDS_AT);
    assert_eq!(denied.unwrap_err().code(), "expired");
    // The first that is heard of the time after a long sleep.
    let awake = ENDS_AT.plus(3_600);
    assert_eq!(sessions.ended(&none(), awake), ["pump-1"]);
    assert_eq!(sessions.ended(&none(), awake.plus(ENDED_FOR_S - 1)), ["pump-1"]);
    assert!(sessions.ended(&none(), awake.plus(ENDED_FOR_S)).is_empty());
}

#[test]
fn what_was_taken_back_lets_nobody_in_and_ends_who_is_in() {
    let (mut sessions, key, keys) = sessions();
    let token = key.token(&claims("pump-1", IAT, IAT + 60));
    sessions.admit(connect("pump-1", &token), &keys, &known(none()), NOW).unwrap();
    let other = Revocation::of_device("pump-2", NOW, ENDS_AT);
    assert!(sessions.ended(&[other].into_iter().collect(), NOW).is_empty());

    let revoked: Revocations = [Revocation::of_device("pump-1", NOW, ENDS_AT)].into_iter().collect();
    assert_eq!(sessions.ended(&revoked, NOW), ["pump-1"]);
    let refused = sessions.allows("pump-1", Action::Publish, "devices/pump-1/state", &revoked, NOW);
    assert_eq!(refused.unwrap_err().code(), "revoked");
    assert_eq!(
        sessions.admit(connect("pump-1", &token), &keys, &known(revoked.clone()), NOW).unwrap_err().code(),
        "revoked"
    );
    // With a token that was issued later it is in again.
    let later = key.token(&claims("pump-1", NOW.0, NOW.0 + 60));
    assert!(sessions.admit(connect("pump-1", &later), &keys, &known(revoked.clone()), NOW).is_ok());
    assert!(sessions.ended(&revoked, NOW).is_empty());
}

/// Connected with a token of `pump-1`, and the renewal of it with another one.
fn renewed(
    prepare: impl FnOnce(&mut Sessions),
    claims: &serde_json::Value,
    revoked: Revocations,
) -> (Sessions, Result<String, NotRenewed>) {
    let (mut sessions, key, keys) = sessions();
    let first = key.token(&self::claims("pump-1", IAT, IAT + 60));
    sessions.admit(connect("pump-1", &first), &keys, &known(none()), NOW).unwrap();
    prepare(&mut sessions);
    let renewed = sessions.renew("pump-1", Some(&key.token(claims)), &keys, &known(revoked), NOW);
    (sessions, renewed)
}

#[test]
fn a_renewal_replaces_every_right() {
    let mut next = claims("pump-1", IAT, IAT + 120);
    next["acl"] = json!({"pub": ["shared/#"], "sub": []});
    let (mut sessions, device) = renewed(|_| {}, &next, none());
    assert_eq!(device, Ok("pump-1".to_owned()));
    let allows = |action, topic| sessions.allows("pump-1", action, topic, &none(), NOW).is_ok();
    assert!(allows(Action::Publish, "shared/a"));
    assert!(!allows(Action::Publish, "devices/pump-1/a") && !allows(Action::Subscribe, "devices/pump-1/a"));
    assert!(sessions.ended(&none(), ENDS_AT).is_empty(), "the first token does not matter any more");
    assert_eq!(sessions.ended(&none(), ENDS_AT.plus(60)), ["pump-1"]);
}

#[test]
fn a_renewal_is_for_the_same_device_and_by_a_good_token() {
    let good = claims("pump-1", IAT, IAT + 120);
    let mut other = good.clone();
    other["sub"] = json!("pump-2");
    other["client_id"] = json!("pump-2");
    let code = |claims: &serde_json::Value, revoked| {
        renewed(|_| {}, claims, revoked).1.map_err(|error| error.code())
    };
    assert_eq!(code(&other, none()), Err("subject_differs"));
    assert_eq!(code(&claims("pump-2", IAT, IAT + 120), none()), Err("client_id_differs"));
    assert_eq!(code(&claims("pump-1", IAT - 120, IAT - 60), none()), Err("expired"));
    let revoked = [Revocation::of_device("pump-1", NOW, ENDS_AT)].into_iter().collect();
    assert_eq!(code(&good, revoked), Err("revoked"));

    let (mut sessions, key, keys) = sessions();
    let token = key.token(&good);
    let stranger = sessions.renew("pump-1", Some(&token), &keys, &known(none()), NOW);
    assert_eq!(stranger, Err(Denied::TokenMissing.into()), "nobody is connected");
}

#[test]
fn who_has_subscribed_cannot_go_on_with_less() {
    let subscribe = |sessions: &mut Sessions| {
        sessions.subscribe("pump-1", "devices/pump-1/a", &none(), NOW).unwrap();
    };
    let with_rules = |rules| {
        let mut claims = claims("pump-1", IAT, IAT + 120);
        claims["acl"] = json!({"sub": rules});
        claims
    };
    let less = with_rules(json!(["devices/pump-1/b"]));
    let (sessions, ended) = renewed(subscribe, &less, none());
    assert_eq!(ended.unwrap_err().code(), "subscribes_to_less");
    let of_old = sessions.allows("pump-1", Action::Publish, "devices/pump-1/a", &none(), NOW);
    assert!(of_old.is_err(), "and the rights of the old one are gone");
    assert!(renewed(|_| {}, &less, none()).1.is_ok(), "who has not, can");
    assert!(renewed(subscribe, &with_rules(json!(["devices/+/#"])), none()).1.is_ok(), "with more as well");

    let mut no_scope = claims("pump-1", IAT, IAT + 120);
    no_scope["scope"] = json!("mqtt.connect mqtt.publish");
    assert_eq!(renewed(subscribe, &no_scope, none()).1.unwrap_err().code(), "subscribes_to_less");
}

#[test]
fn a_will_that_is_shown_late_is_judged_then() {
    let will = |topic: &'static str| {
        let (mut sessions, key, keys) = sessions();
        let token = key.token(&claims("pump-1", IAT, IAT + 60));
        sessions.admit(connect("pump-1", &token), &keys, &known(none()), NOW).unwrap();
        let connected = sessions.connected("pump-1", Some(topic), NOW);
        let next = sessions.renew("pump-1", Some(&token), &keys, &known(none()), NOW);
        (sessions, connected.map_err(|denied| denied.code()), next)
    };
    let (mut sessions, connected, next) = will("devices/pump-1/gone");
    assert_eq!(connected, Ok(()));
    assert!(sessions.is_will("pump-1", "devices/pump-1/gone") && next.is_ok());
    assert!(sessions.ended(&none(), NOW).is_empty());

    let (mut sessions, connected, next) = will("devices/pump-2/gone");
    assert_eq!(connected, Err("topic_not_allowed"));
    assert!(!sessions.is_will("pump-1", "devices/pump-2/gone"));
    let nothing = sessions.allows("pump-1", Action::Publish, "devices/pump-1/state", &none(), NOW);
    assert_eq!(nothing.unwrap_err().code(), "topic_not_allowed");
    assert_eq!(next.unwrap_err().code(), "topic_not_allowed", "another token does not help the connection");
    assert_eq!(sessions.ended(&none(), NOW), ["pump-1"]);
}
