//! A model of rotation × revocation × replica lag × replay, checked
//! exhaustively: every order of everything that can happen within a few
//! seconds, on two nodes over one store and the validators that follow them.
//!
//! Seconds are few so that all can be gone through: see the constants in
//! [`rules`]. What is decided by pure code of the programs is decided by it here
//! too: which tokens a revocation names, and how a rotation, a promotion and the
//! revocation of a key are planned. Any one token may be the one that is looked
//! at, so that what holds for it holds for all. A node or a validator that is cut off is one that hears nothing.

mod operators;
mod properties;
mod rules;
mod state;
mod steps;

use std::collections::BTreeSet;

use fleetbadge_validator::time::UnixSeconds;
use stateright::{Checker as _, HasDiscoveries, Model as _, Path};

use properties::{DISABLED, NEVER_AGAIN, ONE_KEY, ONE_TOKEN, RESTORED, REVOKED_KEY, STILLBORN, VERIFIABLE};
use rules::{NOTHING, Rule, START, Scope};
use state::State;
use steps::Action;

/// The model: what happens, and which rule is left out.
struct Issuance {
    scope: Scope,
    without: Option<Rule>,
}

impl Issuance {
    fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// What may happen in a state.
    fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        let scope = &self.scope;
        let has_begun = state.store.content.change > 0 || state.backup.is_some() || state.assertion.is_some();
        if has_begun && state.now < START + scope.end {
            actions.push(Action::Tick);
        }
        if state.operators_act(scope) {
            let is_disabled = state.store.content.is_disabled;
            if state.disables < scope.disables && !is_disabled {
                actions.push(Action::Disable);
            }
            if state.enables < scope.enables && is_disabled {
                actions.push(Action::Enable);
            }
            if state.restores < scope.restores {
                actions.push(if state.backup.is_none() { Action::Backup } else { Action::Restore });
            }
        }
        if scope.has_assertion && state.assertion.is_none() {
            actions.push(Action::Assert { is_ahead: false });
            // A clock counts only once time goes on.
            if scope.end > 0 {
                actions.push(Action::Assert { is_ahead: true });
            }
        }
        if state.token.is_none() {
            actions
                .extend((0..state.keys_made).filter(|kid| state.revoked_keys.has(*kid)).map(Action::Forge));
        }
        let keys_change = scope.rotations + scope.key_revocations + scope.restores > 0;
        let keys_are_fetched = keys_change && state.now <= START.saturating_add(scope.fetches_until);
        for node in 0..state.nodes.len() {
            self.possible_at(state, node, actions);
            for validator in (0..state.validators.len()).filter(|n| state.is_settled(*n)) {
                if scope.disables + scope.key_revocations + scope.restores > 0 {
                    actions.push(Action::Hear(validator, node));
                }
                if keys_are_fetched {
                    actions.push(Action::Fetch(validator, node));
                }
            }
        }
        for validator in 0..state.validators.len() {
            if !state.is_settled(validator) {
                actions.extend([Action::Settle(validator), Action::Restart(validator)]);
            } else if state.is_under_way() {
                actions.push(Action::Report(validator));
            }
        }
    }

    fn possible_at(&self, state: &State, node: usize, actions: &mut Vec<Action>) {
        let scope = &self.scope;
        actions.push(Action::CatchUp(node));
        if state.rotations < scope.rotations && state.operators_act(scope) {
            actions.push(Action::Rotate(node));
        }
        if state.key_revocations < scope.key_revocations && state.operators_act(scope) {
            let keys = &state.nodes[node].copy.keys;
            actions.extend(keys.iter().map(|key| Action::RevokeKey(node, key.kid)));
        }
        if state.is_under_way() {
            actions.push(Action::Confirm(node));
        }
        if state.assertion.is_some() {
            actions.push(Action::Present(node));
        }
        if state.token.is_some() {
            return;
        }
        if !scope.has_slow_requests {
            actions.push(Action::Mint(node));
        } else if state.nodes[node].request.is_some() {
            actions.push(Action::Finish(node));
        } else if state.nodes.iter().all(|node| node.request.is_none()) {
            actions.push(Action::Begin(node));
        }
    }
}

impl State {
    const fn operators_act(&self, scope: &Scope) -> bool {
        self.now <= START.saturating_add(scope.operators_until)
    }

    /// Whether a rotation is.
    fn is_under_way(&self) -> bool {
        self.store.content.keys.iter().any(|key| UnixSeconds(self.now) < key.schedule.active_at)
    }

    /// Whether a validator has nothing half done.
    fn is_settled(&self, validator: usize) -> bool {
        self.validators[validator].memory == self.validators[validator].disk
    }
}

const DISABLE: Scope = Scope { name: "disable and enable", end: 6, disables: 2, enables: 1, ..NOTHING };
const SLOW: Scope =
    Scope { name: "slow requests", end: 4, disables: 1, enables: 1, has_slow_requests: true, ..NOTHING };
const WRONG_CLOCK: Scope =
    Scope { name: "a wrong clock", end: 4, disables: 1, enables: 1, clocks: [0, 3], ..NOTHING };
const RESTART: Scope = Scope {
    name: "validators that start again",
    end: 1,
    operators_until: 0,
    disables: 1,
    key_revocations: 1,
    first_node_is_current: true,
    has_restarts: true,
    ..NOTHING
};
const ROTATE: Scope = Scope { name: "rotation", end: 7, operators_until: 0, rotations: 1, ..NOTHING };
const TWO_VALIDATORS: Scope = Scope {
    name: "rotation with two validators",
    end: 4,
    validators: 2,
    first_node_is_current: true,
    ..ROTATE
};
const TWO_ROTATIONS: Scope =
    Scope { name: "two rotations", end: 7, operators_until: 1, rotations: 2, validators: 0, ..NOTHING };
