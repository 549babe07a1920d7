//! How long to wait after a failure, and the chance that keeps many brokers
//! from asking at once.

use std::time::Duration;

/// Waits that double, up to a bound; each is drawn from its upper half.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits from `first` to `longest`.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Something failed: how long to wait, for a `chance` from 0 to 1.
    pub(crate) fn failed(&mut self, chance: f64) -> Duration {
        let wait = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        jittered(wait, 0.5..1.0, chance)
    }

    /// Something worked. Whether it had not, before.
    pub(crate) const fn worked(&mut self) -> bool {
        std::mem::replace(&mut self.failures, 0) > 0
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}

/// A part of `wait` between the bounds, for a `chance` from 0 to 1.
pub(crate) fn jittered(wait: Duration, part: std::ops::Range<f64>, chance: f64) -> Duration {
    wait.mul_f64(part.start + (part.end - part.start) * chance)
}

/// A number from 0 to 1. It only spreads load: where the machine has no
/// randomness, the middle does.
#[expect(clippy::disallowed_methods, reason = "the one place where threads draw their waits")]
pub(crate) fn chance() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_drawn_from_the_upper_half() {
        let waits = |chance: f64| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
            (0..8).map(|_| backoff.failed(chance).as_secs_f64()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1.0), [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(waits(0.0), [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        assert_eq!([(); 5].map(|()| backoff.failed(1.0).as_secs()), [1, 2, 4, 5, 5]);
        backoff.worked();
        assert!(!backoff.worked());
        backoff.failed(0.5);
        assert!(backoff.worked() && !backoff.worked());
        assert_eq!(backoff.failed(1.0), Duration::from_secs(1), "from the start again");
        assert!((0.0..=1.0).contains(&chance()));
    }
}
