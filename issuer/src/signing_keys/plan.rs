//! How schedules change: pure. Keys are named by their position.
//!
//! 1. A *rotation* announces a successor that signs at its deadline, or lets
//!    one sign at once. It is asked for by hand, or [due](is_rotation_due).
//! 2. A *promotion* brings forward when the successor signs, once it has been
//!    announced for long enough and whoever is heard of holds it.
//! 3. A *revocation* deletes a key; if that was the active one, the announced
//!    one or a new one signs at once.
//! 4. A *correction* takes back times that the clock will not reach for long,
//!    when it was wrong and is put right.
//!
//! Whatever comes in whichever order: at any moment one key of each algorithm
//! is active, and the forerunner of a key signs until that one does.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;

use super::schedule::{KeyFetch, KeyState, KeyTiming, Schedule};
use crate::date::date;

/// The most keys that are published at once, of all algorithms together: every
/// broker fetches them all. Rotations leave a place for the first key of each
/// algorithm that has none, so that a first key is never refused.
const MAX_PUBLISHED: usize = 16;

/// An algorithm and one of its keys' schedules.
pub type Planned = (Algorithm, Schedule);

/// What becomes of the keys of one algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Which keys get which schedule.
    pub changed: Vec<(usize, Schedule)>,
    /// The schedule of the key that is to be made, if one is.
    pub new: Option<Schedule>,
}

/// A rotation is not possible now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationRefused {
    /// One is under way.
    #[error(
        "the next {} key is announced already and signs from {} at the latest; wait, or let it sign at once: \
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
    keys: &[Planned],
    algorithm: Algorithm,
    timing: &KeyTiming,
    fetch: KeyFetch,
    at_once: bool,
    now: UnixSeconds,
) -> Result<Plan, RotationRefused> {
    if keys.iter().all(|(of, _)| *of != algorithm) {
        return Err(RotationRefused::NoKey { algorithm });
    }
    let active = find(keys, algorithm, KeyState::Active, now)
        .ok_or(RotationRefused::NoActiveKey { algorithm, now })?;
    if let Some((position, announced)) = find(keys, algorithm, KeyState::Announced, now) {
        if !at_once {
            return Err(RotationRefused::UnderWay { algorithm, active_at: announced.active_at });
        }
        let announced = (position, Schedule { active_at: now, ..announced });
        return Ok(Plan { changed: vec![retiring(active, timing, now), announced], new: None });
    }
    check_room(keys, now)?;
    let active_at = if at_once { now } else { now.plus(timing.longest_announcement_s(fetch)) };
    let successor = Schedule { active_at, ..Schedule::first(now) };
    Ok(Plan { changed: vec![retiring(active, timing, active_at)], new: Some(successor) })
}

/// Whether the active key of an algorithm has signed for so long that its
/// successor is to be announced, and that can be. However late it is noticed,
/// one successor is all that is missing. Keys that somebody has to carry to a
/// broker are rotated by hand.
#[must_use]
pub fn is_rotation_due(
    keys: &[Planned],
    algorithm: Algorithm,
    timing: &KeyTiming,
    fetch: KeyFetch,
    now: UnixSeconds,
) -> bool {
    let active = find(keys, algorithm, KeyState::Active, now);
    let due_at = active.and_then(|(_, active)| rotation_due_at(&active, timing, fetch));
    due_at.is_some_and(|due_at| now >= due_at)
        && find(keys, algorithm, KeyState::Announced, now).is_none()
        && check_room(keys, now).is_ok()
}

/// When the successor of an active key is announced by itself, if it is and
/// none is announced yet.
#[must_use]
pub fn rotation_due_at(active: &Schedule, timing: &KeyTiming, fetch: KeyFetch) -> Option<UnixSeconds> {
    match (active.retired_at, fetch, timing.rotation_s) {
        (None, KeyFetch::Within(_), Some(rotation_s)) => Some(active.active_at.plus(rotation_s)),
        (Some(_), _, _) | (None, KeyFetch::ByHand, _) | (None, KeyFetch::Within(_), None) => None,
    }
}

/// When an announced key signs at the earliest, if everybody holds it by then;
/// `None` if nobody can know that they do.
#[must_use]
pub fn earliest_at(announced: &Schedule, timing: &KeyTiming, fetch: KeyFetch) -> Option<UnixSeconds> {
    let confirmed_at = announced.announced_at.plus(timing.least_announcement_s(fetch)?);
    Some(confirmed_at.plus(timing.propagation_bound_s).min(announced.active_at))
}

/// The announced key of an algorithm whose confirmation is waited for: it has
/// been announced for long enough, and does not sign soon anyway.
#[must_use]
pub fn unconfirmed(
    keys: &[Planned],
    algorithm: Algorithm,
    timing: &KeyTiming,
    fetch: KeyFetch,
    now: UnixSeconds,
) -> Option<usize> {
    let (position, announced) = find(keys, algorithm, KeyState::Announced, now)?;
    let since = announced.announced_at.plus(timing.least_announcement_s(fetch)?);
    (now >= since && !timing.is_settled(announced.active_at, now)).then_some(position)
}

