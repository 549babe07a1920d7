//! A certificate authority that nobody knows but who is told, and what it
//! signs for a server on this machine and for its clients.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The files of one authority and one server. Dropping it removes them.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a client proves itself with in a TLS handshake.
#[derive(Debug)]
pub struct ClientCertificate {
    /// Its certificate, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The SHA-256 of the certificate's DER in base64url, as in `cnf`.
    pub thumbprint: String,
}

impl Authority {
    /// A new authority, and a certificate for `localhost`.
    ///
    /// # Panics
    /// When they cannot be made or written.
    #[must_use]
    pub fn new() -> Self {
        let mut params = named("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, new_key()).expect("an authority");
        let mut params = named("server");
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().expect("a name"))];
        let server_key = new_key();
        let server = params.signed_by(&server_key, &issuer).expect("a certificate");

        let dir = tempfile::Builder::new().prefix("fleetbadge-authority-").tempdir().expect("a directory");
        let this = Self { dir, issuer };
        write(&this.certificate_of_authority(), &this.issuer.pem());
        write(&this.certificate(), &server.pem());
        write(&this.key(), &server_key.serialize_pem());
        this
    }

    /// A new key and certificate for a client; the name of the files too.
    ///
    /// # Panics
    /// When they cannot be made or written, or were before.
    #[must_use]
    pub fn client(&self, name: &str) -> ClientCertificate {
        let key = new_key();
        let certificate = named(name).signed_by(&key, &self.issuer).expect("a certificate");
        let made = ClientCertificate {
            certificate: self.dir.path().join(name).with_extension("pem"),
            key: self.dir.path().join(name).with_extension("key"),
            thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(certificate.der())),
        };
        write(&made.certificate, &certificate.pem());
        write(&made.key, &key.serialize_pem());
        made
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn certificate_of_authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The server's certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("server.pem")
    }

    /// The server's private key, in PEM.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(path: &Path, pem: &str) {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, pem.as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
