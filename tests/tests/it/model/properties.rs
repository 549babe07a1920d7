//! What must hold in every state, and what must be seen in some.

use fleetbadge_issuer::signing_keys::KeyState;
use stateright::{Model, Property};

use super::Issuance;
use super::rules::{BOUND, CLOCKS};
use super::state::{State, Token, Validator};

pub(super) const DISABLED: &str = "no token of a disabled device is let in by a current validator";
pub(super) const ONE_TOKEN: &str = "an assertion is good for one token at most";
pub(super) const ONE_KEY: &str = "one key at most signs, as each current node sees it";
pub(super) const VERIFIABLE: &str = "who has confirmed a key can verify its tokens until they end";
pub(super) const REVOKED_KEY: &str = "no token of a revoked key is let in by a current validator";
pub(super) const RESTORED: &str = "nothing from before a restore is let in by a current validator";
pub(super) const NEVER_AGAIN: &str = "what a validator has refused as revoked it never lets in";
pub(super) const STILLBORN: &str = "nobody is given a token that the issuer knows to be revoked";

impl Issuance {
    pub(super) fn all_properties(&self) -> Vec<Property<Self>> {
        let scope = self.scope;
        let mut properties = vec![
            Property::always(DISABLED, |model: &Self, state: &State| {
                !model.some_current_accepts(state, |token| token.is_of_disabled)
            }),
            Property::always(ONE_TOKEN, |_, state: &State| state.tokens_of_assertion <= 1),
            Property::always(ONE_KEY, |_, state: &State| {
                let at_most_one = |node: &super::state::Node| {
                    node.copy.keys_that_are(KeyState::Active, node.clock(state.now)).count() <= 1
                };
                state.nodes.iter().filter(|node| node.is_proven_current()).all(at_most_one)
            }),
            Property::always(VERIFIABLE, |_, state: &State| state.confirmed_are_verifiable()),
            Property::always(REVOKED_KEY, |model: &Self, state: &State| {
                !model.some_current_accepts(state, |token| token.is_of_revoked_key)
            }),
            Property::always(RESTORED, |model: &Self, state: &State| {
                !model.some_current_accepts(state, |token| token.is_of_lost_epoch)
            }),
            Property::always(NEVER_AGAIN, |_, state: &State| {
                let accepts_refused = |token: Token| {
                    let refused = state.validators.iter().filter(|validator| validator.has_refused);
                    refused.into_iter().any(|validator| state.accepts(validator, &token))
                };
                !state.token.is_some_and(accepts_refused)
            }),
            Property::always(STILLBORN, |_, state: &State| {
                !state.token.is_some_and(|token| token.is_stillborn)
            }),
        ];
        // Long enough for what was before to be over.
        let is_long = scope.end > BOUND + CLOCKS + 1;
        let mut is_seen = |happens: bool, property| {
            if happens {
                properties.push(property);
            }
        };
        is_seen(
            scope.validators > 0,
            Property::sometimes("a token is let in", |model: &Self, state: &State| {
                model.some_current_accepts(state, |_| true)
            }),
        );
        is_seen(
            scope.disables > 0,
            Property::sometimes("a token of a disabled device is about", |_, state: &State| {
                state.token.is_some_and(|token| token.is_of_disabled)
            }),
        );
        is_seen(
            scope.enables > 0 && is_long,
            Property::sometimes(
                "a device that was enabled again is let in",
                |model: &Self, state: &State| model.some_current_accepts(state, |token| token.is_of_enabled),
            ),
        );
        is_seen(
            scope.rotations > 0 && scope.validators > 0 && is_long,
            Property::sometimes("a confirmed key signs and is accepted", |model: &Self, state: &State| {
                let confirmed = |token: &Token| {
                    let keys = &state.store.content.keys;
                    keys.iter().any(|key| key.kid == token.kid && key.kid > 0 && key.confirmed_by.has(0))
                };
                model.some_accepts(state, confirmed, |_| true)
            }),
        );
        is_seen(
            scope.key_revocations > 0,
            Property::sometimes(
                "after a key was revoked another is accepted",
                |model: &Self, state: &State| {
                    model.some_current_accepts(state, |token| {
                        state.key_revocations > 0 && !token.is_of_revoked_key
                    })
                },
            ),
        );
        is_seen(
            scope.restores > 0 && scope.validators > 0 && is_long,
            Property::sometimes("after a restore a token is let in", |model: &Self, state: &State| {
                model.some_current_accepts(state, |token| state.restores > 0 && !token.is_of_lost_epoch)
            }),
        );
        is_seen(
            scope.has_assertion,
            Property::sometimes("an assertion brings a token", |_, state: &State| {
                state.tokens_of_assertion == 1
            }),
        );
        properties
    }

    fn some_current_accepts(&self, state: &State, is_meant: impl Fn(&Token) -> bool) -> bool {
        self.some_accepts(state, is_meant, |validator| state.is_current(validator))
    }

    fn some_accepts(
        &self,
        state: &State,
        is_meant: impl Fn(&Token) -> bool,
        is_asked: impl Fn(&Validator) -> bool,
    ) -> bool {
        let Some(token) = state.token.filter(is_meant) else { return false };
        let mut asked = state.validators.iter().filter(|validator| is_asked(validator));
        asked.any(|validator| state.accepts(validator, &token))
    }
}

impl State {
    /// In normal rotation: not after an emergency or a restore.
    fn confirmed_are_verifiable(&self) -> bool {
        let Some(token) = self.token.filter(|token| self.now < token.exp) else { return true };
        if self.key_revocations > 0 || self.restores > 0 {
            return true;
        }
        let keys = &self.store.content.keys;
        let confirmed_by =
            keys.iter().find(|key| key.kid == token.kid).map(|key| key.confirmed_by).unwrap_or_default();
        let numbered = self.validators.iter().enumerate();
        numbered
            .filter(|(n, _)| confirmed_by.has(*n))
            .all(|(_, validator)| validator.memory.keys.has(token.kid))
    }
}

/// Used by the checker.
impl Model for Issuance {
    type State = State;
    type Action = super::steps::Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.beginning()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Self::Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Self::Action) -> Option<State> {
        self.step(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.all_properties()
    }
}
