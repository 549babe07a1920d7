//! A key of each algorithm, and what must not be taken for its signature.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use fleetbadge_validator::jwk::{Algorithm, PublicKey};
use fleetbadge_validator::test_support::{Vector, claims};
use serde_json::json;

use super::{EXP, File, IAT, Maker, case, with};

/// A key that signs whatever it is given.
pub(super) struct Key {
    public: PublicKey,
    private: Private,
}

enum Private {
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub(super) fn generate(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
                let public = PublicKey::from_p256_point(pair.public_key().as_ref()).unwrap();
                Self { public, private: Private::P256(pair) }
            }
            Algorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let public = PublicKey::from_rsa_numbers(
                    pair.public_key().modulus().big_endian_without_leading_zero(),
                    pair.public_key().exponent().big_endian_without_leading_zero(),
                );
                Self { public: public.unwrap(), private: Private::Rsa(pair) }
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let public = PublicKey::from_ed25519_point(pair.public_key().as_ref()).unwrap();
                Self { public, private: Private::Ed25519(pair) }
            }
        }
    }

    pub(super) const fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &str) -> Vec<u8> {
        match &self.private {
            Private::P256(pair) => {
                pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
            }
            Private::Rsa(pair) => rsa_signature(pair, &RSA_PKCS1_SHA256, message),
            Private::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        }
    }

    /// Header and payload, the header with this `alg`.
    fn message(&self, alg: &str) -> String {
        let header = json!({"alg": alg, "typ": "at+jwt", "kid": self.public.thumbprint()}).to_string();
        format!("{}.{}", BASE64.encode(header), BASE64.encode(claims("pump-1", IAT, EXP).to_string()))
    }

    /// A token whose header has this `alg`, signed with what the key is for.
    pub(super) fn token(&self, alg: &str) -> String {
        let message = self.message(alg);
        joined(&message, &self.sign(&message))
    }
}

fn rsa_signature(pair: &RsaKeyPair, encoding: &'static dyn RsaEncoding, message: &str) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    signature
}

fn joined(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", BASE64.encode(signature))
}

pub(super) fn file() -> File {
    let keys = Algorithm::ALL.map(Key::generate);
    let mut cases = Vec::new();
    for key in &keys {
        let own = key.public.algorithm();
        for alg in Algorithm::ALL {
            let expect = if alg == own { "allow" } else { "key_for_other_algorithm" };
            let name = format!("{} on a key for {}", alg.as_str(), own.as_str());
            cases.push(case(name, key.token(alg.as_str()), expect));
        }
        cases.extend(no_signatures(key));
        // What the other keys sign is no signature of this one.
        for other in keys.iter().filter(|other| other.public != key.public) {
            let message = key.message(own.as_str());
            let (of, by) = (own.as_str(), other.public.algorithm().as_str());
            let token = joined(&message, &other.sign(&message));
            cases.push(case(format!("{of}: signed by the key for {by}"), token, "signature_invalid"));
        }
    }
    let jwks = keys.map(|key| json!(key.public.to_jwk()));
    Maker::file_with_keys("algorithms", "One key, one algorithm, and no other signature", &jwks, cases)
}

/// What is no signature of this key.
fn no_signatures(key: &Key) -> Vec<Vector> {
    let alg = key.public.algorithm().as_str();
    let message = key.message(alg);
    let good = key.sign(&message);
    let mut flipped = good.clone();
    flipped[10] ^= 1;
    let (header, _) = message.split_once('.').unwrap();
    let other_payload = BASE64.encode(with(&json!({"acl": {"pub": ["#"], "sub": ["#"]}})).to_string());
    let mut bad = vec![
        ("one bit of the signature", joined(&message, &flipped)),
        ("no signature", format!("{message}.")),
        ("zeros", joined(&message, &vec![0; good.len()])),
        ("a byte missing", joined(&message, &good[..good.len() - 1])),
        ("a zero in front", joined(&message, &[&[0], &good[..]].concat())),
        ("a zero behind", joined(&message, &[&good[..], &[0]].concat())),
        ("another payload", joined(&format!("{header}.{other_payload}"), &good)),
    ];
    match &key.private {
        // These have a file of their own.
        Private::P256(_) => {}
        Private::Rsa(pair) => {
            let one = [&vec![0; good.len() - 1][..], &[1]].concat();
            let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
            bad.extend([
                ("PSS padding", joined(&message, &rsa_signature(pair, &RSA_PSS_SHA256, &message))),
                ("1, whose powers are 1", joined(&message, &one)),
                ("the modulus", joined(&message, &modulus)),
                ("over the modulus", joined(&message, &vec![0xFF; good.len()])),
            ]);
        }
        Private::Ed25519(_) => {
            let (r, s) = good.split_at(32);
            bad.extend([
                // RFC 8032 §5.1.7: S must be under L, or each signature has a twin.
                ("the twin signature, S + L", joined(&message, &[r, &plus(s, &ED25519_ORDER)].concat())),
                ("S is L", joined(&message, &[r, &ED25519_ORDER].concat())),
                ("R is no point", joined(&message, &[&[0xFF; 32], s].concat())),
            ]);
        }
    }
    let case = |(name, token)| case(format!("{alg}: {name}"), token, "signature_invalid");
    bad.into_iter().map(case).collect()
}

/// The order L of the base point of Ed25519, little-endian.
const ED25519_ORDER: [u8; 32] = [
    0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58, 0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// `a + b`, little-endian.
fn plus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let digit = |(a, b): (&u8, &u8)| {
        let [low, high] = (u16::from(*a) + u16::from(*b) + carry).to_le_bytes();
        carry = high.into();
        low
    };
    a.iter().zip(b).map(digit).collect()
}
