//! Getting an issuer's documents over HTTP: HTTPS only, or loopback; no
//! redirects, bounded time and size.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::CACHE_CONTROL;
use reqwest::{Certificate, Client, StatusCode, redirect};
use url::{Host, Url};

use super::MAX_JWKS_LENGTH;

/// A document cannot be had from such a place.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// Keys from the network, unprotected: whoever is in between could bring
    /// their own.
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

/// Whether keys may be fetched from `url`.
///
/// # Errors
/// [`HttpSetupError::InsecureUrl`].
pub fn check_url(url: &Url, allow_insecure_http: bool) -> Result<(), HttpSetupError> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if allow_insecure_http || is_loopback(url) => Ok(()),
        _ => Err(HttpSetupError::InsecureUrl { url: url.clone() }),
    }
}

/// A client for `url`, trusting the certificates of `ca_file` (PEM) instead
/// of the system's if it is given.
///
/// # Errors
/// [`HttpSetupError`].
pub fn client(url: &Url, ca_file: Option<&Path>) -> Result<Client, HttpSetupError> {
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(15))
        .user_agent(concat!("fleetbadge-validator/", env!("CARGO_PKG_VERSION")));
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    if let Some(path) = ca_file {
        builder = builder.tls_certs_only(
            certificates(path).map_err(|reason| HttpSetupError::CaFile { path: path.to_owned(), reason })?,
        );
    }
    builder.build().map_err(|error| HttpSetupError::Client { reason: all_causes(&error) })
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
fn all_causes(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let seconds = cache_control.split(',').find_map(|directive| directive.trim().strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}
