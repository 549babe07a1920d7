//! `POST /oauth2/introspect`: whether a token is good, and what it says
//! (RFC 7662), for registered brokers.
//!
//! 1. read the request as strictly as at the token endpoint;
//! 2. authenticate the broker: nobody else may ask (§2.1). A device that has
//!    proven who it is gets 403 `unauthorized_client`, everybody else 401;
//! 3. check the token: signed by this issuer, of a kind that brokers take, in
//!    time, for the very audience of this broker, its device still enabled;
//! 4. answer with its claims, or with `{"active":false}` and not a word more
//!    (§2.2): another broker's token looks like one that never was.
//!
//! The issuer's own clock is the measure: no skew is allowed for.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use fleetbadge_validator::claims::present;
use fleetbadge_validator::jws::Jws;
use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::time::UnixSeconds;
use http::Request;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::form_request::read_form;
use crate::app::App;
use crate::audience::Audience;
use crate::client_auth::{AuthenticatedBroker, PresentedCredentials, authenticate};
use crate::error::TokenError;
use crate::form::Form;
use crate::peer::Peer;
use crate::signing_keys::TokenType;
use crate::store::NotEnabled;

/// What tokens are minted with, one profile or the other.
const TYPES: &[&str] = &[TokenType::AccessToken.as_str(), TokenType::Jwt.as_str()];

pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match answer(&app, request).await {
        Ok(introspection) => Json(introspection).into_response(),
        Err(error) => error.into_broker_response(),
    }
}

/// What is answered (RFC 7662 §2.2).
#[derive(Serialize)]
#[serde(untagged)]
enum Introspection {
    Inactive {
        active: bool,
    },
    Active {
        active: bool,
        client_id: String,
        sub: String,
        /// The device: it acts for itself.
        username: String,
        token_type: &'static str,
        #[serde(flatten)]
        claims: Box<IssuedClaims>,
    },
}

/// What tokens of any profile say. Strict as [`fleetbadge_validator::claims`],
/// but of native profiles some claims are missing.
#[derive(Deserialize, Serialize)]
struct IssuedClaims {
    iss: String,
    aud: Audience,
    exp: UnixSeconds,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    iat: Option<UnixSeconds>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    nbf: Option<UnixSeconds>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing)]
    client_id: Option<String>,
    #[serde(skip_serializing)]
    sub: String,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    mqtt_client_id: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    acl: Option<Value>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    cnf: Option<Value>,
}

/// Why a token is not active: for the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Inactive {
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
    #[error("it is for this issuer")]
    ForIssuer,
    #[error("it is for another audience")]
    OtherAudience,
    #[error("it has ended")]
    Ended,
    #[error("it is not good yet")]
    NotYet,
    #[error("its device may have no tokens")]
    DeviceNotEnabled,
    #[error("its device is gone")]
    DeviceGone,
}

async fn answer(app: &App, request: Request<Body>) -> Result<Introspection, TokenError> {
    let (parts, body) = read_form(app, request).await?;
    let form = Form::parse(&body)?;
    let credentials =
        PresentedCredentials::from_request(&parts.headers, &form, &Peer::of(&parts.extensions))?;
    let broker = authenticate(app, &credentials).await?.into_broker()?;
    let token = form.get("token").ok_or(TokenError::InvalidRequest("token is missing".into()))?;
    match check(app, &broker, token).await? {
        Ok(claims) => Ok(Introspection::Active {
            active: true,
            client_id: claims.device().into(),
            sub: claims.sub.clone(),
            username: claims.device().into(),
            token_type: "Bearer",
            claims: Box::new(claims),
        }),
        Err(reason) => {
            tracing::debug!(broker = %broker.name, %reason, "a token was introspected that is not active");
            Ok(Introspection::Inactive { active: false })
        }
    }
}

/// The claims of a token that is good at this broker, or why it is not.
///
/// # Errors
/// [`TokenError::ServerError`] if the database fails.
async fn check(
    app: &App,
    broker: &AuthenticatedBroker,
    token: &str,
) -> Result<Result<IssuedClaims, Inactive>, TokenError> {
    let claims = match signed_claims(token, &app.keys.current().key_set) {
        Ok(claims) => claims,
        Err(reason) => return Ok(Err(reason)),
    };
    if let Err(reason) = claims.check(app.issuer.as_str(), &broker.audience, app.now()) {
        return Ok(Err(reason));
    }
    let device = app.devices.find(claims.device()).await.map_err(|error| app.store_failed(&error))?;
    Ok(match device.map(|device| device.check_enabled()) {
        Some(Ok(())) => Ok(claims),
        Some(Err(NotEnabled(_))) => Err(Inactive::DeviceNotEnabled),
        None => Err(Inactive::DeviceGone),
    })
}

/// What a token says that one of these keys signed.
fn signed_claims(token: &str, keys: &KeySet) -> Result<IssuedClaims, Inactive> {
    let jws = Jws::read(token).map_err(|_| Inactive::Malformed)?;
    jws.expect_typ(TYPES).map_err(|_| Inactive::OtherType)?;
    jws.refuse_jwk().map_err(|_| Inactive::OwnKey)?;
    let key = jws.kid().and_then(|kid| keys.get(kid)).ok_or(Inactive::UnknownKey)?;
    jws.claims(key).map_err(|_| Inactive::SignatureOrClaim)
}

impl IssuedClaims {
    /// Whose token it is. Native profiles need not have `client_id`.
    fn device(&self) -> &str {
        self.client_id.as_deref().unwrap_or(&self.sub)
    }

    fn check(&self, issuer: &str, audience: &str, now: UnixSeconds) -> Result<(), Inactive> {
        let audiences = self.aud.as_slice();
        if self.iss != issuer {
            return Err(Inactive::OtherIssuer);
        }
        // With such a token a device manages itself: it is no broker's, even
        // if one calls itself so.
        if audiences.iter().any(|aud| aud == issuer) {
            return Err(Inactive::ForIssuer);
        }
        if !audiences.iter().any(|aud| aud == audience) {
            return Err(Inactive::OtherAudience);
        }
        if now >= self.exp {
            return Err(Inactive::Ended);
        }
        if self.nbf.is_some_and(|nbf| now < nbf) {
            return Err(Inactive::NotYet);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
