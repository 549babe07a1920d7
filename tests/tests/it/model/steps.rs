//! What can happen, and what follows.

use fleetbadge_issuer::signing_keys::{KeyState, KeyTiming, Rotation, Schedule, plan_rotation};
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;

use super::Issuance;
use super::rules::{
    ANNOUNCE, BOUND, CLOCKS, DEADLINE, LIFE, Rule, SKEW, STALE, START, WINDOW,
};
use super::state::{
    Content, Entry, Key, Knowledge, Node, Report, Request, Set, State, Store, Target, Token, Validator, entries,
    revocations,
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
    Assert { is_ahead: bool },
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
        let first = Key { kid: 0, schedule: Schedule::first(UnixSeconds(START - DEADLINE)), confirmed_by: everyone };
        let content = Content { epoch: 0, change: 0, is_disabled: false, keys: vec![first], entries: vec![] };
        let node =
            |ahead| Node { copy: content.clone(), age: 0, ahead, has_jti: false, request: None };
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
                let facts = Token { kid, iat: state.now, exp: u64::MAX, is_of_revoked_key: true, ..NEW };
                state.token.get_or_insert(facts);
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
        if let Some(token) = state.token {
            for validator in &mut state.validators {
                validator.has_refused |= token.is_revoked(&validator.memory.entries);
            }
        }
        (state != *before).then_some(state)
    }

    /// A revocation of what was minted before now.
    fn revocation(&self, target: Target, state: &State) -> Entry {
        let now = if self.keeps(Rule::BeforeIsOfTheStoresClock) { state.now } else { state.nodes[0].clock(state.now) };
        let until_all_know = now + BOUND + CLOCKS + 1;
        let before = if self.keeps(Rule::BeforeReachesBeyondTheBound) { until_all_know } else { now };
        let after_tokens = until_all_know + LIFE + SKEW;
        let after_copies = after_tokens.max(until_all_know + STALE);
        let (before, expires_at) = match target {
            Target::Device => (before, after_tokens),
            Target::All => (before, after_copies),
            Target::Key(_) if self.keeps(Rule::KeyRevocationOutlivesKeySets) => (0, after_copies),
            Target::Key(_) => (0, after_tokens),
        };
        Entry { target, before, expires_at, change: 0 }
    }

    fn disable(&self, state: &mut State) {
        let entry = self.revocation(Target::Device, state);
        state.disables += 1;
        state.store.content.is_disabled = true;
        state.store.content.changed(Some(entry));
        if let Some(token) = &mut state.token {
            token.is_of_disabled = true;
        }
    }

    fn restore(&self, state: &mut State) -> Option<()> {
        let all = self.keeps(Rule::RestoreRevokesAll).then(|| self.revocation(Target::All, state));
        let Store { mut content, has_jti, .. } = (**state.backup.as_ref()?).clone();
        state.restores += 1;
        if self.keeps(Rule::RestoreMakesAnEpoch) {
            content.epoch = state.restores;
        }
        if self.keeps(Rule::RestoreMakesKeys) {
            content.keys = vec![state.make_key(Schedule::first(UnixSeconds(state.now)))];
        }
        content.changed(all);
        state.store = Store { content, has_jti, reports: vec![None; state.validators.len()] };
        if let Some(token) = &mut state.token {
            token.is_of_lost_epoch = true;
        }
        Some(())
    }

    /// A change of the keys by a node: as planned from its copy, if nobody has
    /// changed them meanwhile.
    fn may_change_keys(&self, state: &State, node: usize) -> bool {
        let (copy, content) = (&state.nodes[node].copy, &state.store.content);
        copy.keys == content.keys
            || (!self.keeps(Rule::KeysAreChangedByRevision) && copy.epoch == content.epoch)
    }

    fn rotate(&self, state: &mut State, node: usize) -> Option<()> {
        state.rotations += 1;
        self.may_change_keys(state, node).then_some(())?;
        self.plan_and_write(state, node, false)
    }

    fn plan_and_write(&self, state: &mut State, node: usize, at_once: bool) -> Option<()> {
        let keys: Vec<_> =
            state.nodes[node].copy.keys.iter().map(|key| (Algorithm::ES256, key.schedule)).collect();
        let kids: Vec<_> = state.nodes[node].copy.keys.iter().map(|key| key.kid).collect();
        let timing = KeyTiming { announce_s: DEADLINE, publish_retired_s: LIFE + SKEW };
        let now = UnixSeconds(state.nodes[node].clock(state.now));
        let (changed, made) = match plan_rotation(&keys, Algorithm::ES256, timing, at_once, now).ok()? {
            Rotation::Successor { active, successor } => (vec![active], Some(successor)),
            Rotation::Promotion { active, announced } => (vec![active, announced], None),
        };
        for (position, schedule) in changed {
            state.store.content.reschedule(kids[position], schedule);
        }
        if let Some(schedule) = made {
            let key = state.make_key(schedule);
            state.store.content.keys.push(key);
        }
        state.store.content.changed(None);
        Some(())
    }

    fn revoke_key(&self, state: &mut State, node: usize, kid: usize) -> Option<()> {
        let copy = &state.nodes[node].copy;
        (copy.keys == state.store.content.keys).then_some(())?;
        let at = state.nodes[node].clock(state.now);
        let of = |wanted| copy.keys_that_are(wanted, at).any(|key| key.kid == kid);
        if of(KeyState::Active) {
            self.plan_and_write(state, node, true)?;
        } else if of(KeyState::Announced) {
            let active = copy.keys_that_are(KeyState::Active, at).next().copied()?;
            let schedule = Schedule { retired_at: None, dropped_at: None, ..active.schedule };
            state.store.content.reschedule(active.kid, schedule);
        } else if !of(KeyState::Retired) {
            return None;
        }
        let entry = self.revocation(Target::Key(kid), state);
        let content = &mut state.store.content;
        content.keys.retain(|key| key.kid != kid);
        content.changed(self.keeps(Rule::KeyRevocationIsPushed).then_some(entry));
        state.key_revocations += 1;
        state.revoked_keys = state.revoked_keys.with(kid);
        if let Some(token) = &mut state.token {
            token.is_of_revoked_key |= token.kid == kid;
        }
        Some(())
    }

    fn confirm(&self, state: &mut State, node: usize) -> Option<()> {
        let copy = &state.nodes[node].copy;
        (copy.keys == state.store.content.keys).then_some(())?;
        let at = state.nodes[node].clock(state.now);
        let announced = copy.keys_that_are(KeyState::Announced, at).next().copied()?;
        let active = copy.keys_that_are(KeyState::Active, at).next().copied()?;
        let heard_of = |report: &&Report| report.age <= WINDOW;
        let numbered = state.store.reports.iter().enumerate();
        let known: Vec<_> =
            numbered.filter_map(|(n, report)| Some((n, report.as_ref().filter(heard_of)?))).collect();
        let announced_at = announced.schedule.announced_at.0;
        let has_confirmed = |report: &Report| {
            let counts = !self.keeps(Rule::EarlyReportsDoNotCount) || state.now - report.age >= announced_at + ANNOUNCE;
            counts && report.keys.has(announced.kid)
        };
        let is_confirmed = known.iter().all(|(_, report)| has_confirmed(report));
        let is_due = at >= announced_at + ANNOUNCE && (is_confirmed || !self.keeps(Rule::EarlyOnlyIfConfirmed));
        let from = UnixSeconds(at + if self.keeps(Rule::EarlyOnlyAfterTheBound) { BOUND } else { 0 });
        (is_due && from < announced.schedule.active_at).then_some(())?;
        let confirmed_by = known.iter().map(|(n, _)| *n).collect();
        let content = &mut state.store.content;
        content.reschedule(announced.kid, Schedule { active_at: from, ..announced.schedule });
        let dropped_at = Some(from.plus(LIFE + SKEW));
        content.reschedule(active.kid, Schedule { retired_at: Some(from), dropped_at, ..active.schedule });
        content.keys.iter_mut().filter(|key| key.kid == announced.kid).for_each(|key| key.confirmed_by = confirmed_by);
        content.changed(None);
        Some(())
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
        let is_ended = it.copy.entries.iter().any(is_of_before) && self.keeps(Rule::RestoreEndsAssertions);
        let is_to_come = assertion > iat + SKEW;
        let is_lost = it.copy.epoch != state.store.content.epoch && self.keeps(Rule::JtiIsKeptInAnEpoch);
        let is_used = if self.keeps(Rule::JtiIsKeptByTheStore) { state.store.has_jti } else { it.has_jti };
        (!is_ended && !is_to_come && !is_lost && !is_used).then_some(())?;
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
        let age_matters = self.scope.end > STALE || self.scope.restores > 0;
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

const NEW: Token = Token {
    kid: 0,
    iat: 0,
    exp: 0,
    is_of_disabled: false,
    is_of_revoked_key: false,
    is_of_lost_epoch: false,
    is_stillborn: false,
    is_of_enabled: false,
};

impl Content {
    fn reschedule(&mut self, kid: usize, schedule: Schedule) {
        self.keys.iter_mut().filter(|key| key.kid == kid).for_each(|key| key.schedule = schedule);
    }
}

impl State {
    fn make_key(&mut self, schedule: Schedule) -> Key {
        let kid = self.keys_made;
        self.keys_made += 1;
        Key { kid, schedule, confirmed_by: Set::default() }
    }
}

fn catch_up(state: &mut State, node: usize) {
    let node = &mut state.nodes[node];
    let content = &state.store.content;
    if (node.copy.epoch, node.copy.change) != (content.epoch, content.change) {
        node.copy.clone_from(content);
    }
    node.age = 0;
}
