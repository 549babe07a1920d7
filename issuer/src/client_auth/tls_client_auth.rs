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
use crate::store::NotEnabled;

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
    let refused = |reason: Refused| {
        tracing::debug!(?client_id, %reason, "client authentication failed");
        Ok(None)
    };
    let shown = ClientCertificate::from_der(certificate);
    let device = question.find_device(app, client_id).await?;
    let (Some(shown), Some(device)) = (shown, device) else {
        return refused(Refused::NoSuchClient);
    };
    let Some(record) = &device.credentials.certificate else {
        return refused(Refused::NoneRegistered);
    };
    if !is_good(&shown, record, app.now()) {
        return refused(Refused::Certificate);
    }
    match AuthenticatedDevice::new(device, Method::Certificate { sha256: shown.sha256 }) {
        Ok(device) => {
            let credential = CredentialId::from_text(CertificateRecord::ID);
            Ok(Some(Proven { client: Client::Device(device), credential }))
        }
        Err(not_enabled) => refused(not_enabled.into()),
    }
}

/// Why a certificate proves nothing: for the log alone.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no such client, or the certificate cannot be read")]
    NoSuchClient,
    #[error("the device has no certificate registered")]
    NoneRegistered,
    #[error("the certificate is of another subject, or not valid at this time")]
    Certificate,
    #[error(transparent)]
    NotEnabled(#[from] NotEnabled),
}

/// The SHA-256 of the certificate that a device's tokens are to be bound to: if
/// its tokens are bound, the one of its own that it shows, whichever way it has
/// proven who it is.
pub(crate) fn binding(device: &AuthenticatedDevice, peer: &Peer, now: UnixSeconds) -> Option<[u8; 32]> {
    let record = device.bound_certificate()?;
    match device.method {
        Method::Certificate { sha256 } => Some(sha256),
        Method::Secret | Method::PrivateKeyJwt { .. } => {
            let shown = ClientCertificate::from_der(peer.certificate.as_ref()?)?;
            is_good(&shown, record, now).then_some(shown.sha256)
        }
    }
}

fn is_good(shown: &ClientCertificate, record: &CertificateRecord, now: UnixSeconds) -> bool {
    shown.is_of(&record.subject) & shown.is_in_time(now)
}

#[cfg(test)]
mod tests;
