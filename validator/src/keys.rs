//! The keys of one issuer, parsed once, found by `kid`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use jsonwebtoken::crypto::JwtVerifier;
use jsonwebtoken::signature::{Error as SignatureError, Verifier as SignatureVerifier};
use serde::Serialize;
use serde_json::Value;

use crate::freshness::Freshness;
use crate::jwk::{Algorithm, Jwks, PublicJwk, PublicKey, UnusableKey};

pub mod file;
#[cfg(feature = "remote")]
pub mod remote;

/// The most bytes of a JWK Set that are read.
pub const MAX_JWKS_LENGTH: usize = 256 * 1024;
/// The most keys that a set may have: an issuer has a handful.
const MAX_KEYS: usize = 100;
/// The most bytes that a `kid` may have.
const MAX_KID_LENGTH: usize = 128;

/// A public key, parsed: what `jsonwebtoken` calls a verifier.
#[derive(Debug)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    /// Which key it is, whatever its `kid` says (RFC 7638).
    thumbprint: Arc<str>,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// Parses a key.
    ///
    /// # Errors
    /// [`UnusableKey::Invalid`], for a point that is not on the curve.
    pub fn new(key: &PublicKey) -> Result<Self, UnusableKey> {
        Ok(Self { algorithm: key.algorithm(), thumbprint: key.thumbprint().into(), key: key.parse()? })
    }

    /// The thumbprint: the same for the same key.
    #[must_use]
    pub fn thumbprint(&self) -> &Arc<str> {
        &self.thumbprint
    }

    /// The one algorithm that the key is for.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl SignatureVerifier<Vec<u8>> for VerifyingKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        self.key.verify_sig(message, signature).map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for VerifyingKey {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        match self.algorithm {
            Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// The keys of one issuer. Never changed: a new set replaces it whole.
#[derive(Debug)]
pub struct KeySet {
    issuer: Arc<str>,
    keys: HashMap<Box<str>, VerifyingKey>,
    freshness: Option<Freshness>,
}

/// A JWK Set as a whole cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKeySet {
    /// More bytes than [`MAX_JWKS_LENGTH`].
    #[error("the key set has {length} bytes; at most {MAX_JWKS_LENGTH} are read")]
    TooLong {
        /// How many it has.
        length: usize,
    },
    /// Not a JWK Set.
    #[error("is not a JWK Set: {0}")]
    Json(#[from] serde_json::Error),
    /// More keys than anybody needs.
    #[error("has {count} keys; at most {MAX_KEYS} are read")]
    TooManyKeys {
        /// How many it has.
        count: usize,
    },
    /// Two keys with one `kid` (RFC 7517 §4.5).
    #[error("has two keys with kid {kid:?}")]
    DuplicateKid {
        /// The `kid`.
        kid: String,
    },
    /// No key can be used; why, by `kid`.
    #[error("has no usable key{}", reasons(skipped))]
    NoUsableKey {
        /// Why each key was skipped.
        skipped: Vec<SkippedKey>,
    },
}

/// A key of a set that cannot be used, while others can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SkippedKey {
    /// Its `kid`, if it has one.
    pub kid: Option<String>,
    /// Why it cannot be used.
    pub reason: String,
}

impl KeySet {
    /// Reads the JWK Set of `issuer`. Keys that cannot be used are skipped
    /// and told: one bad key takes no other with it.
    ///
    /// # Errors
    /// [`InvalidKeySet`]: a set that is malformed or has no usable key.
    pub fn from_json(issuer: &str, json: &[u8]) -> Result<(Self, Vec<SkippedKey>), InvalidKeySet> {
        if json.len() > MAX_JWKS_LENGTH {
            return Err(InvalidKeySet::TooLong { length: json.len() });
        }
        let jwks: Jwks<Value> = serde_json::from_slice(json)?;
        if jwks.keys.len() > MAX_KEYS {
            return Err(InvalidKeySet::TooManyKeys { count: jwks.keys.len() });
        }
        let (mut keys, mut skipped) = (HashMap::new(), Vec::new());
        for value in jwks.keys {
            let kid = value.get("kid").and_then(Value::as_str).map(str::to_owned);
            match parse_key(value) {
                Ok((kid, key)) => match keys.entry(kid) {
                    Entry::Vacant(entry) => {
                        entry.insert(key);
                    }
                    Entry::Occupied(entry) => {
                        return Err(InvalidKeySet::DuplicateKid { kid: entry.key().to_string() });
                    }
                },
                Err(reason) => skipped.push(SkippedKey { kid, reason }),
            }
        }
        if keys.is_empty() {
            return Err(InvalidKeySet::NoUsableKey { skipped });
        }
        Ok((Self { issuer: issuer.into(), keys, freshness: None }, skipped))
    }

    /// A set without a key: everything is denied.
    #[must_use]
    pub fn empty(issuer: &str) -> Self {
        Self { issuer: issuer.into(), keys: HashMap::new(), freshness: None }
    }

    /// The set, for as long as it is fresh: after that it lets nobody in.
    #[must_use]
    pub fn with_freshness(self, freshness: Freshness) -> Self {
        Self { freshness: Some(freshness), ..self }
    }

    /// Until when the set can be relied on; `None` where it does not age, as
    /// one in a file that an operator looks after.
    #[must_use]
    pub const fn freshness(&self) -> Option<Freshness> {
        self.freshness
    }

    /// Whose keys these are. A token signed with one of them can only say
    /// this `iss`.
    #[must_use]
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// The key with this `kid`.
    #[must_use]
    pub fn get(&self, kid: &str) -> Option<&VerifyingKey> {
        self.keys.get(kid)
    }

    /// Whether `other` has the same keys under the same `kid`s.
    #[must_use]
    pub fn has_the_keys_of(&self, other: &Self) -> bool {
        let thumbprint = |keys: &Self, kid: &str| keys.get(kid).map(|key| Arc::clone(&key.thumbprint));
        self.keys.len() == other.keys.len()
            && other.key_ids().all(|kid| thumbprint(self, kid) == thumbprint(other, kid))
    }

    /// The `kid`s of the set, in no order.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(AsRef::as_ref)
    }

    /// The `kid`s of the set, in order.
    #[must_use]
    pub fn sorted_key_ids(&self) -> Vec<String> {
        let mut kids: Vec<String> = self.key_ids().map(str::to_owned).collect();
        kids.sort_unstable();
        kids
    }
}

fn reasons(skipped: &[SkippedKey]) -> String {
    skipped.iter().map(|SkippedKey { kid, reason }| format!("; key {kid:?} {reason}")).collect()
}

fn parse_key(value: Value) -> Result<(Box<str>, VerifyingKey), String> {
    let PublicJwk(jwk) = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let key = PublicKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
    let kid = jwk.kid.ok_or("has no kid")?;
    if kid.is_empty() || kid.len() > MAX_KID_LENGTH {
        return Err(format!("has a kid of {} bytes; 1 to {MAX_KID_LENGTH} are accepted", kid.len()));
    }
    let key = VerifyingKey::new(&key).map_err(|error| error.to_string())?;
    Ok((kid.into(), key))
}
