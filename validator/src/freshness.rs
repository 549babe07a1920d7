//! How old what the issuer said may become.
//!
//! Keys and revocations outlive an outage of the issuer, but not for ever:
//! whoever can keep a broker from hearing must not keep a key or a token alive.
//! A moment of confirmation that is to come, as a clock that was ahead leaves
//! behind, says nothing: otherwise it would not be old for as long.

use crate::denied::{Denied, StaleState};
use crate::time::UnixSeconds;

/// Until when something that the issuer said can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// When it was last known to be what the issuer says.
    pub confirmed_at: UnixSeconds,
    /// For how long after that it counts, in seconds.
    pub max_staleness_s: u64,
}

impl Freshness {
    /// How long unless told otherwise: a day, in seconds.
    pub const DEFAULT_MAX_STALENESS_S: u64 = 86_400;
    /// How long at most, in seconds: a week. The revocation of a key is kept
    /// for as long.
    pub const MAX_STALENESS_S: u64 = 7 * 86_400;

    /// How far the clock may be set back for what was confirmed before to count
    /// still, in seconds: as clocks are that are kept right.
    pub const MAX_AHEAD_S: u64 = 5;

    /// Refuses what was confirmed too long ago, or not yet.
    ///
    /// # Errors
    /// [`Denied::Stale`], [`Denied::ConfirmedInFuture`].
    pub fn check(self, state: StaleState, now: UnixSeconds) -> Result<(), Denied> {
        let Self { confirmed_at, max_staleness_s } = self;
        if confirmed_at > now.plus(Self::MAX_AHEAD_S) {
            return Err(Denied::ConfirmedInFuture { state, confirmed_at, now });
        }
        let age_s = now.since(confirmed_at);
        if age_s > max_staleness_s {
            return Err(Denied::Stale { state, age_s, max_staleness_s });
        }
        Ok(())
    }
}
