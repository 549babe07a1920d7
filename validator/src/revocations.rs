//! Tokens that were taken back before their time: what a revocation says, how
//! it is written, and which tokens it names.
//!
//! The issuer pushes revocations to validators; both sides use these types, so
//! that they cannot disagree. A revocation is forgotten once every token that
//! it names has died, so their number stays bounded.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::denied::Excerpt;
use crate::freshness::Freshness;
use crate::time::UnixSeconds;
use crate::token::SignedToken;

pub use self::feed::{FEED_PATH, Heartbeat, Snapshot};

mod feed;
#[cfg(feature = "remote")]
pub mod remote;

/// Which tokens are taken back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RevocationTarget {
    /// The one token of this `jti`.
    Token(Box<str>),
    /// The tokens of a device that were issued before a moment.
    Device(Box<str>),
    /// The tokens of the devices that were in a group when they were issued,
    /// before a moment.
    Group(Box<str>),
    /// Every token that a key signed, by its `kid`.
    Key(Box<str>),
    /// Every token that was issued before a moment.
    All,
}

impl fmt::Display for RevocationTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(jti) => write!(f, "token {}", Excerpt::of(jti)),
            Self::Device(name) => write!(f, "device {}", Excerpt::of(name)),
            Self::Group(name) => write!(f, "group {}", Excerpt::of(name)),
            Self::Key(kid) => write!(f, "key {}", Excerpt::of(kid)),
            Self::All => f.write_str("everything"),
        }
    }
}

/// Tokens that were taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Revocation {
    /// Which.
    pub target: RevocationTarget,
    /// Only those whose `iat` is before this moment: there for a device, a
    /// group and all, and only there.
    before: Option<UnixSeconds>,
    /// From when on every token that it names has died.
    pub expires_at: UnixSeconds,
}

/// The most revocations that are in force at a time: an issuer makes no more, and
/// a validator holds no more. They die with the tokens they name, so there are
/// few.
pub const MAX_REVOCATIONS: usize = 500_000;

/// A revocation cannot be read: nobody can say what it takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRevocation {
    /// It names no target, or one that is not known here.
    #[error("a revocation names one of jti, device, group, kid and all")]
    NoTarget,
    /// It names several.
    #[error("a revocation names one target, not several")]
    SeveralTargets,
    /// A device, a group or all, and it is not said until when.
    #[error("a revocation of a device, a group or all says before when the tokens were issued")]
    NoBefore,
    /// A token or a key is revoked whole.
    #[error("a revocation of a token or a key has no before")]
    Before,
}

/// How a revocation is written: one target as a member of its own name.
#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<UnixSeconds>,
    expires_at: UnixSeconds,
}

impl Revocation {
    /// Takes back the one token of this `jti`, which ends at `expires_at` for
    /// whoever allows the greatest skew.
    #[must_use]
    pub fn of_token(jti: &str, expires_at: UnixSeconds) -> Self {
        Self { target: RevocationTarget::Token(jti.into()), before: None, expires_at }
    }

    /// Takes back what a device was issued before a moment.
    #[must_use]
    pub fn of_device(name: &str, before: UnixSeconds, expires_at: UnixSeconds) -> Self {
        Self { target: RevocationTarget::Device(name.into()), before: Some(before), expires_at }
    }

    /// Takes back what the devices of a group were issued before a moment.
    #[must_use]
    pub fn of_group(name: &str, before: UnixSeconds, expires_at: UnixSeconds) -> Self {
        Self { target: RevocationTarget::Group(name.into()), before: Some(before), expires_at }
    }

    /// Takes back everything that a key signed.
    #[must_use]
    pub fn of_key(kid: &str, expires_at: UnixSeconds) -> Self {
        Self { target: RevocationTarget::Key(kid.into()), before: None, expires_at }
    }

    /// Takes back everything that was issued before a moment.
    #[must_use]
    pub const fn of_all(before: UnixSeconds, expires_at: UnixSeconds) -> Self {
        Self { target: RevocationTarget::All, before: Some(before), expires_at }
    }

    /// Only tokens that were issued before this moment are meant; `None` where
    /// it does not matter when.
    #[must_use]
    pub const fn before(&self) -> Option<UnixSeconds> {
        self.before
    }
}

