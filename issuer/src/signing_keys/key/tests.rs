use fleetbadge_validator::jwk::Jwk;

use super::*;
use crate::root_key::RootKey;

fn sealer(root: u8) -> KeySealer {
    RootKey::from_bytes([root; 32]).key_sealer()
}

fn key(algorithm: Algorithm) -> (SigningKey, Sealed) {
    SigningKey::generate(algorithm, &sealer(1)).unwrap()
}

fn bytes(member: Option<String>) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(member.unwrap()).unwrap()
}

#[test]
fn what_is_sealed_opens_with_the_same_root_key_kid_and_algorithm_only() {
    for algorithm in Algorithm::ALL {
        let (key, sealed) = key(algorithm);
        let open = |kid: &str, algorithm, sealed: &Sealed, root| {
            SigningKey::open(kid, algorithm, sealed, &sealer(root)).map(|key| key.public().clone())
        };
        assert_eq!(open(key.kid(), algorithm, &sealed, 1).as_ref(), Ok(key.public()));
        assert_eq!(open(key.kid(), algorithm, &sealed, 2), Err(SealBroken::RootKey(sealed.root_key).into()));
        let broken = SealBroken::Content(sealed.root_key);
        assert_eq!(open("other", algorithm, &sealed, 1), Err(broken.into()));
        for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            let refused = open(key.kid(), other, &sealed, 1);
            assert_eq!(refused, Err(UnusableSigningKey::Cryptography), "{algorithm:?} as {other:?}");
        }
        let mut tampered = sealed;
        *tampered.text.last_mut().unwrap() ^= 1;
        assert_eq!(open(key.kid(), algorithm, &tampered, 1), Err(broken.into()));
    }
}

#[test]
fn the_lengths_are_as_stated() {
    for algorithm in Algorithm::ALL {
        let (key, _) = key(algorithm);
        for typ in [TokenType::AccessToken, TokenType::Jwt] {
            let header = URL_SAFE_NO_PAD.decode(key.header(typ)).unwrap();
            let expected = format!(
                r#"{{"alg":"{}","typ":"{}","kid":"{}"}}"#,
                algorithm.as_str(),
                typ.as_str(),
                key.kid()
            );
            assert_eq!(String::from_utf8(header).unwrap(), expected);
            assert_eq!(key.header(typ).len(), typ.header_length());
        }
        let signature = URL_SAFE_NO_PAD.encode(key.try_sign(b"x").unwrap());
        assert_eq!(signature.len(), signature_length(algorithm));
    }
}

#[test]
fn an_rsa_key_of_another_size_is_not_taken() {
    let pair = RsaKeyPair::generate(KeySize::Rsa3072).unwrap();
    let pkcs8 = PrivateKey::Rs256(pair).to_pkcs8().unwrap();
    assert!(PrivateKey::from_pkcs8(Algorithm::RS256, &pkcs8).is_none());
}

#[test]
fn the_published_key_is_the_right_kind_and_nothing_private() {
    let members = |algorithm| {
        let jwk = serde_json::to_value(key(algorithm).0.public().to_jwk()).unwrap();
        assert_eq!(jwk["alg"], algorithm.as_str());
        assert_eq!(jwk["use"], "sig");
        let members: Vec<String> = jwk.as_object().unwrap().keys().cloned().collect();
        (jwk["kty"].as_str().unwrap().to_owned(), members.join(" "))
    };
    assert_eq!(members(Algorithm::ES256), ("EC".into(), "alg crv kid kty use x y".into()));
    assert_eq!(members(Algorithm::RS256), ("RSA".into(), "alg e kid kty n use".into()));
    assert_eq!(members(Algorithm::EdDSA), ("OKP".into(), "alg crv kid kty use x".into()));
}

/// `jsonwebtoken` reads the header and the JWK by itself, and verifies with its
/// own provider.
#[test]
fn another_library_verifies_all_three() {
    for algorithm in Algorithm::ALL {
        let (key, _) = key(algorithm);
        let jwk = serde_json::to_value(key.public().to_jwk()).unwrap();
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk).unwrap();
        let theirs = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let message = format!("{}.{}", key.header(TokenType::Jwt), URL_SAFE_NO_PAD.encode(r#"{"a":1}"#));
        let token =
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(key.try_sign(message.as_bytes()).unwrap()));
        let mut rules = jsonwebtoken::Validation::new(JwtSigner::algorithm(&key));
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        let read = jsonwebtoken::decode::<serde_json::Value>(&token, &theirs, &rules).unwrap();
        assert_eq!(read.claims, serde_json::json!({"a": 1}));
        assert_eq!(read.header.kid.as_deref(), Some(key.kid()));
        assert_eq!(read.header.typ.as_deref(), Some("JWT"));
    }
}

/// RustCrypto's implementation of RSA, from what is published alone.
#[test]
fn an_rs256_signature_is_good_for_rustcrypto() {
    use rsa::pkcs1v15::{Signature, VerifyingKey};
    use rsa::signature::Verifier as _;

    let (key, _) = key(Algorithm::RS256);
    let Jwk { n, e, .. } = key.public().to_jwk();
    let number = |member| rsa::BigUint::from_bytes_be(&bytes(member));
    let public = rsa::RsaPublicKey::new(number(n), number(e)).unwrap();
    let public = VerifyingKey::<rsa::sha2::Sha256>::new(public);
    let signature = Signature::try_from(&*key.try_sign(b"message").unwrap()).unwrap();
    assert!(public.verify(b"message", &signature).is_ok());
    assert!(public.verify(b"massage", &signature).is_err());
}

/// RustCrypto's implementation of P-256, from what is published alone.
#[test]
fn an_es256_signature_is_good_for_rustcrypto() {
    use p256::ecdsa::signature::Verifier as _;
    use p256::ecdsa::{Signature, VerifyingKey};

    let (key, _) = key(Algorithm::ES256);
    let Jwk { x, y, .. } = key.public().to_jwk();
    let public = VerifyingKey::from_sec1_bytes(&[vec![4], bytes(x), bytes(y)].concat()).unwrap();
    let signature = Signature::from_slice(&key.try_sign(b"message").unwrap()).unwrap();
    assert!(public.verify(b"message", &signature).is_ok());
    assert!(public.verify(b"massage", &signature).is_err());
}

/// RFC 8037 appendix A: Ed25519 always makes the same signature.
#[test]
fn an_eddsa_signature_is_that_of_the_rfc() {
    let seed = bytes(Some("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A".into()));
    let public = bytes(Some("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".into()));
    let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public).unwrap();
    let key = SigningKey::from_private(PrivateKey::EdDsa(pair)).unwrap();
    assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let signature = key.try_sign(b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc").unwrap();
    assert_eq!(
        URL_SAFE_NO_PAD.encode(signature),
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}
