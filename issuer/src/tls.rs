//! TLS of the public listener: which certificate it shows, which clients'
//! certificates it takes, and how both are replaced while it runs.
//!
//! The cryptography is named here (aws-lc), never looked up in the process.
//! TLS 1.2 and 1.3; sessions are resumed by tickets, which this process alone
//! can read. A client is asked for a certificate if there are roots for it, and
//! may have none.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use fleetbadge_validator::time::Clock;
use rustls::crypto::{CryptoProvider, aws_lc_rs as aws_lc};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, VerifierBuilderError, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig, ServerConnection, version};
use zeroize::Zeroizing;

use crate::certificate::ClientCertificate;
use crate::sha256::sha256;

/// The files that TLS is made of, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate that is shown, and those that lead to its root.
    pub certificate: PathBuf,
    /// Its private key, for nobody else to read.
    pub key: PathBuf,
    /// The roots of clients' certificates. None: none are asked for.
    pub client_ca: Option<PathBuf>,
}

/// TLS cannot be spoken with these files. Each message begins with the field.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{field}: {}: {source}", path.display())]
    File {
        /// Which option.
        field: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{field}: {}: holds no {expected} in PEM that can be read", path.display())]
    Content {
        /// Which option.
        field: &'static str,
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Others can use the private key.
    #[error(
        "tls_key: {}: others can use it (its mode is {mode:o}); run: chmod 600 {}", path.display(), path.display()
    )]
    TooOpen {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Certificate and key are not a pair, or cannot be used.
    #[error("tls_certificate, tls_key: {}, {}: {source}", certificate.display(), key.display())]
    Pair {
        /// The file of the one.
        certificate: PathBuf,
        /// The file of the other.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The roots of clients' certificates cannot be used.
    #[error("tls_client_ca: {}: {reason}", path.display())]
    ClientCa {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The cryptographic library fails.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// The TLS of a listener, kept up to date with its files.
pub(crate) struct Tls {
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    session: ArcSwap<Session>,
    /// What was last said of files that cannot be used.
    complaint: Mutex<Option<String>>,
}

/// What connections are made with until the files change.
pub(crate) struct Session {
    pub(crate) config: Arc<ServerConfig>,
    client_ca: Option<ClientCa>,
    tickets: Arc<dyn ProducesTickets>,
    fingerprint: [u8; 32],
}

#[derive(Clone)]
struct ClientCa {
    verifier: Arc<dyn ClientCertVerifier>,
    fingerprint: [u8; 32],
}

/// A certificate that a client has proven to have, and why it was believed.
#[derive(Clone, Debug)]
pub(crate) struct ClientChain {
    leaf: Arc<[u8]>,
    issuers: Arc<[CertificateDer<'static>]>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn open(files: TlsFiles, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let session = Session::new(&files, &Contents::read(&files)?, &clock, None)?;
        Ok(Self { files, clock, session: ArcSwap::from_pointee(session), complaint: Mutex::default() })
    }

    /// What a new connection is made with.
    pub(crate) fn session(&self) -> Arc<Session> {
        self.session.load_full()
    }

    /// Takes up files that have changed. Files that cannot be used are logged,
    /// once for each reason; what was in force stays so. True if something
    /// changed.
    pub(crate) fn reload(&self) -> bool {
        let complain = |error: &TlsError| {
            let error = error.to_string();
            let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
            if complaint.as_ref() != Some(&error) {
                tracing::error!(%error, "the changed TLS files cannot be used; the former ones stay in force");
                *complaint = Some(error);
            }
            false
        };
        let former = self.session();
        let contents = match Contents::read(&self.files) {
            Ok(contents) => contents,
            Err(error) => return complain(&error),
        };
        let is_new = contents.fingerprint() != former.fingerprint;
        if is_new {
            match Session::new(&self.files, &contents, &self.clock, Some(&former)) {
                Ok(session) => self.session.store(Arc::new(session)),
                Err(error) => return complain(&error),
            }
            tracing::info!(certificate = %self.files.certificate.display(), "the changed TLS files are in force");
        }
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = None;
        is_new
    }

    /// The certificate of a connection, unless the roots were changed since
    /// and no longer lead to it.
    pub(crate) fn still_trusted(&self, chain: &ClientChain) -> Option<Arc<[u8]>> {
        let session = self.session.load();
        let verifier = &session.client_ca.as_ref()?.verifier;
        let is_trusted = Arc::ptr_eq(verifier, &chain.verifier)
            || verifier
                .verify_client_cert(
                    &CertificateDer::from(&*chain.leaf),
                    &chain.issuers,
                    unix_time(&*self.clock),
                )
                .is_ok();
        is_trusted.then(|| Arc::clone(&chain.leaf))
    }
}

impl Session {
    fn new(
        files: &TlsFiles,
        contents: &Contents,
        clock: &Arc<dyn Clock>,
        former: Option<&Self>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc::default_provider());
        let client_ca = match (&files.client_ca, &contents.client_ca) {
            (Some(path), Some(pem)) => Some(client_ca(path, pem, &provider, former)?),
            (None, _) | (_, None) => None,
        };
        let fingerprint_of = |ca: &Option<ClientCa>| ca.as_ref().map(|ca| ca.fingerprint);
        // A ticket carries the client's certificate: it is worth no more than
        // the roots that led to it.
        let tickets = match former {
            Some(former) if fingerprint_of(&former.client_ca) == fingerprint_of(&client_ca) => {
                Arc::clone(&former.tickets)
            }
            Some(_) | None => aws_lc::Ticketer::new()?,
        };
        let builder = ServerConfig::builder_with_details(provider, Arc::new(Time(Arc::clone(clock))))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?;
        let builder = match &client_ca {
            Some(ca) => builder.with_client_cert_verifier(Arc::clone(&ca.verifier)),
            None => builder.with_no_client_auth(),
        };
        let chain = certificates("tls_certificate", &files.certificate, &contents.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| TlsError::Content {
            field: "tls_key",
            path: files.key.clone(),
            expected: "private key",
        })?;
        if let Some(leaf) = chain.first().and_then(|leaf| ClientCertificate::from_der(leaf))
            && !leaf.is_in_time(clock.now())
        {
            tracing::warn!(file = %files.certificate.display(), "the TLS certificate is not valid at present");
        }
        let mut config = builder.with_single_cert(chain, key).map_err(|source| TlsError::Pair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        })?;
        config.alpn_protocols = vec![b"http/1.1".into()];
        config.ticketer = Arc::clone(&tickets);
        Ok(Self { config: Arc::new(config), client_ca, tickets, fingerprint: contents.fingerprint() })
    }

    /// The certificate that a client has shown in the handshake, or in the one
    /// that its ticket is from.
    pub(crate) fn client_chain(&self, connection: &ServerConnection) -> Option<ClientChain> {
        let (leaf, issuers) = connection.peer_certificates()?.split_first()?;
        Some(ClientChain {
            leaf: leaf.as_ref().into(),
            issuers: issuers.iter().cloned().map(CertificateDer::into_owned).collect(),
            verifier: Arc::clone(&self.client_ca.as_ref()?.verifier),
        })
    }
}

fn client_ca(
    path: &Path,
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
    former: Option<&Session>,
) -> Result<ClientCa, TlsError> {
    let fingerprint = sha256(&[pem]);
    // The same object, so that connections see that nothing has changed.
    if let Some(former) = former.and_then(|former| former.client_ca.as_ref())
        && former.fingerprint == fingerprint
    {
        return Ok(former.clone());
    }
    let unusable =
        |reason: &dyn fmt::Display| TlsError::ClientCa { path: path.into(), reason: reason.to_string() };
    let mut roots = RootCertStore::empty();
    for root in certificates("tls_client_ca", path, pem)? {
        roots.add(root).map_err(|error| unusable(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error: VerifierBuilderError| unusable(&error))?;
    Ok(ClientCa { verifier, fingerprint })
}

/// What stands in the files.
struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |field, path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::File { field, path: path.into(), source })
        };
        Ok(Self {
            certificate: read("tls_certificate", &files.certificate)?,
            key: read_key(&files.key)?,
            client_ca: files.client_ca.as_deref().map(|path| read("tls_client_ca", path)).transpose()?,
        })
    }

    fn fingerprint(&self) -> [u8; 32] {
        let ca = self.client_ca.as_deref().map(|pem| sha256(&[pem])).unwrap_or_default();
        sha256(&[&sha256(&[&self.certificate]), &sha256(&[&self.key]), &ca])
    }
}

fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let at = |source| TlsError::File { field: "tls_key", path: path.into(), source };
    let mut file = File::open(path).map_err(at)?;
    let metadata = file.metadata().map_err(at)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TlsError::TooOpen { path: path.into(), mode });
    }
    // So much at once that no half of it is left behind in a smaller buffer.
    let length = usize::try_from(metadata.len()).unwrap_or_default();
    let mut key = Zeroizing::new(Vec::with_capacity(length + 1));
    file.read_to_end(&mut key).map_err(at)?;
    Ok(key)
}

fn certificates(
    field: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(TlsError::Content { field, path: path.into(), expected: "certificate" }),
    }
}

/// The issuer's clock, for rustls.
struct Time(Arc<dyn Clock>);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(&*self.0))
    }
}

fn unix_time(clock: &dyn Clock) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(clock.now().0))
}
