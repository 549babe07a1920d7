//! Getting an issuer's documents over HTTP: HTTPS only, or loopback; no
//! redirects, bounded time and size.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::CACHE_CONTROL;
use reqwest::{Certificate, Client, StatusCode, redirect};
use url::{Host, Url};

use crate::keys::MAX_JWKS_LENGTH;

/// A place of the issuer, and how it may be reached.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it is.
    pub url: Url,
    /// Certificates (PEM) that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether plain HTTP to another machine is allowed.
    pub allow_insecure_http: bool,
}

/// What comes back from an [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Something whole, in bounded time.
    Document,
    /// Something without an end, watched by whoever reads it.
    Stream,
}

/// A document cannot be had from such a place.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// Unprotected: whoever is in between could bring their own keys, or take
    /// the credentials.
    #[error("{url} is plain HTTP to another machine; use https, or set allow_insecure_http")]
    InsecureUrl {
        /// The URL.
        url: Url,
    },
    /// The certificate file cannot be used.
    #[error("CA file {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client: {reason}")]
    Client {
        /// What is wrong.
        reason: String,
    },
}

/// A request brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, no answer, or a broken one.
    #[error("{0}")]
    Http(String),
    /// Another status than 200.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// More bytes than anybody needs.
    #[error("the answer has more than {MAX_JWKS_LENGTH} bytes")]
    TooLong,
}

/// A document and for how long it may be kept.
#[derive(Debug)]
pub struct Document {
    /// The bytes.
    pub body: Vec<u8>,
    /// `max-age` of its `Cache-Control`.
    pub max_age: Option<Duration>,
}

impl Endpoint {
    /// A client for it.
    ///
    /// # Errors
    /// [`HttpSetupError`].
    pub fn client(&self, answer: Answer) -> Result<Client, HttpSetupError> {
        check_url(&self.url, self.allow_insecure_http)?;
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("fleetbadge-validator/", env!("CARGO_PKG_VERSION")));
        if answer == Answer::Document {
            builder = builder.timeout(Duration::from_secs(15));
        }
        if is_loopback(&self.url) {
            builder = builder.no_proxy();
        }
        if let Some(path) = &self.ca_file {
            builder = builder.tls_certs_only(
                certificates(path).map_err(|reason| HttpSetupError::CaFile { path: path.clone(), reason })?,
            );
        }
        builder.build().map_err(|error| HttpSetupError::Client { reason: all_causes(&error) })
    }
}

/// What the issuer has at a path: its identifier, and the path behind it.
///
/// # Errors
/// If the issuer identifier is no URL.
pub fn url_at_issuer(issuer: &str, path: &str) -> Result<Url, url::ParseError> {
    format!("{}{path}", issuer.trim_end_matches('/')).parse()
}

/// Whether what is sent to `url` stays on this machine: loopback addresses and
/// the name `localhost`.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Whether `url` may be asked.
pub(crate) fn check_url(url: &Url, allow_insecure_http: bool) -> Result<(), HttpSetupError> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if allow_insecure_http || is_loopback(url) => Ok(()),
        _ => Err(HttpSetupError::InsecureUrl { url: url.clone() }),
    }
}

/// Fetches a document.
///
/// # Errors
/// [`FetchError`].
pub async fn get(client: &Client, url: &Url) -> Result<Document, FetchError> {
    let http_error = |error: reqwest::Error| FetchError::Http(all_causes(&error));
    let mut response = client.get(url.clone()).send().await.map_err(http_error)?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let cache_control = response.headers().get(CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let max_age = cache_control.and_then(max_age);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(http_error)? {
        if body.len() + chunk.len() > MAX_JWKS_LENGTH {
            return Err(FetchError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Document { body, max_age })
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("has no certificate".into()) } else { Ok(certificates) }
}

/// reqwest's own text stops at "error sending request".
pub(crate) fn all_causes(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let seconds = cache_control.split(',').find_map(|directive| directive.trim().strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}
