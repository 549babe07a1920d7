use std::collections::BTreeMap;

use super::super::activity::Activity;
use super::super::sessions::{MAX_NUMBER, SessionsKept};
use super::*;

const NOW: UnixSeconds = UnixSeconds(1_000);

fn id(n: usize) -> MqttClientId {
    format!("pump-{n:05}").parse().unwrap()
}

fn online(since: u64, until: u64) -> Change {
    Change::Online { since: UnixSeconds(since), until: UnixSeconds(until) }
}

/// Whoever keeps a list by what the module says.
#[derive(Default)]
struct Keeper {
    at: Option<(u64, u64)>,
    online: BTreeMap<MqttClientId, (UnixSeconds, UnixSeconds)>,
}

impl Keeper {
    fn take(&mut self, part: &SessionsPart) -> SessionsKept {
        assert!(part.is_sound());
        match self.at {
            _ if part.part == 0 => self.online.clear(),
            Some((epoch, next)) if epoch == part.epoch && next == part.part => {}
            Some((epoch, next)) if epoch == part.epoch && next == part.part + 1 => return SessionsKept::Kept,
            _ => return SessionsKept::BeginAnew,
        }
        for gone in &part.gone {
            self.online.remove(gone);
        }
        for Online { client_id, since, until } in &part.online {
            self.online.insert(client_id.clone(), (*since, *until));
        }
        self.at = Some((part.epoch, part.part + 1));
        SessionsKept::Kept
    }

    fn agrees(&self, list: &SessionList) -> bool {
        self.online.len() == list.online.len()
            && self.online.iter().all(|(id, period)| list.online.get(id) == Some(period))
    }
}

/// Tells everything that there is to tell; how many parts that took.
fn tell(list: &mut SessionList, keeper: &mut Keeper, drawn: &mut u64) -> usize {
    for parts in 1..1_000 {
        let part = list.part();
        match keeper.take(&part) {
            SessionsKept::Kept => list.kept(),
            SessionsKept::BeginAnew => {
                *drawn += 1;
                list.begin_anew(*drawn);
                continue;
            }
            SessionsKept::Full => panic!("it is not"),
        }
        if !list.has_news() {
            return parts;
        }
    }
    panic!("it never ends");
}

#[test]
fn a_long_list_comes_in_parts_and_then_only_what_changes() {
    let (mut list, mut keeper, mut drawn) = (SessionList::default(), Keeper::default(), 1);
    list.begin_anew(drawn);
    (0..50_000).for_each(|n| list.apply(id(n), online(1, 2_000)));
    assert_eq!(tell(&mut list, &mut keeper, &mut drawn), 125);
    assert!(keeper.agrees(&list));

    list.apply(id(7), Change::Gone);
    list.apply(id(8), Change::Renewed { until: UnixSeconds(3_000) });
    list.apply(id(60_000), online(5, 6));
    list.apply(id(9), online(1, 2_000));
    list.apply(id(70_000), Change::Gone);
    let part = list.part();
    assert_eq!((part.online.len(), &*part.gone), (2, &[id(7)][..]), "nothing that they know already");
    assert_eq!(tell(&mut list, &mut keeper, &mut drawn), 1);
    assert!(keeper.agrees(&list));
    assert_eq!(list.part().online, []);
}

/// A part of full length with names and numbers as long as can be.
#[test]
fn a_report_stays_below_what_the_issuer_reads() {
    let online: Vec<Online> = (0..MAX_PART)
        .map(|n| Online { client_id: format!("{n:064}").parse().unwrap(), since: NOW, until: NOW })
        .map(|online| Online {
            since: UnixSeconds(99_999_999_999),
            until: UnixSeconds(99_999_999_999),
            ..online
        })
        .collect();
    let part = SessionsPart { epoch: MAX_NUMBER, part: MAX_NUMBER - 1, online, gone: Vec::new() };
    assert!(part.is_sound());
    assert!(serde_json::to_vec(&part).unwrap().len() < 50_000);
}

