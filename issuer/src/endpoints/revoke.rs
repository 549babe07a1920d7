//! `POST /oauth2/revoke`: somebody takes back a token (RFC 7009).
//!
//! 1. read the request as strictly as at the token endpoint;
//! 2. authenticate the client, by any of its methods;
//! 3. look at the token. What is none of this issuer, or has died, is answered
//!    like one that was taken back (§2.2), and nothing is written: whoever
//!    invents tokens cannot fill the database with them;
//! 4. the token must be the client's (§2.1): a device takes back its own, the one
//!    for the issuer too; a broker those that are for its audience alone;
//! 5. nobody does so too often, nor are there too many: brokers hold them all;
//! 6. write it, and answer once this node refuses it.
//!
//! A broker may, as it is who meets a token in the wrong hands, and nobody else
//! loses by it: it could refuse the token anyway. What devices say of the kind
//! of token, `token_type_hint`, is no help here: there is one kind.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use fleetbadge_validator::rate_limit::{RateLimit, RetryAfter};
use fleetbadge_validator::revocations::MAX_REVOCATIONS;
use fleetbadge_validator::verify::Verifier;
use http::{Request, StatusCode};

use super::form_request::read_form;
use super::issued_token::{IssuedClaims, IssuedToken};
use crate::app::App;
use crate::client_auth::{Client, PresentedCredentials, authenticate};
use crate::error::TokenError;
use crate::form::Form;
use crate::peer::Peer;

/// How many of its tokens a device may take back: so many that no honest one
/// meets it, and so few that no stolen one fills what brokers remember.
pub(crate) fn own_revocation_limit() -> RateLimit {
    RateLimit::new(30, Duration::from_secs(30))
}

/// How many tokens a broker may take back: more than a site has in an emergency,
/// where an operator takes back a group at once.
pub(crate) fn broker_revocation_limit() -> RateLimit {
    RateLimit::new(1_000, Duration::from_millis(100))
}

/// How many revocations may be in force for a client to add one. What is above
/// is left to operators.
const MAX_IN_FORCE: usize = MAX_REVOCATIONS / 2;
/// After how long to try again when there are as many, in seconds: they go with
/// the tokens that they name.
const RETRY_WHEN_FULL_S: u64 = 60;

pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match revoke(&app, request).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn revoke(app: &App, request: Request<Body>) -> Result<(), TokenError> {
    let (parts, body) = read_form(app, request).await?;
    let form = Form::parse(&body)?;
    let credentials =
        PresentedCredentials::from_request(&parts.headers, &form, &Peer::of(&parts.extensions))?;
    let client = authenticate(app, &credentials).await?;
    let token = form.get("token").ok_or(TokenError::InvalidRequest("token is missing".into()))?;
    let token = match IssuedToken::read(app, token) {
        Ok(token) => token,
        Err(reason) => {
            tracing::debug!(%reason, "what was to be taken back is no token");
            return Ok(());
        }
    };
    // With the longest skew that a broker may allow.
    let (claims, now) = (&token.claims, app.now());
    let Some(jti) = claims.jti.as_deref().filter(|_| now < claims.exp.plus(Verifier::MAX_SKEW_S)) else {
        return Ok(());
    };
    check_is_of(&client, claims)?;
    if token.revoked_by(app).is_some() {
        return Ok(());
    }
    let counted = match &client {
        Client::Device(device) => app.own_revocations.count(device.name.as_str(), now),
        Client::Broker(broker) => app.broker_revocations.count(broker.name.as_str(), now),
    };
    counted.map_err(|RetryAfter(retry_after_s)| TokenError::TooManyRevocations { retry_after_s })?;
    if app.revocations.current().len() >= MAX_IN_FORCE {
        tracing::error!(
            "{MAX_IN_FORCE} revocations are in force, and clients can take back no more tokens; take back those \
             of a group or of all at once: fleetbadge-issuer revocation add"
        );
        return Err(TokenError::TooManyRevocations { retry_after_s: RETRY_WHEN_FULL_S });
    }
    app.revoke(app.revoker.token(jti, claims.exp)).await.map_err(|error| {
        // What was written is not undone: to ask again does no harm (§2.2.1).
        tracing::error!(%error, "a token may not have been taken back");
        TokenError::TemporarilyUnavailable { retry_after_s: 1 }
    })?;
    let by = match &client {
        Client::Device(device) => device.name.as_str(),
        Client::Broker(broker) => broker.name.as_str(),
    };
    tracing::info!(by, device = claims.device(), jti, "token revoked");
    Ok(())
}

/// That a token is the client's to take back.
fn check_is_of(client: &Client, claims: &IssuedClaims) -> Result<(), TokenError> {
    let is_its_own = match client {
        Client::Device(device) => claims.device() == device.name.as_str(),
        Client::Broker(broker) => {
            let audiences = claims.aud.as_slice();
            !audiences.is_empty() && audiences.iter().all(|aud| *aud == *broker.audience)
        }
    };
    if is_its_own { Ok(()) } else { Err(TokenError::UnauthorizedClient("the token is another client's")) }
}

#[cfg(test)]
mod tests;