/// Says how the schedules change when everybody holds the announced key: it
/// signs as soon as every node can have heard of that. `None` if there is
/// nothing to bring forward. What was brought forward stays so.
#[must_use]
pub fn plan_promotion(
    keys: &[Planned],
    algorithm: Algorithm,
    timing: &KeyTiming,
    fetch: KeyFetch,
    now: UnixSeconds,
) -> Option<Plan> {
    let position = unconfirmed(keys, algorithm, timing, fetch, now)?;
    let (_, announced) = keys.get(position)?;
    let active = find(keys, algorithm, KeyState::Active, now)?;
    let active_at = now.plus(timing.propagation_bound_s);
    let announced = (position, Schedule { active_at, ..*announced });
    Some(Plan { changed: vec![retiring(active, timing, active_at), announced], new: None })
}

/// Says how the schedules change when a key is deleted now. Its algorithm goes
/// on with the announced key or a new one, at once; without an announced key,
/// the active one goes on.
#[must_use]
pub fn plan_revocation(keys: &[Planned], revoked: usize, now: UnixSeconds) -> Plan {
    let Some((algorithm, _)) = keys.get(revoked).copied() else {
        return Plan::default();
    };
    let rest = || {
        let numbered = keys.iter().copied().enumerate();
        numbered.filter_map(move |(position, (of, schedule))| {
            (of == algorithm && position != revoked).then_some((position, schedule))
        })
    };
    let state_is = |state| move |(_, schedule): &(usize, Schedule)| schedule.state(now) == state;
    let next = rest().filter(state_is(KeyState::Announced)).min_by_key(|(_, schedule)| schedule.active_at);
    match (rest().find(state_is(KeyState::Active)), next) {
        (Some(_), Some(_)) => Plan::default(),
        (Some((_, active)), None) if active.retired_at.is_none() => Plan::default(),
        (Some((position, active)), None) => {
            let active = Schedule { retired_at: None, dropped_at: None, ..active };
            Plan { changed: vec![(position, active)], new: None }
        }
        (None, Some((position, announced))) => {
            Plan { changed: vec![(position, Schedule { active_at: now, ..announced })], new: None }
        }
        (None, None) => Plan { changed: Vec::new(), new: Some(Schedule::first(now)) },
    }
}

/// Says how the schedules of an algorithm change when the clock has been ahead
/// and is put right, so that nothing waits for what it showed then: the newest
/// key goes on to follow the active one, or signs at once if there is none.
#[must_use]
pub fn plan_correction(
    keys: &[Planned],
    algorithm: Algorithm,
    timing: &KeyTiming,
    fetch: KeyFetch,
    now: UnixSeconds,
) -> Plan {
    let numbered = keys.iter().copied().enumerate();
    let kept = numbered.filter_map(|(position, (of, schedule))| {
        (of == algorithm && schedule.state(now) != KeyState::Dropped).then_some((position, schedule))
    });
    let kept: Vec<(usize, Schedule)> = kept.collect();
    let Some((newest, latest)) =
        kept.iter().copied().max_by_key(|(_, key)| (key.active_at, key.announced_at))
    else {
        return Plan::default();
    };
    let active = find(keys, algorithm, KeyState::Active, now).map(|(position, _)| position);
    let signs_at = match active {
        Some(active) if active != newest => {
            latest.active_at.min(now.plus(timing.longest_announcement_s(fetch)))
        }
        Some(_) => latest.active_at,
        None => now,
    };
    let corrected = kept.into_iter().map(|(position, key)| {
        let begun =
            Schedule { announced_at: key.announced_at.min(now), active_at: key.active_at.min(now), ..key };
        let corrected = if position == newest {
            Schedule { active_at: signs_at, retired_at: None, dropped_at: None, ..begun }
        } else if active == Some(position) {
            retiring((position, begun), timing, signs_at).1
        } else {
            let earlier =
                |time: Option<UnixSeconds>, than: UnixSeconds| time.map_or(than, |time| time.min(than));
            Schedule {
                retired_at: Some(earlier(key.retired_at, now)),
                dropped_at: Some(earlier(key.dropped_at, now.plus(timing.publish_retired_s))),
                ..begun
            }
        };
        (position, key, corrected)
    });
    let changed = corrected.filter(|(_, key, corrected)| key != corrected);
    Plan { changed: changed.map(|(position, _, corrected)| (position, corrected)).collect(), new: None }
}

fn find(
    keys: &[Planned],
    algorithm: Algorithm,
    state: KeyState,
    now: UnixSeconds,
) -> Option<(usize, Schedule)> {
    let mut numbered = keys.iter().copied().enumerate();
    let (position, (_, schedule)) =
        numbered.find(|(_, (of, schedule))| *of == algorithm && schedule.state(now) == state)?;
    Some((position, schedule))
}

fn retiring(
    (position, active): (usize, Schedule),
    timing: &KeyTiming,
    retired_at: UnixSeconds,
) -> (usize, Schedule) {
    let dropped_at = retired_at.plus(timing.publish_retired_s);
    (position, Schedule { retired_at: Some(retired_at), dropped_at: Some(dropped_at), ..active })
}

/// Whether one more key may be published.
fn check_room(keys: &[Planned], now: UnixSeconds) -> Result<(), RotationRefused> {
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
mod tests;
