//! How long something takes or took: whether a node is current, and how far
//! the clock has jumped, depend on it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// When something began, on a clock that only measures. It goes on while the
/// machine is suspended: a node that wakes up has heard nothing for so long.
#[derive(Clone, Copy)]
pub(crate) struct Started(Duration);

impl Started {
    pub(crate) fn now() -> Self {
        Self(since_boot())
    }

    pub(crate) fn elapsed(self) -> Duration {
        since_boot().saturating_sub(self.0)
    }
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
}
