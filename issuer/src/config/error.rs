//! Why a configuration cannot be used.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::database::InvalidDatabase;
use super::signer::InvalidSigner;
use super::transport::InvalidTransport;
use crate::issuer_url::InvalidIssuerUrl;
use crate::private_file::PrivateFileError;

/// A configuration cannot be used. Each message begins with the field.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a field that does not exist or is of the
    /// wrong type.
    #[error("{}: {reason}", path.display())]
    Toml {
        /// Which file.
        path: PathBuf,
        /// What and where; says nothing of other lines.
        reason: Box<toml::de::Error>,
    },
    /// Others can read the database's password.
    #[error("database: its password is in a file that is not this program's alone: {0}")]
    ShownPassword(PrivateFileError),
    /// Nothing said where data are kept.
    #[error("data_dir: is missing; give --data-dir DIR or set FLEETBADGE_DATA_DIR")]
    NoDataDir,
    /// A listener that others could listen to.
    #[error(
        "{field}: {address} can be reached from other machines and plain HTTP can be read on the way; give \
         --tls-certificate and --tls-key, listen on 127.0.0.1 behind a TLS proxy, or give --allow-insecure-http \
         and name the proxy with --trusted-proxy"
    )]
    InsecureListener {
        /// Which listener.
        field: &'static str,
        /// Where it would listen.
        address: SocketAddr,
    },
    /// The issuer does not follow from where the server listens.
    #[error("issuer: is missing; it follows from listen only on loopback with a port, not from {listen}")]
    NoIssuer {
        /// Where the server is to listen.
        listen: SocketAddr,
    },
    /// The database cannot be reached as it should.
    #[error("database: {0}")]
    Database(#[from] InvalidDatabase),
    /// The public listener cannot be reached as it should.
    #[error(transparent)]
    Transport(#[from] InvalidTransport),
    /// Signing keys cannot be made or kept as wanted.
    #[error(transparent)]
    Signer(#[from] InvalidSigner),
    /// The listener speaks TLS, the issuer's URL says that it does not.
    #[error("issuer: {issuer} is plain HTTP, but tls_certificate is set; begin it with https://")]
    IssuerWithoutTls {
        /// The issuer.
        issuer: String,
    },
    /// The issuer cannot be one.
    #[error("issuer: {0}")]
    Issuer(#[from] InvalidIssuerUrl),
    /// A log filter that cannot be read.
    #[error("log: {found:?} is not a log filter: {reason}")]
    Log {
        /// What was given.
        found: String,
        /// Why.
        reason: String,
    },
    /// A number out of its range.
    #[error("{field}: {found} is not between {min} and {max}")]
    Range {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
}
