//! Looks at the clock, keeps the latest time at which any node has worked, and
//! goes back behind it if an operator says so.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use fleetbadge_validator::revocations::RevocationTarget;
use fleetbadge_validator::time::UnixSeconds;

use super::{FollowError, Node, NotCurrent};
use crate::app::{App, tell};
use crate::clock_guard::{ClockGuard, ClockState};
use crate::date::date;
use crate::keys::KeyError;
use crate::store::{NewEpoch, SigningKeyRecord, StoreError};
use crate::used_jtis::MAX_STATEMENT_LIFE_S;

/// How often the latest time is written, in seconds.
const CLOCK_WRITTEN_EVERY_S: u64 = 5;
/// How much further a revocation may reach than one that is made now, in
/// seconds: by a node of a longer propagation bound, a moment ago, with time to
/// spare.
const MAX_SPARE_S: u64 = 120;
/// How many of those that are held up are named in the log.
const MAX_TOLD: usize = 5;

/// The clock is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptClockError {
    /// One of the two is wrong.
    #[error("{0}: set both by the same source first")]
    Differs(NotCurrent),
    /// The signing keys cannot be corrected or replaced.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is accepted, and not taken up yet.
    #[error(transparent)]
    Follow(#[from] FollowError),
}

/// One that is kept out, and until when.
fn held_up_text((target, until): &(RevocationTarget, UnixSeconds)) -> String {
    format!("{target} until {}", date(*until))
}

#[derive(Default)]
pub(super) struct LookedAtClock {
    /// There from the first look on.
    guard: Option<ClockGuard>,
    written: Option<UnixSeconds>,
    /// The latest time that it has shown, believed or not.
    latest: Option<UnixSeconds>,
    /// Whether it was said that the clock is behind.
    is_behind_told: bool,
    /// Whether it was said what a clock that was ahead has left behind.
    is_ahead_told: bool,
}

impl LookedAtClock {
    /// Whether the time is to be written again.
    fn is_due(&self, now: UnixSeconds) -> bool {
        self.written.is_none_or(|written| now.since(written) >= CLOCK_WRITTEN_EVERY_S)
    }
}

impl Node {
    /// Looks at the clock, and keeps the latest time. If it can be believed,
    /// until when what has ended is to be forgotten.
    pub(crate) async fn look_at_clock(&self, app: &App) -> Option<UnixSeconds> {
        let (now, measured) = (app.now(), self.started.elapsed());
        let reached = UnixSeconds(self.clock_high.load(Ordering::Acquire));
        let (state, is_due) = {
            let mut clock = self.looked_at_clock();
            clock.latest = clock.latest.max(Some(now));
            let is_new = reached == UnixSeconds(0);
            let guard = clock.guard.get_or_insert_with(|| ClockGuard::new((!is_new).then_some(reached)));
            (guard.look(now, measured), clock.is_due(now))
        };
        // What was published by a later time lacks keys that are needed.
        if self.tell_what_is_ahead(app, now)
            && let Err(error) = app.keys.reload(now).await
        {
            tracing::error!(%error, "the signing keys could not be brought up to date");
        }
        match state {
            ClockState::Jumped(ahead_s) => {
                tracing::warn!(
                    ahead_s,
                    "the clock has jumped ahead; nothing is forgotten until it has settled"
                );
                return None;
            }
            ClockState::Resumed(ahead_s) => {
                tracing::info!(
                    ahead_s,
                    "no issuer has run for so long, or the clock is ahead; nothing is forgotten until it has \
                     settled"
                );
                return None;
            }
            ClockState::Settling => return None,
            ClockState::Steady => {}
        }
        match self.check_current(now) {
            Ok(()) => self.looked_at_clock().is_behind_told = false,
            Err(reason @ NotCurrent::ClockBehind { .. }) => {
                if !std::mem::replace(&mut self.looked_at_clock().is_behind_told, true) {
                    tracing::error!(%reason, "no token is issued");
                }
                return None;
            }
            // A wrong time would stop every other node, and make them forget.
            Err(NotCurrent::ClockDiffers | NotCurrent::Behind { .. }) => return None,
        }
        if is_due {
            match app.store.reach_clock(now).await {
                Ok(()) => {
                    self.clock_high.fetch_max(now.0, Ordering::AcqRel);
                    self.looked_at_clock().written = Some(now);
                }
                Err(error) => tell(&error, "the time could not be written"),
            }
        }
        // By no later time than the one that is written, so that whoever works at
        // an earlier one knows; and that may be earlier by the skew, unasked.
        let written = UnixSeconds(self.clock_high.load(Ordering::Acquire));
        Some(now.min(written).minus(self.skew_s))
    }

