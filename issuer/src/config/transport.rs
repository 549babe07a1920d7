//! How the public listener is reached: TLS, proxies, how many at a time.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::Options;
use crate::open_files::{self, TooFewOpenFiles};
use crate::peer::{Network, TrustedProxies};
use crate::tls::TlsFiles;

/// The transport that is in force, as fields of [`super::Config`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of Options, by their names")]
pub struct Transport {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_client_ca: Option<PathBuf>,
    pub max_connections: usize,
    pub trusted_proxy: Vec<Network>,
    pub trusted_proxy_client_certs: bool,
}

/// A transport cannot be used. Each message begins with the field.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTransport {
    /// A field that needs another.
    #[error("{needed}: is missing; {field} is of no use without it")]
    Missing {
        /// What is not there.
        needed: &'static str,
        /// What is.
        field: &'static str,
    },
    /// Plain HTTP that anybody could reach.
    #[error(
        "trusted_proxy: is missing; plain HTTP at {address} is for a TLS proxy in front: name the proxy's address \
         with --trusted-proxy, or give --tls-certificate and --tls-key"
    )]
    NoTrustedProxy {
        /// Where the server is to listen.
        address: SocketAddr,
    },
    /// More connections than the system has descriptors for, or none.
    #[error("max_connections: {0}")]
    OpenFiles(#[from] TooFewOpenFiles),
}

impl Transport {
    pub(super) fn resolve(options: &Options, listen: SocketAddr) -> Result<Self, InvalidTransport> {
        let transport = Self {
            tls_certificate: options.tls_certificate.clone(),
            tls_key: options.tls_key.clone(),
            tls_client_ca: options.tls_client_ca.clone(),
            max_connections: open_files::max_connections(options.max_connections, open_files::limit())?,
            trusted_proxy: options.trusted_proxy.clone().unwrap_or_default(),
            trusted_proxy_client_certs: options.trusted_proxy_client_certs.unwrap_or(false),
        };
        let Self { tls_certificate, tls_key, tls_client_ca, trusted_proxy, .. } = &transport;
        let missing = |needed, field| Err(InvalidTransport::Missing { needed, field });
        match (tls_certificate, tls_key, tls_client_ca) {
            (Some(_), None, _) => return missing("tls_key", "tls_certificate"),
            (None, Some(_), _) => return missing("tls_certificate", "tls_key"),
            (None, None, Some(_)) => return missing("tls_certificate", "tls_client_ca"),
            (Some(_), Some(_), _) | (None, None, None) => {}
        }
        if transport.trusted_proxy_client_certs && trusted_proxy.is_empty() {
            return missing("trusted_proxy", "trusted_proxy_client_certs");
        }
        if !transport.is_tls() && !listen.ip().is_loopback() && trusted_proxy.is_empty() {
            return Err(InvalidTransport::NoTrustedProxy { address: listen });
        }
        Ok(transport)
    }

    /// Whether the public listener speaks TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls_certificate.is_some()
    }

    /// Whether a client can show a certificate.
    #[must_use]
    pub const fn has_client_certificates(&self) -> bool {
        self.tls_client_ca.is_some() || self.trusted_proxy_client_certs
    }

    /// What TLS needs, if it is spoken.
    #[must_use]
    pub fn tls_files(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.tls_certificate.clone()?,
            key: self.tls_key.clone()?,
            client_ca: self.tls_client_ca.clone(),
        })
    }

    /// Whose headers are believed.
    #[must_use]
    pub fn trusted_proxies(&self) -> TrustedProxies {
        TrustedProxies { networks: self.trusted_proxy.clone(), client_certs: self.trusted_proxy_client_certs }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, InvalidConfig};

    use super::*;

    fn resolve(toml: &str) -> Result<Config, InvalidConfig> {
        let base: Options = toml::from_str("data_dir = 'x'").unwrap();
        toml::from_str::<Options>(toml).unwrap().over(base).resolve()
    }

    fn refused(toml: &str) -> String {
        resolve(toml).unwrap_err().to_string()
    }

    const PAIR: &str = "tls_certificate = 'c'\ntls_key = 'k'\n";

    #[test]
    fn with_tls_the_issuer_is_https() {
        assert_eq!(resolve(PAIR).unwrap().issuer.as_str(), "https://127.0.0.1:8080");
        let everywhere = format!("{PAIR}listen = '0.0.0.0:443'\nissuer = 'https://id.example'");
        assert!(resolve(&everywhere).is_ok());
        assert!(refused(&format!("{PAIR}issuer = 'http://127.0.0.1:8080'")).starts_with("issuer: "));
    }

    #[test]
    fn half_of_something_is_refused() {
        assert!(refused("tls_certificate = 'c'").starts_with("tls_key: "));
        assert!(refused("tls_key = 'k'").starts_with("tls_certificate: "));
        assert!(refused("tls_client_ca = 'a'").starts_with("tls_certificate: "));
        assert!(refused("trusted_proxy_client_certs = true").starts_with("trusted_proxy: "));
    }

    #[test]
    fn plain_http_beyond_loopback_needs_both_words() {
        let listen = "listen = '0.0.0.0:80'\nissuer = 'https://id.example'\n";
        assert!(refused(listen).starts_with("listen: "));
        assert!(refused(&format!("{listen}trusted_proxy = ['10.0.0.1']")).starts_with("listen: "));
        assert!(refused(&format!("{listen}allow_insecure_http = true")).starts_with("trusted_proxy: "));
        let both = format!("{listen}allow_insecure_http = true\ntrusted_proxy = ['10.0.0.1', 'fd00::/8']");
        let config = resolve(&both).unwrap();
        assert!(config.to_toml().unwrap().contains(r#"trusted_proxy = ["10.0.0.1", "fd00::/8"]"#));
    }

    #[test]
    fn what_is_in_force_reads_as_itself() {
        let toml = format!(
            "{PAIR}tls_client_ca = 'a'\nmax_connections = 7\ntrusted_proxy = ['10.0.0.1']\n\
             trusted_proxy_client_certs = true"
        );
        let config = resolve(&toml).unwrap();
        assert!(config.transport.has_client_certificates());
        assert_eq!(resolve(&config.to_toml().unwrap()).unwrap(), config);
    }
}
