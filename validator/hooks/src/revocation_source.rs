//! What is revoked: a snapshot of the issuer's feed, taken for this one
//! question. It is as fresh as can be, so that nothing in it can be too old.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use fleetbadge_validator::freshness::Freshness;
use fleetbadge_validator::remote::credentials::{Credentials, CredentialsError};
use fleetbadge_validator::remote::http::{self, Answer, HttpSetupError};
use fleetbadge_validator::revocations::remote::{self, FeedError};
use fleetbadge_validator::revocations::{FEED_PATH, RevocationState};
use fleetbadge_validator::time::UnixSeconds;
use url::Url;

use crate::key_source::Network;

#[derive(Args)]
#[group(id = "revocation-source", multiple = true)]
pub(crate) struct RevocationSource {
    /// Ask the issuer what is revoked, with the broker's credentials: the file that `fleetbadge-issuer
    /// broker add --json` prints
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// Where the issuer's feed of revocations is; by default ISSUER/oauth2/revocations
    #[arg(long, value_name = "URL", requires = "credentials_file")]
    revocations_url: Option<Url>,
}

/// Nobody can say what is revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevocationSourceError {
    #[error("--credentials-file: {0}")]
    Credentials(#[from] CredentialsError),
    #[error("--issuer {issuer}: {reason}; name its feed with --revocations-url")]
    Issuer { issuer: String, reason: url::ParseError },
    #[error(transparent)]
    Setup(#[from] HttpSetupError),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    #[error(
        "revocations from {url}: {reason}; without --credentials-file the token is checked as if nothing were \
         revoked"
    )]
    Feed { url: Url, reason: FeedError },
}

impl RevocationSource {
    /// How long the feed may take to tell everything.
    const PATIENCE: Duration = Duration::from_secs(15);

    /// What is revoked now, if that is asked.
    pub(crate) fn state(
        &self,
        issuer: &str,
        network: &Network,
        now: UnixSeconds,
    ) -> Result<RevocationState, RevocationSourceError> {
        let Some(credentials_file) = &self.credentials_file else {
            return Ok(RevocationState::NotFollowed);
        };
        let credentials = Credentials::read(credentials_file)?;
        let url = match &self.revocations_url {
            Some(url) => url.clone(),
            None => http::url_at_issuer(issuer, FEED_PATH)
                .map_err(|reason| RevocationSourceError::Issuer { issuer: issuer.to_owned(), reason })?,
        };
        let client = network.endpoint(url.clone()).client(Answer::Stream)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RevocationSourceError::Runtime)?;
        let revocations = runtime
            .block_on(remote::fetch(&client, &url, &credentials, Self::PATIENCE))
            .map_err(|reason| RevocationSourceError::Feed { url, reason })?;
        let freshness = Freshness { confirmed_at: now, max_staleness_s: Freshness::DEFAULT_MAX_STALENESS_S };
        Ok(RevocationState::Known { revocations: Arc::new(revocations), freshness })
    }
}
