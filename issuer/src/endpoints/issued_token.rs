//! A token of any profile that somebody shows to the issuer: signed with one of
//! its keys. Whether it is still good is for whoever asks.

use fleetbadge_validator::claims::present;
use fleetbadge_validator::jws::Jws;
use fleetbadge_validator::revocations::{RevocationTarget, TokenFacts};
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::App;
use crate::audience::Audience;
use crate::signing_keys::TokenType;

/// What tokens are minted with, one profile or the other.
const TYPES: &[&str] = &[TokenType::AccessToken.as_str(), TokenType::Jwt.as_str()];

/// A token of this issuer.
pub(crate) struct IssuedToken {
    /// Which of its keys signed.
    kid: String,
    /// What it says.
    pub(crate) claims: IssuedClaims,
}

/// What tokens of any profile say. Strict as [`fleetbadge_validator::claims`],
/// but of native profiles some claims are missing.
#[derive(Deserialize, Serialize)]
pub(crate) struct IssuedClaims {
    pub(crate) iss: String,
    pub(crate) aud: Audience,
    pub(crate) exp: UnixSeconds,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) iat: Option<UnixSeconds>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<UnixSeconds>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) jti: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing)]
    pub(crate) client_id: Option<String>,
    #[serde(skip_serializing)]
    pub(crate) sub: String,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) mqtt_client_id: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) acl: Option<Value>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) cnf: Option<Value>,
}

/// A token is none of this issuer: for the log, and for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotIssued {
    #[error("it is malformed")]
    Malformed,
    #[error("it is not an access token")]
    OtherType,
    #[error("it brings its own key")]
    OwnKey,
    #[error("no key of this issuer signed it")]
    UnknownKey,
    #[error("its signature or a claim is not good")]
    SignatureOrClaim,
    #[error("another issuer is named")]
    OtherIssuer,
}

impl IssuedToken {
    /// Reads what one of the issuer's present keys signed.
    ///
    /// # Errors
    /// [`NotIssued`].
    pub(crate) fn read(app: &App, token: &str) -> Result<Self, NotIssued> {
        let keys = app.keys.current();
        let jws = Jws::read(token).map_err(|_| NotIssued::Malformed)?;
        jws.expect_typ(TYPES).map_err(|_| NotIssued::OtherType)?;
        jws.refuse_jwk().map_err(|_| NotIssued::OwnKey)?;
        let kid = jws.kid().unwrap_or_default();
        let key = keys.key_set.get(kid).ok_or(NotIssued::UnknownKey)?;
        let claims: IssuedClaims = jws.claims(key).map_err(|_| NotIssued::SignatureOrClaim)?;
        if claims.iss != app.issuer.as_str() {
            return Err(NotIssued::OtherIssuer);
        }
        Ok(Self { kid: kid.into(), claims })
    }

    /// What takes it back, if anything does. Without `iat` it counts as issued
    /// long ago.
    pub(crate) fn revoked_by(&self, app: &App) -> Option<RevocationTarget> {
        let IssuedClaims { jti, iat, groups, .. } = &self.claims;
        let facts = TokenFacts {
            jti: jti.as_deref().unwrap_or_default(),
            device: self.claims.device(),
            kid: &self.kid,
            iat: iat.unwrap_or(UnixSeconds(0)),
        };
        let found = app.revocations.find(&facts, groups.iter().flatten().map(String::as_str));
        found.map(|revocation| revocation.target)
    }
}

impl IssuedClaims {
    /// Whose token it is. Native profiles need not have `client_id`.
    pub(crate) fn device(&self) -> &str {
        self.client_id.as_deref().unwrap_or(&self.sub)
    }
}
