//! When a key is announced, signs, retires and is dropped.

use std::fmt;

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::date::date;

/// The most keys that are published at once, of all algorithms together: every
/// broker fetches them all. Rotations leave a place for the first key of each
/// algorithm that has none, so that a first key is never refused.
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
    /// That of the first key of an algorithm, which signs at once: no token of
    /// that algorithm is about, and a broker that meets the first one fetches
    /// the keys anew.
    #[must_use]
    pub const fn first(now: UnixSeconds) -> Self {
        Self { announced_at: now, active_at: now, retired_at: None, dropped_at: None }
    }

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
    #[error(
        "the next {} key is announced already and signs from {}; wait, or let it sign at once: \
         --now --algorithm {}",
        algorithm.as_str(), date(*active_at), algorithm.as_str()
    )]
    UnderWay {
        /// Whose keys.
        algorithm: Algorithm,
        /// When the announced key becomes active.
        active_at: UnixSeconds,
    },
    /// There is no key of this algorithm.
    #[error(
        "there is no {} key; the first one is made by itself once a broker wants such tokens",
        algorithm.as_str()
    )]
    NoKey {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// The first key of this algorithm is not there yet.
    #[error(
        "the first {} key is still being made; try again in a moment",
        algorithm.as_str()
    )]
    BeingMade {
        /// Whose key.
        algorithm: Algorithm,
    },
    /// No key is active: the clock went back.
    #[error("no {} key is active at {}; is the clock right?", algorithm.as_str(), date(*now))]
    NoActiveKey {
        /// Whose keys.
        algorithm: Algorithm,
        /// What the clock shows.
        now: UnixSeconds,
    },
    /// Too many retired keys are still published.
    #[error("{published} keys are published, at most {max} may be now; the next is dropped at {}", date(*next))]
    TooManyKeys {
        /// How many are published.
        published: usize,
        /// How many may be, that a rotation adds to.
        max: usize,
        /// When one of them is dropped.
        next: UnixSeconds,
    },
}

/// Says how a rotation of one algorithm's key at `now` changes the schedules.
/// `keys` are those of all algorithms. With `at_once` the new key signs without
/// having been announced: brokers that have not fetched it deny its tokens
/// until they have.
///
/// # Errors
/// [`RotationRefused`].
pub fn plan_rotation(
    keys: &[(Algorithm, Schedule)],
    algorithm: Algorithm,
    timing: KeyTiming,
    at_once: bool,
    now: UnixSeconds,
) -> Result<Rotation, RotationRefused> {
    let own = || {
        let numbered = keys.iter().enumerate();
        numbered.filter_map(|(position, (of, schedule))| (*of == algorithm).then_some((position, *schedule)))
    };
    let find = |state| own().find(|(_, schedule)| schedule.state(now) == state);
    if own().next().is_none() {
        return Err(RotationRefused::NoKey { algorithm });
    }
    let (position, active) = find(KeyState::Active).ok_or(RotationRefused::NoActiveKey { algorithm, now })?;
    let retiring = |retired_at: UnixSeconds| {
        let dropped_at = retired_at.plus(timing.publish_retired_s);
        (position, Schedule { retired_at: Some(retired_at), dropped_at: Some(dropped_at), ..active })
    };
    if let Some((position, announced)) = find(KeyState::Announced) {
        if !at_once {
            return Err(RotationRefused::UnderWay { algorithm, active_at: announced.active_at });
        }
        let announced = (position, Schedule { active_at: now, ..announced });
        return Ok(Rotation::Promotion { active: retiring(now), announced });
    }
    check_room(keys, now)?;
    let active_at = if at_once { now } else { now.plus(timing.announce_s) };
    let successor = Schedule { active_at, ..Schedule::first(now) };
    Ok(Rotation::Successor { active: retiring(active_at), successor })
}

