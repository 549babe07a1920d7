use fleetbadge_validator::test_support::TestKey;
use serde_json::{Value, json};

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn read(body: &Value) -> Result<ClientMetadata, InvalidMetadata> {
    ClientMetadata::read(body.to_string().as_bytes(), 8, NOW)
}

fn record(key: &TestKey, created_at: UnixSeconds) -> KeyRecord {
    KeyRecord { id: CredentialId::from_text(&key.kid()), jwk: key.public().to_jwk(), created_at }
}

#[test]
fn what_is_known_is_read_and_the_rest_passed_over() {
    let key = TestKey::generate();
    let body = json!({
        "jwks": {"keys": [key.public().to_jwk()], "other": 1}, "client_name": "pump-1", "client_id": "x",
        "token_endpoint_auth_method": "private_key_jwt", "redirect_uris": ["https://x"], "software_id": 1
    });
    let metadata = ClientMetadata {
        keys: vec![record(&key, NOW)],
        client_name: Some("pump-1".into()),
        client_id: Some("x".into()),
    };
    assert_eq!(read(&body), Ok(metadata));
}

#[test]
fn members_have_their_types() {
    let key = TestKey::generate();
    for member in ["jwks", "client_name", "client_id", "token_endpoint_auth_method"] {
        for wrong in [json!(null), json!(1), json!(["x"]), json!([[]]), json!({})] {
            let mut body = json!({"jwks": {"keys": [key.public().to_jwk()]}});
            body[member] = wrong.clone();
            assert!(matches!(read(&body), Err(InvalidMetadata::Json { .. })), "{member}: {wrong}");
        }
    }
    let twice = br#"{"client_name":"a","client_name":"b"}"#;
    assert!(matches!(ClientMetadata::read(twice, 8, NOW), Err(InvalidMetadata::Json { .. })));
}

#[test]
fn keys_come_in_the_request_and_prove_themselves_by_signing() {
    let key = TestKey::generate();
    let good = json!({"jwks": {"keys": [key.public().to_jwk()]}});
    assert_eq!(read(&json!({})), Err(InvalidDeviceKeys::NoKey.into()));
    assert_eq!(read(&json!({"jwks": {"keys": []}})), Err(InvalidDeviceKeys::NoKey.into()));
    let with = |member: &str, value: &str| {
        let mut body = good.clone();
        body[member] = json!(value);
        read(&body)
    };
    // Nothing is fetched for a stranger.
    assert_eq!(with("jwks_uri", "http://169.254.169.254/"), Err(InvalidMetadata::JwksUri));
    for method in ["client_secret_basic", "none", "PRIVATE_KEY_JWT", ""] {
        assert_eq!(
            with("token_endpoint_auth_method", method),
            Err(InvalidMetadata::AuthMethod { found: method.into() })
        );
    }
}

#[test]
fn each_key_can_be_used_and_is_there_once() {
    let (one, other) = (TestKey::generate(), TestKey::generate());
    let [a, b] = [&one, &other].map(|key| json!(key.public().to_jwk()));
    let keys = |keys: Value| read(&json!({"jwks": {"keys": keys}}));
    let with = |jwk: &Value, member: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[member] = value;
        jwk
    };
    assert_eq!(keys(json!([a, a])), Err(InvalidDeviceKeys::Duplicate { position: 2 }.into()));
    assert_eq!(
        keys(json!([a, with(&a, "kid", json!("k"))])),
        Err(InvalidDeviceKeys::Duplicate { position: 2 }.into())
    );
    let same_kid = json!([with(&a, "kid", json!("k")), with(&b, "kid", json!("k"))]);
    assert_eq!(keys(same_kid), Err(InvalidDeviceKeys::Duplicate { position: 2 }.into()));
    for kid in ["", "a b", "a\u{1b}[31m", "ä", &"x".repeat(129)] {
        assert_eq!(
            keys(json!([with(&a, "kid", json!(kid))])),
            Err(InvalidDeviceKeys::Kid { position: 1 }.into())
        );
    }
    for (member, value) in [
        ("use", json!("enc")),
        ("alg", json!("RS256")),
        ("alg", json!("HS256")),
        ("crv", json!("P-384")),
        ("kty", json!("oct")),
        ("x", json!("AQ")),
        ("y", json!(b["y"])),
        ("key_ops", json!(["sign"])),
    ] {
        let found = keys(json!([b, with(&a, member, value.clone())]));
        assert!(
            matches!(found, Err(InvalidMetadata::Keys(InvalidDeviceKeys::Unusable { position: 2, .. }))),
            "{member}: {value}"
        );
    }
    assert!(matches!(keys(json!([with(&a, "d", json!("AQ"))])), Err(InvalidMetadata::Json { .. })));
    assert_eq!(keys(json!([a, b])).unwrap().keys, [record(&one, NOW), record(&other, NOW)]);
    let many: Vec<_> = (0..9).map(|_| TestKey::generate().public().to_jwk()).collect();
    assert_eq!(keys(json!(many)), Err(InvalidDeviceKeys::TooManyKeys { count: 9, max: 8 }.into()));
}

#[test]
fn one_key_at_a_time_is_new_and_the_others_keep_their_age() {
    let [a, b, c, d] = [(); 4].map(|()| TestKey::generate());
    let later = NOW.plus(60);
    let current = [record(&a, NOW), record(&b, NOW)];
    let replaced = replace_keys(&current, &[record(&b, later), record(&c, later)]).unwrap();
    assert_eq!(replaced.keys, [record(&b, NOW), record(&c, later)]);
    assert_eq!(replaced.new_key, Some(record(&c, NOW).id));
    assert_eq!(replace_keys(&current, &[record(&a, later)]).unwrap().new_key, None);
    assert_eq!(
        replace_keys(&current, &[record(&a, NOW), record(&c, NOW), record(&d, NOW)]),
        Err(InvalidMetadata::NewKeys { count: 2 })
    );
}
