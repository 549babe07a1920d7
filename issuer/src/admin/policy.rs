//! `/admin/v1/devices/{name}/explain`.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde::Deserialize;

use super::problem::{Problem, Query};
use crate::app::App;
use crate::grants::TokenRequest;
use crate::grants::explain::{Explanation, Question, explain as explained};

/// What is asked about a device.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainQuery {
    /// A topic name.
    publish: Option<String>,
    /// A topic filter, shared or not.
    subscribe: Option<String>,
    /// The broker (RFC 8707); that of the group's first audience by default.
    resource: Option<String>,
    /// As whom; the device's first by default.
    mqtt_client_id: Option<String>,
}

pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<ExplainQuery>,
) -> Result<axum::Json<Explanation>, Problem> {
    let question = Question::parse(query.publish.as_deref(), query.subscribe.as_deref())?;
    let device = app.devices.get(&name).await?;
    let group = app.groups.get(device.group.as_str())?;
    // A device whose tokens are bound gets no others (RFC 8705 §3.4): as if it
    // showed its certificate.
    let request = TokenRequest {
        certificate: device.bound_certificate().map(|_| [0; 32]),
        mqtt_client_id: query.mqtt_client_id.as_deref(),
        resource: query.resource.as_deref(),
        ..TokenRequest::default()
    };
    Ok(axum::Json(explained(&app.brokers, &group.policy, &device, &request, question)))
}
