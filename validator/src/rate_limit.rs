//! Slows down whoever does something too often: [`RateLimit::burst`] times at
//! once, then once each [`RateLimit::interval_ms`] (the generic cell rate
//! algorithm).
//!
//! Memory is fixed, whatever names and addresses are invented: the counters
//! are a table of [`CELLS`] times eight bytes, found by a hash whose key
//! nobody knows. Two that fall together share a limit: all that this may ever
//! do is tell somebody earlier to slow down, so what is limited must bear that.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::UnixSeconds;

/// How many counters there are: 512 KiB.
const CELLS: usize = 1 << 16;

/// Too often: how long until the next time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub u64);

/// Counts what is done.
#[derive(Debug)]
pub struct RateLimit {
    /// How often it may be done at once.
    burst: u64,
    /// How long each time counts, in milliseconds.
    interval_ms: u64,
    hasher: RandomState,
    /// When what a cell has counted is forgotten, in milliseconds since 1970.
    cells: Box<[AtomicU64]>,
}

impl RateLimit {
    /// So often at once, and then once in such a time.
    #[must_use]
    pub fn new(burst: u64, interval: Duration) -> Self {
        let interval_ms = interval.as_millis().try_into().unwrap_or(u64::MAX);
        let cells = (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        Self { burst, interval_ms, hasher: RandomState::new(), cells }
    }

    /// Counts that this one did it.
    ///
    /// # Errors
    /// [`RetryAfter`] if it was too often: this time is not counted.
    pub fn count(&self, who: &(impl Hash + ?Sized), now: UnixSeconds) -> Result<(), RetryAfter> {
        let most_ms = (self.burst - 1) * self.interval_ms;
        let now_ms = now.0.saturating_mul(1_000);
        let add = |forgotten_at| {
            let counted_ms = self.counted_ms(forgotten_at, now_ms);
            (counted_ms <= most_ms).then_some(now_ms.saturating_add(counted_ms + self.interval_ms))
        };
        match self.cell(who).fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(()),
            Err(forgotten_at) => {
                let wait_ms = self.counted_ms(forgotten_at, now_ms).saturating_sub(most_ms);
                Err(RetryAfter(wait_ms.div_ceil(1_000)))
            }
        }
    }

    /// Whether this one could do it now, which is not counted.
    #[must_use]
    pub fn has_room(&self, who: &(impl Hash + ?Sized), now: UnixSeconds) -> bool {
        let forgotten_at = self.cell(who).load(Ordering::Relaxed);
        self.counted_ms(forgotten_at, now.0.saturating_mul(1_000)) <= (self.burst - 1) * self.interval_ms
    }

    #[expect(clippy::indexing_slicing, reason = "the position is the rest of a division by the length")]
    fn cell(&self, who: &(impl Hash + ?Sized)) -> &AtomicU64 {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let position = self.hasher.hash_one(who) as usize % self.cells.len();
        &self.cells[position]
    }

    /// How long what a cell has counted still counts. A clock that was set back
    /// makes it no longer than all of it takes.
    fn counted_ms(&self, forgotten_at: u64, now_ms: u64) -> u64 {
        forgotten_at.saturating_sub(now_ms).min(self.burst * self.interval_ms)
    }
}

/// Where a client is, as far as limits go: its address without the port, of
/// IPv6 the /64, which one client has whole.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
    const BURST: u64 = 10;
    const INTERVAL_S: u64 = 6;

    fn limit() -> RateLimit {
        RateLimit::new(BURST, Duration::from_secs(INTERVAL_S))
    }

    /// Does it until told to slow down: how often, and how long then.
    fn exhaust(limit: &RateLimit, who: &str, now: UnixSeconds) -> (u64, u64) {
        let mut times = 0;
        loop {
            match limit.count(who, now) {
                Ok(()) => times += 1,
                Err(RetryAfter(seconds)) => return (times, seconds),
            }
        }
    }

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let limit = limit();
        assert!(limit.has_room("pump", NOW));
        assert_eq!(exhaust(&limit, "pump", NOW), (BURST, INTERVAL_S));
        assert!(
            !limit.has_room("pump", NOW.plus(INTERVAL_S - 1)) && limit.has_room("pump", NOW.plus(INTERVAL_S))
        );
        assert_eq!(exhaust(&limit, "pump", NOW.plus(2)), (0, INTERVAL_S - 2));
        // What Retry-After says is true.
        assert_eq!(exhaust(&limit, "pump", NOW.plus(INTERVAL_S)), (1, INTERVAL_S));
        assert_eq!(exhaust(&limit, "pump", NOW.plus(100 * INTERVAL_S)), (BURST, INTERVAL_S));
    }

    #[test]
    fn several_in_a_second() {
        let limit = RateLimit::new(100, Duration::from_millis(100));
        assert_eq!(exhaust(&limit, "site", NOW), (100, 1));
        assert_eq!(exhaust(&limit, "site", NOW.plus(1)), (10, 1));
        assert_eq!(exhaust(&limit, "site", NOW.plus(4)), (30, 1));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_wait_for_it() {
        let limit = limit();
        exhaust(&limit, "pump", NOW);
        let (times, seconds) = exhaust(&limit, "pump", NOW.minus(1_000_000));
        assert_eq!((times, seconds), (0, INTERVAL_S));
    }

    #[test]
    fn each_has_its_own() {
        let limit = limit();
        exhaust(&limit, "pump", NOW);
        // One in 65,536 falls into the cell of another.
        let others = (0..100).map(|number| format!("pump-{number}"));
        assert!(others.filter(|other| limit.count(other, NOW).is_ok()).count() >= 95);
    }

    /// Names and addresses cost nothing to invent. A map of them would grow, or
    /// forget what one did for those of the others.
    #[test]
    fn a_flood_of_invented_names_takes_no_memory_and_wipes_nothing_out() {
        let limit = limit();
        exhaust(&limit, "pump", NOW);
        for number in 0..1_000_000_u32 {
            let _ = limit.count(&number, NOW);
        }
        assert_eq!(limit.count("pump", NOW), Err(RetryAfter(INTERVAL_S)));
        assert_eq!(size_of_val(&*limit.cells), 512 * 1024);
    }
}