/// Whether one more key may be published.
fn check_room(keys: &[(Algorithm, Schedule)], now: UnixSeconds) -> Result<(), RotationRefused> {
    let is_first_to_come = |algorithm: &Algorithm| keys.iter().all(|(of, _)| of != algorithm);
    let max = MAX_PUBLISHED - Algorithm::ALL.iter().filter(|algorithm| is_first_to_come(algorithm)).count();
    let schedules = keys.iter().map(|(_, schedule)| schedule);
    let published = schedules.clone().filter(|schedule| schedule.state(now) != KeyState::Dropped).count();
    if published < max {
        return Ok(());
    }
    let next = schedules.filter_map(|schedule| schedule.dropped_at).filter(|time| *time > now).min();
    Err(RotationRefused::TooManyKeys { published, max, next: next.unwrap_or(now) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: KeyTiming = KeyTiming { announce_s: 600, publish_retired_s: 86_405 };

    const fn first() -> Schedule {
        Schedule::first(UnixSeconds(1_000))
    }

    /// Plans for ES256, which all `schedules` are of.
    fn plan(schedules: &[Schedule], at_once: bool, now: u64) -> Result<Rotation, RotationRefused> {
        let keys: Vec<_> = schedules.iter().map(|schedule| (Algorithm::ES256, *schedule)).collect();
        plan_rotation(&keys, Algorithm::ES256, TIMING, at_once, UnixSeconds(now))
    }

    fn rotated(at_once: bool, now: u64) -> Vec<Schedule> {
        match plan(&[first()], at_once, now).unwrap() {
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
        let refused =
            RotationRefused::UnderWay { algorithm: Algorithm::ES256, active_at: UnixSeconds(5_600) };
        assert_eq!(plan(&keys, false, now.0), Err(refused));
        assert_eq!(
            refused.to_string(),
            "the next ES256 key is announced already and signs from 1970-01-01T01:33:20Z; wait, or let it \
             sign at once: --now --algorithm ES256"
        );
        let Ok(Rotation::Promotion { active: (0, old), announced: (1, new) }) = plan(&keys, true, now.0)
        else {
            panic!("not a promotion");
        };
        assert_eq!((old.state(now), new.state(now)), (KeyState::Retired, KeyState::Active));
        assert_eq!(old.dropped_at, Some(now.plus(TIMING.publish_retired_s)));
    }

    #[test]
    fn the_keys_of_another_algorithm_are_left_alone() {
        let (es, rs) = (Algorithm::ES256, Algorithm::RS256);
        let mut keys = vec![(es, first()), (rs, first())];
        let now = UnixSeconds(5_000);
        let Ok(Rotation::Successor { active: (1, retiring), successor }) =
            plan_rotation(&keys, rs, TIMING, false, now)
        else {
            panic!("not a successor of the second key");
        };
        keys[1].1 = retiring;
        keys.push((rs, successor));
        // One is under way for RS256, none for ES256.
        let active_at = UnixSeconds(5_600);
        assert_eq!(
            plan_rotation(&keys, rs, TIMING, false, now),
            Err(RotationRefused::UnderWay { algorithm: rs, active_at })
        );
        assert!(matches!(
            plan_rotation(&keys, es, TIMING, false, now),
            Ok(Rotation::Successor { active: (0, _), .. })
        ));
        assert_eq!(
            plan_rotation(&keys, Algorithm::EdDSA, TIMING, true, now),
            Err(RotationRefused::NoKey { algorithm: Algorithm::EdDSA })
        );
    }

    /// However often one algorithm is rotated, the first keys of the others
    /// are never too many.
    #[test]
    fn the_number_of_published_keys_is_bounded_over_all_algorithms() {
        let rotate_until_refused = |keys: &mut Vec<(Algorithm, Schedule)>, from: u64| {
            (from..).find_map(|now| {
                match plan_rotation(keys, Algorithm::ES256, TIMING, true, UnixSeconds(now)) {
                    Ok(Rotation::Successor { active: (position, old), successor }) => {
                        keys[position].1 = old;
                        keys.push((Algorithm::ES256, successor));
                        None
                    }
                    Ok(Rotation::Promotion { .. }) => panic!("nothing was announced"),
                    Err(refused) => Some(refused),
                }
            })
        };
        let next = UnixSeconds(2_000 + TIMING.publish_retired_s);
        let mut keys = vec![(Algorithm::ES256, first())];
        let refused = rotate_until_refused(&mut keys, 2_000);
        assert_eq!(refused, Some(RotationRefused::TooManyKeys { published: 14, max: 14, next }));
        keys.extend([(Algorithm::RS256, first()), (Algorithm::EdDSA, first())]);
        let refused = rotate_until_refused(&mut keys, 3_000);
        assert_eq!(refused, Some(RotationRefused::TooManyKeys { published: 16, max: 16, next }));
        assert_eq!(keys.len(), MAX_PUBLISHED);
    }

    #[test]
    fn before_the_first_key_nothing_can_be_rotated() {
        let now = UnixSeconds(999);
        // The first key counts as announced then, not as active.
        let refused = RotationRefused::NoActiveKey { algorithm: Algorithm::ES256, now };
        assert_eq!(plan(&[first()], true, now.0), Err(refused));
    }
}
