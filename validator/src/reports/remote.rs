//! Reports, posted by a thread of its own. Best effort: nothing else waits for
//! them or depends on them here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, StatusCode};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{InstanceId, Report, ReportDocument};
use crate::keys::file::{self, KeyFileError};
use crate::remote::RemoteError;
use crate::remote::backoff::{chance, jittered};
use crate::remote::credentials::{Credentials, CredentialsError};
use crate::remote::http::{Answer, Endpoint, all_causes};
use crate::remote::last_good::{check_state_dir, write_file};
use crate::remote::notices::{Notice, Notices};
use crate::remote::worker::Worker;
use crate::revocations::remote::Followed;
use crate::time::Clock;

/// Where to report and how.
#[derive(Clone, Debug)]
pub struct ReporterConfig {
    /// Where the issuer takes reports.
    pub endpoint: Endpoint,
    /// The broker's credentials; the file is read again for each report.
    pub credentials_file: PathBuf,
    /// The folder in which the `instance` is kept.
    pub state_dir: PathBuf,
    /// What reports, as `fleetbadge-mosquitto/0.1.0`.
    pub software: String,
    /// How often, give or take a tenth.
    pub every: Duration,
    /// For how long at most a change waits to be reported.
    pub change_delay: Duration,
}

impl ReporterConfig {
    /// How often unless told otherwise.
    pub const DEFAULT_EVERY: Duration = Duration::from_secs(60);
    /// How long a change waits at most unless told otherwise.
    pub const DEFAULT_CHANGE_DELAY: Duration = Duration::from_secs(2);
}

/// Reports until it is dropped.
#[derive(Debug)]
pub struct Reporter {
    notices: Arc<Notices>,
    _worker: Worker,
}

impl Reporter {
    /// Starts the thread. Does not wait for the network.
    ///
    /// # Errors
    /// [`RemoteError`]: the configuration cannot work.
    pub fn start(
        config: ReporterConfig,
        key_ids: watch::Receiver<Vec<String>>,
        followed: Option<Followed>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RemoteError> {
        let client = config.endpoint.client(Answer::Document)?;
        Credentials::read(&config.credentials_file)?;
        check_state_dir(&config.state_dir)?;
        let state_dir_error = |reason| RemoteError::StateDir { path: config.state_dir.clone(), reason };
        let instance = instance(&config.state_dir).map_err(state_dir_error)?;
        let notices = Arc::<Notices>::default();
        let task = Task {
            config,
            client,
            instance,
            key_ids,
            followed,
            clock,
            notices: Arc::clone(&notices),
            told: None,
        };
        let at_fault = Arc::clone(&notices);
        let worker = Worker::start("fleetbadge-report", task.run(), move || {
            at_fault.warning("a fault ended the reports to the issuer until a restart".into());
        })?;
        Ok(Self { notices, _worker: worker })
    }

    /// What there is to log since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        self.notices.take()
    }
}

/// Lives on the thread.
struct Task {
    config: ReporterConfig,
    client: Client,
    instance: InstanceId,
    key_ids: watch::Receiver<Vec<String>>,
    followed: Option<Followed>,
    clock: Arc<dyn Clock>,
    notices: Arc<Notices>,
    /// The failure that was told last.
    told: Option<String>,
}

/// A report did not arrive.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("{0}")]
    Http(String),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

impl Task {
    async fn run(mut self) {
        loop {
            // Brokers hear of a new key at the same moment.
            sleep(jittered(self.config.change_delay, 0.0..1.0, chance())).await;
            loop {
                let result = self.post().await;
                self.tell(result);
                let every = jittered(self.config.every, 0.9..1.1, chance());
                tokio::select! {
                    () = changed(&mut self.key_ids) => break,
                    () = sleep(every) => {}
                }
            }
        }
    }

    async fn post(&mut self) -> Result<(), ReportError> {
        let report = Report {
            software: self.config.software.clone(),
            kids: self.key_ids.borrow_and_update().clone(),
            revocations: self.followed.as_ref().and_then(|followed| followed.at(self.clock.now())),
        };
        let credentials = Credentials::read(&self.config.credentials_file)?;
        let request = self
            .client
            .post(self.config.endpoint.url.clone())
            .header(AUTHORIZATION, credentials.authorization())
            .header(CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&ReportDocument::new(self.instance.clone(), report))?);
        let answer = request.send().await.map_err(|error| ReportError::Http(all_causes(&error)))?;
        if answer.status().is_success() { Ok(()) } else { Err(ReportError::Status(answer.status())) }
    }

    /// Tells a failure, and its end, once.
    fn tell(&mut self, result: Result<(), ReportError>) {
        let url = &self.config.endpoint.url;
        match result.map_err(|error| error.to_string()) {
            Ok(()) if self.told.take().is_some() => {
                self.notices.info(format!("reports to {url} arrive again"));
            }
            Ok(()) => {}
            Err(text) if self.told.as_ref() == Some(&text) => {}
            Err(text) => {
                let meaning = "the issuer does not know which keys are held here";
                self.notices.warning(format!("report to {url}: {text}; {meaning}"));
                self.told = Some(text);
            }
        }
    }
}

/// Waits for a change; for ever, if there will be none.
async fn changed(key_ids: &mut watch::Receiver<Vec<String>>) {
    if key_ids.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The `instance` of this state folder: read, or made.
fn instance(state_dir: &Path) -> Result<InstanceId, String> {
    let path = state_dir.join("instance");
    let error = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match file::read_at_most(&path, INSTANCE_LENGTH + 1) {
        Ok((bytes, _)) => {
            let text = String::from_utf8(bytes).unwrap_or_default();
            if let Ok(instance) = InstanceId::try_from(text.trim_end().to_owned()) {
                return Ok(instance);
            }
        }
        Err(KeyFileError::Io(fault)) if fault.kind() == std::io::ErrorKind::NotFound => {}
        Err(fault) => return Err(error(&fault)),
    }
    let instance = URL_SAFE_NO_PAD.encode(random().map_err(|fault| error(&fault))?);
    write_file(&path, instance.as_bytes(), |_| Ok(())).map_err(|fault| error(&fault))?;
    InstanceId::try_from(instance).map_err(|fault| error(&fault))
}

const INSTANCE_BYTES: usize = 16;
/// In base64url, without padding.
const INSTANCE_LENGTH: usize = 22;

#[expect(clippy::disallowed_methods, reason = "a name for this process, once; nothing depends on which")]
fn random() -> Result<[u8; INSTANCE_BYTES], &'static str> {
    let mut bytes = [0; INSTANCE_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the machine gives no randomness")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
