//! Reports, posted by a thread of its own. Best effort: nothing else waits for
//! them or depends on them here.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode};
use tokio::sync::watch;
use tokio::time::sleep;

use super::activity::Activity;
use super::sessions::{MAX_NUMBER, ReportAnswer, SessionsKept};
use super::{INSTANCE_LENGTH, InstanceId, Report, ReportDocument};
use crate::keys::file::{self, KeyFileError};
use crate::remote::RemoteError;
use crate::remote::backoff::{Backoff, chance, jittered};
use crate::remote::credentials::{Credentials, CredentialsError};
use crate::remote::http::{Answer, Endpoint, all_causes};
use crate::remote::last_good::check_state_dir;
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
    /// For how long at most a change of the keys waits to be reported; one of the
    /// sessions waits once or twice as long, for others.
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
    /// Keeps the name of the instance from others.
    _instance_file: File,
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
        activity: Arc<Activity>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RemoteError> {
        let client = config.endpoint.client(Answer::Document)?;
        Credentials::read(&config.credentials_file)?;
        check_state_dir(&config.state_dir)?;
        let state_dir_error = |reason| RemoteError::StateDir { path: config.state_dir.clone(), reason };
        let (instance, instance_file) = instance(&config.state_dir).map_err(state_dir_error)?;
        activity.follow();
        activity.list().begin_anew(draw_epoch());
        let notices = Arc::<Notices>::default();
        let task = Task {
            config,
            client,
            instance,
            key_ids,
            followed,
            activity,
            clock,
            notices: Arc::clone(&notices),
            told: None,
        };
        let at_fault = Arc::clone(&notices);
        let worker = Worker::start("fleetbadge-report", task.run(), move || {
            at_fault.warning("a fault ended the reports to the issuer until a restart".into());
        })?;
        Ok(Self { notices, _worker: worker, _instance_file: instance_file })
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
    activity: Arc<Activity>,
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

/// When there is something to report again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// At once: there are more sessions to tell.
    Part,
    /// When something changes.
    News,
    /// When the keys change, as nobody keeps the sessions.
    Keys,
    /// In a while: the list of sessions begins anew.
    List,
    /// When it may have become possible.
    Retry,
}

impl Task {
    async fn run(mut self) {
        // Brokers hear of a new key at the same moment.
        sleep(jittered(self.config.change_delay, 0.0..1.0, chance())).await;
        let mut backoff = Backoff::new(self.config.change_delay * 2, self.config.every);
        loop {
            let result = self.post().await;
            let next = *result.as_ref().unwrap_or(&Next::Retry);
            self.tell(result.map(drop));
            let every = match next {
                Next::Retry => backoff.failed(chance()),
                Next::Part | Next::News | Next::Keys | Next::List => {
                    backoff.worked();
                    jittered(self.config.every, 0.9..1.1, chance())
                }
            };
            self.wait(next, every).await;
        }
    }

    async fn wait(&mut self, next: Next, every: Duration) {
        let Self { config: ReporterConfig { change_delay, .. }, activity, key_ids, .. } = self;
        let news = async {
            match next {
                // So that a broker with many sessions leaves room to others.
                Next::Part => sleep(*change_delay / 10).await,
                Next::News => news(activity, *change_delay).await,
                // Two that take each other's place do so seldom.
                Next::List => sleep(*change_delay * 5).await,
                Next::Keys | Next::Retry => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed(key_ids) => sleep(jittered(*change_delay, 0.0..1.0, chance())).await,
            () = news => {}
            () = sleep(every) => {}
        }
    }

    async fn post(&mut self) -> Result<Next, ReportError> {
        let now = self.clock.now();
        let report = Report {
            software: self.config.software.clone(),
            kids: self.key_ids.borrow_and_update().clone(),
            revocations: self.followed.as_ref().and_then(|followed| followed.at(now)),
            counters: Some(self.activity.counters()),
        };
        let part = {
            let mut list = self.activity.list();
            list.forget_ended(now);
            list.part()
        };
        let credentials = Credentials::read(&self.config.credentials_file)?;
        let document = ReportDocument::new(self.instance.clone(), report, Some(part));
        let request = self
            .client
            .post(self.config.endpoint.url.clone())
            .header(AUTHORIZATION, credentials.authorization())
            .header(CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&document)?);
        let answer = request.send().await.map_err(|error| ReportError::Http(all_causes(&error)))?;
        if !answer.status().is_success() {
            return Err(ReportError::Status(answer.status()));
        }
        let kept = kept(answer).await;
        let mut list = self.activity.list();
        match kept {
            Some(SessionsKept::Kept) => {
                list.kept();
                Ok(if list.has_news() { Next::Part } else { Next::News })
            }
            Some(SessionsKept::BeginAnew) => {
                list.begin_anew(draw_epoch());
                Ok(Next::List)
            }
            Some(SessionsKept::Full) | None => Ok(Next::Keys),
        }
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
                let meaning = "the issuer does not know which keys are held and who is connected here";
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

/// Waits until clients have come or gone.
async fn news(activity: &Activity, change_delay: Duration) {
    loop {
        sleep(jittered(change_delay, 1.0..2.0, chance())).await;
        if activity.list().has_news() {
            return;
        }
    }
}

/// What became of the sessions; `None` if the issuer does not say, as it then
/// keeps none.
async fn kept(mut answer: Response) -> Option<SessionsKept> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_LENGTH {
            return None;
        }
    }
    serde_json::from_slice(&body).ok().map(|ReportAnswer { sessions }| sessions)
}

const MAX_ANSWER_LENGTH: usize = 4_096;

/// The `instance` of this state folder: read, or made. Of several at a time in
/// one folder each has its own, in a file that is locked as long as it is open.
fn instance(state_dir: &Path) -> Result<(InstanceId, File), String> {
    for n in 1..=MAX_INSTANCES {
        let name = if n == 1 { "instance".to_owned() } else { format!("instance-{n}") };
        let path = state_dir.join(name);
        let taken = take_instance(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if let Some(taken) = taken {
            return Ok(taken);
        }
    }
    Err(format!("{MAX_INSTANCES} plugins or programs report from it already"))
}

/// `None` if somebody else has it.
fn take_instance(path: &Path) -> Result<Option<(InstanceId, File)>, KeyFileError> {
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file::check_mode(&file.metadata()?)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(None),
        // Where files cannot be locked, there is one.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    let mut bytes = Vec::new();
    (&file).take(INSTANCE_LENGTH as u64 + 2).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    if let Ok(instance) = InstanceId::try_from(text.trim_end().to_owned()) {
        return Ok(Some((instance, file)));
    }
    let made = URL_SAFE_NO_PAD.encode(random::<INSTANCE_BYTES>().map_err(io::Error::other)?);
    // What a crash leaves half written is none, and made anew.
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(made.as_bytes())?;
    file.sync_all()?;
    Ok(Some((InstanceId::try_from(made).map_err(io::Error::other)?, file)))
}

/// The most instances in one state folder.
const MAX_INSTANCES: usize = 16;
const INSTANCE_BYTES: usize = 16;

/// A number for a list of sessions. Where the machine has no randomness, the
/// first has to do.
fn draw_epoch() -> u64 {
    random().map_or(0, u64::from_le_bytes) & MAX_NUMBER
}

#[expect(clippy::disallowed_methods, reason = "names, that nothing depends on but that they differ")]
fn random<const N: usize>() -> Result<[u8; N], &'static str> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the machine gives no randomness")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
