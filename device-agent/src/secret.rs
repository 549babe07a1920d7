//! What must not be seen: the device's secret and its access tokens.
//!
//! Neither type can be printed, and both are wiped from memory when dropped.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The secret with which the device authenticates to the issuer (RFC 6749 §2.3.1).
#[derive(Clone)]
pub struct ClientSecret(Zeroizing<String>);

/// An access token: opaque to the agent (RFC 6749 §1.4).
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessToken(Zeroizing<String>);

/// Why there is no usable secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nothing says where it is.
    #[error(
        "no client secret: give --client-secret-file FILE, set FLEETBADGE_AGENT_CLIENT_SECRET, or load the \
         systemd credential `client_secret`"
    )]
    Missing,
    /// The file cannot be read.
    #[error("client_secret_file {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Others can read the file.
    #[error(
        "client_secret_file {p}: others can read it (mode {mode:04o}); run: chmod 600 {p}",
        p = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is nothing in it.
    #[error("the client secret from {from} is empty")]
    Empty {
        /// Where it came from.
        from: String,
    },
}

/// Where a secret can be found.
#[derive(Clone, Default)]
pub struct SecretSources {
    /// The file that the configuration names. Its word comes first.
    pub file: Option<PathBuf>,
    /// The value of `FLEETBADGE_AGENT_CLIENT_SECRET`.
    pub environment: Option<ClientSecret>,
    /// systemd's `$CREDENTIALS_DIRECTORY`, with the credential `client_secret`.
    pub credentials_directory: Option<PathBuf>,
}

impl SecretSources {
    /// Reads the secret: from the file, else the environment, else the
    /// credential. A line end after it does not belong to it.
    ///
    /// # Errors
    /// [`SecretError`]; a file that others can read is refused.
    pub fn read(self) -> Result<ClientSecret, SecretError> {
        if let Some(path) = self.file {
            return read_file(&path, Exposure::Refused);
        }
        if let Some(secret) = self.environment {
            return not_empty(secret, "FLEETBADGE_AGENT_CLIENT_SECRET");
        }
        match self.credentials_directory.map(|directory| directory.join("client_secret")) {
            // systemd guards its credentials itself: the directory is private
            // and the files in it may show group bits from an ACL.
            Some(path) if path.exists() => read_file(&path, Exposure::Guarded),
            Some(_) | None => Err(SecretError::Missing),
        }
    }
}

impl ClientSecret {
    /// Takes a secret as it stands.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The secret itself, for the token request alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl AccessToken {
    /// Takes a token as it stands.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }

    /// The token itself, for the broker and for whoever asked for it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Exposure {
    Refused,
    Guarded,
}

fn read_file(path: &Path, exposure: Exposure) -> Result<ClientSecret, SecretError> {
    let unreadable =
        |error: std::io::Error| SecretError::Unreadable { path: path.into(), reason: error.to_string() };
    // Mode and content of the same file, whatever happens to the name.
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if exposure == Exposure::Refused && mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.into(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(unreadable)?;
    let secret = ClientSecret::new(text.trim_end_matches(['\n', '\r']).to_owned());
    not_empty(secret, &path.display().to_string())
}

fn not_empty(secret: ClientSecret, from: &str) -> Result<ClientSecret, SecretError> {
    if secret.expose().is_empty() { Err(SecretError::Empty { from: from.to_owned() }) } else { Ok(secret) }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn secret_file(content: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client_secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn error(sources: SecretSources) -> String {
        sources.read().err().expect("refused").to_string()
    }

    #[test]
    fn a_line_end_does_not_belong_to_the_secret() {
        let (_dir, path) = secret_file(" s3cret \r\n", 0o600);
        let sources = SecretSources { file: Some(path), ..SecretSources::default() };
        assert_eq!(sources.read().ok().unwrap().expose(), " s3cret ");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_way_out() {
        for mode in [0o640, 0o604, 0o620] {
            let (_dir, path) = secret_file("s3cret", mode);
            let text = error(SecretSources { file: Some(path.clone()), ..SecretSources::default() });
            assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
            assert!(!text.contains("s3cret"));
        }
    }

    #[test]
    fn the_file_comes_first_then_the_environment_then_the_credential() {
        let (_file_dir, file) = secret_file("from-file", 0o600);
        let (credentials, _) = secret_file("from-credential", 0o440);
        let mut sources = SecretSources {
            file: Some(file),
            environment: Some(ClientSecret::new("from-environment".into())),
            credentials_directory: Some(credentials.path().into()),
        };
        let read = |sources: &SecretSources| sources.clone().read().ok().unwrap().expose().to_owned();
        assert_eq!(read(&sources), "from-file");
        sources.file = None;
        assert_eq!(read(&sources), "from-environment");
        sources.environment = None;
        assert_eq!(read(&sources), "from-credential");
    }

    #[test]
    fn no_secret_and_an_empty_one_are_errors() {
        assert!(error(SecretSources::default()).contains("--client-secret-file"));
        let (_dir, path) = secret_file("\n", 0o600);
        assert!(error(SecretSources { file: Some(path), ..SecretSources::default() }).contains("is empty"));
    }
}
