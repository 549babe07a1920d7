//! When a key is announced, signs, retires and is dropped.

use std::fmt;

use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

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

/// How the brokers that verify tokens of an algorithm come by a new key, the
/// slowest of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyFetch {
    /// Within so many seconds, by themselves.
    Within(u64),
    /// When a person gives it to them.
    ByHand,
}

/// How long what takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTiming {
    /// How long a key signs until its successor is announced, in seconds;
    /// `None` if that is done by hand alone.
    pub rotation_s: Option<u64>,
    /// How long a key is announced at least before it signs, in seconds: long
    /// enough for whoever has just fetched the keys to fetch them twice.
    pub announce_s: u64,
    /// After how long an announced key signs although brokers do not hold it,
    /// in seconds.
    pub confirm_deadline_s: u64,
    /// How long it takes until every node has heard of a change, in seconds.
    pub propagation_bound_s: u64,
    /// How long after it was announced a key is in everything that any node
    /// gives out, whatever their clocks show, in seconds; 0 if there is one.
    pub heard_everywhere_s: u64,
    /// How long a retired key stays published, in seconds: as long as a token
    /// may be accepted that it signed at its last moment.
    pub publish_retired_s: u64,
}

impl KeyTiming {
    /// How long a key is announced at least, in seconds; `None` if nobody can
    /// know when brokers have it.
    pub(super) fn least_announcement_s(&self, fetch: KeyFetch) -> Option<u64> {
        match fetch {
            KeyFetch::Within(refresh_s) => Some(self.announce_s.max(refresh_s)),
            KeyFetch::ByHand => None,
        }
    }

    /// How long a key is announced at most, in seconds.
    pub(super) fn longest_announcement_s(&self, fetch: KeyFetch) -> u64 {
        self.confirm_deadline_s.max(self.least_announcement_s(fetch).unwrap_or(self.announce_s))
    }

    /// From when on an announced key is in everything that any node gives out.
    pub(crate) fn heard_everywhere_at(&self, announced: &Schedule) -> UnixSeconds {
        announced.announced_at.plus(self.heard_everywhere_s)
    }

    /// Whether a successor surely signs from this moment on: it was confirmed,
    /// or its deadline is so near that nothing is to be gained.
    #[must_use]
    pub fn is_settled(&self, active_at: UnixSeconds, now: UnixSeconds) -> bool {
        active_at <= now.plus(self.propagation_bound_s)
    }
}
