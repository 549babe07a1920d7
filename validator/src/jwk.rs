//! Public keys as JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037) and their
//! thumbprints (RFC 7638).
//!
//! A weak or malformed key is refused here, once, so that nothing later has
//! to think about it: points off the curve, coordinates that are not full
//! width, points of small order, RSA moduli under 2048 bits, small or even
//! exponents, and the weak primes of CVE-2017-15361. Symmetric keys do not exist for this crate.

use aws_lc_rs::digest;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::claims::present;

mod weak;

use weak::{check_rsa_strength, has_small_order};

/// A signature algorithm that a token may have. There is no HMAC and no
/// `none` among them, so that no header can ask for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256 (RFC 7518 §3.4).
    ES256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
    RS256,
    /// Ed25519 (RFC 8037 §3.1; also named `Ed25519`, RFC 9864).
    EdDSA,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ES256, Self::RS256, Self::EdDSA];

    /// The `alg` that Fleetbadge writes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::RS256 => "RS256",
            Self::EdDSA => "EdDSA",
        }
    }

    /// Reads an `alg`, byte for byte.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::ES256),
            "RS256" => Some(Self::RS256),
            "EdDSA" | "Ed25519" => Some(Self::EdDSA),
            _ => None,
        }
    }
}

/// The thumbprints of the keys in `keys/`. Never accepted, by anything.
const TEST_KEYS: [&str; 1] = ["zy6fLGUgx6x_N_dAM-5CwG90sRSRx5qKJjtQHAvotkE"];

/// A JSON Web Key as it is written. Members that Fleetbadge has no use for
/// are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the members of RFC 7517 and RFC 7518, by their names")]
pub struct Jwk {
    pub kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub use_: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_ops: Option<Vec<String>>,
}

/// A JWK that somebody hands over. One with a private or symmetric member is
/// refused: whoever sends such a key has lost it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PresentedJwk")]
pub struct PublicJwk(pub Jwk);

/// A [`Jwk`], and whether the members are there that none of a public key is
/// called (RFC 7518 §6.2.2, §6.3.2, §6.4.1; RFC 8037 §2).
#[derive(Deserialize)]
struct PresentedJwk {
    #[serde(flatten)]
    jwk: Jwk,
    #[serde(default, deserialize_with = "present")]
    d: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    p: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    q: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    dp: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    dq: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    qi: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    oth: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    k: Option<IgnoredAny>,
}

impl TryFrom<PresentedJwk> for PublicJwk {
    type Error = String;

    fn try_from(presented: PresentedJwk) -> Result<Self, Self::Error> {
        let PresentedJwk { jwk, d, p, q, dp, dq, qi, oth, k } = presented;
        let members =
            [("d", d), ("p", p), ("q", q), ("dp", dp), ("dq", dq), ("qi", qi), ("oth", oth), ("k", k)];
        match members.into_iter().find(|(_, member)| member.is_some()) {
            Some((name, _)) => {
                Err(format!("has the private or symmetric member {name}; hand over the public key alone"))
            }
            None => Ok(Self(jwk)),
        }
    }
}

/// A JWK Set (RFC 7517 §5), keys not yet looked at: one that cannot be read
/// must not make the others unusable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks<K = Jwk> {
    /// The keys.
    pub keys: Vec<K>,
}

/// A public key that can verify signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// A point on P-256.
    P256 {
        /// Its first coordinate, big-endian.
        x: [u8; 32],
        /// Its second coordinate, big-endian.
        y: [u8; 32],
    },
    /// An RSA key.
    Rsa {
        /// The modulus, big-endian, no leading zero.
        n: Vec<u8>,
        /// The exponent, big-endian, no leading zero.
        e: Vec<u8>,
    },
    /// An Ed25519 key.
    Ed25519 {
        /// The encoded point.
        x: [u8; 32],
    },
}

/// A JWK cannot be used to verify tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// Of a kind or curve that Fleetbadge does not know; other readers may.
    #[error(
        "kty {kty:?} with crv {crv:?} is not known here; known are EC with P-256, RSA, and OKP with Ed25519"
    )]
    UnknownKind {
        /// Its `kty`.
        kty: String,
        /// Its `crv`.
        crv: String,
    },
    /// Not meant for signatures.
    #[error("is not for verifying signatures (use, key_ops)")]
    OtherUse,
    /// `alg` does not fit the kind of key.
    #[error("alg {alg:?} does not fit the key")]
    OtherAlgorithm {
        /// The `alg`.
        alg: String,
    },
    /// A member is missing or not base64url of the right length.
    #[error("member {member:?} is missing or malformed")]
    Member {
        /// Which.
        member: &'static str,
    },
    /// An RSA modulus of fewer than 2048 or more than 8192 bits.
    #[error("the RSA modulus has {bits} bits; 2048 to 8192 are accepted")]
    ModulusSize {
        /// How many it has.
        bits: usize,
    },
    /// An RSA exponent that is even or under 3.
    #[error("the RSA exponent is even or too small")]
    WeakExponent,
    /// An RSA modulus with the fingerprint of CVE-2017-15361.
    #[error("the RSA modulus has weak primes (CVE-2017-15361)")]
    WeakPrimes,
    /// A point of Ed25519 that signatures can be made for without a private
    /// key.
    #[error("is a point of small order, for which anybody can sign")]
    SmallOrder,
    /// One of the keys in `keys/`, whose private halves everybody has.
    #[error("is a test key, its private half is public")]
    TestKey,
    /// The cryptographic library refuses it, as it does a point off the curve.
    #[error("is not a valid public key")]
    Invalid,
}

