//! `POST /oauth2/token`: the token endpoint (RFC 6749 §3.2).
//!
//! 1. read the request, strictly;
//! 2. find the credentials, authenticate the client;
//! 3. let the grant issue the token;
//! 4. answer, and say of every answer that it is not to be kept (§5.1): here, as a
//!    layer around would cost each token as much as to find its device.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{Request, StatusCode};

use super::form_request::read_form;
use super::never_cached;
use crate::app::App;
use crate::client_auth::{PresentedCredentials, authenticate};
use crate::error::TokenError;
use crate::form::Form;
use crate::grants::password::{self, OwnPassword};
use crate::grants::{GrantType, TokenResponse, client_credentials};
use crate::peer::Peer;
use crate::started::Started;

pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let started = Started::now();
    let result = issue(&app, request).await;
    app.metrics.token_request(started, result.as_ref().map(|_| ()));
    never_cached(match result {
        Ok(token) => token.into_response(),
        Err(error) => error.into_response(),
    })
}

/// For any other method.
pub(crate) async fn method_not_allowed() -> Response {
    never_cached(StatusCode::METHOD_NOT_ALLOWED.into_response())
}

async fn issue(app: &App, request: Request<Body>) -> Result<TokenResponse, TokenError> {
    // Whoever mints asks again. Here it spares everybody a database that does
    // not answer.
    let (parts, body) = read_form(app, request).await?;
    let form = Form::parse(&body)?;
    let peer = Peer::of(&parts.extensions);
    let credentials = PresentedCredentials::from_request(&parts.headers, &form, &peer)?;
    // Before anything is looked up that others may change.
    let moment = app.moment()?;
    if let Some(device) = OwnPassword::from_request(&parts, &form)? {
        return device.exchange(app, moment, &form).await;
    }
    let client = authenticate(app, &credentials).await?;
    match GrantType::from_form(&form)? {
        GrantType::ClientCredentials => {
            client_credentials::issue(app, &client.into_device()?, moment, &form, &peer)
        }
        GrantType::Password => password::issue(app, &client.into_broker()?, moment, &form).await,
    }
}

#[cfg(test)]
mod tests;
