//! How long tests wait for what must happen.

use std::time::{Duration, Instant};

/// How long something that must happen may take: far longer than it does, so
/// that a busy machine fails no test. What must happen *soon* is measured by
/// its test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A moment until which to wait.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// The moment that is `wait` from now.
    #[must_use]
    pub fn after(wait: Duration) -> Self {
        Self(now() + wait)
    }

    /// The time left, `None` when there is none.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(now()).filter(|left| !left.is_zero())
    }
}

#[expect(clippy::disallowed_methods, reason = "real programs run in real time")]
fn now() -> Instant {
    Instant::now()
}
