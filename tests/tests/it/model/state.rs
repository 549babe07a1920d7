//! The parts: a store, nodes with their copies, validators with theirs, and
//! one token to look at.

use std::hash::{Hash, Hasher};

use fleetbadge_issuer::signing_keys::{KeyState, Schedule};
use fleetbadge_validator::revocations::{Revocation, RevocationTarget, Revocations, TokenFacts};
use fleetbadge_validator::time::UnixSeconds;

use super::rules::{BOUND, CLOCKS, SKEW, STALE};

pub(super) const DEVICE: &str = "pump-1";
const KIDS: [&str; 6] = ["0", "1", "2", "3", "4", "5"];

/// A set of small numbers: of keys, or of validators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Set(u8);

impl Set {
    pub(super) const fn has(self, member: usize) -> bool {
        self.0 & (1 << member) != 0
    }

    pub(super) const fn with(self, member: usize) -> Self {
        Self(self.0 | (1 << member))
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(members: I) -> Self {
        members.into_iter().fold(Self::default(), Self::with)
    }
}

/// Which tokens a revocation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Target {
    All,
    Device,
    Key(usize),
}

/// A revocation, small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) target: Target,
    /// 0 for a key.
    pub(super) before: u64,
    pub(super) expires_at: u64,
    /// Its number in the log of changes.
    pub(super) change: u8,
}

impl Entry {
    fn to_revocation(self) -> Revocation {
        let (before, expires_at) = (UnixSeconds(self.before), UnixSeconds(self.expires_at));
        match self.target {
            Target::All => Revocation::of_all(before, expires_at),
            Target::Device => Revocation::of_device(DEVICE, before, expires_at),
            Target::Key(key) => Revocation::of_key(KIDS[key], expires_at),
        }
    }

    fn from_revocation(revocation: &Revocation) -> Self {
        let target = match &revocation.target {
            RevocationTarget::All => Target::All,
            RevocationTarget::Device(_) => Target::Device,
            RevocationTarget::Key(kid) => Target::Key(kid.parse().unwrap()),
            other @ (RevocationTarget::Token(_) | RevocationTarget::Group(_)) => unreachable!("{other:?}"),
        };
        let before = revocation.before().map_or(0, |before| before.0);
        Self { target, before, expires_at: revocation.expires_at.0, change: 0 }
    }
}

/// The revocations of these entries, as the programs hold them.
pub(super) fn revocations<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Revocations {
    entries.into_iter().map(|entry| entry.to_revocation()).collect()
}

/// As entries, in order.
pub(super) fn entries(revocations: &Revocations) -> Vec<Entry> {
    let mut entries: Vec<_> =
        revocations.iter().map(|revocation| Entry::from_revocation(&revocation)).collect();
    entries.sort_unstable();
    entries
}

/// A signing key. All are of one algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) kid: usize,
    pub(super) schedule: Schedule,
    /// Which validators were heard of when it was let sign early; for the first
    /// key all.
    pub(super) confirmed_by: Set,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Schedule { announced_at, active_at, retired_at, dropped_at } = self.schedule;
        (self.kid, announced_at, active_at, retired_at, dropped_at, self.confirmed_by).hash(hasher);
    }
}

/// What a store holds that nodes copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) epoch: u8,
    /// The number of the last change.
    pub(super) change: u8,
    pub(super) is_disabled: bool,
    pub(super) keys: Vec<Key>,
    pub(super) entries: Vec<Entry>,
}

impl Content {
    /// The keys of a state at a moment.
    pub(super) fn keys_that_are(&self, state: KeyState, at: u64) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.schedule.state(UnixSeconds(at)) == state)
    }

    /// Notes a change, and the revocations that it brings.
    pub(super) fn changed(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.change += 1;
        self.entries.extend(entries.into_iter().map(|entry| Entry { change: self.change, ..entry }));
    }
}

/// A store, or a backup of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Store {
    pub(super) content: Content,
    /// Whether it has the assertion's `jti`.
    pub(super) has_jti: bool,
    /// The last report of each validator.
    pub(super) reports: Vec<Option<Report>>,
}

