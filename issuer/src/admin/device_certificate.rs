//! `/admin/v1/devices/{name}/certificate`: by which certificate TLS knows a
//! device (RFC 8705 §2.1.2).

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use fleetbadge_validator::time::UnixSeconds;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::devices::DeviceDocument;
use super::problem::{Json, Problem};
use crate::app::App;
use crate::credentials::{CertificateRecord, CertificateSubject, CredentialId};
use crate::devices::DeviceError;

/// The certificate of a device, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CertificateDocument {
    /// Exactly one member of RFC 8705 §2.1.2.
    #[serde(flatten)]
    pub(crate) subject: CertificateSubject,
    pub(crate) tls_client_certificate_bound_access_tokens: bool,
    /// When it was set, in seconds since 1970.
    pub(crate) created_at: UnixSeconds,
    /// When the device last proved itself with it, in seconds since 1970;
    /// absent if never, and in lists of devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_at: Option<UnixSeconds>,
}

/// What is needed to set it: one of the names, and whether tokens are bound.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetCertificate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls_client_auth_subject_dn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls_client_auth_san_dns: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls_client_auth_san_uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls_client_auth_san_ip: Option<std::net::IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls_client_auth_san_email: Option<String>,
    #[serde(default)]
    pub(crate) tls_client_certificate_bound_access_tokens: bool,
}

impl SetCertificate {
    fn subject(self) -> Result<CertificateSubject, Problem> {
        let given = [
            self.tls_client_auth_subject_dn.map(CertificateSubject::SubjectDn),
            self.tls_client_auth_san_dns.map(CertificateSubject::SanDns),
            self.tls_client_auth_san_uri.map(CertificateSubject::SanUri),
            self.tls_client_auth_san_ip.map(CertificateSubject::SanIp),
            self.tls_client_auth_san_email.map(CertificateSubject::SanEmail),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(subject), None) => {
                subject.check().map_err(DeviceError::from)?;
                Ok(subject)
            }
            (None, _) | (Some(_), Some(_)) => Err(Problem::invalid(
                None,
                &"exactly one of tls_client_auth_subject_dn, tls_client_auth_san_dns, tls_client_auth_san_uri, \
                  tls_client_auth_san_ip and tls_client_auth_san_email must be given",
            )),
        }
    }
}

pub(crate) async fn set(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(wanted): Json<SetCertificate>,
) -> Result<axum::Json<DeviceDocument>, Problem> {
    let record = CertificateRecord {
        bound_access_tokens: wanted.tls_client_certificate_bound_access_tokens,
        subject: wanted.subject()?,
        created_at: app.now(),
    };
    let (device, ()) = app
        .devices
        .change(&name, |device| {
            device.credentials.certificate = Some(Box::new(record.clone()));
            Ok(())
        })
        .await?;
    tracing::info!(device = %device.name, subject = record.subject.field(), "the device's certificate was set");
    Ok(axum::Json(device.into()))
}

pub(crate) async fn clear(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let none = || DeviceError::NoSuchCredential {
        device: name.clone(),
        what: "credential",
        id: CertificateRecord::ID.into(),
    };
    let (device, _) =
        app.devices.change(&name, |device| device.credentials.certificate.take().ok_or_else(none)).await?;
    tracing::info!(device = %device.name, "the device's certificate was cleared");
    Ok(StatusCode::NO_CONTENT)
}

impl From<CertificateRecord> for CertificateDocument {
    fn from(record: CertificateRecord) -> Self {
        let CertificateRecord { subject, bound_access_tokens, created_at } = record;
        let tls_client_certificate_bound_access_tokens = bound_access_tokens;
        Self { subject, tls_client_certificate_bound_access_tokens, created_at, last_used_at: None }
    }
}

/// Says when the certificate was last used. A use before it was set was of the
/// former one.
pub(super) fn set_last_used(
    certificate: &mut CertificateDocument,
    uses: &HashMap<CredentialId, UnixSeconds>,
) {
    let used = uses.get(&CredentialId::from_text(CertificateRecord::ID)).copied();
    certificate.last_used_at = used.filter(|used| *used >= certificate.created_at);
}
