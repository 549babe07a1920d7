use proptest::prelude::*;

use super::*;

const TIMING: KeyTiming = KeyTiming {
    rotation_s: Some(100_000),
    announce_s: 600,
    confirm_deadline_s: 10_000,
    propagation_bound_s: 5,
    heard_everywhere_s: 9,
    publish_retired_s: 86_412,
};
const FETCH: KeyFetch = KeyFetch::Within(0);
const ES: Algorithm = Algorithm::ES256;

const fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds(seconds)
}

/// Keys, and what happens to them.
#[derive(Clone, Debug)]
struct Keys(Vec<Planned>);

impl Keys {
    fn first() -> Self {
        Self(vec![(ES, Schedule::first(at(1_000)))])
    }

    fn apply(&mut self, algorithm: Algorithm, plan: Plan) {
        for (position, schedule) in plan.changed {
            assert_eq!(self.0[position].0, algorithm, "another algorithm's key was changed");
            self.0[position].1 = schedule;
        }
        self.0.extend(plan.new.map(|schedule| (algorithm, schedule)));
    }

    fn rotate(&mut self, at_once: bool, now: u64) -> Result<(), RotationRefused> {
        let plan = plan_rotation(&self.0, ES, &TIMING, FETCH, at_once, at(now))?;
        self.apply(ES, plan);
        Ok(())
    }

    fn promote(&mut self, fetch: KeyFetch, now: u64) -> bool {
        let plan = plan_promotion(&self.0, ES, &TIMING, fetch, at(now));
        plan.map(|plan| self.apply(ES, plan)).is_some()
    }

    fn revoke(&mut self, position: usize, now: u64) {
        let plan = plan_revocation(&self.0, position, at(now));
        let algorithm = self.0[position].0;
        self.apply(algorithm, plan);
        self.0.remove(position);
    }

    fn correct(&mut self, now: u64) {
        let plan = plan_correction(&self.0, ES, &TIMING, FETCH, at(now));
        self.apply(ES, plan);
    }

    fn states(&self, now: u64) -> Vec<KeyState> {
        self.0.iter().map(|(_, schedule)| schedule.state(at(now))).collect()
    }

    /// At `now` and at every moment at which something changes from then on.
    fn assert_one_is_active_from(&self, now: u64) {
        let times = self.0.iter().flat_map(|(_, s)| [Some(s.active_at), s.retired_at, s.dropped_at]);
        let later = times.flatten().map(|time| time.0).filter(|time| *time > now);
        for time in later.chain([now]).flat_map(|time| [time, time + 1]) {
            for algorithm in Algorithm::ALL {
                let own = || self.0.iter().filter(|(of, _)| *of == algorithm);
                let active = own().filter(|(_, s)| s.state(at(time)) == Active).count();
                assert_eq!(active, usize::from(own().next().is_some()), "{algorithm:?} at {time}: {self:?}");
            }
        }
    }
}

use KeyState::{Active, Announced, Dropped, Retired};

#[test]
fn without_a_word_of_brokers_a_key_signs_at_its_deadline() {
    let mut keys = Keys::first();
    keys.rotate(false, 5_000).unwrap();
    assert_eq!(keys.states(5_000), [Active, Announced]);
    assert_eq!(keys.states(14_999), [Active, Announced]);
    assert_eq!(keys.states(15_000), [Retired, Active]);
    assert_eq!(keys.states(15_000 + 86_411), [Retired, Active]);
    assert_eq!(keys.states(15_000 + 86_412), [Dropped, Active]);
}

#[test]
fn a_confirmed_key_signs_once_it_was_announced_and_every_node_can_know() {
    let mut keys = Keys::first();
    keys.rotate(false, 5_000).unwrap();
    assert!(!keys.promote(FETCH, 5_599));
    assert!(!keys.promote(KeyFetch::Within(1_800), 6_799), "a broker fetches more slowly");
    assert!(!keys.promote(KeyFetch::ByHand, 14_000), "nobody knows when a person has carried it");
    assert!(keys.clone().promote(KeyFetch::Within(1_800), 6_800));
    assert!(keys.promote(FETCH, 5_600));
    assert_eq!(keys.states(5_604), [Active, Announced]);
    assert_eq!(keys.states(5_605), [Retired, Active]);
    assert_eq!(keys.0[0].1.dropped_at, Some(at(5_605 + 86_412)), "its tokens die earlier too");
    // What was settled stays so, whoever appears meanwhile.
    assert!(!keys.promote(FETCH, 5_602));
    assert_eq!(keys.states(5_605), [Retired, Active]);
}