#[test]
fn what_was_lost_on_either_side_is_made_good() {
    let (mut list, mut keeper, mut drawn) = (SessionList::default(), Keeper::default(), 1);
    list.begin_anew(drawn);
    (0..1_000).for_each(|n| list.apply(id(n), online(1, 2_000)));
    // The report is lost, then its answer; changes meanwhile are told later.
    let first = list.part();
    list.apply(id(0), Change::Gone);
    assert_eq!(list.part(), first);
    assert_eq!(keeper.take(&first), SessionsKept::Kept);
    assert_eq!(list.part(), first, "as nobody said that it was kept");
    tell(&mut list, &mut keeper, &mut drawn);
    assert!(keeper.agrees(&list) && !keeper.online.contains_key(&id(0)));
    // A part other than the first, told twice.
    list.apply(id(1), Change::Gone);
    assert_eq!(keeper.take(&list.part()), SessionsKept::Kept);
    list.apply(id(2), Change::Gone);
    tell(&mut list, &mut keeper, &mut drawn);
    assert!(keeper.agrees(&list) && drawn == 1, "no need to begin anew");
    // An old report comes late: the list begins with it, and is soon found out.
    assert_eq!(keeper.take(&first), SessionsKept::Kept);
    list.apply(id(3), Change::Gone);
    tell(&mut list, &mut keeper, &mut drawn);
    assert!(keeper.agrees(&list) && drawn == 2);
    // The keeper has lost everything, or has an older state.
    keeper = Keeper::default();
    tell(&mut list, &mut keeper, &mut drawn);
    assert!(keeper.agrees(&list) && drawn == 3);
    // The teller has: another process in the same place.
    let mut list = SessionList::default();
    list.begin_anew(99);
    list.apply(id(5), online(7, 8));
    tell(&mut list, &mut keeper, &mut drawn);
    assert!(keeper.agrees(&list) && keeper.online.len() == 1);
}

#[test]
fn a_part_that_is_not_sound_is_told_apart() {
    let sound = SessionsPart { epoch: 1, part: 0, online: Vec::new(), gone: vec![id(1), id(2)] };
    assert!(sound.is_sound());
    let period = |n| Online { client_id: id(n), since: NOW, until: NOW };
    for wrong in [
        SessionsPart { epoch: MAX_NUMBER + 1, ..sound.clone() },
        SessionsPart { part: u64::MAX, ..sound.clone() },
        SessionsPart { gone: (0..=MAX_PART).map(id).collect(), ..sound.clone() },
        SessionsPart { gone: vec![id(1), id(1)], ..sound.clone() },
        SessionsPart { online: vec![period(2)], ..sound.clone() },
        SessionsPart { online: vec![period(3), period(3)], ..sound },
    ] {
        assert!(!wrong.is_sound(), "{wrong:?}");
    }
}

#[test]
fn whoever_lets_in_leaves_one_note_of_each_client() {
    let activity = Activity::new(NOW);
    activity.let_in("pump-1", NOW, NOW.plus(60));
    assert_eq!(activity.online(), 0, "nobody follows");
    activity.follow();
    let until = |n: u64| NOW.plus(n);
    activity.renewed("pump-2", until(1));
    activity.let_in("pump-3", NOW, until(60));
    activity.renewed("pump-3", until(90));
    activity.let_in("pump-4", NOW, until(60));
    activity.parted("pump-4");
    activity.renewed("pump-4", until(90));
    activity.let_in("pump/5", NOW, until(60));
    assert_eq!(activity.notes().len(), 3);
    assert_eq!(
        activity.list().part().online,
        [Online { client_id: "pump-3".parse().unwrap(), since: NOW, until: until(90) }]
    );
    assert_eq!((activity.counters().let_in, activity.online()), (4, 1));
    activity.list().kept();
    activity.list().forget_ended(until(150));
    assert_eq!(activity.online(), 1);
    activity.list().forget_ended(until(151));
    assert_eq!((activity.online(), activity.list().part().gone.len()), (0, 1));
}
