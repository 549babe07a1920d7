//! `/admin/v1/brokers`.

use std::sync::Arc;

use axum::extract::{Path, State};
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::problem::{Json, Problem};
use super::secrets::{self, SecretDocument};
use crate::app::App;
use crate::brokers::{AddedBroker, BrokerError, NewBroker};
use crate::profile::Profile;
use crate::secret::ClientSecret;
use crate::store::BrokerRecord;

/// A broker, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrokerDocument {
    pub(crate) client_id: String,
    /// The `aud` of the tokens that are for it.
    pub(crate) audience: String,
    /// What devices name it by (RFC 8707).
    pub(crate) resource: String,
    pub(crate) profile: String,
    /// RabbitMQ's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vhost: Option<String>,
    pub(crate) algorithm: Algorithm,
    /// In seconds since 1970.
    pub(crate) created_at: UnixSeconds,
    pub(crate) secrets: Vec<SecretDocument>,
}

/// A broker with a secret that was made for it: the only time that it is shown.
/// Saved as it is, it is the credentials file of validators.
#[derive(Serialize, Deserialize)]
pub(crate) struct AddedBrokerDocument {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) audience: String,
    pub(crate) resource: String,
    pub(crate) profile: String,
}

/// What is needed to add a broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddBroker {
    pub(crate) name: String,
    pub(crate) audience: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<String>,
    pub(crate) profile: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) algorithm: Option<Algorithm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vhost: Option<String>,
    #[serde(default)]
    pub(crate) accept_unbound_publishers: bool,
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> axum::Json<Vec<BrokerDocument>> {
    axum::Json(app.brokers.all().iter().map(|broker| BrokerDocument::from(&**broker)).collect())
}

pub(crate) async fn add(
    State(app): State<Arc<App>>,
    Json(new): Json<AddBroker>,
) -> Result<(StatusCode, axum::Json<AddedBrokerDocument>), Problem> {
    let new = NewBroker::try_from(new).map_err(BrokerError::from)?;
    let AddedBroker { broker, secret } = app.brokers.add(new, &app.groups, &app.devices, app.now()).await?;
    tracing::info!(
        broker = %broker.name, audience = %broker.audience, profile = broker.profile.as_str(), "broker added"
    );
    Ok((StatusCode::CREATED, axum::Json(AddedBrokerDocument::new(&broker, &secret))))
}

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<BrokerDocument>, Problem> {
    Ok(axum::Json(document(&app, name).await?))
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.brokers.remove(&name, &app.groups).await?;
    tracing::info!(broker = ?name, "broker removed");
    Ok(StatusCode::NO_CONTENT)
}

/// A broker, and when its secrets were last used.
pub(super) async fn document(app: &App, name: String) -> Result<BrokerDocument, Problem> {
    let uses = app.credential_uses.of_client(&name).await?;
    let broker = app.brokers.find(&name).ok_or(BrokerError::NoSuchBroker { name })?;
    let mut document = BrokerDocument::from(&*broker);
    secrets::set_last_used(&mut document.secrets, &uses);
    Ok(document)
}

impl AddedBrokerDocument {
    pub(super) fn new(broker: &BrokerRecord, secret: &ClientSecret) -> Self {
        Self {
            client_id: broker.name.to_string(),
            client_secret: secret.expose().into(),
            audience: broker.audience.to_string(),
            resource: broker.resource.to_string(),
            profile: broker.profile.as_str().into(),
        }
    }
}

impl TryFrom<AddBroker> for NewBroker {
    type Error = crate::profile::InvalidProfile;

    fn try_from(new: AddBroker) -> Result<Self, Self::Error> {
        let AddBroker { name, audience, resource, profile, algorithm, vhost, accept_unbound_publishers } =
            new;
        let profile = Profile::from_parts(&profile, vhost)?;
        Ok(Self { name, audience, resource, profile, algorithm, accept_unbound_publishers })
    }
}

impl From<&BrokerRecord> for BrokerDocument {
    fn from(broker: &BrokerRecord) -> Self {
        Self {
            client_id: broker.name.to_string(),
            audience: broker.audience.to_string(),
            resource: broker.resource.to_string(),
            profile: broker.profile.as_str().into(),
            vhost: broker.profile.vhost().map(Into::into),
            algorithm: broker.algorithm,
            created_at: broker.created_at,
            secrets: broker.secrets.iter().cloned().map(SecretDocument::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
