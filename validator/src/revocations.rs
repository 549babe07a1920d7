//! Tokens that were taken back before their time: what a revocation says, how
//! it is written, and which tokens it names.
//!
//! The issuer pushes revocations to validators; both sides use these types, so
//! that they cannot disagree. A revocation is forgotten once every token that
//! it names has died, so their number stays bounded.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::UnixSeconds;
use crate::token::SignedToken;

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
            Self::Token(jti) => write!(f, "token {jti}"),
            Self::Device(name) => write!(f, "device {name}"),
            Self::Group(name) => write!(f, "group {name}"),
            Self::Key(kid) => write!(f, "key {kid}"),
            Self::All => f.write_str("all"),
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

/// The revocations in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    by_target: HashMap<RevocationTarget, (Option<UnixSeconds>, UnixSeconds)>,
}

impl Revocations {
    /// Adds a revocation; of two of the same target, the one that takes back
    /// more and the one that lasts longer count.
    pub fn add(&mut self, revocation: Revocation) {
        let Revocation { target, before, expires_at } = revocation;
        let entry = self.by_target.entry(target).or_insert((before, expires_at));
        *entry = (entry.0.max(before), entry.1.max(expires_at));
    }

    /// Forgets what names only tokens that have died at `now`.
    pub fn forget_expired(&mut self, now: UnixSeconds) {
        self.by_target.retain(|_, (_, expires_at)| *expires_at > now);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_target.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Revocation> {
        self.by_target.iter().map(|(target, (before, expires_at))| Revocation {
            target: target.clone(),
            before: *before,
            expires_at: *expires_at,
        })
    }

    /// What takes a token back, if anything does.
    #[must_use]
    pub fn find<'g>(
        &self,
        token: &TokenFacts<'_>,
        groups: impl IntoIterator<Item = &'g str>,
    ) -> Option<RevocationTarget> {
        if self.by_target.is_empty() {
            return None;
        }
        let names_it = |target: &RevocationTarget| match self.by_target.get(target)? {
            (None, _) => Some(()),
            (Some(before), _) => (token.iat < *before).then_some(()),
        };
        let single = [
            RevocationTarget::All,
            RevocationTarget::Key(token.kid.into()),
            RevocationTarget::Device(token.device.into()),
            RevocationTarget::Token(token.jti.into()),
        ];
        let groups = groups.into_iter().map(|group| RevocationTarget::Group(group.into()));
        single.into_iter().chain(groups).find(|target| names_it(target).is_some())
    }

    /// From when on the tokens of such a device are not taken back, if some
    /// are by when they were issued.
    #[must_use]
    pub fn good_from(&self, device: &str, group: &str) -> Option<UnixSeconds> {
        let targets = [
            RevocationTarget::All,
            RevocationTarget::Device(device.into()),
            RevocationTarget::Group(group.into()),
        ];
        targets.iter().filter_map(|target| self.by_target.get(target)?.0).max()
    }

    /// What takes this token back, if anything does.
    #[must_use]
    pub fn find_signed(&self, token: &SignedToken) -> Option<RevocationTarget> {
        let facts = TokenFacts {
            jti: token.token_id(),
            device: token.subject(),
            kid: token.key_id(),
            iat: token.iat,
        };
        self.find(&facts, token.groups())
    }
}

impl FromIterator<Revocation> for Revocations {
    fn from_iter<I: IntoIterator<Item = Revocation>>(revocations: I) -> Self {
        let mut all = Self::default();
        revocations.into_iter().for_each(|revocation| all.add(revocation));
        all
    }
}

/// One event of the feed `snapshot`: several may follow each other, and
/// together replace everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Some of the revocations.
    pub revocations: Vec<Revocation>,
    /// Whether another event belongs to it.
    pub more: bool,
}

impl Snapshot {
    /// The most revocations of one event.
    pub const MAX_LENGTH: usize = 1_000;
    /// The name of the event.
    pub const EVENT: &str = "snapshot";
}

impl Revocation {
    /// The name of the event of the feed that brings one.
    pub const EVENT: &str = "revocation";
}

/// The event of the feed that says that nothing else happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The issuer's time.
    pub now: UnixSeconds,
}

impl Heartbeat {
    /// The name of the event.
    pub const EVENT: &str = "heartbeat";
    /// How often it is sent, in seconds.
    pub const EVERY_S: u64 = 5;
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: UnixSeconds = UnixSeconds(2_000);