/// The announcement is never shorter than the slowest broker needs, whatever
/// the deadline.
#[test]
fn the_deadline_is_not_before_the_brokers_refresh() {
    let timing = KeyTiming { confirm_deadline_s: 600, ..TIMING };
    let plan = |fetch| plan_rotation(&Keys::first().0, ES, &timing, fetch, false, at(5_000)).unwrap();
    let active_at = |fetch| plan(fetch).new.unwrap().active_at;
    assert_eq!(active_at(KeyFetch::Within(1_800)), at(6_800));
    assert_eq!(active_at(KeyFetch::Within(0)), at(5_600));
    assert_eq!(active_at(KeyFetch::ByHand), at(5_600));
}

#[test]
fn a_rotation_is_due_once_however_late_it_is_noticed() {
    let mut keys = Keys::first();
    let is_due = |keys: &Keys, fetch, now| is_rotation_due(&keys.0, ES, &TIMING, fetch, at(now));
    assert!(!is_due(&keys, FETCH, 100_999));
    assert!(is_due(&keys, FETCH, 101_000));
    assert!(!is_due(&keys, KeyFetch::ByHand, 101_000));
    let by_hand = KeyTiming { rotation_s: None, ..TIMING };
    assert!(!is_rotation_due(&keys.0, ES, &by_hand, FETCH, at(101_000)));
    // Months later.
    keys.rotate(false, 9_000_000).unwrap();
    assert!(!is_due(&keys, FETCH, 9_000_000));
    assert!(!is_due(&keys, FETCH, 9_010_000), "the successor has just begun to sign");
    assert!(is_due(&keys, FETCH, 9_110_000));
    assert!(!is_rotation_due(&keys.0, Algorithm::RS256, &TIMING, FETCH, at(9_110_000)));
}

#[test]
fn a_second_rotation_waits_for_the_first_unless_at_once() {
    let mut keys = Keys::first();
    keys.rotate(false, 5_000).unwrap();
    let refused = RotationRefused::UnderWay { algorithm: ES, active_at: at(15_000) };
    assert_eq!(keys.rotate(false, 5_100), Err(refused));
    assert_eq!(
        refused.to_string(),
        "the next ES256 key is announced already and signs from 1970-01-01T04:10:00Z at the latest; wait, \
         or let it sign at once: --now --algorithm ES256"
    );
    keys.rotate(true, 5_100).unwrap();
    assert_eq!(keys.states(5_100), [Retired, Active]);
    assert_eq!(keys.0[0].1.dropped_at, Some(at(5_100 + 86_412)));
}

#[test]
fn who_goes_on_after_a_revocation() {
    let mut announced = Keys::first();
    announced.rotate(false, 5_000).unwrap();
    // The active one: the announced one takes its place, or a new one.
    let mut keys = announced.clone();
    keys.revoke(0, 5_001);
    assert_eq!(keys.states(5_001), [Active]);
    keys.revoke(0, 5_002);
    assert_eq!(keys.0, [(ES, Schedule::first(at(5_002)))]);
    // The announced one: the active one no longer retires.
    let mut keys = announced.clone();
    keys.revoke(1, 5_001);
    assert_eq!(keys.0, Keys::first().0);
    // A retired one: nothing else changes.
    let mut keys = announced.clone();
    keys.rotate(true, 5_001).unwrap();
    let before = keys.0[1];
    keys.revoke(0, 5_002);
    assert_eq!(keys.0, [before]);
}

