//! Slows down whoever tries passwords, without ever standing in the way of
//! the right one: asked only after a password has proved wrong.
//!
//! One limit for each broker, device and client address: [`BURST`] failures
//! at once, then one each [`INTERVAL_S`] seconds (the generic cell rate
//! algorithm). IPv6 addresses count by their /64, which one client has whole.
//!
//! Memory is fixed, whatever names and addresses are invented: the counters
//! are a table of [`CELLS`] times eight bytes, found by a hash whose key
//! nobody knows. Two that fall together share a limit; all that this can do is
//! tell somebody with a wrong password earlier to slow down.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use fleetbadge_validator::time::UnixSeconds;

/// How many failures there may be at once.
const BURST: u64 = 10;
/// How long a failure counts, in seconds.
const INTERVAL_S: u64 = 6;
/// How many counters there are: 512 KiB.
const CELLS: usize = 1 << 16;

/// Who tried what where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt<'a> {
    /// The broker that asks for its client; none if the device itself asks.
    broker: Option<&'a str>,
    /// What was given as the device's name.
    device: &'a str,
    /// Where the client is, as far as that is known.
    network: Option<IpAddr>,
}

impl<'a> Attempt<'a> {
    /// An attempt from this address.
    pub(crate) fn new(broker: Option<&'a str>, device: &'a str, address: Option<IpAddr>) -> Self {
        Self { broker, device, network: address.map(network) }
    }
}

/// Too many failures: how long until the next one is answered, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryAfter(pub(crate) u64);

/// Counts failures.
pub(crate) struct FailureLimit {
    hasher: RandomState,
    /// When the failures of a cell are forgotten, in seconds since 1970.
    cells: Box<[AtomicU64]>,
}

impl FailureLimit {
    pub(crate) fn new() -> Self {
        Self { hasher: RandomState::new(), cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts a failure.
    ///
    /// # Errors
    /// [`RetryAfter`] if there were too many: this one is not counted.
    #[expect(clippy::indexing_slicing, reason = "the position is the rest of a division by the length")]
    pub(crate) fn count(&self, attempt: &Attempt<'_>, now: UnixSeconds) -> Result<(), RetryAfter> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let position = self.hasher.hash_one(attempt) as usize % self.cells.len();
        let add = |forgotten_at| {
            let counted_s = counted_s(forgotten_at, now);
            (counted_s <= (BURST - 1) * INTERVAL_S).then_some(now.plus(counted_s + INTERVAL_S).0)
        };
        match self.cells[position].fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(()),
            Err(forgotten_at) => {
                Err(RetryAfter(counted_s(forgotten_at, now).saturating_sub((BURST - 1) * INTERVAL_S)))
            }
        }
    }
}

/// How long the failures of a cell still count. A clock that was set back
/// makes it no longer than all of them take.
fn counted_s(forgotten_at: u64, now: UnixSeconds) -> u64 {
    UnixSeconds(forgotten_at).since(now).min(BURST * INTERVAL_S)
}

fn network(address: IpAddr) -> IpAddr {
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

    fn pump<'a>(address: &str) -> Attempt<'a> {
        Attempt::new(Some("north"), "pump", Some(address.parse().unwrap()))
    }

    /// Fails until told to slow down: how often, and until when.
    fn exhaust(limit: &FailureLimit, attempt: &Attempt<'_>, now: UnixSeconds) -> (u64, u64) {
        let mut failures = 0;
        loop {
            match limit.count(attempt, now) {
                Ok(()) => failures += 1,
                Err(RetryAfter(seconds)) => return (failures, seconds),
            }
        }
    }

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let limit = FailureLimit::new();
        let attempt = pump("192.0.2.1");
        assert_eq!(exhaust(&limit, &attempt, NOW), (BURST, INTERVAL_S));
        assert_eq!(exhaust(&limit, &attempt, NOW.plus(2)), (0, INTERVAL_S - 2));
        // What Retry-After says is true.
        assert_eq!(exhaust(&limit, &attempt, NOW.plus(INTERVAL_S)), (1, INTERVAL_S));
        assert_eq!(exhaust(&limit, &attempt, NOW.plus(100 * INTERVAL_S)), (BURST, INTERVAL_S));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_wait_for_it() {
        let limit = FailureLimit::new();
        let attempt = pump("192.0.2.1");
        exhaust(&limit, &attempt, NOW);
        let (failures, seconds) = exhaust(&limit, &attempt, NOW.minus(1_000_000));
        assert_eq!((failures, seconds), (0, INTERVAL_S));
    }

    #[test]
    fn each_broker_device_and_address_has_its_own() {
        let limit = FailureLimit::new();
        exhaust(&limit, &pump("192.0.2.1"), NOW);
        let address = "192.0.2.1".parse().ok();
        for other in [
            pump("192.0.2.2"),
            Attempt::new(Some("south"), "pump", address),
            Attempt::new(None, "pump", address),
            Attempt::new(Some("north"), "pumps", address),
            Attempt::new(Some("north"), "pump", None),
        ] {
            assert_ne!(other, pump("192.0.2.1"));
        }
        // One in 65,536 falls into the cell of another.
        let others = (0..100).map(|number| format!("192.0.3.{number}"));
        let counted = others.filter(|other| limit.count(&pump(other), NOW).is_ok());
        assert!(counted.count() >= 95);
    }

    #[test]
    fn a_client_is_its_network() {
        assert_eq!(pump("::ffff:192.0.2.1"), pump("192.0.2.1"));
        assert_eq!(pump("2001:db8:1:2::1"), pump("2001:db8:1:2:ffff::9"));
        assert_ne!(pump("2001:db8:1:2::1"), pump("2001:db8:1:3::1"));
        assert_ne!(pump("192.0.2.1"), pump("192.0.2.2"));
    }

    /// Names and addresses cost nothing to invent. A map of them would grow, or
    /// forget the failures of one for those of the others.
    #[test]
    fn a_flood_of_invented_names_takes_no_memory_and_wipes_nothing_out() {
        let limit = FailureLimit::new();
        let attempt = pump("192.0.2.1");
        exhaust(&limit, &attempt, NOW);
        for number in 0..1_000_000_u32 {
            let device = format!("invented-{number}");
            let address = Some(IpAddr::from(number.to_be_bytes()));
            let _ = limit.count(&Attempt::new(Some("north"), &device, address), NOW);
        }
        assert_eq!(limit.count(&attempt, NOW), Err(RetryAfter(INTERVAL_S)));
        assert_eq!(size_of_val(&*limit.cells), 512 * 1024);
    }
}
