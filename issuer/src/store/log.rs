//! The log of changes, and what is changed as a whole.

use fleetbadge_validator::revocations::{Revocation, RevocationTarget};
use fleetbadge_validator::time::UnixSeconds;

use super::row::corrupt;
use super::{BrokerRecord, GroupRecord, SigningKeyRecord, StoreError};
use crate::revoker::Revoker;
use crate::root_key::RootKeyId;

/// What was committed since some change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeLog {
    /// Which database it is: random text that is made anew by a [`NewEpoch`].
    pub epoch: Box<str>,
    /// The id of the newest change; 0 if there was none yet.
    pub last: u64,
    /// Every change since the one that was asked for, the oldest first; `None`
    /// if some of them are no longer known.
    pub changes: Option<Vec<Change>>,
    /// What the database's own clock shows; `None` if it has none.
    pub now: Option<UnixSeconds>,
    /// The latest time at which any node has worked.
    pub clock_high: UnixSeconds,
    /// Signed statements that end before may have been used already, by those
    /// who knew more than this database does.
    pub statements_after: UnixSeconds,
    /// How long tokens may live, by the word of whichever node ever allowed
    /// most, in seconds.
    pub max_token_lifetime_s: u64,
}

/// Something was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Counted up by one from change to change, in the order in which they
    /// were committed.
    pub id: u64,
    /// What.
    pub subject: ChangedSubject,
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedSubject {
    /// The device of this name.
    Device(Box<str>),
    /// Many devices.
    Devices,
    /// Groups or brokers.
    Settings,
    /// Which root keys are needed, or which is current.
    RootKeys,
    /// Signing keys.
    SigningKeys,
    /// A revocation was added; it has the id of the change.
    Revocation,
}

/// A revocation and its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedRevocation {
    /// The id of the change that added it.
    pub id: u64,
    /// What it takes back.
    pub revocation: Revocation,
}

/// The groups and brokers of one moment. Each is checked against the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingSet {
    /// Counted up with every change of any of them.
    pub revision: u64,
    /// In the order of their names' bytes.
    pub groups: Vec<GroupRecord>,
    /// In the order of their names' bytes.
    pub brokers: Vec<BrokerRecord>,
}

/// The root keys of one moment that something may be under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededRootKeys {
    /// The one that everything new is under.
    pub current: RootKeyId,
    /// Those that were current before, until they are removed.
    pub others: Vec<RootKeyId>,
}

impl NeededRootKeys {
    /// All of them, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = RootKeyId> {
        [self.current].into_iter().chain(self.others.iter().copied())
    }

    /// What is stored; `None` in a new database.
    pub(super) fn from_rows(rows: Vec<(String, i64)>) -> Result<Option<Self>, StoreError> {
        let (mut current, mut others) = (None, Vec::new());
        for (id, is_current) in rows {
            let id = id.parse().map_err(|error| corrupt("root key", &error))?;
            if is_current == 1 { current = Some(id) } else { others.push(id) }
        }
        match (current, others.is_empty()) {
            (Some(current), _) => Ok(Some(Self { current, others })),
            (None, true) => Ok(None),
            (None, false) => Err(corrupt("root key", &"none is current")),
        }
    }
}

/// The signing keys of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningKeySet {
    /// Counted up with every change, so that none overwrites another.
    pub revision: u64,
    /// The keys, the oldest first.
    pub keys: Vec<SigningKeyRecord>,
}

/// A change of the signing keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigningKeyChange<'a> {
    /// The revision that it was made of.
    pub revision: u64,
    /// Keys that are added, or whose schedules are set.
    pub set: &'a [SigningKeyRecord],
    /// The `kid`s of keys that are deleted, private halves and all.
    pub delete: &'a [&'a str],
    /// What is taken back with that.
    pub revoke: &'a [Revocation],
}

/// What is done to a database that does not know what has happened: it was
/// saved before and is restored, or a wrong clock has made it forget.
#[derive(Clone)]
pub struct NewEpoch {
    /// Takes back every token: some may have been taken back meanwhile.
    pub revoker: Revoker,
    /// Refuses the signed statements that may have been used meanwhile.
    pub statements_after: UnixSeconds,
}

impl NewEpoch {
    /// What is taken back where tokens were allowed to live so long: all, and
    /// by name what these keys sign, as a thief writes what `iat` he likes.
    pub(super) fn revocations(&self, max_token_lifetime_s: u64, kids: &[String]) -> Vec<Revocation> {
        self.revoker.allow_token_lifetime(max_token_lifetime_s);
        kids.iter().map(|kid| self.revoker.key(kid)).chain([self.revoker.all()]).collect()
    }
}

impl ChangedSubject {
    /// How its kind is stored.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Device(_) => "device",
            Self::Devices => "devices",
            Self::Settings => "settings",
            Self::RootKeys => "root_keys",
            Self::SigningKeys => "signing_keys",
            Self::Revocation => "revocation",
        }
    }

    /// The name that is stored with its kind.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Device(name) => name,
            Self::Devices | Self::Settings | Self::RootKeys | Self::SigningKeys | Self::Revocation => "",
        }
    }

    /// What was stored.
    pub(super) fn from_kind_and_name(kind: &str, name: &str) -> Option<Self> {
        let plain = [Self::Devices, Self::Settings, Self::RootKeys, Self::SigningKeys, Self::Revocation];
        if kind == "device" {
            return Some(Self::Device(name.into()));
        }
        plain.into_iter().find(|subject| subject.kind() == kind)
    }
}

/// What a revocation's target is found by: its kind and its whole name.
pub(crate) fn target_key(target: &RevocationTarget) -> String {
    match target {
        RevocationTarget::Token(jti) => format!("token {jti}"),
        RevocationTarget::Device(name) => format!("device {name}"),
        RevocationTarget::Group(name) => format!("group {name}"),
        RevocationTarget::Key(kid) => format!("key {kid}"),
        RevocationTarget::All => "all".into(),
    }
}
