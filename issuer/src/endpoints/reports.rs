//! `POST /oauth2/reports`: validators say what they hold, with the credentials
//! of their broker.
//!
//! 1. authenticate the broker with `client_secret_basic`, so that nobody speaks
//!    for another one. A device that has proven who it is gets 403;
//! 2. read the report ([`ReportDocument`]);
//! 3. keep it in place of what the same instance said before, unless the broker
//!    has too many instances.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{Request, StatusCode};
use tokio::sync::Mutex;

use super::body;
use crate::app::App;
use crate::client_auth::{AuthenticatedBroker, PresentedCredentials, authenticate};
use crate::error::TokenError;
use crate::form::Form;
use crate::peer::Peer;
use crate::signing_keys::holders::heard_of_since;
use crate::store::ReportRecord;
use fleetbadge_validator::reports::{InvalidReport, ReportDocument};

/// The most instances of a broker that are heard of at a time.
const MAX_INSTANCES: usize = 64;

/// Lets one report at a time through to the database, so that instances are
/// counted right.
#[derive(Default)]
pub(crate) struct ReportGate(Mutex<()>);

pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match take(&app, request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response_to_wrong_client(),
    }
}

async fn take(app: &App, request: Request<Body>) -> Result<(), TokenError> {
    let (parts, body) = request.into_parts();
    body::check_kind(&parts.headers, "application/json")?;
    let no_form = Form::parse(b"")?;
    let credentials =
        PresentedCredentials::from_request(&parts.headers, &no_form, &Peer::of(&parts.extensions))?;
    let broker = authenticate(app, &credentials).await?.into_broker()?;
    let document = ReportDocument::from_json(&body::read(body, app.request_timeout).await?)?;
    keep(app, &broker, document).await
}

async fn keep(app: &App, broker: &AuthenticatedBroker, document: ReportDocument) -> Result<(), TokenError> {
    let now = app.now();
    let ReportDocument { version: _, instance, report } = document;
    let _one_at_a_time = app.report_gate.0.lock().await;
    let known = app.store.reports(heard_of_since(now)).await.map_err(|error| app.store_failed(&error))?;
    let others =
        known.iter().filter(|record| record.broker == broker.name && *record.instance != *instance.as_str());
    if others.count() >= MAX_INSTANCES {
        return Err(TokenError::InvalidRequest(
            format!(
                "{MAX_INSTANCES} other instances of broker {} have reported within a day, which is the most there may \
                 be; instance: is it kept over restarts?",
                broker.name
            )
            .into(),
        ));
    }
    let record = ReportRecord {
        broker: broker.name.clone(),
        instance: instance.as_str().into(),
        report,
        reported_at: now,
    };
    Ok(app.store.set_report(&record).await.map_err(|error| app.store_failed(&error))?)
}

impl From<InvalidReport> for TokenError {
    fn from(error: InvalidReport) -> Self {
        Self::InvalidRequest(error.to_string().into())
    }
}

#[cfg(test)]
mod tests;
