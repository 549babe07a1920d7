//! What a validator does, in a file on its own machine: for monitoring that reads
//! it on the spot. Counters and numbers alone; no client is named in it.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;

use super::activity::Activity;
use super::counters::Counters;
use crate::remote::RemoteError;
use crate::remote::notices::{Notice, Notices};
use crate::remote::worker::Worker;
use crate::time::{Clock, UnixSeconds};

/// How often the file is brought up to date, if there is something new.
pub const EVERY: Duration = Duration::from_secs(2);
/// Its owner writes it, its group reads it.
const MODE: u32 = 0o640;

/// What is in the file. Members may be added; none changes its meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusDocument {
    /// The version of this document, 1.
    pub version: u64,
    /// The program and its version.
    pub software: String,
    /// When something in it changed last.
    pub updated_at: UnixSeconds,
    /// The `kid`s that it verifies with.
    pub kids: Vec<String>,
    /// How many clients are connected.
    pub sessions_online: usize,
    /// What it let in and denied.
    pub counters: Counters,
}

/// Keeps the file up to date until it is dropped, and removes it then.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    notices: Arc<Notices>,
    worker: Option<Worker>,
}

impl StatusFile {
    /// Writes the file, and starts the thread that goes on with it. It is
    /// replaced as a whole, without following a link.
    ///
    /// # Errors
    /// That it cannot be written, or [`RemoteError::Start`].
    pub fn start(
        path: PathBuf,
        software: &str,
        key_ids: watch::Receiver<Vec<String>>,
        activity: Arc<Activity>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StatusFileError> {
        activity.follow();
        let notices = Arc::<Notices>::default();
        let mut task = Task {
            path: path.clone(),
            software: software.into(),
            key_ids,
            activity,
            clock,
            notices: Arc::clone(&notices),
            written: None,
            fails: false,
        };
        task.write()?;
        let at_fault = Arc::clone(&notices);
        let worker = Worker::start("fleetbadge-state", task.run(), move || {
            at_fault.warning("a fault ended the writing of the status file until a restart".into());
        })?;
        Ok(Self { path, notices, worker: Some(worker) })
    }

    /// What there is to log since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        self.notices.take()
    }
}

impl Drop for StatusFile {
    fn drop(&mut self) {
        drop(self.worker.take());
        // Numbers of a process that is gone would be taken for those of one that
        // does nothing.
        let _ = fs::remove_file(&self.path);
    }
}

/// A status file cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StatusFileError {
    /// It cannot be written.
    #[error("cannot be written: {0}")]
    Io(#[from] io::Error),
    /// The thread cannot be started.
    #[error(transparent)]
    Thread(#[from] RemoteError),
}

/// Lives on the thread.
struct Task {
    path: PathBuf,
    software: String,
    key_ids: watch::Receiver<Vec<String>>,
    activity: Arc<Activity>,
    clock: Arc<dyn Clock>,
    notices: Arc<Notices>,
    written: Option<StatusDocument>,
    fails: bool,
}

impl Task {
    async fn run(mut self) {
        loop {
            sleep(EVERY).await;
            let result = self.write();
            let path = self.path.display();
            match result {
                Ok(()) if std::mem::take(&mut self.fails) => {
                    self.notices.info(format!("the status file {path} is written again"));
                }
                Err(error) if !std::mem::replace(&mut self.fails, true) => {
                    self.notices.warning(format!("the status file {path} cannot be written: {error}"));
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Writes it if there is something new.
    fn write(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        let document = StatusDocument {
            version: 1,
            software: self.software.clone(),
            updated_at: self.written.as_ref().map_or(now, |written| written.updated_at),
            kids: self.key_ids.borrow_and_update().clone(),
            sessions_online: self.activity.online(),
            counters: self.activity.counters(),
        };
        if self.written.as_ref() == Some(&document) {
            return Ok(());
        }
        let document = StatusDocument { updated_at: now, ..document };
        replace(&self.path, &serde_json::to_vec(&document)?)?;
        self.written = Some(document);
        Ok(())
    }
}

/// Whoever reads it has the old or the new. It need not outlive a power cut.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A name alone is in this folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(MODE))?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;

    #[test]
    fn it_says_what_there_was_names_nobody_and_goes_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, "precious").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let activity = Arc::new(Activity::new(UnixSeconds(7)));
        let keys = watch::Sender::new(vec!["k".to_owned()]);
        let file = |path: &Path| {
            let (keys, activity) = (keys.subscribe(), Arc::clone(&activity));
            StatusFile::start(path.into(), "x/1", keys, activity, Arc::new(SystemClock))
        };
        let status = file(&path).unwrap();
        let read = || serde_json::from_slice::<StatusDocument>(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
        assert_eq!((read().kids, read().counters.let_in, &*read().software), (vec!["k".into()], 0, "x/1"));
        let now = SystemClock.now();
        activity.let_in("pump-1", now, now.plus(60));
        activity.denied("expired");
        for _ in 0..1000 {
            if read().counters.let_in == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let now = read();
        assert_eq!((now.sessions_online, now.counters.denied["expired"]), (1, 1));
        assert!(!fs::read_to_string(&path).unwrap().contains("pump"));
        assert_eq!(status.take_notices(), []);
        drop(status);
        assert!(!path.exists());
        assert!(file(&folder.path().join("no/where")).is_err());
    }

    #[test]
    fn it_is_written_on_change_alone() {
        let folder = tempfile::tempdir().unwrap();
        let clock = crate::time::ManualClock::at(UnixSeconds(10));
        let mut task = Task {
            path: folder.path().join("status.json"),
            software: "x/1".into(),
            key_ids: watch::Sender::new(Vec::new()).subscribe(),
            activity: Arc::new(Activity::new(UnixSeconds(7))),
            clock: Arc::new(clock.clone()),
            notices: Arc::default(),
            written: None,
            fails: false,
        };
        task.write().unwrap();
        fs::remove_file(&task.path).unwrap();
        clock.advance(5);
        task.write().unwrap();
        assert!(!task.path.exists());
        task.activity.denied("expired");
        task.write().unwrap();
        assert!(fs::read_to_string(&task.path).unwrap().contains(r#""updated_at":15"#));
    }
}
