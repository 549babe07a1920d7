//! A certificate authority that nobody knows but who is told, and what it
//! signs for a server on this machine.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType,
};
use tempfile::TempDir;

/// The files of one authority and one server. Dropping it removes them.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
}

impl Authority {
    /// A new authority, and a certificate for `localhost`.
    ///
    /// # Panics
    /// When they cannot be made or written.
    #[must_use]
    pub fn new() -> Self {
        let key = || KeyPair::generate().expect("a key");
        let mut params = named("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, key()).expect("an authority");
        let mut params = named("server");
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().expect("a name"))];
        let server_key = key();
        let server = params.signed_by(&server_key, &authority).expect("a certificate");

        let dir = tempfile::Builder::new().prefix("fleetbadge-authority-").tempdir().expect("a directory");
        let this = Self { dir };
        write(&this.certificate_of_authority(), &authority.pem());
        write(&this.certificate(), &server.pem());
        write(&this.key(), &server_key.serialize_pem());
        this
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
