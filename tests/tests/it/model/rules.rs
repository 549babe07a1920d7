//! The rules of the design, each of which can be left out to see what it is
//! good for; and how much happens in a run.

/// How long a change may take to reach a node that mints: `propagation_bound_s`.
pub(super) const BOUND: u64 = 1;
/// How far the clock of a node that mints may be from the store's.
pub(super) const CLOCKS: u64 = 1;
/// What validators and issuers allow for clocks that differ; two nodes may be
/// as far apart as this.
pub(super) const SKEW: u64 = 2 * CLOCKS;
/// The life of a token.
pub(super) const LIFE: u64 = 2;
/// How long a new key is announced at least.
pub(super) const ANNOUNCE: u64 = BOUND + CLOCKS + 1;
/// After how long a new key signs, whoever holds it.
pub(super) const DEADLINE: u64 = 6;
/// How long a validator that was not heard of still counts.
pub(super) const WINDOW: u64 = 3;
/// How old the keys of a validator may be: `max_staleness_s`. Longer than a
/// token lives, as by default.
pub(super) const STALE: u64 = 9;
/// When a run begins.
pub(super) const START: u64 = 100;

/// What the design relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// A revocation of a device or of all reaches beyond the time at which the
    /// last node has heard of it.
    BeforeReachesBeyondTheBound,
    /// Its moment is counted from the store's clock: those of two nodes may be
    /// twice as far apart as each is from the store's.
    BeforeIsOfTheStoresClock,
    /// A node that is not proven current mints nothing.
    MintsOnlyWhenCurrent,
    /// A node whose clock is wrong mints nothing.
    MintsOnlyByARightClock,
    /// `iat` is taken, and the node found current, before the device is read.
    TimeIsTakenBeforeTheDeviceIsRead,
    /// No token is minted that the node knows to be revoked.
    MintsNothingRevoked,
    /// The store says whether a `jti` is new.
    JtiIsKeptByTheStore,
    /// It also says which assertions a restore has ended: a node may not have
    /// heard of that.
    AssertionsEndInTheStore,
    /// An assertion from before a restore is refused: its `jti` may have been
    /// used after the backup was taken.
    RestoreEndsAssertions,
    /// The same for an assertion by a clock that is ahead as far as is allowed.
    RestoreEndsEarlyAssertions,
    /// A restore revokes all that was minted before.
    RestoreRevokesAll,
    /// A restore makes a new epoch.
    RestoreMakesAnEpoch,
    /// A restore makes new keys.
    RestoreMakesKeys,
    /// A restore revokes the keys of before, by name: who has stolen one writes
    /// tokens of any time.
    RestoreRevokesKeys,
    /// A snapshot adds to what a validator knows; nothing is taken off that has
    /// not expired.
    SnapshotOnlyAdds,
    /// What a validator acts upon is on its disk.
    DiskComesFirst,
    /// A revoked key is revoked at the validators, not only unpublished.
    KeyRevocationIsPushed,
    /// The revocation of a key outlives every copy of the key: who has stolen
    /// it goes on writing tokens.
    KeyRevocationOutlivesKeySets,
    /// A node that is not current does not give out keys.
    KeysOnlyFromACurrentNode,
    /// A key signs early only if every validator has reported it.
    EarlyOnlyIfConfirmed,
    /// A report counts once no node gives out the older keys.
    EarlyReportsDoNotCount,
    /// A key that signs early does so when all nodes know.
    EarlyOnlyAfterTheBound,
    /// A change of keys names the keys that it was made from.
    KeysAreChangedByRevision,
}

/// How much happens in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    /// What it is called.
    pub(super) name: &'static str,
    /// When it ends, in seconds after it began, as all times here.
    pub(super) end: u64,
    /// Until when operators do something, and validators fetch keys. Something is
    /// done in the first second: until then all seconds are alike.
    pub(super) operators_until: u64,
    pub(super) fetches_until: u64,
    /// By how much the clocks of the nodes are ahead of the store's.
    pub(super) clocks: [i64; 2],
    /// Whether the first node, at which operators are, hears all at once.
    pub(super) first_node_is_current: bool,
    pub(super) validators: usize,
    pub(super) disables: u8,
    pub(super) enables: u8,
    pub(super) rotations: u8,
    pub(super) key_revocations: u8,
    pub(super) restores: u8,
    /// Whether a device makes a client assertion, which anybody may repeat.
    pub(super) has_assertion: bool,
    /// Whether a request may take its time.
    pub(super) has_slow_requests: bool,
    /// Whether validators may die between any two writes, and start again.
    pub(super) has_restarts: bool,
}

/// Nothing happens.
pub(super) const NOTHING: Scope = Scope {
    name: "nothing",
    end: 0,
    operators_until: u64::MAX,
    fetches_until: u64::MAX,
    clocks: [-1, 1],
    first_node_is_current: false,
    validators: 1,
    disables: 0,
    enables: 0,
    rotations: 0,
    key_revocations: 0,
    restores: 0,
    has_assertion: false,
    has_slow_requests: false,
    has_restarts: false,
};
