use std::collections::BTreeSet;

use jsonwebtoken::crypto::JwtVerifier;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::access::Action;
use crate::denied::Check;
use crate::freshness::Freshness;
use crate::jwk::PublicKey;
use crate::keys::InvalidKeySet;
use crate::revocations::Revocation;
use crate::revocations::RevocationState::NotFollowed;
use crate::test_support::{TestKey, claims, jwks, vectors};

const ISSUER: &str = "https://id.example";
const NOW: UnixSeconds = UnixSeconds(1_000_060);

fn keys(jwks: &str) -> KeySet {
    KeySet::from_json(ISSUER, jwks.as_bytes()).unwrap().0
}

fn ordinary_claims() -> Value {
    claims("pump-1", 1_000_000, 1_000_900)
}

/// A token with these changes, let in.
fn admitted(changes: &Value) -> VerifiedToken {
    let (key, mut claims) = (TestKey::generate(), ordinary_claims());
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let verifier = Verifier::new(ISSUER, "mqtt");
    verifier.verify(&key.token(&claims), "pump-1", &keys(&key.jwks()), &NotFollowed, NOW).unwrap()
}

#[test]
fn every_vector_has_its_verdict_at_first_and_second_sight() {
    let (mut codes, mut wrong) = (BTreeSet::new(), Vec::new());
    for (file, vectors) in vectors() {
        let (keys, skipped) =
            KeySet::from_json(&vectors.issuer, vectors.jwks.to_string().as_bytes()).unwrap();
        assert_eq!(skipped, []);
        let verifier = Verifier::new(&vectors.issuer, &vectors.audience);
        let mut memory = Memory::default();
        for case in &vectors.cases {
            let now = UnixSeconds(case.now);
            let verdict = |result: Result<VerifiedToken, Denied>| match result {
                Ok(_) => "allow",
                Err(denied) => denied.code(),
            };
            let revocations = case.revocation_state();
            let first = verdict(verifier.verify(&case.token, case.connecting(), &keys, &revocations, now));
            codes.insert(first);
            let mut again = || {
                let (token, connecting) = (&case.token, case.connecting());
                let memory = &mut memory;
                verdict(verifier.verify_remembered(token, connecting, &keys, &revocations, memory, now))
            };
            for verdict in [first, again(), again()] {
                if verdict != case.expect {
                    wrong.push(format!("{file}: {}: {verdict}, not {}", case.name, case.expect));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Every denial that a single token can meet is in the files.
    assert_eq!(codes.len(), 25, "{codes:?}");
}

#[test]
fn what_a_verified_token_says() {
    let token = admitted(&json!({"aud": ["other", "mqtt"], "groups": ["a", "b"]}));
    assert_eq!((token.subject(), token.mqtt_client_id()), ("pump-1", "pump-1"));
    assert_eq!((token.expires_at().0, token.ends_at().0), (1_000_900, 1_000_905));
    assert_eq!(token.signed().token_id(), "pump-1-1000000-1000900");
    assert_eq!(token.signed().audiences().collect::<Vec<_>>(), ["other", "mqtt"]);
    assert_eq!(token.signed().groups().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(token.scope().to_string(), "mqtt.connect mqtt.publish mqtt.subscribe");
}

#[test]
fn what_a_token_allows() {
    use Action::{Publish, Receive, Subscribe};
    let token = admitted(&json!({"acl": {"pub": ["devices/pump-1/#"], "sub": ["cmd/+/pump-1", "all"]}}));
    let table = [
        (Publish, "devices/pump-1/temp", "allow"),
        (Publish, "devices/pump-1", "allow"),
        (Publish, "devices/pump-2/temp", "topic_not_allowed"),
        (Publish, "all", "topic_not_allowed"),
        (Publish, "devices/pump-1/#", "topic_malformed"),
        (Publish, "$SYS/x", "topic_not_allowed"),
        (Subscribe, "cmd/x/pump-1", "allow"),
        (Subscribe, "cmd/+/pump-1", "allow"),
        (Subscribe, "$share/g/cmd/x/pump-1", "allow"),
        (Subscribe, "$share/g/#", "topic_not_allowed"),
        (Subscribe, "$share/g", "topic_malformed"),
        (Subscribe, "cmd/#", "topic_not_allowed"),
        (Subscribe, "#", "topic_not_allowed"),
        (Subscribe, "$SYS/#", "topic_not_allowed"),
        (Subscribe, "devices/pump-1/#", "topic_not_allowed"),
        (Receive, "cmd/x/pump-1", "allow"),
        (Receive, "cmd/x/pump-2", "topic_not_allowed"),
        (Receive, "", "topic_malformed"),
    ];
    for (action, topic, expected) in table {
        let verdict = token.allows(action, topic, NOW).map_or_else(|denied| denied.code(), |()| "allow");
        assert_eq!(verdict, expected, "{action} {topic}");
    }
}

#[test]
fn rights_end_with_the_token_and_its_scope() {
    let token = admitted(&json!({}));
    let topic = "devices/pump-1/x";
    for action in [Action::Publish, Action::Subscribe, Action::Receive] {
        assert_eq!(token.allows(action, topic, UnixSeconds(1_000_904)), Ok(()));
        assert_eq!(token.allows(action, topic, UnixSeconds(1_000_905)).unwrap_err().code(), "expired");
    }
    let connect_only = admitted(&json!({"scope": "mqtt.connect"}));
    let subscribe_only = admitted(&json!({"scope": "mqtt.connect mqtt.subscribe"}));
    assert_eq!(connect_only.allows(Action::Publish, topic, NOW).unwrap_err().code(), "scope_missing");
    assert_eq!(subscribe_only.allows(Action::Publish, topic, NOW).unwrap_err().code(), "scope_missing");
    assert_eq!(subscribe_only.allows(Action::Receive, topic, NOW), Ok(()));
    assert_eq!(
        admitted(&json!({"acl": {}})).allows(Action::Publish, topic, NOW).unwrap_err().code(),
        "topic_not_allowed"
    );
}

#[test]
fn a_remembered_token_is_still_bound_to_its_client_key_and_time() {
    let (key, other) = (TestKey::generate(), TestKey::generate());
    let (both, token) = (keys(&jwks(&[&key, &other])), key.token(&ordinary_claims()));
    let (verifier, mut memory) = (Verifier::new(ISSUER, "mqtt"), Memory::default());
    let mut verdict = |verifier: &Verifier, client_id: &str, keys: &KeySet, now| {
        verifier
            .verify_remembered(&token, client_id, keys, &NotFollowed, &mut memory, now)
            .map_or_else(|denied| denied.code(), |_| "allow")
    };
    assert_eq!(verdict(&verifier, "pump-1", &both, NOW), "allow");
    assert_eq!(verdict(&verifier, "pump-2", &both, NOW), "client_id_differs");
    assert_eq!(verdict(&verifier, "pump-1", &keys(&other.jwks()), NOW), "key_unknown");
    assert_eq!(verdict(&verifier, "pump-1", &both, UnixSeconds(1_000_905)), "expired");
    assert_eq!(verdict(&Verifier::new(ISSUER, "other"), "pump-1", &both, NOW), "audience_differs");
    assert_eq!(
        verdict(&Verifier::new("https://other.example", "mqtt"), "pump-1", &both, NOW),
        "issuer_differs"
    );
    assert_eq!(verdict(&verifier, "pump-1", &both, NOW), "allow");
}

#[test]
fn a_remembered_token_does_not_outlive_its_key_when_the_kid_means_another() {
    let (old, new) = (TestKey::generate(), TestKey::generate());
    let under_one_kid = |key: &TestKey| {
        let mut jwk = key.public().to_jwk();
        jwk.kid = Some("k1".into());
        keys(&json!({"keys": [jwk]}).to_string())
    };
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "k1"}).to_string();
    let token = old.token_of(header, ordinary_claims().to_string());
    let (verifier, mut memory) = (Verifier::new(ISSUER, "mqtt"), Memory::default());
    let mut verdict = |keys: &KeySet| {
        let result = verifier.verify_remembered(&token, "pump-1", keys, &NotFollowed, &mut memory, NOW);
        result.map_or_else(|denied| denied.code(), |_| "allow")
    };
    assert_eq!(verdict(&under_one_kid(&old)), "allow");
    assert_eq!(verdict(&under_one_kid(&new)), "key_unknown");
    assert!(!under_one_kid(&old).has_the_keys_of(&under_one_kid(&new)));
    assert!(under_one_kid(&old).has_the_keys_of(&under_one_kid(&old)));
}

#[test]
fn a_remembered_token_is_taken_back_all_the_same() {
    let (key, now) = (TestKey::generate(), NOW);
    let (keys, token) = (keys(&key.jwks()), key.token(&ordinary_claims()));
    let (verifier, mut memory) = (Verifier::new(ISSUER, "mqtt"), Memory::default());
    let mut verdict = |revocations: &RevocationState, keys: &KeySet, now| {
        let result = verifier.verify_remembered(&token, "pump-1", keys, revocations, &mut memory, now);
        result.map_or_else(|denied| denied.code(), |_| "allow")
    };
    let known = |revocations: &[Revocation]| RevocationState::Known {
        revocations: Arc::new(revocations.iter().cloned().collect()),
        freshness: Freshness { confirmed_at: now, max_staleness_s: 60 },
    };
    assert_eq!(verdict(&known(&[]), &keys, now), "allow");
    let revocation = Revocation::of_token("pump-1-1000000-1000900", UnixSeconds(1_001_000));
    assert_eq!(verdict(&known(&[revocation]), &keys, now), "revoked");
    assert_eq!(verdict(&RevocationState::Missing, &keys, now), "revocations_missing");
    assert_eq!(verdict(&known(&[]), &keys, now.plus(60)), "allow");
    assert_eq!(verdict(&known(&[]), &keys, now.plus(61)), "stale");

    let keys = keys.with_freshness(Freshness { confirmed_at: now, max_staleness_s: 60 });
    assert_eq!(verdict(&NotFollowed, &keys, now.plus(60)), "allow");
    assert_eq!(verdict(&NotFollowed, &keys, now.plus(61)), "stale");
}

#[test]
fn the_memory_is_bounded_and_forgets_what_has_expired() {
    let key = TestKey::generate();
    let keys = keys(&key.jwks());
    let verifier = Verifier::new(ISSUER, "mqtt");
    let mut memory = Memory::with_capacity(3);
    for life in 0..10 {
        let token = key.token(&claims("pump-1", 1_000_000, 1_000_900 + life));
        for _ in 0..2 {
            verifier.verify_remembered(&token, "pump-1", &keys, &NotFollowed, &mut memory, NOW).unwrap();
        }
        assert!(memory.len() <= 3);
    }
    assert_eq!(memory.len(), 3);
    memory.forget_expired(UnixSeconds(1_000_908));
    assert_eq!(memory.len(), 1);
    memory.forget_expired(UnixSeconds(1_000_909));
    assert!(memory.is_empty());
}

#[test]
fn a_bad_token_is_never_remembered() {
    let key = TestKey::generate();
    let (keys, mut memory) = (keys(&key.jwks()), Memory::default());
    let forged = key.token(&ordinary_claims()).replace('.', ".A");
    for token in ["", "a.b.c", &forged, &"x".repeat(9000)] {
        let result = Verifier::new(ISSUER, "mqtt").verify_remembered(
            token,
            "pump-1",
            &keys,
            &NotFollowed,
            &mut memory,
            NOW,
        );
        assert!(result.is_err());
    }
    assert!(memory.is_empty());
}

#[test]
fn a_key_is_only_good_for_its_issuer() {
    let key = TestKey::generate();
    let (of_a, _) = KeySet::from_json("https://a.example", key.jwks().as_bytes()).unwrap();
    let mut claims = ordinary_claims();
    claims["iss"] = json!("https://b.example");
    let verifier = Verifier::new("https://b.example", "mqtt");
    let denied = verifier.verify(&key.token(&claims), "pump-1", &of_a, &NotFollowed, NOW).unwrap_err();
    assert_eq!(denied.code(), "issuer_differs");
}

#[test]
fn a_key_set_skips_what_it_cannot_use_and_refuses_what_is_ambiguous() {
    let key = TestKey::generate();
    let good = json!(key.public().to_jwk());
    let set =
        |keys: Value| KeySet::from_json(ISSUER, json!({"keys": keys, "extra": 1}).to_string().as_bytes());
    let with = |changes: Value| {
        let mut jwk = good.clone();
        jwk.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        jwk
    };
    let bad = [
        json!({"kty": "oct", "k": "AAAA", "kid": "hmac"}),
        json!({"kty": "AKP", "kid": "later"}),
        json!(1),
        with(json!({"kid": "private", "d": "AAAA"})),
        with(json!({"kid": "", "x": "AAAA"})),
        with(json!({"kid": "k".repeat(129)})),
        with(json!({"kid": "off-curve", "x": good["y"], "y": good["x"]})),
    ];
    let (keys, skipped) = set(json!([bad.as_slice(), std::slice::from_ref(&good)].concat())).unwrap();
    assert_eq!(keys.key_ids().collect::<Vec<_>>(), [key.kid()]);
    assert_eq!(skipped.len(), bad.len(), "{skipped:?}");
    assert!(matches!(set(json!(bad)), Err(InvalidKeySet::NoUsableKey { .. })));
    assert!(matches!(set(json!([good, good])), Err(InvalidKeySet::DuplicateKid { .. })));
    assert!(matches!(set(json!(vec![good.clone(); 101])), Err(InvalidKeySet::TooManyKeys { count: 101 })));
    assert!(matches!(KeySet::from_json(ISSUER, b"[]"), Err(InvalidKeySet::Json(_))));
    assert!(matches!(KeySet::from_json(ISSUER, &[b' '; 300_000]), Err(InvalidKeySet::TooLong { .. })));
}

#[test]
fn denials_show_values_escaped_and_short() {
    let (key, mut claims) = (TestKey::generate(), ordinary_claims());
    claims["iss"] = json!(format!("x\r\n\u{1b}[31m{}", "y".repeat(500)));
    let denied = Verifier::new(ISSUER, "mqtt")
        .verify(&key.token(&claims), "pump-1", &keys(&key.jwks()), &NotFollowed, NOW)
        .unwrap_err();
    let text = denied.to_string();
    assert!(text.starts_with(r#"iss is "x\r\n\u{1b}[31myyy"#), "{text}");
    assert!(text.len() < 250 && text.chars().all(|c| !c.is_control()), "{text}");
    assert_eq!(denied.check(), Some(Check::Issuer));
}

/// `jsonwebtoken`'s own provider is the oracle for ours.
#[test]
fn the_same_signatures_are_good_as_for_jsonwebtoken() {
    let files = ["valid", "signature", "algorithms"];
    for (file, vectors) in vectors().into_iter().filter(|(file, _)| files.contains(&&**file)) {
        let (keys, _) = KeySet::from_json(&vectors.issuer, vectors.jwks.to_string().as_bytes()).unwrap();
        let jwks: jsonwebtoken::jwk::JwkSet = serde_json::from_value(vectors.jwks.clone()).unwrap();
        for case in &vectors.cases {
            let Ok(header) = jsonwebtoken::decode_header(&case.token) else { continue };
            let kid = header.kid.unwrap();
            let key = jsonwebtoken::DecodingKey::from_jwk(jwks.find(&kid).unwrap()).unwrap();
            let (message, signature) = case.token.rsplit_once('.').unwrap();
            let ours = keys.get(&kid).unwrap();
            let theirs = jsonwebtoken::crypto::verify(
                signature,
                message.as_bytes(),
                &key,
                JwtVerifier::algorithm(ours),
            );
            let expected = !matches!(
                &*case.expect,
                "signature_invalid" | "algorithm_not_allowed" | "key_for_other_algorithm"
            );
            if header.alg == JwtVerifier::algorithm(ours) {
                assert_eq!(theirs.unwrap_or(false), expected, "{file}: {}", case.name);
            }
        }
    }
}

/// Another implementation of P-256 signs, ours verifies.
#[test]
fn a_signature_of_rustcrypto_is_good() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use p256::ecdsa::signature::Signer as _;
    use p256::ecdsa::{Signature, SigningKey};

    let signing = SigningKey::from_slice(&[7; 32]).unwrap();
    let public = PublicKey::from_p256_point(signing.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
    let jwks = json!({"keys": [public.to_jwk()]}).to_string();
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": public.thumbprint()}).to_string();
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(ordinary_claims().to_string())
    );
    let signature: Signature = signing.sign(message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()));
    assert!(Verifier::new(ISSUER, "mqtt").verify(&token, "pump-1", &keys(&jwks), &NotFollowed, NOW).is_ok());
}

proptest! {
    /// Whatever comes: no panic, and nothing is let in.
    #[test]
    fn nonsense_is_denied(token in "\\PC{0,60}|[A-Za-z0-9_.-]{0,200}|eyJ[A-Za-z0-9_-]{0,80}\\.eyJ[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{86}") {
        let result = Verifier::new(ISSUER, "mqtt").verify(&token, "pump-1", &KeySet::empty(ISSUER), &NotFollowed, NOW);
        prop_assert!(result.is_err());
    }

    /// One changed character of a good token is enough.
    #[test]
    fn a_tampered_token_is_denied(position in 0..600_usize, replacement in "[A-Za-z0-9_.-]") {
        thread_local!(static GOOD: (KeySet, String) = {
            let key = TestKey::generate();
            (keys(&key.jwks()), key.token(&ordinary_claims()))
        });
        GOOD.with(|(keys, token)| {
            let position = position % token.len();
            let mut tampered = token.clone();
            tampered.replace_range(position..=position, &replacement);
            prop_assume!(tampered != *token);
            prop_assert!(Verifier::new(ISSUER, "mqtt").verify(&tampered, "pump-1", keys, &NotFollowed, NOW).is_err());
            Ok(())
        })?;
    }
}

/// The certificate is of the connection, not of the token: remembered is not
/// that it was shown once.
#[test]
fn a_bound_token_seen_before_needs_its_certificate_again() {
    let (key, mut claims) = (TestKey::generate(), ordinary_claims());
    let own = CertificateThumbprint([7; 32]);
    claims["cnf"] = json!({ "x5t#S256": own });
    let (token, keys, mut memory) = (key.token(&claims), keys(&key.jwks()), Memory::default());
    let verifier = Verifier::new(ISSUER, "mqtt");
    let mut code = |certificate| {
        let connecting = Connecting { client_id: "pump-1", certificate };
        let verified = verifier.verify_remembered(&token, connecting, &keys, &NotFollowed, &mut memory, NOW);
        verified.map_or_else(|denied| denied.code(), |_| "allow")
    };
    for _ in 0..2 {
        assert_eq!(code(Some(own)), "allow");
        assert_eq!(code(None), "certificate_missing");
        assert_eq!(code(Some(CertificateThumbprint([8; 32]))), "certificate_differs");
    }
}

#[test]
fn which_tokens_receive_all_of_another() {
    let sub = |filters: &[&str]| json!({"acl": {"pub": [], "sub": filters}});
    let cases = [
        (sub(&["a/#"]), sub(&["a/#"]), true),
        (sub(&["a/#", "b"]), sub(&["b", "a/+"]), true),
        (sub(&["#"]), sub(&["a", "b/+/c", "+"]), true),
        (sub(&["a/+"]), sub(&["a/#"]), false),
        (sub(&["#"]), sub(&["$SYS/x"]), false),
        (sub(&["a"]), sub(&["a", "b"]), false),
        (sub(&[]), sub(&["a"]), false),
        (sub(&[]), sub(&[]), true),
        (sub(&[]), json!({"scope": "mqtt.connect mqtt.publish"}), true),
        (json!({"scope": "mqtt.connect mqtt.publish"}), sub(&["a"]), false),
    ];
    for (this, other, expected) in cases {
        assert_eq!(admitted(&this).receives_all_of(&admitted(&other)), expected, "{this} {other}");
    }
}
