//! What the agent takes from the machine: time and chance.
//!
//! Everything else in this crate gets them as arguments, so that each decision
//! can be replayed in a test.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point on a clock that only moves forward: the time since the program
/// started. Renewals are planned on it, so that a device without a real-time
/// clock, or one that is being set, renews in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Moment {
    /// This moment plus `wait`; stays at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    /// The time from `earlier` to this moment, zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Seconds since 1970-01-01T00:00:00Z. Only what outlives the program is
/// written down in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// This time plus whole seconds of `wait`.
    #[must_use]
    pub const fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait.as_secs()))
    }

    /// The time from `earlier` to this one, zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

/// A number drawn evenly from 0 (included) to 1 (not included).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw(f64);

impl Draw {
    /// The draw that `bits`, 64 random ones, stand for.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub const fn from_bits(bits: u64) -> Self {
        Self((bits >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// The point of `least..most` that was drawn.
    #[must_use]
    pub fn between(self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.0)
    }
}

/// The clocks of this machine and its source of randomness.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    started: Instant,
}

impl Machine {
    /// Starts the program's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(self.started.elapsed())
    }

    /// Sleeps until `moment`; without one for ever.
    pub async fn sleep_until(&self, moment: Option<Moment>) {
        match moment {
            Some(moment) => tokio::time::sleep(moment.since(self.now())).await,
            None => std::future::pending().await,
        }
    }

    /// The present time by the real-time clock. One before 1970 reads as 1970.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the real-time clock")]
    pub fn unix_now(&self) -> UnixSeconds {
        UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
    }

    /// A fresh draw. Without a source of randomness it is taken from the
    /// clock: it only spreads load.
    #[must_use]
    pub fn draw(&self) -> Draw {
        Draw::from_bits(getrandom::u64().unwrap_or_else(|_| {
            u64::from(self.started.elapsed().subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_stays_inside_its_range() {
        let (least, most) = (Duration::from_secs(2), Duration::from_secs(10));
        assert_eq!(Draw::from_bits(0).between(least, most), least);
        assert!(Draw::from_bits(u64::MAX).between(least, most) <= most);
        assert_eq!(Draw::from_bits(1 << 63).between(least, most), Duration::from_secs(6));
    }

    #[tokio::test]
    async fn a_moment_that_has_passed_is_not_waited_for() {
        let machine = Machine::start();
        machine.sleep_until(Some(Moment::default())).await;
        let second = Duration::from_millis(20);
        machine.sleep_until(Some(Moment(second))).await;
        assert!(machine.now() >= Moment(second));
    }
}