impl TryFrom<Wire> for Revocation {
    type Error = InvalidRevocation;

    fn try_from(wire: Wire) -> Result<Self, InvalidRevocation> {
        let Wire { jti, device, group, kid, all, before, expires_at } = wire;
        let mut targets = [
            jti.map(RevocationTarget::Token),
            device.map(RevocationTarget::Device),
            group.map(RevocationTarget::Group),
            kid.map(RevocationTarget::Key),
            all.then_some(RevocationTarget::All),
        ]
        .into_iter()
        .flatten();
        let target = targets.next().ok_or(InvalidRevocation::NoTarget)?;
        if targets.next().is_some() {
            return Err(InvalidRevocation::SeveralTargets);
        }
        match (&target, before) {
            (RevocationTarget::Token(_) | RevocationTarget::Key(_), Some(_)) => {
                Err(InvalidRevocation::Before)
            }
            (RevocationTarget::Device(_) | RevocationTarget::Group(_) | RevocationTarget::All, None) => {
                Err(InvalidRevocation::NoBefore)
            }
            _ => Ok(Self { target, before, expires_at }),
        }
    }
}

impl From<Revocation> for Wire {
    fn from(Revocation { target, before, expires_at }: Revocation) -> Self {
        let mut wire =
            Self { jti: None, device: None, group: None, kid: None, all: false, before, expires_at };
        match target {
            RevocationTarget::Token(jti) => wire.jti = Some(jti),
            RevocationTarget::Device(name) => wire.device = Some(name),
            RevocationTarget::Group(name) => wire.group = Some(name),
            RevocationTarget::Key(kid) => wire.kid = Some(kid),
            RevocationTarget::All => wire.all = true,
        }
        wire
    }
}

/// What is asked about a token.
#[derive(Clone, Copy, Debug)]
pub struct TokenFacts<'a> {
    /// Its `jti`.
    pub jti: &'a str,
    /// Its `sub`: the device.
    pub device: &'a str,
    /// The `kid` of the key that signed it.
    pub kid: &'a str,
    /// Its `iat`.
    pub iat: UnixSeconds,
}

/// The revocations in force, found without an allocation: every connection
/// asks for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    tokens: HashMap<Box<str>, UnixSeconds>,
    keys: HashMap<Box<str>, UnixSeconds>,
    devices: HashMap<Box<str>, Issued>,
    groups: HashMap<Box<str>, Issued>,
    all: Option<Issued>,
}

/// What was issued before a moment, and when the last of it has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Issued {
    before: UnixSeconds,
    expires_at: UnixSeconds,
}

impl Issued {
    fn widen(&mut self, other: Self) {
        self.before = self.before.max(other.before);
        self.expires_at = self.expires_at.max(other.expires_at);
    }
}

impl Revocations {
    /// Adds a revocation; of two of the same target, the one that takes back
    /// more and the one that lasts longer count.
    pub fn add(&mut self, revocation: Revocation) {
        let Revocation { target, before, expires_at } = revocation;
        // The targets that need it have one.
        let issued = Issued { before: before.unwrap_or(UnixSeconds(u64::MAX)), expires_at };
        let last = |end: &mut UnixSeconds| *end = expires_at.max(*end);
        let widen = |known: &mut Issued| known.widen(issued);
        match target {
            RevocationTarget::Token(jti) => {
                self.tokens.entry(jti).and_modify(last).or_insert(expires_at);
            }
            RevocationTarget::Key(kid) => {
                self.keys.entry(kid).and_modify(last).or_insert(expires_at);
            }
            RevocationTarget::Device(name) => {
                self.devices.entry(name).and_modify(widen).or_insert(issued);
            }
            RevocationTarget::Group(name) => {
                self.groups.entry(name).and_modify(widen).or_insert(issued);
            }
            RevocationTarget::All => self.all.get_or_insert(issued).widen(issued),
        }
    }

