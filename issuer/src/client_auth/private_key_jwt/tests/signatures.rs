//! Keys, algorithms and signatures.

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use aws_lc_rs::{encoding::AsDer as _, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

use super::*;

async fn register(issuer: &TestIssuer, name: &str, public: &PublicKey) {
    let keys = DeviceKey::read_set(&json!({"keys": [public.to_jwk()]})).unwrap();
    issuer.app().devices.add_keys(name, &keys, NOW).await.unwrap();
}

/// A key of each algorithm, as another library signs with it.
fn keys_of_each_algorithm() -> [(Algorithm, EncodingKey, PublicKey); 3] {
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let rsa_pkcs8 = rsa.as_der().unwrap();
    // PKCS #1 is behind the 26 bytes that PKCS #8 puts before it.
    let rsa_pkcs1 = EncodingKey::from_rsa_der(&rsa_pkcs8.as_ref()[26..]);
    let public = rsa.public_key();
    let rsa_public = PublicKey::Rsa {
        n: public.modulus().big_endian_without_leading_zero().to_vec(),
        e: public.exponent().big_endian_without_leading_zero().to_vec(),
    };
    let ed_public = PublicKey::Ed25519 { x: ed.public_key().as_ref().try_into().unwrap() };
    [
        (
            Algorithm::ES256,
            EncodingKey::from_ec_der(ec.to_pkcs8v1().unwrap().as_ref()),
            PublicKey::from_p256_point(ec.public_key().as_ref()).unwrap(),
        ),
        (Algorithm::RS256, rsa_pkcs1, rsa_public),
        (Algorithm::EdDSA, EncodingKey::from_ed_der(ed.to_pkcs8().unwrap().as_ref()), ed_public),
    ]
}

#[tokio::test]
async fn what_another_library_signs_is_accepted_with_each_algorithm() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump-1", &[]).await;
    let keys = keys_of_each_algorithm();
    for (_, _, public) in &keys {
        register(&issuer, "pump-1", public).await;
    }
    // With a kid, and without: the device has one key of each algorithm.
    for (number, (algorithm, private, public)) in keys.iter().enumerate() {
        for kid in [None, Some(public.thumbprint())] {
            let jti = format!("{number} {kid:?}");
            let header = Header { kid, ..Header::new(*algorithm) };
            let assertion = encode(&header, &claims(&jti), private).unwrap();
            assert_eq!(present(&issuer, &assertion, "").await.status, StatusCode::OK, "{header:?}");
        }
    }
    // One key is for one algorithm, whatever the header says of it.
    for (algorithm, private, public) in &keys {
        for (_, _, other) in keys.iter().filter(|(_, _, other)| other != public) {
            let header = Header { kid: Some(other.thumbprint()), ..Header::new(*algorithm) };
            let assertion = encode(&header, &claims("new"), private).unwrap();
            assert_eq!(present(&issuer, &assertion, "").await.status, REFUSED, "{header:?}");
        }
    }
    for stronger in [Algorithm::RS384, Algorithm::RS512] {
        let assertion = encode(&Header::new(stronger), &claims("new"), &keys[1].1).unwrap();
        assert_eq!(present(&issuer, &assertion, "").await.status, REFUSED, "{stronger:?}");
    }
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let (issuer, key) = with_pump().await;
    let PublicKey::P256 { x, y } = key.public() else { panic!("a P-256 key") };
    let jwk = json!(key.public().to_jwk()).to_string();
    let point = [&[4][..], &x, &y].concat();
    for secret in [jwk.as_bytes(), &point, &x, b"", &[0; 32]] {
        for alg in ["HS256", "ES256"] {
            let header = json!({"alg": alg, "kid": key.kid()}).to_string();
            let signed = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header),
                URL_SAFE_NO_PAD.encode(claims("1").to_string())
            );
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
            let assertion = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
            assert_eq!(present(&issuer, &assertion, "").await.status, REFUSED, "{alg}");
        }
    }
    assert_eq!(ask(&issuer, &key, &header(&key), &claims("1")).await, StatusCode::OK);
}