/// What a validator said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Report {
    pub(super) keys: Set,
    /// How long ago; no more than is of interest.
    pub(super) age: u64,
}

/// An issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) copy: Content,
    /// How long ago the copy was proven current; no more than is of interest.
    pub(super) age: u64,
    /// By how much its clock is ahead of the store's.
    pub(super) ahead: i64,
    /// Whether it has the assertion's `jti` in memory.
    pub(super) has_jti: bool,
    /// A request that is being answered.
    pub(super) request: Option<Request>,
}

/// A request for a token, half-way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Request {
    /// The time is taken and the node was current; the device is yet to be read.
    Timed { iat: u64 },
    /// The device is read and may; the time is yet to be taken.
    Allowed,
}

impl Node {
    pub(super) fn clock(&self, now: u64) -> u64 {
        now.checked_add_signed(self.ahead).unwrap()
    }

    pub(super) const fn is_proven_current(&self) -> bool {
        self.age <= BOUND
    }

    pub(super) const fn has_a_right_clock(&self) -> bool {
        self.ahead.unsigned_abs() <= CLOCKS
    }
}

/// What a validator knows, in memory or on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Knowledge {
    pub(super) keys: Set,
    /// How long ago the keys were fetched; no more than is of interest.
    pub(super) keys_age: u64,
    /// Where the feed is.
    pub(super) epoch: u8,
    pub(super) change: u8,
    pub(super) entries: Vec<Entry>,
}

/// A validator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Validator {
    pub(super) memory: Knowledge,
    pub(super) disk: Knowledge,
    /// Whether it has once known the token to be revoked.
    pub(super) has_refused: bool,
}

/// One of the tokens that were minted: any, so that what holds for it holds for
/// all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token {
    pub(super) kid: usize,
    pub(super) iat: u64,
    pub(super) exp: u64,
    /// The device was disabled after it was minted, or was then.
    pub(super) is_of_disabled: bool,
    /// Its key was revoked.
    pub(super) is_of_revoked_key: bool,
    /// There was a restore that its maker did not know of.
    pub(super) is_of_lost_epoch: bool,
    /// Whoever minted it knew that it was revoked.
    pub(super) is_stillborn: bool,
    /// The device had been enabled again.
    pub(super) is_of_enabled: bool,
}

impl Token {
    pub(super) fn is_revoked(&self, entries: &[Entry]) -> bool {
        if entries.is_empty() {
            return false;
        }
        let facts = TokenFacts { jti: "j", device: DEVICE, kid: KIDS[self.kid], iat: UnixSeconds(self.iat) };
        revocations(entries).find(&facts, []).is_some()
    }
}

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) now: u64,
    pub(super) store: Store,
    pub(super) backup: Option<Box<Store>>,
    pub(super) nodes: [Node; 2],
    pub(super) validators: Vec<Validator>,
    pub(super) token: Option<Token>,
    /// `iat` of the client assertion.
    pub(super) assertion: Option<u64>,
    /// How many tokens it brought.
    pub(super) tokens_of_assertion: u8,
    pub(super) keys_made: usize,
    pub(super) revoked_keys: Set,
    pub(super) disables: u8,
    pub(super) enables: u8,
    pub(super) rotations: u8,
    pub(super) key_revocations: u8,
    pub(super) restores: u8,
}

impl State {
    /// Whether a validator knows all that the store does.
    pub(super) fn is_current(&self, validator: &Validator) -> bool {
        let Content { epoch, change, .. } = self.store.content;
        (validator.memory.epoch, validator.memory.change) == (epoch, change)
    }

    /// Whether a validator lets the token in.
    pub(super) fn accepts(&self, validator: &Validator, token: &Token) -> bool {
        let Knowledge { keys, keys_age, ref entries, .. } = validator.memory;
        keys.has(token.kid)
            && keys_age <= STALE
            && token.iat <= self.now + SKEW
            && self.now < token.exp.saturating_add(SKEW)
            && !token.is_revoked(entries)
    }
}