    /// Forgets what names only tokens that have died at `now`.
    pub fn forget_expired(&mut self, now: UnixSeconds) {
        for whole in [&mut self.tokens, &mut self.keys] {
            whole.retain(|_, expires_at| *expires_at > now);
        }
        for issued in [&mut self.devices, &mut self.groups] {
            issued.retain(|_, issued| issued.expires_at > now);
        }
        self.all = self.all.filter(|issued| issued.expires_at > now);
    }

    /// Whether one names only tokens that have died at `now`.
    #[must_use]
    pub fn is_any_expired(&self, now: UnixSeconds) -> bool {
        let Self { tokens, keys, devices, groups, all } = self;
        let whole = tokens.values().chain(keys.values()).copied();
        let issued = devices.values().chain(groups.values()).chain(all).map(|issued| issued.expires_at);
        whole.chain(issued).any(|expires_at| expires_at <= now)
    }

    /// Whether a key is revoked.
    #[must_use]
    pub fn has_key(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let Self { tokens, keys, devices, groups, all } = self;
        tokens.len() + keys.len() + devices.len() + groups.len() + usize::from(all.is_some())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Revocation> {
        let tokens = self.tokens.iter().map(|(jti, end)| Revocation::of_token(jti, *end));
        let keys = self.keys.iter().map(|(kid, end)| Revocation::of_key(kid, *end));
        let devices =
            self.devices.iter().map(|(name, of)| Revocation::of_device(name, of.before, of.expires_at));
        let groups =
            self.groups.iter().map(|(name, of)| Revocation::of_group(name, of.before, of.expires_at));
        let all = self.all.iter().map(|of| Revocation::of_all(of.before, of.expires_at));
        all.chain(keys).chain(groups).chain(devices).chain(tokens)
    }

    /// What takes a token back, if anything does.
    #[must_use]
    pub fn find<'g>(
        &self,
        token: &TokenFacts<'_>,
        groups: impl IntoIterator<Item = &'g str>,
    ) -> Option<Revocation> {
        let early = |issued: &&Issued| token.iat < issued.before;
        if let Some(of) = self.all.as_ref().filter(early) {
            return Some(Revocation::of_all(of.before, of.expires_at));
        }
        if let Some(end) = self.keys.get(token.kid) {
            return Some(Revocation::of_key(token.kid, *end));
        }
        if let Some(of) = self.devices.get(token.device).filter(early) {
            return Some(Revocation::of_device(token.device, of.before, of.expires_at));
        }
        if let Some(end) = self.tokens.get(token.jti) {
            return Some(Revocation::of_token(token.jti, *end));
        }
        if self.groups.is_empty() {
            return None;
        }
        groups.into_iter().find_map(|group| {
            let of = self.groups.get(group).filter(early)?;
            Some(Revocation::of_group(group, of.before, of.expires_at))
        })
    }

    /// From when on the tokens of such a device are not taken back, if some
    /// are by when they were issued.
    #[must_use]
    pub fn good_from(&self, device: &str, group: &str) -> Option<UnixSeconds> {
        let of_device = self.devices.get(device);
        let of_group = self.groups.get(group);
        self.all.iter().chain(of_device).chain(of_group).map(|issued| issued.before).max()
    }

    /// What takes this token back, if anything does.
    #[must_use]
    pub fn find_signed(&self, token: &SignedToken) -> Option<Revocation> {
        let facts = TokenFacts {
            jti: token.token_id(),
            device: token.subject(),
            kid: token.key_id(),
            iat: token.iat,
        };
        self.find(&facts, token.groups())
    }
}

/// What a checker knows of revocations. Whoever follows no feed says so: then
/// nothing is taken back before it ends.
#[derive(Clone, Debug)]
pub enum RevocationState {
    /// No feed is followed.
    NotFollowed,
    /// A feed is followed, and has not told anything yet: what is taken back
    /// is unknown, so everything is denied.
    Missing,
    /// These are in force.
    Known {
        /// Which.
        revocations: Arc<Revocations>,
        /// How far they can be relied on.
        freshness: Freshness,
    },
}

impl FromIterator<Revocation> for Revocations {
    fn from_iter<I: IntoIterator<Item = Revocation>>(revocations: I) -> Self {
        let mut all = Self::default();
        revocations.into_iter().for_each(|revocation| all.add(revocation));
        all
    }
}

#[cfg(test)]
mod tests;
