//! Whether the clock can be believed: pure.
//!
//! Tokens, statements that are good once, and revocations all end by the clock.
//! One that goes back brings to life what has ended; one that jumps ahead ends
//! what should go on, and makes what is forgotten then unknown when it is put
//! right. So:
//!
//! 1. behind the latest time that was ever worked at, by more than the skew, no
//!    token is issued, until the clock has caught up or an operator says that
//!    it is right;
//! 2. after a jump ahead tokens go on being issued, as a clock that was wrong
//!    may have been put right; but nothing is forgotten, no key is dropped, and
//!    the new time is not taken for the latest, until it has held for
//!    [`SETTLED_AFTER`]. A start that is ahead of the latest time is such a jump
//!    too: an issuer that was off cannot be told from a clock that is wrong.

use std::time::Duration;

use fleetbadge_validator::time::UnixSeconds;

/// How much further than time itself a clock may go between two looks.
const JUMP: u64 = 30;
/// For how long a clock that has jumped must have gone evenly.
pub const SETTLED_AFTER: Duration = Duration::from_secs(600);

/// Looks at the clock from time to time.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockGuard {
    reached: Option<UnixSeconds>,
    last: Option<(UnixSeconds, Duration)>,
    settles_at: Duration,
}

/// What is to be thought of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// It goes evenly.
    Steady,
    /// It has jumped ahead by so many seconds, just now.
    Jumped(u64),
    /// At the first look it is so many seconds ahead of the latest time: nobody
    /// worked meanwhile, or it is wrong.
    Resumed(u64),
    /// It has jumped, and has not gone evenly for long since.
    Settling,
}

impl ClockGuard {
    /// Of an issuer that begins; the latest time that was ever worked at, if
    /// there is one.
    #[must_use]
    pub const fn new(reached: Option<UnixSeconds>) -> Self {
        Self { reached, last: None, settles_at: Duration::ZERO }
    }

    /// Looks at the clock, which shows `now` at this moment of a clock that
    /// only measures.
    pub fn look(&mut self, now: UnixSeconds, measured: Duration) -> ClockState {
        let former = self.last.replace((now, measured));
        let (last, then) = former.unwrap_or((self.reached.unwrap_or(now), measured));
        let ahead_s = now.since(last).saturating_sub(measured.saturating_sub(then).as_secs());
        if ahead_s > JUMP {
            self.settles_at = measured.saturating_add(SETTLED_AFTER);
            if former.is_some() { ClockState::Jumped(ahead_s) } else { ClockState::Resumed(ahead_s) }
        } else if measured < self.settles_at {
            ClockState::Settling
        } else {
            ClockState::Steady
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(times: &[(u64, u64)]) -> Vec<ClockState> {
        looks_since(None, times)
    }

    fn looks_since(reached: Option<u64>, times: &[(u64, u64)]) -> Vec<ClockState> {
        let mut guard = ClockGuard::new(reached.map(UnixSeconds));
        times.iter().map(|(now, at)| guard.look(UnixSeconds(*now), Duration::from_secs(*at))).collect()
    }

    #[test]
    fn an_even_clock_is_steady_however_seldom_it_is_looked_at() {
        use ClockState::Steady;
        assert_eq!(looks(&[(1_000, 0), (1_001, 1), (5_000, 4_000), (5_030, 4_001)]), [Steady; 4]);
        // Set back: whether that matters is asked of the database.
        assert_eq!(looks(&[(1_000, 0), (10, 1)]), [Steady; 2]);
    }

    #[test]
    fn a_clock_that_jumped_has_to_settle() {
        use ClockState::{Jumped, Settling, Steady};
        let times = [(1_000, 0), (9_001, 1), (9_002, 2), (9_600, 600), (9_601, 601)];
        assert_eq!(looks(&times), [Steady, Jumped(8_000), Settling, Settling, Steady]);
        let again = [(1_000, 0), (9_001, 1), (20_001, 301), (20_500, 800), (20_601, 901)];
        assert_eq!(looks(&again), [Steady, Jumped(8_000), Jumped(10_700), Settling, Steady]);
    }

    /// A restart would otherwise make any clock a right one.
    #[test]
    fn a_start_that_is_ahead_of_all_work_has_to_settle() {
        use ClockState::{Resumed, Settling, Steady};
        let times = [(9_000, 1), (9_001, 2), (9_600, 601)];
        assert_eq!(looks_since(Some(1_000), &times), [Resumed(8_000), Settling, Steady]);
        assert_eq!(looks_since(Some(8_970), &times), [Steady; 3]);
        assert_eq!(looks_since(Some(10_000), &times), [Steady; 3]);
        // A new database: there is nothing to forget.
        assert_eq!(looks_since(None, &times), [Steady; 3]);
    }
}
