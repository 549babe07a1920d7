//! What all share that talk with the issuer over HTTP, each on a thread of its
//! own: the keys ([`crate::keys::remote`]), the feed of revocations
//! ([`crate::revocations::remote`]) and the reports
//! ([`crate::reports::remote`]).

use std::path::PathBuf;

pub use tokio::sync::watch;

use self::credentials::CredentialsError;
use self::http::HttpSetupError;
pub use self::last_good::own_state_dir;

pub(crate) mod backoff;
pub mod credentials;
pub mod http;
pub(crate) mod last_good;
pub mod notices;
pub mod password_exchange;
pub(crate) mod worker;

/// The issuer cannot be talked with like that.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The URL or the certificates.
    #[error(transparent)]
    Http(#[from] HttpSetupError),
    /// The credentials file.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The state folder cannot be used.
    #[error("state folder {}: {reason}", path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The thread cannot be started.
    #[error("cannot start the thread {thread}: {reason}")]
    Start {
        /// Its name.
        thread: &'static str,
        /// What is wrong.
        reason: String,
    },
}
