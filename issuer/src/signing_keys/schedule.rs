//! When a key is announced, signs, retires and is dropped.

use std::fmt;

use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

/// The most keys that are published at once: every broker fetches them all.
const MAX_PUBLISHED: usize = 16;

/// When a key does what. Times only ever follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// When it was made; published from then on.
    pub announced_at: UnixSeconds,
    /// From when on it signs.
    pub active_at: UnixSeconds,
    /// From when on it signs no more, once that is known.
    pub retired_at: Option<UnixSeconds>,
    /// From when on it is no longer published, once that is known.
    pub dropped_at: Option<UnixSeconds>,
}

/// What a key does at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, does not sign yet.
    Announced,
    /// Signs.
    Active,
    /// Published, signs no more.
    Retired,
    /// Gone.
    Dropped,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Announced => "announced",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Dropped => "dropped",
        })
    }
}

impl Schedule {
    /// The state at `now`.
    #[must_use]
    pub fn state(&self, now: UnixSeconds) -> KeyState {
        let reached = |time: Option<UnixSeconds>| time.is_some_and(|time| now >= time);
        if reached(self.dropped_at) {
            KeyState::Dropped
        } else if reached(self.retired_at) {
            KeyState::Retired
        } else if now >= self.active_at {
            KeyState::Active
        } else {
            KeyState::Announced
        }
    }

    /// The next moment at which the state changes, if any is known.
    #[must_use]
    pub fn next_change(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        [Some(self.active_at), self.retired_at, self.dropped_at]
            .into_iter()
            .flatten()
            .filter(|time| *time > now)
            .min()
    }
}

/// How long a rotation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTiming {
    /// How long a key is announced before it signs, in seconds: long enough
    /// for the slowest broker to fetch it.
    pub announce_s: u64,
    /// How long a retired key stays published, in seconds: as long as a token
    /// that it signed at its last moment may be accepted.
    pub publish_retired_s: u64,
}

/// How schedules change with a rotation. Keys are named by their position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// A new key is to be made.
    Successor {
        /// Which key is active now, and its new schedule.
        active: (usize, Schedule),
        /// The schedule of the new key.
        successor: Schedule,
    },
    /// The key that is announced already becomes active at once.
    Promotion {
        /// Which key is active now, and its new schedule.
        active: (usize, Schedule),
        /// Which key is announced, and its new schedule.
        announced: (usize, Schedule),
    },
}

/// A rotation is not possible now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationRefused {
    /// One is under way.
    #[error("a key is announced already and signs from {active_at}; wait, or rotate with --now")]
    UnderWay {
        /// When the announced key becomes active.
        active_at: UnixSeconds,
    },
    /// No key is active: the clock went back.
    #[error("no key is active at {now}; is the clock right?")]
    NoActiveKey {
        /// What the clock shows.
        now: UnixSeconds,
    },
    /// Too many retired keys are still published.
    #[error("{published} keys are published, at most {MAX_PUBLISHED} may be; the next is dropped at {next}")]
    TooManyKeys {
        /// How many are published.
        published: usize,
        /// When one of them is dropped.
        next: UnixSeconds,
    },
}

