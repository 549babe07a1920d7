//! What can happen, and what follows.

use fleetbadge_issuer::signing_keys::{KeyState, Schedule};
use fleetbadge_validator::time::UnixSeconds;

use super::Issuance;
use super::rules::{BOUND, CLOCKS, DEADLINE, LIFE, Rule, SKEW, STALE, START, WINDOW};
use super::state::{
    Content, Entry, Key, Knowledge, Node, Report, Request, Set, State, Store, Target, Token, Validator,
    entries, revocations,
};

/// Something that happens. A node or a validator that is cut off is one to
/// which nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Tick,
    /// An operator, at the first node.
    Disable,
    Enable,
    Backup,
    Restore,
    /// An operator, at any node.
    Rotate(usize),
    RevokeKey(usize, usize),
    /// A node lets an announced key sign early.
    Confirm(usize),
    /// A node reads the changes.
    CatchUp(usize),
    /// A device asks, with a secret.
    Mint(usize),
    /// The same, with time between the beginning and the end.
    Begin(usize),
    Finish(usize),
    /// A device makes a client assertion, by a clock that is ahead or not.
    Assert {
        is_ahead: bool,
    },
    /// The device, or whoever has seen the assertion, presents it.
    Present(usize),
    /// Whoever has stolen a key that was revoked writes a token.
    Forge(usize),
    /// A validator fetches the keys of a node.
    Fetch(usize, usize),
    /// A validator hears the feed of a node.
    Hear(usize, usize),
    /// A validator makes memory and disk agree.
    Settle(usize),
    /// A validator starts again, from disk.
    Restart(usize),
    Report(usize),
}

impl Issuance {
    pub(super) fn beginning(&self) -> State {
        let everyone = (0..self.scope.validators).collect();
        let first =
            Key { kid: 0, schedule: Schedule::first(UnixSeconds(START - DEADLINE)), confirmed_by: everyone };
        let content = Content { epoch: 0, change: 0, is_disabled: false, keys: vec![first], entries: vec![] };
        let node = |ahead| Node { copy: content.clone(), age: 0, ahead, has_jti: false, request: None };
        let knowledge =
            Knowledge { keys: Set::from_iter([0]), keys_age: 0, epoch: 0, change: 0, entries: vec![] };
        let validator = Validator { memory: knowledge.clone(), disk: knowledge, has_refused: false };
        let reports = vec![None; self.scope.validators];
        State {
            now: START,
            nodes: self.scope.clocks.map(node),
            store: Store { content, has_jti: false, reports },
            backup: None,
            validators: vec![validator; self.scope.validators],
            token: None,
            assertion: None,
            tokens_of_assertion: 0,
            keys_made: 1,
            revoked_keys: Set::default(),
            disables: 0,
            enables: 0,
            rotations: 0,
            key_revocations: 0,
            restores: 0,
        }
    }

