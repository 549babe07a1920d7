//! Possession of the key is proven, for each request anew.

use super::*;

#[tokio::test]
async fn a_proof_is_needed_and_good_once() {
    let (issuer, token) = with_enrolment(9).await;
    let (key, other) = (TestKey::generate(), TestKey::generate());
    let body = jwks(&[&key]);
    let refused = async |proof: Option<&str>| refusal(&post(&issuer, &token, proof, &body).await);
    let proof = || TestProof::new("POST", URL, &token);
    let bad = invalid("invalid_dpop_proof");
    assert_eq!(refused(None).await, bad, "no proof");
    assert_eq!(refused(Some(&proof().sign(&other))).await, bad, "of another key");
    let forged = {
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.public().to_jwk()});
        other.token_of(header.to_string(), proof().claims.to_string())
    };
    assert_eq!(refused(Some(&forged)).await, bad, "signed by somebody else");
    assert_eq!(refused(Some(&proof().with("htm", "PUT").sign(&key))).await, bad, "another method");
    let elsewhere = proof().with("htu", "https://id.example/oauth2/token");
    assert_eq!(refused(Some(&elsewhere.sign(&key))).await, bad, "another URL");
    let for_another = TestProof::new("POST", URL, "fbe_other");
    assert_eq!(refused(Some(&for_another.sign(&key))).await, bad, "another token");
    assert_eq!(refused(Some(&proof().with("iat", NOW.0 - 300).sign(&key))).await, bad, "too old");
    assert_eq!(refused(Some(&proof().with("iat", NOW.0 + 31).sign(&key))).await, bad, "from the future");
    let mut twice = request(Method::POST, URL, &token, Some(&proof().sign(&key)), &body);
    twice.headers_mut().append(DPOP, proof().sign(&key).parse().unwrap());
    assert_eq!(refusal(&issuer.public(twice).await), bad, "two proofs");
    assert!(devices(&issuer).await.is_empty());

    // What was overheard cannot be said again, not even where the first
    // attempt came to nothing.
    let mut unwanted = body.clone();
    unwanted["client_name"] = json!("valve-1");
    let overheard = proof().sign(&key);
    let first = post(&issuer, &token, Some(&overheard), &unwanted).await;
    assert_eq!(refusal(&first), invalid("invalid_client_metadata"));
    assert_eq!(refused(Some(&overheard)).await, bad, "replayed");
    // The same jti in a statement of another age is used up, too.
    let same_jti = proof().with("jti", "j");
    assert_eq!(post(&issuer, &token, Some(&same_jti.sign(&key)), &unwanted).await.status, 400);
    assert_eq!(refused(Some(&same_jti.with("iat", NOW.0 - 1).sign(&key))).await, bad, "jti used again");
    // Somebody else's jti says nothing of this key's.
    let own = TestProof::new("POST", URL, &token).with("jti", "j").sign(&other);
    assert_eq!(post(&issuer, &token, Some(&own), &jwks(&[&other])).await.status, StatusCode::CREATED);
}

/// Nobody without the key can use up what its owner is going to say.
#[tokio::test]
async fn a_proof_with_a_bad_signature_uses_nothing_up() {
    let (issuer, token) = with_enrolment(1).await;
    let (key, other) = (TestKey::generate(), TestKey::generate());
    let proof = TestProof::new("POST", URL, &token);
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.public().to_jwk()});
    let forged = other.token_of(header.to_string(), proof.claims.to_string());
    assert_eq!(post(&issuer, &token, Some(&forged), &jwks(&[&key])).await.status, 400);
    let answer = post(&issuer, &token, Some(&proof.sign(&key)), &jwks(&[&key])).await;
    assert_eq!(answer.status, StatusCode::CREATED);
}
