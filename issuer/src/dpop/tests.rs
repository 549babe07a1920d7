use fleetbadge_validator::test_support::TestKey;
use serde_json::{Value, json};

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const URL: &str = "https://id.example/oauth2/register";
const TOKEN: &str = "fbe_token";
const REQUEST: ProvenRequest<'_> = ProvenRequest { method: "POST", url: URL, token: TOKEN };

fn header(key: &TestKey) -> Value {
    json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.public().to_jwk()})
}

fn claims() -> Value {
    json!({"jti": "1", "htm": "POST", "htu": URL, "iat": NOW, "ath": hash_of_token(TOKEN)})
}

/// Checks a proof of `key` in which one claim is another one.
fn with(claim: &str, value: Value) -> Result<Proof, InvalidProof> {
    let key = TestKey::generate();
    let mut claims = claims();
    claims[claim] = value;
    check(&key.token_of(header(&key).to_string(), claims.to_string()), REQUEST, NOW)
}

/// Checks a proof with this header.
fn with_header(header: &Value, signer: &TestKey) -> Result<Proof, InvalidProof> {
    check(&signer.token_of(header.to_string(), claims().to_string()), REQUEST, NOW)
}

#[test]
fn a_good_proof_names_the_key_that_signed_it() {
    let key = TestKey::generate();
    let proof = with_header(&header(&key), &key).unwrap();
    assert_eq!(proof, Proof { key: key.public(), jti: "1".into(), expires_at: NOW.plus(300) });
}

#[test]
fn a_key_that_somebody_else_has_is_not_proven() {
    let (victim, attacker) = (TestKey::generate(), TestKey::generate());
    assert_eq!(with_header(&header(&victim), &attacker), Err(InvalidProof::Jws(InvalidJws::Signature)));
}

#[test]
fn a_statement_of_another_kind_is_no_proof() {
    let key = TestKey::generate();
    for typ in ["JWT", "at+jwt", "client-authentication+jwt", "dpop", ""] {
        let mut header = header(&key);
        header["typ"] = json!(typ);
        let other_kind = InvalidJws::Type { typ: typ.into(), expected: &[PROOF_TYPE] };
        assert_eq!(with_header(&header, &key), Err(InvalidProof::Jws(other_kind)));
    }
    let mut untyped = header(&key);
    untyped.as_object_mut().unwrap().remove("typ");
    assert!(matches!(with_header(&untyped, &key), Err(InvalidProof::Jws(InvalidJws::Type { .. }))));
    let mut spelt_out = header(&key);
    spelt_out["typ"] = json!("application/DPoP+jwt");
    assert!(with_header(&spelt_out, &key).is_ok());
}

#[test]
fn a_key_that_is_none_weak_or_everybodys_is_refused() {
    let key = TestKey::generate();
    let with_jwk = |jwk: Value| {
        let mut header = header(&key);
        header["jwk"] = jwk;
        with_header(&header, &key)
    };
    let mut nameless = header(&key);
    nameless.as_object_mut().unwrap().remove("jwk");
    assert_eq!(with_header(&nameless, &key), Err(InvalidProof::NoKey));
    let jwks: Value = serde_json::from_str(include_str!("../../../keys/test-jwks.json")).unwrap();
    assert_eq!(with_jwk(jwks["keys"][0].clone()), Err(InvalidProof::Key(UnusableKey::TestKey)));
    let short = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB"});
    assert_eq!(with_jwk(short), Err(InvalidProof::Key(UnusableKey::ModulusSize { bits: 1024 })));
    let off_curve = json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode([1; 32]),
                           "y": URL_SAFE_NO_PAD.encode([1; 32])});
    assert_eq!(with_jwk(off_curve), Err(InvalidProof::Key(UnusableKey::Invalid)));
    let symmetric = json!({"kty": "oct", "k": "AQAB"});
    assert!(matches!(with_jwk(symmetric), Err(InvalidProof::Jws(InvalidJws::Header { .. }))));
    let mut private = json!(key.public().to_jwk());
    private["d"] = json!("AQAB");
    assert!(matches!(with_jwk(private), Err(InvalidProof::Jws(InvalidJws::Header { .. }))));
}