    /// What follows, if the action is possible and changes anything.
    pub(super) fn step(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Tick => self.tick(&mut state),
            Action::Disable => self.disable(&mut state),
            Action::Enable => {
                state.enables += 1;
                state.store.content.is_disabled = false;
                state.store.content.changed(None);
            }
            Action::Backup => state.backup = Some(Box::new(state.store.clone())),
            Action::Restore => self.restore(&mut state)?,
            Action::Rotate(node) => self.rotate(&mut state, node)?,
            Action::RevokeKey(node, kid) => self.revoke_key(&mut state, node, kid)?,
            Action::Confirm(node) => self.confirm(&mut state, node)?,
            Action::CatchUp(node) => catch_up(&mut state, node),
            Action::Mint(node) => {
                let iat = self.time_if_current(&state.nodes[node], state.now)?;
                let token = self.token(&state, node, iat)?;
                state.token.get_or_insert(token);
            }
            Action::Begin(node) => self.begin(&mut state, node)?,
            Action::Finish(node) => {
                let iat = match state.nodes[node].request.take()? {
                    Request::Timed { iat } => iat,
                    Request::Allowed => self.time_if_current(&state.nodes[node], state.now)?,
                };
                // A request that fails is over all the same.
                if let Some(token) = self.token(&state, node, iat) {
                    state.token.get_or_insert(token);
                }
            }
            Action::Assert { is_ahead } => {
                state.assertion = Some(if is_ahead { state.now + CLOCKS + SKEW } else { state.now });
            }
            Action::Present(node) => self.present(&mut state, node)?,
            Action::Forge(kid) => {
                let token = Token { kid, iat: state.now, exp: state.now + LIFE, ..FORGED };
                state.token.get_or_insert(token);
            }
            Action::Fetch(validator, node) => self.fetch(&mut state, validator, node)?,
            Action::Hear(validator, node) => self.hear(&mut state, validator, node),
            Action::Settle(validator) => {
                let Validator { memory, disk, .. } = &mut state.validators[validator];
                if self.keeps(Rule::DiskComesFirst) {
                    memory.clone_from(disk);
                } else {
                    disk.clone_from(memory);
                }
            }
            Action::Restart(validator) => {
                let Validator { memory, disk, .. } = &mut state.validators[validator];
                memory.clone_from(disk);
            }
            Action::Report(validator) => {
                let keys = state.validators[validator].memory.keys;
                state.store.reports[validator] = Some(Report { keys, age: 0 });
            }
        }
        if self.scope.first_node_is_current {
            catch_up(&mut state, 0);
        }
        if let Some(token) = state.token {
            for validator in &mut state.validators {
                validator.has_refused |= token.is_revoked(&validator.memory.entries);
            }
        }
        (state != *before).then_some(state)
    }

    /// The time by a node, if it may mint.
    fn time_if_current(&self, node: &Node, now: u64) -> Option<u64> {
        let is_current = node.is_proven_current() || !self.keeps(Rule::MintsOnlyWhenCurrent);
        let is_right = node.has_a_right_clock() || !self.keeps(Rule::MintsOnlyByARightClock);
        (is_current && is_right).then(|| node.clock(now))
    }

    fn begin(&self, state: &mut State, node: usize) -> Option<()> {
        let it = &state.nodes[node];
        let request = if self.keeps(Rule::TimeIsTakenBeforeTheDeviceIsRead) {
            Request::Timed { iat: self.time_if_current(it, state.now)? }
        } else {
            (!it.copy.is_disabled).then_some(Request::Allowed)?
        };
        state.nodes[node].request = Some(request);
        Some(())
    }

    /// What a node mints of a time, if it does.
    fn token(&self, state: &State, node: usize, iat: u64) -> Option<Token> {
        let copy = &state.nodes[node].copy;
        let was_allowed = !self.keeps(Rule::TimeIsTakenBeforeTheDeviceIsRead) && self.scope.has_slow_requests;
        (was_allowed || !copy.is_disabled).then_some(())?;
        let kid = copy.keys_that_are(KeyState::Active, iat).next()?.kid;
        let token = Token {
            kid,
            iat,
            exp: iat + LIFE,
            is_of_disabled: state.store.content.is_disabled,
            is_of_revoked_key: state.revoked_keys.has(kid),
            is_of_lost_epoch: copy.epoch != state.store.content.epoch,
            is_of_enabled: state.enables > 0 && !state.store.content.is_disabled,
            is_stillborn: false,
        };
        let is_revoked = token.is_revoked(&copy.entries);
        let is_refused = is_revoked && self.keeps(Rule::MintsNothingRevoked);
        (!is_refused).then_some(Token { is_stillborn: is_revoked, ..token })
    }

    fn present(&self, state: &mut State, node: usize) -> Option<()> {
        let assertion = state.assertion?;
        let it = &state.nodes[node];
        let iat = self.time_if_current(it, state.now)?;
        let token = self.token(state, node, iat)?;
        let early = if self.keeps(Rule::RestoreEndsEarlyAssertions) { SKEW } else { 0 };
        let is_of_before = |entry: &Entry| entry.target == Target::All && assertion < entry.before + early;
        let known = if self.keeps(Rule::AssertionsEndInTheStore) { &state.store.content } else { &it.copy };
        let is_ended = known.entries.iter().any(is_of_before) && self.keeps(Rule::RestoreEndsAssertions);
        let is_to_come = assertion > iat + SKEW;
        let is_used = if self.keeps(Rule::JtiIsKeptByTheStore) { state.store.has_jti } else { it.has_jti };
        (!is_ended && !is_to_come && !is_used).then_some(())?;
        if self.keeps(Rule::JtiIsKeptByTheStore) {
            state.store.has_jti = true;
        } else {
            state.nodes[node].has_jti = true;
        }
        state.tokens_of_assertion += 1;
        state.token.get_or_insert(token);
        Some(())
    }

    fn fetch(&self, state: &mut State, validator: usize, node: usize) -> Option<()> {
        let node = &state.nodes[node];
        (node.is_proven_current() || !self.keeps(Rule::KeysOnlyFromACurrentNode)).then_some(())?;
        let at = UnixSeconds(node.clock(state.now));
        let published = node.copy.keys.iter().filter(|key| key.schedule.state(at) != KeyState::Dropped);
        let keys = published.map(|key| key.kid).collect();
        let known = state.validators[validator].memory.clone();
        self.learn(&mut state.validators[validator], Knowledge { keys, keys_age: 0, ..known });
        Some(())
    }

    fn hear(&self, state: &mut State, validator: usize, node: usize) {
        let copy = &state.nodes[node].copy;
        let known = state.validators[validator].memory.clone();
        let goes_on = copy.epoch == known.epoch && copy.change >= known.change;
        let news = copy.entries.iter().filter(|entry| !goes_on || entry.change > known.change);
        let mut now_known = revocations(news);
        if goes_on || self.keeps(Rule::SnapshotOnlyAdds) {
            revocations(&known.entries).iter().for_each(|revocation| now_known.add(revocation));
        }
        let Content { epoch, change, .. } = *copy;
        let knowledge = Knowledge { epoch, change, entries: entries(&now_known), ..known };
        self.learn(&mut state.validators[validator], knowledge);
    }

    fn tick(&self, state: &mut State) {
        state.now += 1;
        let now = state.now;
        let age_matters = self.scope.end > STALE;
        let forget = |known: &mut Vec<Entry>| known.retain(|entry| entry.expires_at > now);
        forget(&mut state.store.content.entries);
        for node in &mut state.nodes {
            node.age = (node.age + 1).min(BOUND + 1);
            forget(&mut node.copy.entries);
        }
        for report in state.store.reports.iter_mut().flatten() {
            report.age = (report.age + 1).min(WINDOW + 1);
        }
        for validator in &mut state.validators {
            for knowledge in [&mut validator.memory, &mut validator.disk] {
                if age_matters {
                    knowledge.keys_age = (knowledge.keys_age + 1).min(STALE + 1);
                }
                let mut known = revocations(&knowledge.entries);
                known.forget_expired(UnixSeconds(now));
                knowledge.entries = entries(&known);
            }
        }
        // A token that has died makes place for another to look at.
        if state.token.is_some_and(|token| now >= token.exp.saturating_add(SKEW)) {
            state.token = None;
            state.validators.iter_mut().for_each(|validator| validator.has_refused = false);
        }
    }

    /// One after the other, where a validator may die in between.
    fn learn(&self, validator: &mut Validator, knowledge: Knowledge) {
        if !self.scope.has_restarts {
            (validator.memory, validator.disk) = (knowledge.clone(), knowledge);
        } else if self.keeps(Rule::DiskComesFirst) {
            validator.disk = knowledge;
        } else {
            validator.memory = knowledge;
        }
    }
}

/// One of a thief. It lives no longer than others, as no validator lets such a
/// one in, but there is always another.
const FORGED: Token = Token {
    kid: 0,
    iat: 0,
    exp: 0,
    is_of_disabled: false,
    is_of_revoked_key: true,
    is_of_lost_epoch: false,
    is_stillborn: false,
    is_of_enabled: false,
};

fn catch_up(state: &mut State, node: usize) {
    let node = &mut state.nodes[node];
    let content = &state.store.content;
    if (node.copy.epoch, node.copy.change) != (content.epoch, content.change) {
        node.copy.clone_from(content);
    }
    node.age = 0;
}
