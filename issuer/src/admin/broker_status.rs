//! `/admin/v1/brokers/{name}/status` and `…/sessions`: what the validators of a
//! broker have reported. Only what came with a secret that the broker still has;
//! and it is what they say: whoever has such a secret could have said it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::reports::RevocationsHeld;
use fleetbadge_validator::reports::counters::Counters;
use fleetbadge_validator::reports::sessions::Online;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::problem::{Problem, Query};
use crate::app::App;
use crate::brokers::BrokerError;
use crate::store::{ReportRecord, SessionRecord, StoreError};

/// After how long without a report an instance is not heard of any more, in
/// seconds: it reports every minute.
const SILENT_AFTER_S: u64 = 180;
/// The most sessions of one page.
const MAX_PAGE: u32 = 1_000;
/// The most sessions that are shown of a device.
const MAX_OF_DEVICE: u32 = 100;

/// What is heard of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrokerStatusDocument {
    pub(crate) client_id: String,
    /// Those that were heard of within a day.
    pub(crate) instances: Vec<InstanceDocument>,
}

/// What one process of a broker said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceDocument {
    pub(crate) instance: String,
    /// The program and its version.
    pub(crate) software: String,
    #[serde(flatten)]
    pub(crate) heard: Heard,
    /// The `kid`s that it verifies with.
    pub(crate) kids: Vec<String>,
    /// How well it followed the revocations then; absent if it follows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revocations: Option<RevocationsHeld>,
    /// How many clients were connected then; absent if it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sessions_online: Option<u64>,
    /// What it let in and denied; absent if it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) counters: Option<Counters>,
}

/// When something was heard of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heard {
    /// When it reported last: everything else is as of then.
    pub(crate) heard_of_at: UnixSeconds,
    /// Whether that is longer ago than it should be.
    pub(crate) silent: bool,
}

/// Where a client is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionDocument {
    pub(crate) broker: String,
    pub(crate) instance: String,
    #[serde(flatten)]
    pub(crate) session: Online,
    #[serde(flatten)]
    pub(crate) heard: Heard,
}

/// Which page of the sessions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// The instance and the client of the last session of the page before.
    after_instance: Option<String>,
    after_client_id: Option<String>,
    limit: Option<u32>,
}

/// A page of the sessions of a broker, by instance and client.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionPage {
    pub(crate) sessions: Vec<SessionDocument>,
    /// What to say as `after_…` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_after: Option<NextAfter>,
}

/// Where the next page begins.
#[derive(Serialize, Deserialize)]
pub(crate) struct NextAfter {
    pub(crate) instance: String,
    pub(crate) client_id: String,
}

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<BrokerStatusDocument>, Problem> {
    check_known(&app, &name)?;
    let online: HashMap<Box<str>, u64> = app.store.sessions_online(&name).await?.into_iter().collect();
    let now = app.now();
    let reports = app.keys.heard_of(now).await?.into_iter();
    let instances = reports.filter(|report| report.broker.as_str() == name).map(|record| {
        let ReportRecord { instance, report, reported_at, .. } = record;
        InstanceDocument {
            software: report.software,
            heard: Heard::of(reported_at, now),
            kids: report.kids,
            revocations: report.revocations,
            sessions_online: online.get(&instance).copied(),
            counters: report.counters,
            instance: instance.into(),
        }
    });
    Ok(axum::Json(BrokerStatusDocument { instances: instances.collect(), client_id: name }))
}

pub(crate) async fn sessions(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<SessionPage>, Problem> {
    check_known(&app, &name)?;
    let PageQuery { after_instance, after_client_id, limit } = query;
    let after =
        (after_instance.as_deref().unwrap_or_default(), after_client_id.as_deref().unwrap_or_default());
    let limit = limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let records = app.store.sessions_of_broker(&name, after, limit).await?;
    let is_last = records.len() < limit as usize;
    let last = records.last().filter(|_| !is_last).map(|record| NextAfter {
        instance: record.instance.to_string(),
        client_id: record.session.client_id.to_string(),
    });
    Ok(axum::Json(SessionPage { sessions: documents(&app, records).await?, next_after: last }))
}

/// Where the clients of a device are connected.
pub(super) async fn sessions_of(
    app: &App,
    client_ids: &[MqttClientId],
) -> Result<Vec<SessionDocument>, StoreError> {
    documents(app, app.store.sessions_of_clients(client_ids, MAX_OF_DEVICE).await?).await
}

fn check_known(app: &App, name: &str) -> Result<(), BrokerError> {
    match app.brokers.find(name) {
        Some(_) => Ok(()),
        None => Err(BrokerError::NoSuchBroker { name: name.into() }),
    }
}

/// Those of instances that are heard of.
async fn documents(app: &App, records: Vec<SessionRecord>) -> Result<Vec<SessionDocument>, StoreError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let now = app.now();
    let reports = app.keys.heard_of(now).await?;
    let heard: HashMap<_, _> = reports
        .iter()
        .map(|report| ((&report.broker, &report.instance), Heard::of(report.reported_at, now)))
        .collect();
    let of_heard = |SessionRecord { broker, instance, session }| {
        let heard = *heard.get(&(&broker, &instance))?;
        Some(SessionDocument { broker: broker.to_string(), instance: instance.into(), session, heard })
    };
    Ok(records.into_iter().filter_map(of_heard).collect())
}

impl Heard {
    fn of(reported_at: UnixSeconds, now: UnixSeconds) -> Self {
        Self { heard_of_at: reported_at, silent: now.since(reported_at) > SILENT_AFTER_S }
    }
}

#[cfg(test)]
mod tests;
