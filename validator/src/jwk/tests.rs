use super::weak::has_roca_fingerprint;
use super::*;

fn jwk(json: &str) -> Jwk {
    serde_json::from_str(json).unwrap()
}

/// RFC 7638 §3.1.
#[test]
fn the_thumbprint_of_the_rfc() {
    let jwk = jwk(
        r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#,
    );
    let key = PublicKey::from_jwk(&jwk).unwrap();
    assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(key.algorithm(), Algorithm::RS256);
}

/// RFC 8037 appendix A.3.
#[test]
fn the_thumbprint_of_an_ed25519_key() {
    let jwk = jwk(r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#);
    assert_eq!(
        PublicKey::from_jwk(&jwk).unwrap().thumbprint(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
}

/// RFC 7515 appendix A.3.
const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

#[test]
fn what_is_published_is_what_was_read() {
    let key = PublicKey::from_jwk(&jwk(P256)).unwrap();
    let published = key.to_jwk();
    assert_eq!(PublicKey::from_jwk(&published), Ok(key.clone()));
    assert_eq!(published.kid, Some(key.thumbprint()));
    assert!(key.parse().is_ok());
}

#[test]
fn optional_members_do_not_change_the_thumbprint() {
    let mut other = jwk(P256);
    (other.kid, other.alg, other.use_) = (Some("x".into()), Some("ES256".into()), Some("sig".into()));
    assert_eq!(
        PublicKey::from_jwk(&other).unwrap().thumbprint(),
        PublicKey::from_jwk(&jwk(P256)).unwrap().thumbprint()
    );
}

#[test]
fn keys_for_something_else() {
    let with = |change: fn(&mut Jwk)| {
        let mut key = jwk(P256);
        change(&mut key);
        PublicKey::from_jwk(&key)
    };
    assert_eq!(with(|k| k.use_ = Some("enc".into())), Err(UnusableKey::OtherUse));
    assert_eq!(with(|k| k.key_ops = Some(vec!["sign".into()])), Err(UnusableKey::OtherUse));
    assert_eq!(
        with(|k| k.alg = Some("ES384".into())),
        Err(UnusableKey::OtherAlgorithm { alg: "ES384".into() })
    );
    assert_eq!(
        with(|k| k.alg = Some("RS256".into())),
        Err(UnusableKey::OtherAlgorithm { alg: "RS256".into() })
    );
    for (kty, crv) in [("EC", "P-384"), ("EC", "secp256k1"), ("OKP", "X25519"), ("oct", ""), ("AKP", "")] {
        let key = Jwk { kty: kty.into(), crv: Some(crv.into()), ..jwk(P256) };
        assert!(matches!(PublicKey::from_jwk(&key), Err(UnusableKey::UnknownKind { .. })), "{kty} {crv}");
    }
}

#[test]
fn the_test_keys_are_refused() {
    let jwks: Jwks = serde_json::from_str(include_str!("../../../keys/test-jwks.json")).unwrap();
    assert_eq!(jwks.keys.len(), TEST_KEYS.len());
    for mut key in jwks.keys {
        // Whatever it calls itself.
        key.kid = Some("mine".into());
        assert_eq!(PublicKey::from_jwk(&key), Err(UnusableKey::TestKey));
    }
}

#[test]
fn malformed_points() {
    let mut short = jwk(P256);
    short.x = Some(URL_SAFE_NO_PAD.encode([1; 31]));
    assert_eq!(PublicKey::from_jwk(&short), Err(UnusableKey::Member { member: "x" }));
    let mut padded = jwk(P256);
    padded.y = padded.y.map(|y| y + "=");
    assert_eq!(PublicKey::from_jwk(&padded), Err(UnusableKey::Member { member: "y" }));
    let off_curve = PublicKey::P256 { x: [1; 32], y: [1; 32] };
    assert_eq!(off_curve.parse().err(), Some(UnusableKey::Invalid));
    assert_eq!(PublicKey::P256 { x: [0; 32], y: [0; 32] }.parse().err(), Some(UnusableKey::Invalid));
}

fn rsa(n: &[u8], e: &[u8]) -> Result<PublicKey, UnusableKey> {
    let encode = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
    PublicKey::from_jwk(&Jwk { kty: "RSA".into(), n: encode(n), e: encode(e), ..Jwk::default() })
}

#[test]
fn weak_rsa_keys() {
    let n = [[0xC5; 128], [0x3B; 128]].concat();
    assert!(rsa(&n, &[1, 0, 1]).is_ok());
    assert_eq!(rsa(&n[..128], &[1, 0, 1]), Err(UnusableKey::ModulusSize { bits: 1024 }));
    assert_eq!(rsa(&[&[0x7F], &n[1..]].concat(), &[1, 0, 1]), Err(UnusableKey::ModulusSize { bits: 2047 }));
    for e in [&[1][..], &[2], &[1, 0, 0], &[]] {
        assert_eq!(rsa(&n, e), Err(UnusableKey::WeakExponent), "{e:?}");
    }
    assert_eq!(rsa(&[], &[3]), Err(UnusableKey::ModulusSize { bits: 0 }));
}

/// Otherwise one key would pass for two.
#[test]
fn zeros_in_front_of_an_rsa_number_do_not_make_another_key() {
    let n = [[0xC5; 128], [0x3B; 128]].concat();
    let padded = rsa(&[&[0, 0], &n[..]].concat(), &[0, 1, 0, 1]).unwrap();
    assert_eq!(padded, rsa(&n, &[1, 0, 1]).unwrap());
    assert_eq!(padded.thumbprint(), rsa(&n, &[1, 0, 1]).unwrap().thumbprint());
    assert_eq!(rsa(&[&[0], &n[..128]].concat(), &[3]), Err(UnusableKey::ModulusSize { bits: 1024 }));
    assert_eq!(rsa(&n, &[0, 1]), Err(UnusableKey::WeakExponent));
}

/// What the cryptographic library lets through: with the neutral point as key,
/// a signature that needs no private key is good for every message.
#[test]
fn a_key_that_anybody_can_sign_for() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let forged = [neutral, [0; 32]].concat();
    assert!(PublicKey::Ed25519 { x: neutral }.parse().unwrap().verify_sig(b"anything", &forged).is_ok());

    let read = |x: [u8; 32]| {
        let x = Some(URL_SAFE_NO_PAD.encode(x));
        PublicKey::from_jwk(&Jwk { kty: "OKP".into(), crv: Some("Ed25519".into()), x, ..Jwk::default() })
    };
    assert_eq!(read(neutral), Err(UnusableKey::SmallOrder));
    // Its sign bit set, its second coordinate not reduced, its negative, 0.
    let p_and = |first: u8| {
        let mut bytes = [0xFF; 32];
        (bytes[0], bytes[31]) = (first, 0x7F);
        bytes
    };
    let mut signed = neutral;
    signed[31] = 0x80;
    for weak in [signed, p_and(0xEE), p_and(0xEC), p_and(0xED), [0; 32]] {
        assert_eq!(read(weak), Err(UnusableKey::SmallOrder));
    }
    assert!(read(p_and(0xEB)).is_ok());
}

/// 65537² is a power of 65537 modulo every prime; its neighbour is not.
#[test]
fn the_fingerprint_of_weak_primes() {
    assert!(has_roca_fingerprint(&(65_537_u64 * 65_537).to_be_bytes()));
    assert!(!has_roca_fingerprint(&(65_537_u64 * 65_537 + 2).to_be_bytes()));
}