#[test]
fn the_keys_of_another_algorithm_are_left_alone() {
    let rs = Algorithm::RS256;
    let mut keys = Keys(vec![(ES, Schedule::first(at(1_000))), (rs, Schedule::first(at(1_000)))]);
    let rotation = |keys: &Keys, of| plan_rotation(&keys.0, of, &TIMING, FETCH, false, at(5_000));
    let plan = rotation(&keys, rs).unwrap();
    keys.apply(rs, plan);
    // One is under way for RS256, none for ES256.
    let active_at = at(15_000);
    assert_eq!(rotation(&keys, rs), Err(RotationRefused::UnderWay { algorithm: rs, active_at }));
    assert!(rotation(&keys, ES).is_ok());
    let refused = rotation(&keys, Algorithm::EdDSA);
    assert_eq!(refused, Err(RotationRefused::NoKey { algorithm: Algorithm::EdDSA }));
}

/// However often one algorithm is rotated, the first keys of the others
/// are never too many.
#[test]
fn the_number_of_published_keys_is_bounded_over_all_algorithms() {
    let rotate_until_refused = |keys: &mut Keys, from: u64| (from..).find_map(|n| keys.rotate(true, n).err());
    let next = at(2_000 + TIMING.publish_retired_s);
    let mut keys = Keys::first();
    let refused = rotate_until_refused(&mut keys, 2_000);
    assert_eq!(refused, Some(RotationRefused::TooManyKeys { published: 14, max: 14, next }));
    keys.0.extend([Algorithm::RS256, Algorithm::EdDSA].map(|of| (of, Schedule::first(at(1_000)))));
    let refused = rotate_until_refused(&mut keys, 3_000);
    assert_eq!(refused, Some(RotationRefused::TooManyKeys { published: 16, max: 16, next }));
    assert_eq!(keys.0.len(), MAX_PUBLISHED);
}

#[test]
fn before_the_first_key_nothing_can_be_rotated() {
    // The first key counts as announced then, not as active.
    let refused = RotationRefused::NoActiveKey { algorithm: ES, now: at(999) };
    assert_eq!(Keys::first().rotate(true, 999), Err(refused));
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    Wait(u64),
    /// By hand.
    Rotate(Algorithm, bool),
    /// A tick that announces what is due.
    Announce(Algorithm),
    /// A tick after every broker has said that it holds the key.
    Confirm(Algorithm, KeyFetch),
    Revoke(prop::sample::Index),
    /// Keys that are dropped are deleted.
    DropEnded,
}