const REVOKE_KEY: Scope = Scope {
    name: "a stolen key",
    end: 10,
    operators_until: 0,
    fetches_until: 2,
    key_revocations: 1,
    first_node_is_current: true,
    ..NOTHING
};
const REPLAY: Scope = Scope {
    name: "replay over a restore",
    end: 5,
    restores: 1,
    has_assertion: true,
    validators: 0,
    ..NOTHING
};
const RESTORE: Scope =
    Scope { name: "restore of a device", end: 4, operators_until: 0, disables: 1, restores: 1, ..NOTHING };
const RESTORE_KEYS: Scope = Scope {
    name: "restore of a key",
    end: 4,
    operators_until: 0,
    key_revocations: 1,
    restores: 1,
    first_node_is_current: true,
    clocks: [0, 0],
    ..NOTHING
};
/// Until the revocation of the key is forgotten.
const LONG_AFTER_RESTORE: Scope =
    Scope { name: "long after the restore of a key", end: 13, fetches_until: 4, ..RESTORE_KEYS };
/// Much at once, all within one second.
const ALL_BUT_RESTORE: Scope = Scope {
    name: "all but a restore",
    disables: 1,
    rotations: 1,
    key_revocations: 1,
    first_node_is_current: true,
    has_assertion: true,
    clocks: [0, 0],
    ..NOTHING
};
const ALL_BUT_ROTATION: Scope =
    Scope { name: "all but a rotation", rotations: 0, restores: 1, ..ALL_BUT_RESTORE };
const ALL_BUT_STOLEN_KEY: Scope =
    Scope { name: "all but a stolen key", key_revocations: 0, restores: 1, ..ALL_BUT_RESTORE };

const SCOPES: [Scope; 15] = [
    DISABLE,
    SLOW,
    WRONG_CLOCK,
    RESTART,
    ROTATE,
    TWO_VALIDATORS,
    TWO_ROTATIONS,
    REVOKE_KEY,
    REPLAY,
    RESTORE,
    RESTORE_KEYS,
    LONG_AFTER_RESTORE,
    ALL_BUT_RESTORE,
    ALL_BUT_ROTATION,
    ALL_BUT_STOLEN_KEY,
];

#[test]
fn the_design_holds_in_every_state() {
    let mut all = 0;
    for scope in SCOPES {
        let checker = Issuance { scope, without: None }.checker().spawn_bfs().join();
        checker.assert_properties();
        let states = checker.unique_state_count();
        println!("{}: {states} states", scope.name);
        all += states;
    }
    println!("{all} states in all");
}

/// Each rule, where it matters, and what does not hold without it.
const USES: [(Rule, Scope, &str); 23] = [
    (Rule::BeforeReachesBeyondTheBound, DISABLE, DISABLED),
    (Rule::BeforeIsOfTheStoresClock, DISABLE, DISABLED),
    (Rule::MintsOnlyWhenCurrent, DISABLE, DISABLED),
    (Rule::MintsOnlyByARightClock, WRONG_CLOCK, DISABLED),
    (Rule::TimeIsTakenBeforeTheDeviceIsRead, SLOW, DISABLED),
    (Rule::MintsNothingRevoked, DISABLE, STILLBORN),
    (Rule::JtiIsKeptByTheStore, REPLAY, ONE_TOKEN),
    (Rule::AssertionsEndInTheStore, REPLAY, ONE_TOKEN),
    (Rule::RestoreEndsAssertions, REPLAY, ONE_TOKEN),
    (Rule::RestoreEndsEarlyAssertions, REPLAY, ONE_TOKEN),
    (Rule::RestoreRevokesAll, RESTORE_KEYS, RESTORED),
    (Rule::RestoreMakesAnEpoch, RESTORE_KEYS, RESTORED),
    (Rule::RestoreMakesKeys, LONG_AFTER_RESTORE, REVOKED_KEY),
    (Rule::RestoreRevokesKeys, RESTORE_KEYS, REVOKED_KEY),
    (Rule::SnapshotOnlyAdds, RESTART, NEVER_AGAIN),
    (Rule::DiskComesFirst, RESTART, NEVER_AGAIN),
    (Rule::KeyRevocationIsPushed, REVOKE_KEY, REVOKED_KEY),
    (Rule::KeyRevocationOutlivesKeySets, REVOKE_KEY, REVOKED_KEY),
    (Rule::KeysOnlyFromACurrentNode, ROTATE, VERIFIABLE),
    (Rule::EarlyOnlyIfConfirmed, ROTATE, VERIFIABLE),
    (Rule::EarlyReportsDoNotCount, ROTATE, VERIFIABLE),
    (Rule::EarlyOnlyAfterTheBound, ROTATE, VERIFIABLE),
    (Rule::KeysAreChangedByRevision, TWO_ROTATIONS, ONE_KEY),
];

#[test]
fn without_any_one_rule_something_does_not_hold() {
    for (rule, scope, property) in USES {
        let found = HasDiscoveries::AllOf(BTreeSet::from([property]));
        let model = Issuance { scope, without: Some(rule) };
        let checker = model.checker().finish_when(found).spawn_bfs().join();
        let counterexample = checker.discovery(property).map(Path::into_actions);
        let counterexample = counterexample.unwrap_or_else(|| panic!("without {rule:?} {property}"));
        println!("without {rule:?}, not: {property}: {counterexample:?}");
    }
}
