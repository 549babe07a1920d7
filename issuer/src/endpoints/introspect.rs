//! `POST /oauth2/introspect`: whether a token is good, and what it says
//! (RFC 7662), for registered brokers.
//!
//! 1. read the request as strictly as at the token endpoint;
//! 2. know what the other nodes know, as for a token: else 503;
//! 3. authenticate the broker: nobody else may ask (§2.1). A device that has
//!    proven who it is gets 403 `unauthorized_client`, everybody else 401;
//! 4. check the token: signed by this issuer, of a kind that brokers take, in
//!    time, for the very audience of this broker, not taken back, its device
//!    still enabled;
//! 5. answer with its claims, or with `{"active":false}` and not a word more
//!    (§2.2): another broker's token looks like one that never was.
//!
//! The issuer's own clock is the measure: no skew is allowed for.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use fleetbadge_validator::time::UnixSeconds;
use http::Request;
use serde::Serialize;

use super::form_request::read_form;
use super::issued_token::{IssuedClaims, IssuedToken, NotIssued};
use crate::app::App;
use crate::client_auth::{AuthenticatedBroker, PresentedCredentials, authenticate};
use crate::error::TokenError;
use crate::form::Form;
use crate::node::CurrentMoment;
use crate::peer::Peer;
use crate::store::NotEnabled;

pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match answer(&app, request).await {
        Ok(introspection) => Json(introspection).into_response(),
        Err(error) => error.into_response_to_wrong_client(),
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

/// Why a token is not active: for the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Inactive {
    #[error(transparent)]
    NotIssued(#[from] NotIssued),
    #[error("it is for this issuer")]
    ForIssuer,
    #[error("it is for another audience")]
    OtherAudience,
    #[error("it has ended")]
    Ended,
    #[error("it is not good yet")]
    NotYet,
    #[error("it was taken back")]
    Revoked,
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
    // A node that has not heard of the others would call a token good that is
    // not; before anything is looked up that others may change.
    let moment = app.moment()?;
    let broker = authenticate(app, &credentials).await?.into_broker()?;
    let token = form.get("token").ok_or(TokenError::InvalidRequest("token is missing".into()))?;
    match check(app, &broker, token, moment).await? {
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
    moment: CurrentMoment,
) -> Result<Result<IssuedClaims, Inactive>, TokenError> {
    let token = match IssuedToken::read(app, token) {
        Ok(token) => token,
        Err(reason) => return Ok(Err(reason.into())),
    };
    let claims = &token.claims;
    if let Err(reason) = check_claims(claims, app.issuer.as_str(), &broker.audience, moment.now()) {
        return Ok(Err(reason));
    }
    if token.revoked_by(app).is_some() {
        return Ok(Err(Inactive::Revoked));
    }
    let device = app.devices.find(claims.device()).await.map_err(|error| app.store_failed(&error))?;
    Ok(match device.map(|device| device.check_enabled()) {
        Some(Ok(())) => Ok(token.claims),
        Some(Err(NotEnabled(_))) => Err(Inactive::DeviceNotEnabled),
        None => Err(Inactive::DeviceGone),
    })
}

fn check_claims(
    claims: &IssuedClaims,
    issuer: &str,
    audience: &str,
    now: UnixSeconds,
) -> Result<(), Inactive> {
    let audiences = claims.aud.as_slice();
    // With such a token a device manages itself: it is no broker's, even
    // if one calls itself so.
    if audiences.iter().any(|aud| aud == issuer) {
        return Err(Inactive::ForIssuer);
    }
    if !audiences.iter().any(|aud| aud == audience) {
        return Err(Inactive::OtherAudience);
    }
    if now >= claims.exp {
        return Err(Inactive::Ended);
    }
    if claims.nbf.is_some_and(|nbf| now < nbf) {
        return Err(Inactive::NotYet);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