fn event() -> impl Strategy<Value = Event> {
    let algorithm = || prop::sample::select(vec![ES, Algorithm::RS256]);
    let fetch = prop::sample::select(vec![FETCH, KeyFetch::Within(1_800), KeyFetch::ByHand]);
    prop_oneof![
        6 => prop_oneof![0..10_u64, 0..2_000_u64, 0..200_000_u64].prop_map(Event::Wait),
        3 => (algorithm(), any::<bool>()).prop_map(|(of, at_once)| Event::Rotate(of, at_once)),
        2 => algorithm().prop_map(Event::Announce),
        3 => (algorithm(), fetch).prop_map(|(of, fetch)| Event::Confirm(of, fetch)),
        1 => any::<prop::sample::Index>().prop_map(Event::Revoke),
        1 => Just(Event::DropEnded),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn one_key_is_active_and_the_retired_outlive_their_tokens(events in prop::collection::vec(event(), 1..60)) {
        let mut now = 1_000;
        let mut keys = Keys([ES, Algorithm::RS256].map(|of| (of, Schedule::first(at(now)))).into());
        for event in events {
            let before = keys.clone();
            match event {
                Event::Wait(seconds) => now += seconds,
                Event::Rotate(of, at_once) => {
                    if let Ok(plan) = plan_rotation(&keys.0, of, &TIMING, FETCH, at_once, at(now)) {
                        keys.apply(of, plan);
                    }
                }
                Event::Announce(of) => {
                    if is_rotation_due(&keys.0, of, &TIMING, FETCH, at(now)) {
                        let plan = plan_rotation(&keys.0, of, &TIMING, FETCH, false, at(now));
                        keys.apply(of, plan.unwrap());
                        prop_assert!(!is_rotation_due(&keys.0, of, &TIMING, FETCH, at(now)));
                    }
                }
                Event::Confirm(of, fetch) => {
                    if let Some(plan) = plan_promotion(&keys.0, of, &TIMING, fetch, at(now)) {
                        keys.apply(of, plan);
                        prop_assert!(plan_promotion(&keys.0, of, &TIMING, fetch, at(now)).is_none());
                    }
                }
                Event::Revoke(which) => keys.revoke(which.index(keys.0.len()), now),
                Event::DropEnded => keys.0.retain(|(_, key)| key.state(at(now)) != Dropped),
            }
            keys.assert_one_is_active_from(now);
            prop_assert!(keys.states(now).into_iter().filter(|state| *state != Dropped).count() <= MAX_PUBLISHED);
            for (_, key) in &keys.0 {
                if let Some(retired_at) = key.retired_at {
                    prop_assert_eq!(key.dropped_at, Some(retired_at.plus(TIMING.publish_retired_s)));
                }
                let announced_s = key.active_at.since(key.announced_at);
                prop_assert!(announced_s <= TIMING.confirm_deadline_s, "no key waits beyond its deadline");
            }
            // Whoever signed a moment ago is still published, unless revoked.
            for key in keys.0.iter().filter(|(_, key)| key.state(at(now)) == Dropped) {
                let is_it = |then: &&Planned| {
                    (then.0, then.1.announced_at, then.1.active_at) == (key.0, key.1.announced_at, key.1.active_at)
                };
                let last_signed = at(now.saturating_sub(TIMING.publish_retired_s) + 1);
                let had_ended = before.0.iter().filter(is_it).any(|then| then.1.state(last_signed) != Active);
                prop_assert!(had_ended, "dropped too early: {:?}", key);
            }
        }
    }
}

#[test]
fn a_first_key_of_a_time_that_has_not_been_signs_at_once() {
    let mut keys = Keys(vec![(ES, Schedule::first(at(900_000)))]);
    assert_eq!(keys.states(5_000), [Announced]);
    keys.correct(5_000);
    assert_eq!(keys.0, [(ES, Schedule::first(at(5_000)))]);
}

#[test]
fn what_was_announced_at_a_time_that_has_not_been_is_announced_anew() {
    let mut keys = Keys::first();
    keys.rotate(false, 900_000).unwrap();
    keys.correct(5_000);
    assert_eq!(keys.states(5_000), [Active, Announced]);
    assert_eq!(keys.0[1].1, Schedule { active_at: at(15_000), ..Schedule::first(at(5_000)) });
    assert_eq!(keys.0[0].1.dropped_at, Some(at(15_000 + 86_412)));
    keys.assert_one_is_active_from(5_000);
    assert!(!keys.promote(FETCH, 5_599) && keys.promote(FETCH, 5_600), "brokers are asked from now on");
}

/// However often keys were changed while the clock was ahead, and wherever it
/// goes back to: nothing waits longer than it would otherwise.
#[test]
fn whatever_was_done_ahead_is_corrected_and_what_was_right_is_left_alone() {
    for back_to in [5_000, 14_999, 15_000, 50_000, 100_000, 200_000, 900_000, 950_000] {
        let mut keys = Keys::first();
        keys.rotate(false, 5_000).unwrap();
        for now in [900_000, 920_000] {
            keys.rotate(true, now).unwrap();
        }
        keys.rotate(false, 940_000).unwrap();
        keys.correct(back_to);
        let longest = back_to + 10_000;
        assert!(
            keys.0.iter().all(|(_, key)| {
                key.announced_at.0 <= back_to
                    && key.active_at.0 <= longest
                    && key.retired_at.is_none_or(|time| time.0 <= longest)
                    && key.dropped_at.is_none_or(|time| time.0 <= longest + 86_412)
            }),
            "{keys:?}"
        );
        keys.assert_one_is_active_from(back_to);
        let corrected = keys.clone();
        keys.correct(back_to);
        assert_eq!(keys.0, corrected.0, "twice is once");
    }
    let mut keys = Keys::first();
    keys.rotate(false, 5_000).unwrap();
    for now in [5_000, 10_000, 15_000, 101_411] {
        let before = keys.0.clone();
        keys.correct(now);
        assert_eq!(keys.0, before, "{now}");
    }
}
