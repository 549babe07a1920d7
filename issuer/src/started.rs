//! How long something takes: for metrics, and for refusals that must not tell.

use std::time::{Duration, Instant};

/// When something began, on a clock that only measures.
#[derive(Clone, Copy)]
pub(crate) struct Started(Instant);

impl Started {
    #[expect(
        clippy::disallowed_methods,
        reason = "durations for the metrics and for refusals, no right depends on them"
    )]
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