#[test]
fn another_algorithm_than_the_keys_is_refused() {
    let key = TestKey::generate();
    for alg in ["RS256", "EdDSA"] {
        let mut header = header(&key);
        header["alg"] = json!(alg);
        assert_eq!(with_header(&header, &key), Err(InvalidProof::Jws(InvalidJws::Signature)), "{alg}");
    }
    for alg in ["none", "HS256"] {
        let mut header = header(&key);
        header["alg"] = json!(alg);
        assert_eq!(
            with_header(&header, &key),
            Err(InvalidProof::Jws(InvalidJws::Algorithm { alg: alg.into() }))
        );
    }
}

#[test]
fn a_proof_for_another_request_is_refused() {
    for method in ["PUT", "post", "GET", ""] {
        assert!(matches!(with("htm", json!(method)), Err(InvalidProof::Method { .. })), "{method}");
    }
    for url in [
        "https://id.example/oauth2/register/",
        "https://id.example/oauth2/register/pump-1",
        "https://id.example/oauth2/token",
        "https://other.example/oauth2/register",
        "http://id.example/oauth2/register",
        "https://id.example:444/oauth2/register",
        "https://user@id.example/oauth2/register",
        "/oauth2/register",
        "",
    ] {
        assert!(matches!(with("htu", json!(url)), Err(InvalidProof::Url { .. })), "{url}");
    }
    for same in [
        "https://ID.example:443/oauth2/register",
        "https://id.example/x/../oauth2/register?a=b#c",
        "HTTPS://id.example/oauth2/register",
    ] {
        assert!(with("htu", json!(same)).is_ok(), "{same}");
    }
}

#[test]
fn a_proof_that_came_with_another_token_is_refused() {
    assert_eq!(with("ath", json!(hash_of_token("fbe_other"))), Err(InvalidProof::Token));
    assert_eq!(with("ath", json!(format!("{}=", hash_of_token(TOKEN)))), Err(InvalidProof::Token));
    assert_eq!(with("ath", json!("")), Err(InvalidProof::Token));
}

#[test]
fn a_proof_is_fresh() {
    for (iat, is_good) in
        [(NOW.minus(300), false), (NOW.minus(299), true), (NOW.plus(30), true), (NOW.plus(31), false)]
    {
        match with("iat", json!(iat)) {
            Ok(_) => assert!(is_good, "{iat}"),
            Err(error) => assert_eq!((error, is_good), (InvalidProof::Time { found: iat, now: NOW }, false)),
        }
    }
    assert!(matches!(with("iat", json!(u64::MAX)), Err(InvalidProof::Time { .. })));
}

#[test]
fn a_jti_has_a_size() {
    for length in [0, MAX_JTI_LENGTH + 1] {
        assert_eq!(with("jti", json!("x".repeat(length))), Err(InvalidProof::Jti { length }));
    }
    assert!(with("jti", json!("x".repeat(MAX_JTI_LENGTH))).is_ok());
}

#[test]
fn every_claim_is_needed_and_of_its_type() {
    let key = TestKey::generate();
    for claim in ["jti", "htm", "htu", "iat", "ath"] {
        let mut incomplete = claims();
        incomplete.as_object_mut().unwrap().remove(claim);
        let proof = key.token_of(header(&key).to_string(), incomplete.to_string());
        assert!(
            matches!(check(&proof, REQUEST, NOW), Err(InvalidProof::Jws(InvalidJws::Claims { .. }))),
            "{claim}"
        );
        for wrong in [json!(null), json!(true), json!(-1), json!(1.5), json!([]), json!({})] {
            assert!(
                matches!(with(claim, wrong.clone()), Err(InvalidProof::Jws(InvalidJws::Claims { .. }))),
                "{claim}: {wrong}"
            );
        }
    }
    let doubled = claims().to_string().replacen('{', r#"{"htm":"POST","#, 1);
    let proof = key.token_of(header(&key).to_string(), doubled);
    assert!(matches!(check(&proof, REQUEST, NOW), Err(InvalidProof::Jws(InvalidJws::Claims { .. }))));
    for malformed in ["", "a.b.c", "a, b"] {
        assert!(matches!(check(malformed, REQUEST, NOW), Err(InvalidProof::Jws(_))), "{malformed}");
    }
}
