//! The issuer's keys, from where the options say.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleetbadge_validator::keys::remote::{KeyRefresh, RemoteKeys, RemoteKeysConfig};
use fleetbadge_validator::keys::{KeySet, file};
use fleetbadge_validator::remote::notices::Notice;
use fleetbadge_validator::remote::watch;
use fleetbadge_validator::time::Clock;

use crate::options::{InvalidOption, Prefix};

/// The keys in force. Asking for them never waits.
#[derive(Debug)]
pub(crate) enum Keys {
    /// Fetched over HTTP by a thread, which ends when this is dropped.
    Remote(RemoteKeys),
    /// Read from a file at the start and at every reload.
    File(KeyFile),
}

/// Where keys come from.
#[derive(Clone, Debug)]
pub(crate) enum KeysConfig {
    Remote(RemoteKeysConfig),
    File { issuer: String, path: PathBuf },
}

impl Keys {
    /// Starts fetching, or reads the file. The names of the options begin with
    /// `prefix`.
    pub(crate) fn start(
        config: KeysConfig,
        prefix: &Prefix,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidOption> {
        match config {
            KeysConfig::Remote(config) => {
                RemoteKeys::start(config, clock).map(Self::Remote).map_err(|error| InvalidOption::Remote {
                    prefix: prefix.clone(),
                    url_option: "jwks_url",
                    error,
                })
            }
            KeysConfig::File { issuer, path } => KeyFile::open(issuer, path, prefix).map(Self::File),
        }
    }

    pub(crate) fn current(&self) -> Arc<KeySet> {
        match self {
            Self::Remote(keys) => keys.current(),
            Self::File(file) => Arc::clone(&file.current.borrow()),
        }
    }

    /// The `kid`s in force, and whenever they change.
    pub(crate) fn key_ids(&self) -> watch::Receiver<Vec<String>> {
        match self {
            Self::Remote(keys) => keys.key_ids(),
            Self::File(file) => file.key_ids.subscribe(),
        }
    }

    /// Somebody brought a `kid` that is not in the set. A file is only read
    /// again when the operator says so.
    pub(crate) fn key_missing(&self) {
        match self {
            Self::Remote(keys) => keys.key_missing(),
            Self::File(_) => {}
        }
    }

    /// For whoever hears that a key was revoked; a file is read again when the
    /// operator says so.
    pub(crate) fn refresh(&self) -> Option<KeyRefresh> {
        match self {
            Self::Remote(keys) => Some(keys.refresh()),
            Self::File(_) => None,
        }
    }

    /// The broker reloads.
    pub(crate) fn reload(&self) {
        match self {
            // Fetches whenever it should; a reload may ask for it too.
            Self::Remote(keys) => keys.key_missing(),
            Self::File(file) => file.reload(),
        }
    }

    /// What there is to log.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        match self {
            Self::Remote(keys) => keys.take_notices(),
            Self::File(file) => file.notices.take(),
        }
    }
}

/// A JWK Set in a file.
#[derive(Debug)]
pub(crate) struct KeyFile {
    issuer: String,
    path: PathBuf,
    current: RefCell<Arc<KeySet>>,
    key_ids: watch::Sender<Vec<String>>,
    notices: RefCell<Vec<Notice>>,
}

impl KeyFile {
    fn open(issuer: String, path: PathBuf, prefix: &Prefix) -> Result<Self, InvalidOption> {
        let (keys, notices) = read(&issuer, &path).map_err(|reason| InvalidOption::File {
            name: format!("{prefix}jwks_file"),
            path: path.clone(),
            reason,
        })?;
        let key_ids = watch::Sender::new(keys.sorted_key_ids());
        Ok(Self {
            issuer,
            path,
            current: RefCell::new(Arc::new(keys)),
            key_ids,
            notices: RefCell::new(notices),
        })
    }

    /// Reads the file again; a bad one leaves the keys as they are.
    fn reload(&self) {
        let notices = match read(&self.issuer, &self.path) {
            Ok((keys, notices)) => {
                self.key_ids.send_replace(keys.sorted_key_ids());
                self.current.replace(Arc::new(keys));
                notices
            }
            Err(reason) => vec![Notice::Warning(format!(
                "keys from {}: {reason}; the last good ones stay in force",
                self.path.display()
            ))],
        };
        self.notices.borrow_mut().extend(notices);
    }
}

fn read(issuer: &str, path: &Path) -> Result<(KeySet, Vec<Notice>), String> {
    let json = file::read(path).map_err(|error| error.to_string())?;
    let (keys, skipped) = KeySet::from_json(issuer, &json).map_err(|error| error.to_string())?;
    let kids = keys.sorted_key_ids();
    let mut notices = vec![Notice::Info(format!("keys of {issuer} from {}: {kids:?}", path.display()))];
    notices.extend(
        skipped.iter().map(|key| Notice::Warning(format!("key {:?} is not used: {}", key.kid, key.reason))),
    );
    Ok((keys, notices))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use fleetbadge_validator::test_support::TestKey;
    use fleetbadge_validator::time::SystemClock;

    use super::*;

    fn start(config: KeysConfig) -> Result<Keys, InvalidOption> {
        Keys::start(config, &Prefix::default(), Arc::new(SystemClock))
    }

    #[test]
    fn a_file_is_read_again_and_a_bad_one_changes_nothing() {
        let (first, second) = (TestKey::generate(), TestKey::generate());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, first.jwks()).unwrap();
        let config = KeysConfig::File { issuer: "https://id.example".into(), path: file.path().into() };
        let keys = start(config).unwrap();
        assert!(keys.current().get(&first.kid()).is_some());
        assert!(matches!(&*keys.take_notices(), [Notice::Info(_)]));

        std::fs::write(&file, second.jwks()).unwrap();
        assert!(keys.current().get(&first.kid()).is_some(), "not read before a reload");
        keys.reload();
        assert!(keys.current().get(&first.kid()).is_none());
        assert!(keys.current().get(&second.kid()).is_some());
        keys.take_notices();

        std::fs::write(&file, "{}").unwrap();
        keys.reload();
        assert!(keys.current().get(&second.kid()).is_some());
        assert!(matches!(&*keys.take_notices(), [Notice::Warning(_)]));
    }

    #[test]
    fn a_file_that_cannot_be_used_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        let config = KeysConfig::File { issuer: "https://id.example".into(), path };
        let missing = start(config.clone()).unwrap_err().to_string();
        assert!(
            missing.starts_with("plugin_opt_jwks_file: ") && missing.contains("No such file"),
            "{missing}"
        );
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, TestKey::generate().jwks()).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o664)).unwrap();
        let open = start(config.clone()).unwrap_err().to_string();
        assert!(open.contains("others may write it; run chmod go-w"), "{open}");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(&file, r#"{"keys":[]}"#).unwrap();
        let empty = start(config).unwrap_err().to_string();
        assert!(empty.contains("no usable key"), "{empty}");
    }
}
