//! What operators do, and how keys change.

use fleetbadge_issuer::signing_keys::plan::{Plan, plan_promotion, plan_revocation, plan_rotation};
use fleetbadge_issuer::signing_keys::{KeyFetch, KeyState, KeyTiming, Planned, Schedule};
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;

use super::Issuance;
use super::rules::{ANNOUNCE, BOUND, CLOCKS, DEADLINE, LIFE, Rule, SKEW, STALE, WINDOW};
use super::state::{Content, Entry, Key, Report, Set, State, Store, Target};

impl Issuance {
    /// A revocation of what was minted before now.
    fn revocation(&self, target: Target, state: &State) -> Entry {
        let now = if self.keeps(Rule::BeforeIsOfTheStoresClock) {
            state.now
        } else {
            state.nodes[0].clock(state.now)
        };
        let until_all_know = now + BOUND + CLOCKS + 1;
        let before = if self.keeps(Rule::BeforeReachesBeyondTheBound) { until_all_know } else { now };
        let after_tokens = until_all_know + LIFE + SKEW;
        let after_copies = after_tokens.max(until_all_know + STALE);
        let (before, expires_at) = match target {
            Target::Device | Target::All => (before, after_tokens),
            Target::Key(_) if self.keeps(Rule::KeyRevocationOutlivesKeySets) => (0, after_copies),
            Target::Key(_) => (0, after_tokens),
        };
        Entry { target, before, expires_at, change: 0 }
    }

    pub(super) fn disable(&self, state: &mut State) {
        let entry = self.revocation(Target::Device, state);
        state.disables += 1;
        state.store.content.is_disabled = true;
        state.store.content.changed(Some(entry));
        if let Some(token) = &mut state.token {
            token.is_of_disabled = true;
        }
    }

    pub(super) fn restore(&self, state: &mut State) -> Option<()> {
        let all = self.keeps(Rule::RestoreRevokesAll).then(|| self.revocation(Target::All, state));
        let revocation_of = |kid| self.revocation(Target::Key(kid), state);
        let Store { mut content, has_jti, .. } = (**state.backup.as_ref()?).clone();
        let kids = content.keys.iter().map(|key| key.kid).filter(|_| self.keeps(Rule::RestoreRevokesKeys));
        let revocations: Vec<Entry> = kids.map(revocation_of).chain(all).collect();
        state.restores += 1;
        // The one of all says the same.
        content.entries.retain(|entry| matches!(entry.target, Target::Key(_)));
        if self.keeps(Rule::RestoreMakesAnEpoch) {
            content.epoch = state.restores;
        }
        if self.keeps(Rule::RestoreMakesKeys) {
            content.keys = vec![state.make_key(Schedule::first(UnixSeconds(state.now)))];
        }
        content.changed(revocations);
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

    pub(super) fn rotate(&self, state: &mut State, node: usize) -> Option<()> {
        state.rotations += 1;
        self.may_change_keys(state, node).then_some(())?;
        let (keys, kids, now) = planned(state, node);
        let plan = plan_rotation(&keys, Algorithm::ES256, &self.timing(), FETCH, false, now).ok()?;
        write(state, &kids, plan);
        state.store.content.changed(None);
        Some(())
    }

    pub(super) fn revoke_key(&self, state: &mut State, node: usize, kid: usize) -> Option<()> {
        let copy = &state.nodes[node].copy;
        (copy.keys == state.store.content.keys).then_some(())?;
        let (keys, kids, now) = planned(state, node);
        let position = kids.iter().position(|known| *known == kid)?;
        (keys[position].1.state(now) != KeyState::Dropped).then_some(())?;
        write(state, &kids, plan_revocation(&keys, position, now));
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

    pub(super) fn confirm(&self, state: &mut State, node: usize) -> Option<()> {
        let copy = &state.nodes[node].copy;
        (copy.keys == state.store.content.keys).then_some(())?;
        let at = state.nodes[node].clock(state.now);
        let announced = copy.keys_that_are(KeyState::Announced, at).next().copied()?;
        let heard_of = |report: &&Report| report.age <= WINDOW;
        let numbered = state.store.reports.iter().enumerate();
        let known: Vec<_> =
            numbered.filter_map(|(n, report)| Some((n, report.as_ref().filter(heard_of)?))).collect();
        let since = announced.schedule.announced_at.0 + self.timing().heard_everywhere_s;
        let has_confirmed = |report: &Report| {
            let counts = !self.keeps(Rule::EarlyReportsDoNotCount) || state.now - report.age >= since;
            counts && report.keys.has(announced.kid)
        };
        let is_confirmed = known.iter().all(|(_, report)| has_confirmed(report));
        (is_confirmed || !self.keeps(Rule::EarlyOnlyIfConfirmed)).then_some(())?;
        let confirmed_by = known.iter().map(|(n, _)| *n).collect();
        let (keys, kids, now) = planned(state, node);
        let plan = plan_promotion(&keys, Algorithm::ES256, &self.timing(), FETCH, now)?;
        write(state, &kids, plan);
        let content = &mut state.store.content;
        let promoted = content.keys.iter_mut().filter(|key| key.kid == announced.kid);
        promoted.for_each(|key| key.confirmed_by = confirmed_by);
        content.changed(None);
        Some(())
    }

    fn timing(&self) -> KeyTiming {
        KeyTiming {
            rotation_s: None,
            announce_s: ANNOUNCE,
            confirm_deadline_s: DEADLINE,
            propagation_bound_s: if self.keeps(Rule::EarlyOnlyAfterTheBound) { BOUND } else { 0 },
            heard_everywhere_s: ANNOUNCE,
            publish_retired_s: LIFE + SKEW,
        }
    }
}

/// Brokers fetch keys sooner than a key is announced.
const FETCH: KeyFetch = KeyFetch::Within(0);

/// What a node plans with: the keys of its copy, their names, and its time.
fn planned(state: &State, node: usize) -> (Vec<Planned>, Vec<usize>, UnixSeconds) {
    let node = &state.nodes[node];
    let keys = node.copy.keys.iter().map(|key| ((Algorithm::ES256, key.schedule), key.kid));
    let (keys, kids) = keys.unzip();
    (keys, kids, UnixSeconds(node.clock(state.now)))
}

fn write(state: &mut State, kids: &[usize], Plan { changed, new }: Plan) {
    for (position, schedule) in changed {
        state.store.content.reschedule(kids[position], schedule);
    }
    if let Some(schedule) = new {
        let key = state.make_key(schedule);
        state.store.content.keys.push(key);
    }
}

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