    /// The latest time that is known to have been worked at, be it believed or
    /// not, if the clock is behind it.
    fn later_than(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        let believed = UnixSeconds(self.clock_high.load(Ordering::Acquire));
        let shown = self.looked_at_clock().latest;
        shown.max(Some(believed)).filter(|latest| now.plus(self.skew_s) < *latest)
    }

    /// The revocations that were made by a clock that was ahead, and until when
    /// they keep out whom they name.
    pub(crate) fn held_up(app: &App) -> Vec<(RevocationTarget, UnixSeconds)> {
        app.revocations.reaching_beyond(app.revoker.before().plus(MAX_SPARE_S))
    }

    /// Says once what a clock that was ahead, and was put right before it was
    /// believed, has left behind. Whether that was now.
    fn tell_what_is_ahead(&self, app: &App, now: UnixSeconds) -> bool {
        if let Err(NotCurrent::ClockBehind { .. }) = self.check_current(now) {
            return false;
        }
        let (latest, held_up) = (self.later_than(now), Self::held_up(app));
        let is_ahead = latest.is_some() || !held_up.is_empty();
        let was_told = std::mem::replace(&mut self.looked_at_clock().is_ahead_told, is_ahead);
        if is_ahead && !was_told {
            let latest = latest.map(date);
            let held_up: Vec<String> = held_up.iter().take(MAX_TOLD).map(held_up_text).collect();
            tracing::warn!(
                latest,
                held_up = held_up.join("; "),
                "the clock has been ahead: tokens of that time become good when it comes, and revocations of \
                 that time reach until then. To end both, which takes back every token and key: \
                 fleetbadge-issuer clock accept --yes"
            );
        }
        is_ahead && !was_told
    }

    /// Begins to look anew: what was seen was of another epoch.
    pub(super) fn forget_clock(&self) {
        *self.looked_at_clock() = LookedAtClock::default();
    }

    fn looked_at_clock(&self) -> MutexGuard<'_, LookedAtClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on at an earlier time than the latest.
    ///
    /// By the later one revocations may have been forgotten of tokens that live
    /// by this one, as after a restore: all are taken back. Those that were
    /// issued at the later time are not named by when, as it is to come: they
    /// go with their keys. Nothing is left then that a revocation of that time
    /// names, and those that keep devices out until then go too.
    pub(crate) async fn accept_clock(&self, app: &App) -> Result<(), AcceptClockError> {
        self.take_clock(app, &app.store.changes(u64::MAX).await?);
        if self.clock_differs.load(Ordering::Acquire) {
            return Err(AcceptClockError::Differs(NotCurrent::ClockDiffers));
        }
        let now = app.now();
        let (later, held_up) = (self.later_than(now), Self::held_up(app));
        if later.is_none() && held_up.is_empty() {
            // Nothing was done by a later time, but for what was planned for one.
            return Ok(app.keys.correct(now).await?);
        }
        let held_until = held_up.into_iter().map(|(_, until)| until);
        let latest = later.into_iter().chain(held_until).max().unwrap_or(now);
        // First, as nothing is signed until the clock is accepted. Whatever ends
        // it, the next call begins anew.
        for SigningKeyRecord { kid, .. } in app.store.signing_keys().await?.keys {
            match app.keys.revoke(&kid, &app.revoker.key_used_until(&kid, latest), now).await {
                Ok(()) | Err(KeyError::NoSuchKey { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let epoch =
            NewEpoch { revoker: app.revoker.clone(), statements_after: now.plus(MAX_STATEMENT_LIFE_S) };
        app.store.accept_clock(now, &epoch).await?;
        Ok(self.catch_up(app).await?)
    }
}

#[cfg(test)]
mod tests;
