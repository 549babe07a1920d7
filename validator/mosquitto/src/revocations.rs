//! What is revoked, from where the options say.

use std::sync::Arc;

use fleetbadge_validator::remote::notices::Notice;
use fleetbadge_validator::reports::activity::Activity;
use fleetbadge_validator::reports::remote::{Reporter, ReporterConfig};
use fleetbadge_validator::revocations::RevocationState;
use fleetbadge_validator::revocations::remote::{RemoteRevocations, RemoteRevocationsConfig};
use fleetbadge_validator::time::Clock;

use crate::keys::Keys;
use crate::options::{InvalidOption, Prefix};

/// The revocations in force. Asking for them never waits.
#[derive(Debug)]
pub(crate) enum Revocations {
    /// Nobody is asked.
    NotFollowed,
    /// Followed by a thread, while another one reports to the issuer; both end
    /// when this is dropped.
    Remote { feed: RemoteRevocations, reporter: Reporter },
    /// As a test says.
    #[cfg(test)]
    Fixed { state: std::cell::RefCell<RevocationState>, changes: std::cell::Cell<u64> },
}

/// With whom a broker that has credentials talks.
#[derive(Clone, Debug)]
pub(crate) struct FeedConfig {
    pub(crate) feed: RemoteRevocationsConfig,
    pub(crate) reports: ReporterConfig,
}

impl Revocations {
    /// Starts following and reporting, if the broker has credentials. The names
    /// of the options begin with `prefix`.
    pub(crate) fn start(
        config: Option<FeedConfig>,
        prefix: &Prefix,
        keys: &Keys,
        activity: &Arc<Activity>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidOption> {
        let Some(FeedConfig { feed, reports }) = config else { return Ok(Self::NotFollowed) };
        let of = |url_option| {
            let prefix = prefix.clone();
            move |error| InvalidOption::Remote { prefix, url_option, error }
        };
        let feed = RemoteRevocations::start(feed, keys.refresh(), Arc::clone(&clock))
            .map_err(of("revocations_url"))?;
        let (followed, activity) = (Some(feed.followed()), Arc::clone(activity));
        let reporter =
            Reporter::start(reports, keys.key_ids(), followed, activity, clock).map_err(of("reports_url"))?;
        Ok(Self::Remote { feed, reporter })
    }

    pub(crate) fn state(&self) -> RevocationState {
        match self {
            Self::NotFollowed => RevocationState::NotFollowed,
            Self::Remote { feed, .. } => feed.state(),
            #[cfg(test)]
            Self::Fixed { state, .. } => state.borrow().clone(),
        }
    }

    /// Counts the changes: asked at every event, as it costs next to nothing.
    pub(crate) fn changes(&self) -> u64 {
        match self {
            Self::NotFollowed => 0,
            Self::Remote { feed, .. } => feed.changes(),
            #[cfg(test)]
            Self::Fixed { changes, .. } => changes.get(),
        }
    }

    /// The broker reloads: the operator may have put new credentials in place.
    pub(crate) fn reload(&self) {
        if let Self::Remote { feed, .. } = self {
            feed.retry();
        }
    }

    /// What there is to log.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        match self {
            Self::Remote { feed, reporter } => {
                feed.take_notices().into_iter().chain(reporter.take_notices()).collect()
            }
            Self::NotFollowed => Vec::new(),
            #[cfg(test)]
            Self::Fixed { .. } => Vec::new(),
        }
    }
}
