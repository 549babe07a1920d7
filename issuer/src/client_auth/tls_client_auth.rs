//! `tls_client_auth` (RFC 8705 §2.1): a certificate that TLS has proven, or that
//! a trusted proxy vouches for.
//!
//! 1. the request names its client: `client_id` is required;
//! 2. the certificate has the one name that the device was registered with;
//! 3. it is in its validity now: a session that is resumed and a connection
//!    that is kept may outlive it.
//!
//! That its chain leads to a trusted root was checked in the handshake.

use std::sync::Arc;

use fleetbadge_validator::time::UnixSeconds;

use super::{AuthenticatedDevice, Client, Method, Proven, Question};
use crate::app::App;
use crate::certificate::ClientCertificate;
use crate::credentials::{CertificateRecord, CredentialId};
use crate::error::TokenError;
use crate::form::Form;
use crate::peer::Peer;
use crate::store::{DeviceRecord, DeviceStatus};

/// A name and the certificate that somebody shows for it.
pub(crate) struct CertificateCredentials {
    client_id: String,
    certificate: Arc<[u8]>,
}

/// Reads `client_id`. None without it or without a certificate.
pub(super) fn from_request(form: &Form<'_>, peer: &Peer) -> Option<CertificateCredentials> {
    Some(CertificateCredentials {
        client_id: form.get("client_id")?.into(),
        certificate: peer.certificate.clone()?,
    })
}

/// The device whose certificate this is, if it may have tokens. Why it may not
/// is for the log alone.
///
/// # Errors
/// [`TokenError::ServerError`] if the database fails.
pub(super) async fn verify(
    app: &App,
    question: &mut Question,
    credentials: &CertificateCredentials,
) -> Result<Option<Proven>, TokenError> {
    let CertificateCredentials { client_id, certificate } = credentials;
    let refused = |reason| {
        tracing::debug!(?client_id, reason, "client authentication failed");
        Ok(None)
    };
    let shown = ClientCertificate::from_der(certificate);
    let device = question.find_device(app, client_id).await?;
    let (Some(shown), Some(device)) = (shown, device) else {
        return refused("there is no such client, or the certificate cannot be read");
    };
    let Some(record) = &device.credentials.certificate else {
        return refused("the device has no certificate registered");
    };
    match (is_good(&shown, record, app.now()), device.status) {
        (false, _) => refused("the certificate is of another subject, or not valid at this time"),
        (true, DeviceStatus::Disabled) => refused("the device is disabled"),
        (true, DeviceStatus::Pending) => refused("the device waits for approval"),
        (true, DeviceStatus::Enabled) => {
            let method = Method::Certificate { sha256: shown.sha256 };
            let device = AuthenticatedDevice { device, method };
            let credential = CredentialId::from_text(CertificateRecord::ID);
            Ok(Some(Proven { client: Client::Device(device), credential }))
        }
    }
}

/// The SHA-256 of the certificate that a device's tokens are to be bound to: if
/// its tokens are bound, the one of its own that it shows, whichever way it has
/// proven who it is.
pub(crate) fn binding(device: &AuthenticatedDevice, peer: &Peer, now: UnixSeconds) -> Option<[u8; 32]> {
    let record = bound(device)?;
    match device.method {
        Method::Certificate { sha256 } => Some(sha256),
        Method::Secret | Method::PrivateKeyJwt { .. } => {
            let shown = ClientCertificate::from_der(peer.certificate.as_ref()?)?;
            is_good(&shown, record, now).then_some(shown.sha256)
        }
    }
}

/// What a device is registered with, if its tokens are bound to a certificate.
fn bound(device: &DeviceRecord) -> Option<&CertificateRecord> {
    device.credentials.certificate.as_ref().filter(|record| record.bound_access_tokens)
}

fn is_good(shown: &ClientCertificate, record: &CertificateRecord, now: UnixSeconds) -> bool {
    shown.is_of(&record.subject) & shown.is_in_time(now)
}

#[cfg(test)]
mod tests;
