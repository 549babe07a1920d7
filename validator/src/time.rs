//! Points in time, as tokens state them.
//!
//! Nothing in this crate reads a clock: whoever calls says what time it is.
//! Programs take a [`Clock`], so that their tests can move it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::time::OffsetDateTime;
use ::time::format_description::well_known;
use serde::{Deserialize, Serialize};

/// Whole seconds since 1970-01-01T00:00:00Z: the `NumericDate` of RFC 7519 §2.
///
/// RFC 7519 allows fractions; Fleetbadge neither writes nor accepts them, so
/// that every comparison is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// This time plus `seconds`; stays at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// This time minus `seconds`; stays at the epoch instead of wrapping.
    #[must_use]
    pub const fn minus(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// Seconds from `earlier` to this time, 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A time as people read it (RFC 3339); as a number beyond what a date can say.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub UnixSeconds);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.0).ok();
        let date = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        match date.and_then(|date| date.format(&well_known::Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => self.0.fmt(f),
        }
    }
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> UnixSeconds;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> UnixSeconds {
        // A clock before 1970 reads as the epoch: every token is then not yet
        // valid, which is the closed side.
        UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
    }
}

/// A clock that tests set by hand. Clones share the time.
#[cfg(any(test, feature = "test-support"))]
#[derive(Clone, Debug)]
pub struct ManualClock(std::sync::Arc<std::sync::atomic::AtomicU64>);

#[cfg(any(test, feature = "test-support"))]
impl ManualClock {
    /// A clock that shows `now` until told otherwise.
    #[must_use]
    pub fn at(now: UnixSeconds) -> Self {
        Self(std::sync::Arc::new(now.0.into()))
    }

    /// Sets the time; going back is allowed.
    pub fn set(&self, now: UnixSeconds) {
        self.0.store(now.0, std::sync::atomic::Ordering::SeqCst);
    }

    /// Moves the time forward.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(any(test, feature = "test-support"))]
impl Clock for ManualClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}
