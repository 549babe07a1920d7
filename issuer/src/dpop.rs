//! Proofs of possession (DPoP, RFC 9449 §4): whoever sends a request has the
//! private half of a key. Pure; that a proof is good once is seen to by
//! [`crate::used_jtis`], when everything here has been checked.
//!
//! In the order of RFC 9449 §4.3:
//!
//! 1. three segments of a JWS with every claim that is needed, of its type;
//! 2. `typ` is `dpop+jwt`;
//! 3. a public key in `jwk`, strong enough, no test key, and `alg` is its own;
//! 4. the signature is good;
//! 5. `htm` and `htu` are those of this request;
//! 6. `iat` is fresh;
//! 7. `ath` is the hash of the token that comes with the request.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_validator::jwk::{PublicKey, UnusableKey};
use fleetbadge_validator::jws::{InvalidJws, Jws};
use fleetbadge_validator::keys::VerifyingKey;
use fleetbadge_validator::time::UnixSeconds;
use serde::Deserialize;
use url::Url;

use crate::used_jtis::MAX_JTI_LENGTH;

/// The `typ` of a proof.
const PROOF_TYPE: &str = "dpop+jwt";
/// How old a proof may be, in seconds: devices without a good clock need a
/// while between asking for the time and using it.
pub const MAX_AGE_S: u64 = 300;
/// How far ahead the clock of a device may be, in seconds.
pub const MAX_AHEAD_S: u64 = 30;

/// The request that a proof has to be for.
#[derive(Clone, Copy, Debug)]
pub struct ProvenRequest<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its URL, as the issuer names it, without a query.
    pub url: &'a str,
    /// The token that comes with it.
    pub token: &'a str,
}

/// A proof that is good, but for that it may have been used before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Whose possession is proven.
    pub key: PublicKey,
    /// The proof's own identifier.
    pub jti: String,
    /// From when on the proof would be refused for its age.
    pub expires_at: UnixSeconds,
}

/// A proof is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProof {
    /// There is none.
    #[error("the header DPoP is missing; it has to prove that the device has the key (RFC 9449)")]
    Missing,
    /// More than one (RFC 9449 §4.3, 1).
    #[error("there is more than one header DPoP")]
    Repeated,
    /// Not one that can be read, of another kind, or not signed by the key in it.
    #[error("the proof {0}")]
    Jws(#[from] InvalidJws),
    /// Its header has no key.
    #[error("the proof has no jwk in its header")]
    NoKey,
    /// Its key cannot be used.
    #[error("the proof's jwk {0}")]
    Key(#[from] UnusableKey),
    /// For another method.
    #[error("the proof has htm {found:?}, the request is {expected}")]
    Method {
        /// What it says.
        found: String,
        /// What the request is.
        expected: String,
    },
    /// For another URL.
    #[error("the proof has htu {found:?}, the request is for {expected}")]
    Url {
        /// What it says.
        found: String,
        /// What the request is for.
        expected: String,
    },
    /// Too old, or from the future.
    #[error(
        "the proof has iat {found}, here it is {now}; at most {MAX_AGE_S} s before and {MAX_AHEAD_S} s after \
         are accepted"
    )]
    Time {
        /// What it says.
        found: UnixSeconds,
        /// What time it is.
        now: UnixSeconds,
    },
    /// For another token.
    #[error("the proof's ath is not the SHA-256 of the token that came with it, in base64url")]
    Token,
    /// Its `jti` is empty or too long.
    #[error("the proof's jti has {length} bytes; 1 to {MAX_JTI_LENGTH} are accepted")]
    Jti {
        /// How long it is.
        length: usize,
    },
    /// Used before.
    #[error("the proof was used before; make a new one, with another jti, for each request")]
    Replayed,
    /// Of another key than the one that is to be registered.
    #[error("the proof is of key {proven}, not of {expected}")]
    OtherKey {
        /// The thumbprint of its key.
        proven: String,
        /// The thumbprint of the key that has to be proven.
        expected: String,
    },
}

#[derive(Deserialize)]
struct ProofClaims {
    jti: String,
    htm: String,
    htu: String,
    iat: UnixSeconds,
    ath: String,
}

/// Checks everything about a proof but whether it was used before.
///
/// # Errors
/// [`InvalidProof`] says what is wrong.
pub fn check(proof: &str, request: ProvenRequest<'_>, now: UnixSeconds) -> Result<Proof, InvalidProof> {
    let jws = Jws::read(proof)?;
    jws.expect_typ(&[PROOF_TYPE])?;
    let key = PublicKey::from_jwk(jws.jwk().ok_or(InvalidProof::NoKey)?)?;
    let claims: ProofClaims = jws.claims(&VerifyingKey::new(&key)?)?;
    if claims.htm != request.method {
        return Err(InvalidProof::Method { found: claims.htm, expected: request.method.into() });
    }
    if !is_same_url(&claims.htu, request.url) {
        return Err(InvalidProof::Url { found: claims.htu, expected: request.url.into() });
    }
    let expires_at = claims.iat.plus(MAX_AGE_S);
    if now >= expires_at || claims.iat > now.plus(MAX_AHEAD_S) {
        return Err(InvalidProof::Time { found: claims.iat, now });
    }
    if claims.ath != hash_of_token(request.token) {
        return Err(InvalidProof::Token);
    }
    if !(1..=MAX_JTI_LENGTH).contains(&claims.jti.len()) {
        return Err(InvalidProof::Jti { length: claims.jti.len() });
    }
    Ok(Proof { key, jti: claims.jti, expires_at })
}

/// The `ath` of a token.
fn hash_of_token(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

/// Whether `htu` is `url`, both in their normal form, query and fragment of
/// `htu` left out (RFC 9449 §4.3, 9).
fn is_same_url(htu: &str, url: &str) -> bool {
    let (Ok(mut htu), Ok(url)) = (Url::parse(htu), Url::parse(url)) else {
        return false;
    };
    htu.set_query(None);
    htu.set_fragment(None);
    htu == url
}

#[cfg(test)]
mod tests;