#[tokio::test]
async fn a_signature_has_one_form_and_its_twin_is_no_second_use() {
    let (issuer, key) = with_pump().await;
    let good = key.token_of(header(&key).to_string(), claims("1").to_string());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let with = |signature: &[u8]| format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    let mut changed = signature.clone();
    changed[40] ^= 1;
    let (r, s) = signature.split_at(32);
    for wrong in [
        with(&[]),
        with(&[0; 64]),
        with(&[0xff; 64]),
        with(&signature[..63]),
        with(&[&signature[..], &[0]].concat()),
        with(&changed),
        with(&[&[0x30, 0x44, 2, 32][..], r, &[2, 32], s].concat()),
        format!("{good}="),
        signed.to_owned(),
        format!("{good}."),
    ] {
        assert_eq!(present(&issuer, &wrong, "").await.status, REFUSED, "{wrong}");
    }
    assert_eq!(present(&issuer, &good, "").await.status, StatusCode::OK);
    // Whoever has seen (r, s) can make (r, n − s), which is good for the same
    // statement and no other.
    let twin = with(&[r, &order_minus(s)].concat());
    let verifying = VerifyingKey::new(&key.public()).unwrap();
    assert!(Jws::read(&twin).unwrap().claims::<Value>(&verifying).is_ok());
    assert_eq!(present(&issuer, &twin, "").await.status, REFUSED);
}

/// The order of P-256 less `s`, big-endian.
fn order_minus(s: &[u8]) -> [u8; 32] {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut difference = [0; 32];
    let mut borrow = false;
    for index in (0..32).rev() {
        let (byte, first) = ORDER[index].overflowing_sub(s[index]);
        let (byte, second) = byte.overflowing_sub(u8::from(borrow));
        (difference[index], borrow) = (byte, first || second);
    }
    difference
}

#[tokio::test]
async fn a_kid_finds_a_key_of_the_device_and_nothing_else() {
    let (issuer, key) = with_pump().await;
    let other = TestKey::generate();
    add(&issuer, "pump-2", &other).await;
    for kid in [
        json!("../../dev/null"),
        json!("' OR 1=1--"),
        json!("|id"),
        json!("http://127.0.0.1/keys"),
        json!(""),
        json!(null),
        json!([key.kid()]),
        json!(1),
        json!(other.kid()),
        json!("x".repeat(900)),
        json!("x".repeat(5_000)),
        json!(format!("{} ", key.kid())),
        json!(key.kid().to_lowercase()),
    ] {
        let header = json!({"alg": "ES256", "kid": kid});
        assert_eq!(ask(&issuer, &key, &header, &claims("1")).await, REFUSED, "{header}");
        // Nor does another device's key become this one's.
        assert_eq!(ask(&issuer, &other, &header, &claims("1")).await, REFUSED, "{header}");
    }
    // Several keys and no kid: each is tried. A kid of the device's own is as
    // good as the thumbprint.
    let named = TestKey::generate();
    let jwk =
        fleetbadge_validator::jwk::Jwk { kid: Some("slot 1".replace(' ', "/")), ..named.public().to_jwk() };
    let keys = DeviceKey::read_set(&json!({ "keys": [jwk] })).unwrap();
    issuer.app().devices.add_keys("pump-1", &keys, NOW).await.unwrap();
    for (jti, header) in [
        ("2", json!({"alg": "ES256"})),
        ("3", json!({"alg": "ES256", "kid": "slot/1"})),
        ("4", json!({"alg": "ES256", "kid": named.kid()})),
    ] {
        assert_eq!(ask(&issuer, &named, &header, &claims(jti)).await, StatusCode::OK, "{header}");
    }
    assert_eq!(ask(&issuer, &key, &json!({"alg": "ES256"}), &claims("5")).await, StatusCode::OK);
    assert_eq!(ask(&issuer, &key, &json!({"alg": "ES256", "kid": "slot/1"}), &claims("6")).await, REFUSED);
}
