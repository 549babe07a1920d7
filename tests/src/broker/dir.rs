//! The directory of one broker.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tempfile::TempDir;

/// A directory for one broker's files, removed at the end. It and what is put
/// into it belong to the user that the broker runs as, and are for that user
/// alone (0700, files 0600).
#[derive(Debug)]
pub struct BrokerDir(TempDir);

impl BrokerDir {
    pub(super) fn create() -> Self {
        let dir =
            tempfile::Builder::new().prefix("fleetbadge-broker-").tempdir().expect("a temporary directory");
        give_to_broker(dir.path());
        Self(dir)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, replacing one of that name, and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, contents: &[u8]) -> PathBuf {
        self.place(name, |path| fs::write(path, contents))
    }

    /// Makes an empty directory inside, and returns its path.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn subdir(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("its permissions");
        give_to_broker(&path);
        path
    }

    pub(super) fn copy(&self, file: &Path) -> PathBuf {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.place(&name, |path| fs::copy(file, path).map(|_| ()))
    }

    /// Makes a file under another name and moves it into its place, as a
    /// careful operator would: a broker that reads it sees all or nothing.
    fn place(&self, name: &str, make: impl Fn(&Path) -> std::io::Result<()>) -> PathBuf {
        let (path, new) = (self.path().join(name), self.path().join(format!("{name}.new")));
        make(&new)
            .and_then(|()| fs::set_permissions(&new, PermissionsExt::from_mode(0o600)))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        give_to_broker(&new);
        fs::rename(&new, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

/// Mosquitto started by root becomes user `mosquitto`; started by somebody
/// else it stays who it is.
fn give_to_broker(path: &Path) {
    if geteuid().is_root() {
        let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        let (user, group) = mosquitto_in(&users).expect("a user `mosquitto`: tests/install makes it");
        chown(path, Some(user), Some(group)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn mosquitto_in(passwd: &str) -> Option<(u32, u32)> {
    let mut fields = passwd.lines().find(|line| line.starts_with("mosquitto:"))?.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
