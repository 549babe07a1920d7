//! Talks to the server that runs, over the admin socket.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::{Client, Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::OpenError;
use crate::admin::problem::Problem;
use crate::config::InvalidConfig;
use crate::data_dir::socket_path;
use crate::migrate_store::MigrateFailed;
use crate::restore::RestoreFailed;
use crate::root_key::RootKeyFileError;
use crate::serve::ServeError;
use crate::terms::NotChanged;

/// However much there is.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Over a unix socket the host says nothing.
const BASE: &str = "http://localhost/admin/v1/";

/// What every operator command takes.
#[derive(Args)]
pub(super) struct Operator {
    /// Data directory of the server that runs
    #[arg(long, env = "FLEETBADGE_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Operator {
    /// Runs `command` with a connection to the server.
    pub(super) fn run<F: Future<Output = Result<(), Failure>>>(
        &self,
        command: impl FnOnce(AdminClient) -> F,
    ) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(command(AdminClient::new(self)?))
    }
}

/// A command that was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server said no.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// What was asked about may not be, which is an answer and was printed.
    #[error("denied")]
    Denied,
    /// The command line contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// No server answers.
    #[error("no server runs with {}; start it with: fleetbadge-issuer serve --data-dir {}", data_dir.display(), data_dir.display())]
    NotRunning {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// A file of root keys cannot be made.
    #[error(transparent)]
    RootKey(#[from] RootKeyFileError),
    /// The server cannot be started.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The server cannot listen, or failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The way to the server failed.
    #[error("{0}")]
    Http(String),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    Input {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A backup cannot be restored.
    #[error("{}{reason}", if reason.is_of_backup() { format!("{}: ", path.display()) } else { String::new() })]
    NotRestored {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: RestoreFailed,
    },
    /// An issuer cannot be moved.
    #[error(transparent)]
    NotMigrated(#[from] MigrateFailed),
    /// What nodes have in common cannot be changed.
    #[error(transparent)]
    Terms(#[from] NotChanged),
    /// What is not JSON should be.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The configuration cannot be written.
    #[error("the configuration cannot be written: {0}")]
    Toml(#[from] toml::ser::Error),
}

/// A client of the admin API.
pub(super) struct AdminClient {
    http: Client,
    data_dir: PathBuf,
}

impl AdminClient {
    fn new(operator: &Operator) -> Result<Self, Failure> {
        let data_dir = operator.data_dir.clone();
        let builder = Client::builder()
            .unix_socket(socket_path(&data_dir))
            .timeout(TIMEOUT)
            // There is no TLS on the socket: no certificates are looked for.
            .tls_certs_only([]);
        let http = builder.build().map_err(|error| Failure::Http(error.to_string()))?;
        Ok(Self { http, data_dir })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        self.get_with(path, &[]).await
    }

    pub(super) async fn get_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        json(&self.send(self.http.get(url_with(path, query)?)).await?)
    }

    pub(super) async fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        json(&self.send(self.http.request(method, url(path)?).json(body)).await?)
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        json(&self.send(self.http.post(url(path)?)).await?)
    }

    pub(super) async fn delete(&self, path: &[&str]) -> Result<(), Failure> {
        self.delete_with(path, &[]).await
    }

    pub(super) async fn delete_with(&self, path: &[&str], query: &[(&str, &str)]) -> Result<(), Failure> {
        self.send(self.http.delete(url_with(path, query)?)).await.map(|_| ())
    }

    pub(super) async fn delete_with_answer<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        json(&self.send(self.http.delete(url(path)?)).await?)
    }

    /// Writes what the server sends, however much it is.
    pub(super) async fn download(&self, path: &[&str], to: &mut impl io::Write) -> Result<u64, Failure> {
        let request = self.http.get(url(path)?).timeout(DOWNLOAD_TIMEOUT);
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
            return Err(Failure::Refused(json(&body)?));
        }
        let mut length = 0;
        let cut_off = |_| Failure::Http("the server broke off in the middle; its log says why".into());
        while let Some(part) = response.chunk().await.map_err(cut_off)? {
            to.write_all(&part)?;
            length += part.len() as u64;
        }
        Ok(length)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let is_success = response.status().is_success();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if is_success { Ok(body.into()) } else { Err(Failure::Refused(json(&body)?)) }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        let kind = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).next();
        match kind {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Failure::NotRunning { data_dir: self.data_dir.clone() }
            }
            Some(io::ErrorKind::PermissionDenied) => Failure::Http(format!(
                "{} belongs to another user; run this as the user that the server runs as",
                self.data_dir.display()
            )),
            Some(_) | None => Failure::Http(format!("the server does not answer: {error}")),
        }
    }
}

/// Each part is one segment, whatever is in it.
fn url(path: &[&str]) -> Result<Url, Failure> {
    let mut url = Url::parse(BASE).map_err(|error| Failure::Http(error.to_string()))?;
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    Ok(url)
}

fn url_with(path: &[&str], query: &[(&str, &str)]) -> Result<Url, Failure> {
    let mut url = url(path)?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    Ok(serde_json::from_slice(body)?)
}
