use aws_lc_rs::rand::SystemRandom;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::revocations::RevocationState;
use fleetbadge_validator::test_support::TestKey;
use fleetbadge_validator::verify::Verifier;
use serde_json::{Value, json};

use super::*;
use crate::root_key::RootKey;

const ISSUER: &str = "https://id.example";
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn minted() -> (String, KeySet, TokenId) {
    let (key, _) =
        SigningKey::generate(Algorithm::ES256, &RootKey::from_bytes([1; 32]).key_sealer()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable identifier")]
    let token_id = TokenId::generate(&SystemRandom::new()).unwrap();
    let device = "pump-1".parse().unwrap();
    let content = SelfContent { issuer: ISSUER, device: &device, client_key: "k", token_id, now: NOW };
    let jwks = json!({"keys": [key.public().to_jwk()]}).to_string();
    let (keys, _) = KeySet::from_json(ISSUER, jwks.as_bytes()).unwrap();
    (mint(content, &key).unwrap(), keys, token_id)
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "pump-1", "aud": ISSUER, "exp": NOW.plus(60), "iat": NOW, "jti": "1",
           "client_id": "pump-1", "scope": "device.self", "client_key": "k"})
}

/// Verifies a token in which one claim is another one.
fn with(claim: &str, value: Value) -> Result<SelfGrant, InvalidSelfToken> {
    let key = TestKey::generate();
    let (keys, _) = KeySet::from_json(ISSUER, key.jwks().as_bytes()).unwrap();
    let mut claims = claims();
    claims[claim] = value;
    verify(&key.token(&claims), ISSUER, &keys, NOW)
}

#[test]
fn what_is_minted_is_good_for_a_minute() {
    let (token, keys, token_id) = minted();
    let grant = SelfGrant {
        device: "pump-1".parse().unwrap(),
        client_key: "k".into(),
        token_id: token_id.to_string().into(),
        key_id: keys.key_ids().next().unwrap().into(),
        issued_at: NOW,
    };
    assert_eq!(verify(&token, ISSUER, &keys, NOW), Ok(grant.clone()));
    assert_eq!(verify(&token, ISSUER, &keys, NOW.plus(59)), Ok(grant));
    assert_eq!(
        verify(&token, ISSUER, &keys, NOW.plus(60)),
        Err(InvalidSelfToken::Expired { exp: NOW.plus(60), now: NOW.plus(60) })
    );
}

#[test]
fn no_broker_takes_it_not_even_one_with_the_issuers_audience() {
    let (token, keys, _) = minted();
    for audience in ["mqtt", ISSUER] {
        let denied = Verifier::new(ISSUER, audience).verify(
            &token,
            "pump-1",
            &keys,
            &RevocationState::NotFollowed,
            NOW,
        );
        assert_eq!(denied.unwrap_err().code(), "claims_malformed", "{audience}");
    }
}

#[test]
fn a_token_for_a_broker_is_not_taken_for_it() {
    for scope in [
        "mqtt.connect",
        "device.self mqtt.connect",
        "mqtt.connect device.self",
        "device.self ",
        "device.selfish",
        "DEVICE.SELF",
        "",
    ] {
        let error = with("scope", json!(scope)).unwrap_err();
        assert!(matches!(error, InvalidSelfToken::Claim { claim: "scope", .. }), "{scope}");
    }
    for audience in ["mqtt", "https://id.example/", "HTTPS://id.example", ""] {
        let error = with("aud", json!(audience)).unwrap_err();
        assert!(matches!(error, InvalidSelfToken::Claim { claim: "aud", .. }), "{audience}");
    }
}

#[test]
fn another_issuer_device_or_life_is_refused() {
    assert!(matches!(
        with("iss", json!("https://other.example")),
        Err(InvalidSelfToken::Claim { claim: "iss", .. })
    ));
    for claim in ["sub", "client_id"] {
        assert!(matches!(with(claim, json!("pump-2")), Err(InvalidSelfToken::Claim { claim: "sub", .. })));
    }
    assert!(matches!(with("exp", json!(NOW.plus(61))), Err(InvalidSelfToken::TooLong { .. })));
    assert!(matches!(with("exp", json!(NOW)), Err(InvalidSelfToken::Expired { .. })));
    assert_eq!(with("cnf", json!({"jkt": "x"})), Err(InvalidSelfToken::Bound));
}

#[test]
fn every_claim_is_needed_and_of_its_type() {
    let key = TestKey::generate();
    let (keys, _) = KeySet::from_json(ISSUER, key.jwks().as_bytes()).unwrap();
    for claim in claims().as_object().unwrap().keys() {
        let mut incomplete = claims();
        incomplete.as_object_mut().unwrap().remove(claim);
        let found = verify(&key.token(&incomplete), ISSUER, &keys, NOW);
        assert!(matches!(found, Err(InvalidSelfToken::Jws(InvalidJws::Claims { .. }))), "{claim}");
        for wrong in [json!(null), json!(true), json!(-1), json!(1.5), json!([ISSUER]), json!({})] {
            let found = with(claim, wrong.clone());
            assert!(
                matches!(found, Err(InvalidSelfToken::Jws(InvalidJws::Claims { .. }))),
                "{claim}: {wrong}"
            );
        }
    }
}

#[test]
fn a_token_of_another_key_or_kind_is_refused() {
    let (own, other) = (TestKey::generate(), TestKey::generate());
    let (keys, _) = KeySet::from_json(ISSUER, own.jwks().as_bytes()).unwrap();
    let check = |header: Value, signer: &TestKey| {
        verify(&signer.token_of(header.to_string(), claims().to_string()), ISSUER, &keys, NOW)
    };
    let good = json!({"alg": "ES256", "typ": "at+jwt", "kid": own.kid()});
    assert!(check(good.clone(), &own).is_ok());
    assert_eq!(check(good.clone(), &other), Err(InvalidSelfToken::Jws(InvalidJws::Signature)));
    assert!(matches!(
        check(json!({"alg": "ES256", "typ": "at+jwt", "kid": other.kid()}), &other),
        Err(InvalidSelfToken::KeyUnknown { .. })
    ));
    assert!(matches!(
        check(json!({"alg": "ES256", "typ": "at+jwt"}), &own),
        Err(InvalidSelfToken::KeyUnknown { .. })
    ));
    let mut with_key = good.clone();
    with_key["jwk"] = json!(own.public().to_jwk());
    let refused = check(with_key, &own).unwrap_err().to_string();
    assert_eq!(refused, "the token has a header that is not acceptable: has jwk, which is not accepted");
    for typ in ["JWT", "dpop+jwt", "client-authentication+jwt", ""] {
        let mut header = good.clone();
        header["typ"] = json!(typ);
        let other_kind = InvalidJws::Type { typ: typ.into(), expected: &[TOKEN_TYPE] };
        assert_eq!(check(header, &own), Err(InvalidSelfToken::Jws(other_kind)));
    }
}
