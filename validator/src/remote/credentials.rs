//! The credentials with which a broker's validator proves itself to the
//! issuer (RFC 6749 §2.3.1), from the file that `fleetbadge-issuer broker add
//! --json` prints.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::keys::file::{self, KeyFileError};

/// What a broker proves itself with. Not shown anywhere.
#[derive(Deserialize)]
pub struct Credentials {
    client_id: String,
    client_secret: Zeroizing<String>,
}

/// There are no credentials in a file.
#[derive(Debug, thiserror::Error)]
#[error("credentials file {}: {reason}", path.display())]
pub struct CredentialsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: CredentialsFileFault,
}

/// What is wrong with a credentials file.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsFileFault {
    /// It cannot be read.
    #[error("{0}")]
    Io(io::Error),
    /// Whoever can write it decides who asks.
    #[error("has mode {mode:04o}: others may write it; run chmod go-w")]
    WritableByOthers {
        /// Its permission bits.
        mode: u32,
    },
    /// Everybody on the machine knows the secret.
    #[error("has mode {mode:04o}: others may read it; run chmod o-rwx, and get a new secret")]
    ReadableByOthers {
        /// Its permission bits.
        mode: u32,
    },
    /// Not what the issuer prints. What is in it is not repeated.
    #[error(
        "is not the JSON that fleetbadge-issuer broker add --json prints, with client_id and client_secret \
         (line {line})"
    )]
    Malformed {
        /// Where.
        line: usize,
    },
}

impl Credentials {
    /// What a credentials file is at most, in bytes.
    const MAX_LENGTH: usize = 64 * 1024;

    /// Reads the file.
    ///
    /// # Errors
    /// [`CredentialsError`]: it is not there, not a credentials file, or not
    /// kept from others.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let error = |reason| CredentialsError { path: path.to_owned(), reason };
        let (json, metadata) = file::read_at_most(path, Self::MAX_LENGTH).map_err(|fault| {
            error(match fault {
                KeyFileError::Io(fault) => CredentialsFileFault::Io(fault),
                KeyFileError::WritableByOthers { mode } => CredentialsFileFault::WritableByOthers { mode },
            })
        })?;
        let json = Zeroizing::new(json);
        let mode = metadata.mode() & 0o7777;
        if mode & 0o004 != 0 {
            return Err(error(CredentialsFileFault::ReadableByOthers { mode }));
        }
        serde_json::from_slice(&json)
            .map_err(|fault| error(CredentialsFileFault::Malformed { line: fault.line() }))
    }

    /// The value of an `Authorization` header (`client_secret_basic`).
    #[must_use]
    pub fn authorization(&self) -> HeaderValue {
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let pair = Zeroizing::new(format!(
            "{}:{}",
            encoded(&self.client_id),
            *Zeroizing::new(encoded(&self.client_secret))
        ));
        let value = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(&*pair))));
        // Base64 is always a header value.
        let mut value = HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_must_be_kept_from_others_and_have_both_members() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |json: &str, mode: u32| {
            std::fs::write(&file, json).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            Credentials::read(file.path()).map(|credentials| credentials.authorization())
        };
        let good = r#"{"client_id":"hall:1","client_secret":"a+b c","audience":"mqtt"}"#;
        for mode in [0o600, 0o640, 0o400] {
            // RFC 6749 §2.3.1: form-urlencoded before they are joined.
            let value = read(good, mode).unwrap();
            assert_eq!(value, format!("Basic {}", STANDARD.encode("hall%3A1:a%2Bb+c")));
            assert!(value.is_sensitive());
        }
        for (mode, advice) in [(0o644, "chmod o-rwx"), (0o604, "chmod o-rwx"), (0o660, "chmod go-w")] {
            let error = read(good, mode).unwrap_err().to_string();
            assert!(error.contains(advice) && error.contains(&format!("{mode:04o}")), "{error}");
        }
        for json in ["", "[]", r#"{"client_id":"x"}"#, r#"{"client_id":"x","client_secret":7777}"#] {
            let error = read(json, 0o600).unwrap_err().to_string();
            assert!(error.contains("broker add --json") && !error.contains("7777"), "{error}");
        }
        let missing = Credentials::read(Path::new("/nowhere/x.json")).err().unwrap().to_string();
        assert!(missing.contains("/nowhere/x.json: No such file"), "{missing}");
    }
}
