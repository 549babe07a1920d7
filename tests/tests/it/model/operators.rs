//! What operators do, and how keys change.

use fleetbadge_issuer::signing_keys::plan::{Plan, plan_rotation};
use fleetbadge_issuer::signing_keys::{KeyFetch, KeyState, KeyTiming, Schedule};
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
            Target::Device => (before, after_tokens),
            Target::All => (before, after_copies),
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

    pub(super) fn rotate(&self, state: &mut State, node: usize) -> Option<()> {
        state.rotations += 1;
        self.may_change_keys(state, node).then_some(())?;
        plan_and_write(state, node, false)?;
        state.store.content.changed(None);
        Some(())
    }

    pub(super) fn revoke_key(&self, state: &mut State, node: usize, kid: usize) -> Option<()> {
        let copy = &state.nodes[node].copy;
        (copy.keys == state.store.content.keys).then_some(())?;
        let at = state.nodes[node].clock(state.now);
        let of = |wanted| copy.keys_that_are(wanted, at).any(|key| key.kid == kid);
        if of(KeyState::Active) {
            plan_and_write(state, node, true)?;
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

    pub(super) fn confirm(&self, state: &mut State, node: usize) -> Option<()> {
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
            let counts = !self.keeps(Rule::EarlyReportsDoNotCount)
                || state.now - report.age >= announced_at + ANNOUNCE;
            counts && report.keys.has(announced.kid)
        };
        let is_confirmed = known.iter().all(|(_, report)| has_confirmed(report));
        let is_due =
            at >= announced_at + ANNOUNCE && (is_confirmed || !self.keeps(Rule::EarlyOnlyIfConfirmed));
        let from = UnixSeconds(at + if self.keeps(Rule::EarlyOnlyAfterTheBound) { BOUND } else { 0 });
        (is_due && from < announced.schedule.active_at).then_some(())?;
        let confirmed_by = known.iter().map(|(n, _)| *n).collect();
        let content = &mut state.store.content;
        content.reschedule(announced.kid, Schedule { active_at: from, ..announced.schedule });
        let dropped_at = Some(from.plus(LIFE + SKEW));
        content.reschedule(active.kid, Schedule { retired_at: Some(from), dropped_at, ..active.schedule });
        content
            .keys
            .iter_mut()
            .filter(|key| key.kid == announced.kid)
            .for_each(|key| key.confirmed_by = confirmed_by);
        content.changed(None);
        Some(())
    }
}

/// Plans by the copy of a node, and writes.
fn plan_and_write(state: &mut State, node: usize, at_once: bool) -> Option<()> {
    let keys: Vec<_> =
        state.nodes[node].copy.keys.iter().map(|key| (Algorithm::ES256, key.schedule)).collect();
    let kids: Vec<_> = state.nodes[node].copy.keys.iter().map(|key| key.kid).collect();
    let timing = KeyTiming {
        rotation_s: None,
        announce_s: 0,
        confirm_deadline_s: DEADLINE,
        propagation_bound_s: 0,
        heard_everywhere_s: 0,
        publish_retired_s: LIFE + SKEW,
    };
    let now = UnixSeconds(state.nodes[node].clock(state.now));
    let fetch = KeyFetch::Within(0);
    let Plan { changed, new } = plan_rotation(&keys, Algorithm::ES256, &timing, fetch, at_once, now).ok()?;
    for (position, schedule) in changed {
        state.store.content.reschedule(kids[position], schedule);
    }
    if let Some(schedule) = new {
        let key = state.make_key(schedule);
        state.store.content.keys.push(key);
    }
    Some(())
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
