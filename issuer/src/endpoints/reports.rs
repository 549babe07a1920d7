//! `POST /oauth2/reports`: validators say what they hold, with the credentials
//! of their broker.
//!
//! 1. authenticate the broker with `client_secret_basic`, so that nobody speaks
//!    for another one. A device that has proven who it is gets 403;
//! 2. read the report ([`ReportDocument`]);
//! 3. keep it in place of what the same instance said before. If the broker has
//!    too many instances, the one that was heard of longest ago gives way: whoever
//!    reports is heard, however many others somebody makes up;
//! 4. keep the part of its list of sessions, if it tells one, and answer what
//!    became of that ([`ReportAnswer`]).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{Request, StatusCode};

use super::body;
use crate::app::App;
use crate::client_auth::{AuthenticatedBroker, PresentedCredentials, authenticate};
use crate::error::TokenError;
use crate::form::Form;
use crate::peer::Peer;
use crate::store::ReportRecord;
use fleetbadge_validator::reports::sessions::{ReportAnswer, SessionsKept};
use fleetbadge_validator::reports::{InvalidReport, ReportDocument};

/// The most instances of a broker that are heard of at a time.
const MAX_INSTANCES: u32 = 64;
/// The most clients that a broker has online, on all its instances together.
const MAX_SESSIONS: u64 = 250_000;

pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match take(&app, request).await {
        Ok(Some(sessions)) => axum::Json(ReportAnswer { sessions }).into_response(),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response_to_wrong_client(),
    }
}

async fn take(app: &App, request: Request<Body>) -> Result<Option<SessionsKept>, TokenError> {
    let (parts, body) = request.into_parts();
    body::check_kind(&parts.headers, "application/json")?;
    let no_form = Form::parse(b"")?;
    let credentials =
        PresentedCredentials::from_request(&parts.headers, &no_form, &Peer::of(&parts.extensions))?;
    let broker = authenticate(app, &credentials).await?.into_broker()?;
    let document = ReportDocument::from_json(&body::read(body, app.request_timeout).await?)?;
    keep(app, &broker, document).await
}

async fn keep(
    app: &App,
    broker: &AuthenticatedBroker,
    document: ReportDocument,
) -> Result<Option<SessionsKept>, TokenError> {
    let ReportDocument { version: _, instance, report, sessions } = document;
    let record = ReportRecord {
        broker: broker.name.clone(),
        instance: instance.as_str().into(),
        secret: broker.secret.clone(),
        report,
        reported_at: app.now(),
    };
    let kept = app.store.set_report(&record, MAX_INSTANCES).await;
    kept.map_err(|error| app.store_failed(&error))?;
    let Some(part) = sessions else { return Ok(None) };
    let (broker, instance) = (record.broker.as_str(), instance.as_str());
    let kept = app.store.keep_sessions(broker, instance, &part, MAX_SESSIONS).await;
    Ok(Some(kept.map_err(|error| app.store_failed(&error))?))
}

impl From<InvalidReport> for TokenError {
    fn from(error: InvalidReport) -> Self {
        Self::InvalidRequest(error.to_string().into())
    }
}

#[cfg(test)]
mod tests;
