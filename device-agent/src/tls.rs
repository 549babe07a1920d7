//! TLS towards issuer and broker: one trust for both.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

#[cfg(feature = "aws-lc")]
use rustls::crypto::aws_lc_rs as provider;
#[cfg(all(feature = "ring", not(feature = "aws-lc")))]
use rustls::crypto::ring as provider;
#[cfg(not(any(feature = "aws-lc", feature = "ring")))]
compile_error!("choose the cryptography: feature `aws-lc` (the default) or `ring`");

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file cannot be used.
    #[error("ca_file {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The TLS library refuses.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Makes the chosen cryptography the process's default. Call it first in `main`.
pub fn install_provider() {
    // An error means that one is installed already, which is as good.
    let _ = provider::default_provider().install_default();
}

/// Trusts the certificates (PEM) in `ca_file`; without it, the system's.
///
/// # Errors
/// [`TlsError`]
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let error = |reason: &dyn std::fmt::Display| TlsError::CaFile {
                path: path.into(),
                reason: reason.to_string(),
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| error(&e))? {
                roots.add(certificate.map_err(|e| error(&e))?).map_err(|e| error(&e))?;
            }
            if roots.is_empty() {
                return Err(error(&"has no certificate"));
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            for error in system.errors {
                tracing::warn!("a certificate of the system cannot be read: {error}");
            }
            roots.add_parsable_certificates(system.certs);
        }
    }
    Ok(ClientConfig::builder_with_provider(provider::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = client_config(Some(file.path())).unwrap_err().to_string();
        assert!(text.starts_with("ca_file /") && text.ends_with("has no certificate"), "{text}");
        let text = client_config(Some(Path::new("/nowhere/ca.pem"))).unwrap_err().to_string();
        assert!(text.starts_with("ca_file /nowhere/ca.pem: "), "{text}");
    }
}