/// Says how a rotation at `now` changes the schedules. With `at_once` the new
/// key signs without having been announced: brokers that have not fetched it
/// deny its tokens until they have.
///
/// # Errors
/// [`RotationRefused`].
pub fn plan_rotation(
    schedules: &[Schedule],
    timing: KeyTiming,
    at_once: bool,
    now: UnixSeconds,
) -> Result<Rotation, RotationRefused> {
    let find = |state| schedules.iter().copied().enumerate().find(|(_, s)| s.state(now) == state);
    let (position, active) = find(KeyState::Active).ok_or(RotationRefused::NoActiveKey { now })?;
    let retiring = |retired_at: UnixSeconds| {
        let dropped_at = retired_at.plus(timing.publish_retired_s);
        (position, Schedule { retired_at: Some(retired_at), dropped_at: Some(dropped_at), ..active })
    };
    if let Some((position, announced)) = find(KeyState::Announced) {
        if !at_once {
            return Err(RotationRefused::UnderWay { active_at: announced.active_at });
        }
        let announced = (position, Schedule { active_at: now, ..announced });
        return Ok(Rotation::Promotion { active: retiring(now), announced });
    }
    let published = schedules.iter().filter(|s| s.state(now) != KeyState::Dropped);
    if published.clone().count() >= MAX_PUBLISHED {
        let next = published.clone().filter_map(|s| s.next_change(now)).min().unwrap_or(now);
        return Err(RotationRefused::TooManyKeys { published: published.count(), next });
    }
    let active_at = if at_once { now } else { now.plus(timing.announce_s) };
    let successor = Schedule { announced_at: now, active_at, retired_at: None, dropped_at: None };
    Ok(Rotation::Successor { active: retiring(active_at), successor })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: KeyTiming = KeyTiming { announce_s: 600, publish_retired_s: 86_405 };

    const fn first() -> Schedule {
        let at = UnixSeconds(1_000);
        Schedule { announced_at: at, active_at: at, retired_at: None, dropped_at: None }
    }

    fn rotated(at_once: bool, now: u64) -> Vec<Schedule> {
        match plan_rotation(&[first()], TIMING, at_once, UnixSeconds(now)).unwrap() {
            Rotation::Successor { active: (0, active), successor } => vec![active, successor],
            other @ (Rotation::Successor { .. } | Rotation::Promotion { .. }) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_announced_then_active_while_the_old_one_stays_published() {
        let keys = rotated(false, 5_000);
        let states = |now| [0, 1].map(|n: usize| keys[n].state(UnixSeconds(now)));
        assert_eq!(states(5_000), [KeyState::Active, KeyState::Announced]);
        assert_eq!(states(5_599), [KeyState::Active, KeyState::Announced]);
        assert_eq!(states(5_600), [KeyState::Retired, KeyState::Active]);
        assert_eq!(states(5_600 + 86_404), [KeyState::Retired, KeyState::Active]);
        assert_eq!(states(5_600 + 86_405), [KeyState::Dropped, KeyState::Active]);
    }

    #[test]
    fn exactly_one_key_is_active_at_any_time() {
        for keys in [rotated(false, 5_000), rotated(true, 5_000)] {
            for now in (1_000..200_000).step_by(100) {
                let active = keys.iter().filter(|s| s.state(UnixSeconds(now)) == KeyState::Active);
                assert_eq!(active.count(), 1, "at {now}");
            }
        }
    }

    #[test]
    fn a_second_rotation_waits_for_the_first_unless_at_once() {
        let keys = rotated(false, 5_000);
        let now = UnixSeconds(5_100);
        assert_eq!(
            plan_rotation(&keys, TIMING, false, now),
            Err(RotationRefused::UnderWay { active_at: UnixSeconds(5_600) })
        );
        let Ok(Rotation::Promotion { active: (0, old), announced: (1, new) }) =
            plan_rotation(&keys, TIMING, true, now)
        else {
            panic!("not a promotion");
        };
        assert_eq!((old.state(now), new.state(now)), (KeyState::Retired, KeyState::Active));
        assert_eq!(old.dropped_at, Some(now.plus(TIMING.publish_retired_s)));
    }

    #[test]
    fn the_number_of_published_keys_is_bounded() {
        let mut keys = vec![first()];
        let refused = (2_000..).find_map(|now| match plan_rotation(&keys, TIMING, true, UnixSeconds(now)) {
            Ok(Rotation::Successor { active: (position, old), successor }) => {
                keys[position] = old;
                keys.push(successor);
                None
            }
            Ok(Rotation::Promotion { .. }) => panic!("nothing was announced"),
            Err(refused) => Some(refused),
        });
        let next = UnixSeconds(2_000 + TIMING.publish_retired_s);
        assert_eq!(refused, Some(RotationRefused::TooManyKeys { published: 16, next }));
    }

    #[test]
    fn before_the_first_key_nothing_can_be_rotated() {
        let now = UnixSeconds(999);
        let refused = plan_rotation(&[first()], TIMING, true, now);
        // The first key counts as announced then, not as active.
        assert_eq!(refused, Err(RotationRefused::NoActiveKey { now }));
    }
}