    fn token(iat: u64) -> TokenFacts<'static> {
        TokenFacts { jti: "j", device: "pump-1", kid: "k", iat: UnixSeconds(iat) }
    }

    fn found(revocation: Revocation, iat: u64) -> bool {
        Revocations::from_iter([revocation]).find(&token(iat), ["pumps"]).is_some()
    }

    #[test]
    fn each_target_names_its_tokens_and_no_others() {
        let before = UnixSeconds(1_000);
        for (revocation, same_time_is_spared) in [
            (Revocation::of_token("j", END), false),
            (Revocation::of_key("k", END), false),
            (Revocation::of_device("pump-1", before, END), true),
            (Revocation::of_group("pumps", before, END), true),
            (Revocation::of_all(before, END), true),
        ] {
            assert!(found(revocation.clone(), 999), "{revocation:?}");
            assert_eq!(found(revocation.clone(), 1_000), !same_time_is_spared, "{revocation:?}");
        }
        for other in [
            Revocation::of_token("J", END),
            Revocation::of_token("pump-1", END),
            Revocation::of_key("j", END),
            Revocation::of_device("pump-10", before, END),
            Revocation::of_device("pumps", before, END),
            Revocation::of_group("pump-1", before, END),
        ] {
            assert!(!found(other.clone(), 1), "{other:?}");
        }
    }

    #[test]
    fn a_device_is_told_from_when_on_its_tokens_are_good() {
        let at = UnixSeconds;
        let revocations: Revocations = [
            Revocation::of_device("pump-1", at(1_000), END),
            Revocation::of_group("pumps", at(1_001), END),
            Revocation::of_token("valve-1", END),
        ]
        .into_iter()
        .collect();
        for (device, group, good_from) in [
            ("pump-1", "valves", Some(at(1_000))),
            ("pump-1", "pumps", Some(at(1_001))),
            ("pump-2", "pumps", Some(at(1_001))),
            ("valve-1", "valves", None),
        ] {
            assert_eq!(revocations.good_from(device, group), good_from, "{device} {group}");
            let named = |iat| revocations.find(&TokenFacts { device, ..token(iat) }, [group]).is_some();
            assert!(good_from.is_none_or(|from| named(from.0 - 1) && !named(from.0)), "{device} {group}");
        }
        let all = Revocations::from_iter([Revocation::of_all(at(1_002), END)]);
        assert_eq!(all.good_from("pump-1", "pumps"), Some(at(1_002)));
    }

    #[test]
    fn the_wider_of_two_counts() {
        let device = |before| Revocation::of_device("pump-1", UnixSeconds(before), UnixSeconds(before + 10));
        for order in [[500, 900], [900, 500]] {
            let revocations: Revocations = order.map(device).into_iter().collect();
            assert_eq!(revocations.iter().collect::<Vec<_>>(), [device(900)]);
        }
    }

    #[test]
    fn what_names_only_dead_tokens_is_forgotten() {
        let mut revocations = Revocations::from_iter([Revocation::of_token("j", END)]);
        revocations.forget_expired(END.minus(1));
        assert_eq!(revocations.len(), 1);
        revocations.forget_expired(END);
        assert!(revocations.is_empty());
    }

    #[test]
    fn the_wire_form_is_stable_and_strict() {
        for (revocation, json) in [
            (Revocation::of_token("j", END), r#"{"jti":"j","expires_at":2000}"#),
            (Revocation::of_key("k", END), r#"{"kid":"k","expires_at":2000}"#),
            (
                Revocation::of_device("d", UnixSeconds(9), END),
                r#"{"device":"d","before":9,"expires_at":2000}"#,
            ),
            (Revocation::of_group("g", UnixSeconds(9), END), r#"{"group":"g","before":9,"expires_at":2000}"#),
            (Revocation::of_all(UnixSeconds(9), END), r#"{"all":true,"before":9,"expires_at":2000}"#),
        ] {
            assert_eq!(serde_json::to_string(&revocation).unwrap(), json);
            assert_eq!(serde_json::from_str::<Revocation>(json).unwrap(), revocation);
        }
        for (json, reason) in [
            (r#"{"expires_at":1}"#, InvalidRevocation::NoTarget),
            (r#"{"fleet":"x","expires_at":1}"#, InvalidRevocation::NoTarget),
            (r#"{"all":false,"before":1,"expires_at":1}"#, InvalidRevocation::NoTarget),
            (r#"{"jti":"j","kid":"k","expires_at":1}"#, InvalidRevocation::SeveralTargets),
            (r#"{"device":"d","expires_at":1}"#, InvalidRevocation::NoBefore),
            (r#"{"all":true,"expires_at":1}"#, InvalidRevocation::NoBefore),
            (r#"{"jti":"j","before":1,"expires_at":1}"#, InvalidRevocation::Before),
        ] {
            let error = serde_json::from_str::<Revocation>(json).unwrap_err().to_string();
            assert!(error.contains(&reason.to_string()), "{json}: {error}");
        }
        let later = r#"{"jti":"j","expires_at":2000,"reason":"lost"}"#;
        assert_eq!(serde_json::from_str::<Revocation>(later).unwrap(), Revocation::of_token("j", END));
    }
}