impl PublicKey {
    /// Reads the key of a JWK and checks its strength.
    ///
    /// # Errors
    /// [`UnusableKey`] says what is wrong.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, UnusableKey> {
        if jwk.use_.as_deref().is_some_and(|u| u != "sig")
            || jwk.key_ops.as_ref().is_some_and(|operations| operations.iter().all(|o| o != "verify"))
        {
            return Err(UnusableKey::OtherUse);
        }
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("EC", Some("P-256")) => {
                Self::P256 { x: coordinate("x", jwk.x.as_deref())?, y: coordinate("y", jwk.y.as_deref())? }
            }
            ("OKP", Some("Ed25519")) => {
                let x = coordinate("x", jwk.x.as_deref())?;
                if has_small_order(x) {
                    return Err(UnusableKey::SmallOrder);
                }
                Self::Ed25519 { x }
            }
            ("RSA", None) => {
                Self::from_rsa_numbers(&integer("n", jwk.n.as_deref())?, &integer("e", jwk.e.as_deref())?)?
            }
            (kty, crv) => {
                return Err(UnusableKey::UnknownKind {
                    kty: kty.into(),
                    crv: crv.unwrap_or_default().into(),
                });
            }
        };
        if TEST_KEYS.contains(&&*key.thumbprint()) {
            return Err(UnusableKey::TestKey);
        }
        match &jwk.alg {
            Some(alg) if Algorithm::from_name(alg) != Some(key.algorithm()) => {
                Err(UnusableKey::OtherAlgorithm { alg: alg.clone() })
            }
            _ => Ok(key),
        }
    }

    /// Reads an uncompressed point on P-256 (SEC 1 §2.3.3).
    #[must_use]
    pub fn from_p256_point(point: &[u8]) -> Option<Self> {
        let (tag, coordinates) = point.split_first()?;
        let (x, y) = coordinates.split_at_checked(32)?;
        (*tag == 4).then_some(Self::P256 { x: x.try_into().ok()?, y: y.try_into().ok()? })
    }

    /// Reads an encoded point of Ed25519 (RFC 8032 §5.1.2).
    #[must_use]
    pub fn from_ed25519_point(point: &[u8]) -> Option<Self> {
        Some(Self::Ed25519 { x: point.try_into().ok()? })
    }

    /// Takes the modulus and the exponent of an RSA key, big-endian. Zeros in
    /// front, which some writers put there in spite of RFC 7518 §6.3.1.1, go:
    /// one key has one thumbprint.
    ///
    /// # Errors
    /// [`UnusableKey`], if the key is weak.
    pub fn from_rsa_numbers(modulus: &[u8], exponent: &[u8]) -> Result<Self, UnusableKey> {
        let (n, e) = (without_zeros(modulus), without_zeros(exponent));
        check_rsa_strength(n, e)?;
        Ok(Self::Rsa { n: n.into(), e: e.into() })
    }

    /// The one algorithm that this key is for.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256 { .. } => Algorithm::ES256,
            Self::Rsa { .. } => Algorithm::RS256,
            Self::Ed25519 { .. } => Algorithm::EdDSA,
        }
    }

    /// The JWK as it is published, its `kid` the thumbprint.
    #[must_use]
    pub fn to_jwk(&self) -> Jwk {
        Jwk {
            kid: Some(self.thumbprint()),
            alg: Some(self.algorithm().as_str().into()),
            use_: Some("sig".into()),
            ..self.required_members()
        }
    }

    /// The SHA-256 thumbprint (RFC 7638 §3), base64url: the same for the same
    /// key, whatever else a JWK says.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let Jwk { kty, crv, x, y, n, e, .. } = self.required_members();
        // Lexicographic order and no white space; base64url needs no escapes.
        let members = [("crv", crv), ("e", e), ("kty", Some(kty)), ("n", n), ("x", x), ("y", y)];
        let canonical: Vec<String> =
            members.into_iter().filter_map(|(name, value)| Some(format!("{name:?}:{:?}", value?))).collect();
        let canonical = format!("{{{}}}", canonical.join(","));
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
    }

    fn required_members(&self) -> Jwk {
        let encode = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
        match self {
            Self::P256 { x, y } => Jwk {
                kty: "EC".into(),
                crv: Some("P-256".into()),
                x: encode(x),
                y: encode(y),
                ..Jwk::default()
            },
            Self::Rsa { n, e } => Jwk { kty: "RSA".into(), n: encode(n), e: encode(e), ..Jwk::default() },
            Self::Ed25519 { x } => {
                Jwk { kty: "OKP".into(), crv: Some("Ed25519".into()), x: encode(x), ..Jwk::default() }
            }
        }
    }

    pub(crate) fn parse(&self) -> Result<ParsedPublicKey, UnusableKey> {
        let parsed = match self {
            Self::P256 { x, y } => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4][..], x, y].concat()),
            Self::Rsa { n, e } => {
                PublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            }
            Self::Ed25519 { x } => ParsedPublicKey::new(&ED25519, x),
        };
        parsed.map_err(|_| UnusableKey::Invalid)
    }
}

fn coordinate(member: &'static str, text: Option<&str>) -> Result<[u8; 32], UnusableKey> {
    integer(member, text)?.try_into().map_err(|_| UnusableKey::Member { member })
}

fn integer(member: &'static str, text: Option<&str>) -> Result<Vec<u8>, UnusableKey> {
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(UnusableKey::Member { member })
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
