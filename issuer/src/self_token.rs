//! The token with which a device manages its own keys (RFC 7592 §2): from the
//! issuer, for the issuer. Pure.
//!
//! It is an access token (RFC 9068) whose `aud` is the issuer identifier and
//! whose `scope` is [`SCOPE`] alone. No broker can take it for one of its own:
//! `mqtt.connect` and `mqtt_client_id` are not in it. No token for a broker
//! can be taken for it: the scope is compared as a whole.
//!
//! It names the key that the device asked for it with, and dies with that key:
//! otherwise whoever stole a key could use the minute after its removal to put
//! another one in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_validator::claims::{Confirmation, TOKEN_TYPE, present};
use fleetbadge_validator::ids::DeviceName;
use fleetbadge_validator::jws::{InvalidJws, Jws};
use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::revocations::TokenFacts;
use fleetbadge_validator::time::UnixSeconds;
use jsonwebtoken::signature::Signer as _;
use serde::{Deserialize, Serialize};

use crate::mint::{MintError, TokenId};
use crate::signing_keys::{SigningKey, TokenType};

/// The whole scope of such a token.
pub const SCOPE: &str = "device.self";
/// How long it is good, in seconds.
pub const LIFETIME_S: u64 = 60;

/// What it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SelfClaims {
    iss: String,
    sub: String,
    aud: String,
    exp: UnixSeconds,
    iat: UnixSeconds,
    jti: String,
    client_id: String,
    scope: String,
    /// The thumbprint of the key that the device proved itself with.
    client_key: String,
    #[serde(default, deserialize_with = "present", skip_serializing)]
    cnf: Option<Confirmation>,
}

/// What such a token is minted from.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the claims, by their meaning in `SelfClaims`")]
pub struct SelfContent<'a> {
    pub issuer: &'a str,
    pub device: &'a DeviceName,
    pub client_key: &'a str,
    pub token_id: TokenId,
    pub now: UnixSeconds,
}

/// Who may change what, as a token says that was found to be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfGrant {
    /// The device, which may have been disabled or removed since.
    pub device: DeviceName,
    /// The key that it asked with, which may have been removed since.
    pub client_key: String,
    /// The token itself, which may have been taken back since.
    pub token_id: Box<str>,
    /// The issuer's key that signed the token.
    pub key_id: Box<str>,
    /// When the token was issued.
    pub issued_at: UnixSeconds,
}

impl SelfGrant {
    /// What is asked about the token, to know whether it was taken back.
    #[must_use]
    pub fn facts(&self) -> TokenFacts<'_> {
        TokenFacts {
            jti: &self.token_id,
            device: self.device.as_str(),
            kid: &self.key_id,
            iat: self.issued_at,
        }
    }
}

/// A token is not one that a device manages its keys with. For the log: who
/// presents it learns only that it is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelfToken {
    /// Not one that can be read, of another kind, or not signed with the key
    /// that it names.
    #[error("the token {0}")]
    Jws(#[from] InvalidJws),
    /// None of the issuer's keys.
    #[error("the token has kid {found:?}, which is none of this issuer's keys")]
    KeyUnknown {
        /// What it says.
        found: String,
    },
    /// A claim that has another value than it must have.
    #[error("the token has {claim} {found:?}, not {expected:?}")]
    Claim {
        /// Which.
        claim: &'static str,
        /// What it says.
        found: String,
        /// What it must say.
        expected: String,
    },
    /// It has ended.
    #[error("the token ended at {exp}, here it is {now}")]
    Expired {
        /// When it ended.
        exp: UnixSeconds,
        /// What time it is.
        now: UnixSeconds,
    },
    /// It is good for longer than any that is minted.
    #[error("the token is good from {iat} to {exp}, longer than {LIFETIME_S} s")]
    TooLong {
        /// When it was issued.
        iat: UnixSeconds,
        /// When it ends.
        exp: UnixSeconds,
    },
    /// It is bound to something that is not looked at here.
    #[error("the token has cnf, which cannot be checked here")]
    Bound,
}

/// Mints a token.
///
/// # Errors
/// [`MintError::Json`], [`MintError::Signing`].
pub fn mint(content: SelfContent<'_>, key: &SigningKey) -> Result<String, MintError> {
    let SelfContent { issuer, device, client_key, token_id, now } = content;
    let payload = serde_json::to_vec(&SelfClaims {
        iss: issuer.into(),
        sub: device.to_string(),
        aud: issuer.into(),
        exp: now.plus(LIFETIME_S),
        iat: now,
        jti: token_id.to_string(),
        client_id: device.to_string(),
        scope: SCOPE.into(),
        client_key: client_key.into(),
        cnf: None,
    })?;
    let signed = format!("{}.{}", key.header(TokenType::AccessToken), URL_SAFE_NO_PAD.encode(payload));
    let signature = key.try_sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Checks a token that somebody presents to the issuer. The issuer asks its
/// own clock: there is no leniency.
///
/// # Errors
/// [`InvalidSelfToken`].
pub fn verify(
    token: &str,
    issuer: &str,
    keys: &KeySet,
    now: UnixSeconds,
) -> Result<SelfGrant, InvalidSelfToken> {
    let jws = Jws::read(token)?;
    jws.expect_typ(&[TOKEN_TYPE])?;
    jws.refuse_jwk()?;
    let kid = jws.kid().unwrap_or_default();
    let key = keys.get(kid).ok_or_else(|| InvalidSelfToken::KeyUnknown { found: kid.into() })?;
    let claims: SelfClaims = jws.claims(key)?;
    for (claim, found, expected) in [
        ("iss", &claims.iss, issuer),
        ("aud", &claims.aud, issuer),
        ("scope", &claims.scope, SCOPE),
        ("sub", &claims.sub, &claims.client_id),
    ] {
        if found != expected {
            return Err(InvalidSelfToken::Claim { claim, found: found.clone(), expected: expected.into() });
        }
    }
    let SelfClaims { exp, iat, .. } = claims;
    if now >= exp {
        return Err(InvalidSelfToken::Expired { exp, now });
    }
    if exp.since(iat) > LIFETIME_S {
        return Err(InvalidSelfToken::TooLong { iat, exp });
    }
    if claims.cnf.is_some() {
        return Err(InvalidSelfToken::Bound);
    }
    let device = claims.sub.parse().map_err(|_| InvalidSelfToken::Claim {
        claim: "sub",
        found: claims.sub,
        expected: "a device's name".into(),
    })?;
    Ok(SelfGrant {
        device,
        client_key: claims.client_key,
        token_id: claims.jti.into(),
        key_id: kid.into(),
        issued_at: iat,
    })
}

#[cfg(test)]
mod tests;
