//! The log of changes, and what is written with an entry in it.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::revocations::Revocation;

use fleetbadge_validator::reports::Report;

use super::{NOW, add_broker, broker, device, remove_broker, taken_back};
use crate::root_key::Sealed;
use crate::signing_keys::{PrivateHalf, Schedule};
use crate::store::{
    ChangedSubject, ReportRecord, SigningKeyChange, SigningKeyRecord, SigningKeysNotChanged, Store,
};

pub(super) async fn check<S: Store, G>(make: &impl AsyncFn() -> (S, G)) {
    every_change_is_logged_once_and_in_order(&make().await.0).await;
    whoever_missed_some_is_told(&make().await.0).await;
    a_revocation_comes_with_its_cause_or_not_at_all(&make().await.0).await;
    the_wider_revocation_of_a_target_stays(&make().await.0).await;
    signing_keys_are_changed_as_a_whole(&make().await.0).await;
    reports_are_replaced_and_go_with_their_broker(&make().await.0).await;
}

async fn subjects_after(store: &impl Store, after: u64) -> Vec<ChangedSubject> {
    let log = store.changes(after).await.unwrap();
    let changes = log.changes.unwrap();
    let ids: Vec<u64> = changes.iter().map(|change| change.id).collect();
    assert_eq!(ids, (after + 1..=log.last).collect::<Vec<_>>());
    changes.into_iter().map(|change| change.subject).collect()
}

fn changed(name: &str) -> ChangedSubject {
    ChangedSubject::Device(name.into())
}

async fn every_change_is_logged_once_and_in_order(store: &impl Store) {
    super::with_group(store).await;
    let first = store.changes(0).await.unwrap();
    assert_eq!((first.last, first.epoch.is_empty()), (1, false));
    store.add_device(&device("a", &["a"])).await.unwrap();
    // Nobody has it in memory: nobody need hear of it.
    assert_eq!(subjects_after(store, 1).await, []);
    store.update_device(&device("a", &["a"]), None).await.unwrap();
    store.update_device(&device("a", &["a"]), Some(&taken_back("a"))).await.unwrap_err();
    add_broker(store, &broker("b", "urn:b")).await.unwrap();
    store.revoke(&[Revocation::of_token("1", NOW), Revocation::of_token("2", NOW)]).await.unwrap();
    store.remove_device("a", &taken_back("a")).await.unwrap();
    let revoked = ChangedSubject::Revocation;
    let expected =
        [changed("a"), ChangedSubject::Settings, revoked.clone(), revoked.clone(), changed("a"), revoked];
    assert_eq!(subjects_after(store, 1).await, expected);
    assert_eq!(subjects_after(store, 5).await, expected[4..]);
    assert_eq!(store.changes(7).await.unwrap().epoch, first.epoch);
}

async fn whoever_missed_some_is_told(store: &impl Store) {
    for jti in ["1", "2", "3"] {
        store.revoke(&[Revocation::of_token(jti, NOW)]).await.unwrap();
    }
    store.forget_changes(1).await.unwrap();
    assert_eq!(store.changes(1).await.unwrap().changes, None);
    assert_eq!(subjects_after(store, 2).await, [ChangedSubject::Revocation]);
    // From another database, or from this one before it was restored.
    assert_eq!(store.changes(9).await.unwrap().changes, None);
}

async fn a_revocation_comes_with_its_cause_or_not_at_all(store: &impl Store) {
    super::with_group(store).await;
    store.add_device(&device("a", &["a"])).await.unwrap();
    let outdated = device("a", &["a"]);
    store.update_device(&device("a", &["a"]), Some(&taken_back("a"))).await.unwrap();
    let found = store.revocations(0, 10).await.unwrap();
    assert_eq!(found.iter().map(|one| &one.revocation).collect::<Vec<_>>(), [&taken_back("a")]);
    let later = Revocation::of_device("a", NOW.plus(9), NOW.plus(99));
    store.update_device(&outdated, Some(&later)).await.unwrap_err();
    assert!(!store.remove_device("nobody", &taken_back("nobody")).await.unwrap());
    assert_eq!(store.revocations(0, 10).await.unwrap(), found);
    store.forget_revocations(NOW.plus(60)).await.unwrap();
    assert_eq!(store.revocations(0, 10).await.unwrap(), found);
    store.forget_revocations(NOW.plus(61)).await.unwrap();
    assert_eq!(store.revocations(0, 10).await.unwrap(), []);
}

async fn the_wider_revocation_of_a_target_stays(store: &impl Store) {
    let of = |before: u64| Revocation::of_group("g", NOW.plus(before), NOW.plus(before + 60));
    store.revoke(&[of(1), Revocation::of_all(NOW, NOW.plus(60)), of(5), of(3)]).await.unwrap();
    let all = store.revocations(0, 10).await.unwrap();
    assert_eq!(all.iter().map(|one| one.id).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(all[1].revocation, of(5));
    assert_eq!(store.revocations(0, 1).await.unwrap(), all[..1]);
    assert_eq!(store.revocations(2, 10).await.unwrap(), all[1..]);
}

async fn signing_keys_are_changed_as_a_whole(store: &impl Store) {
    let key = |kid: &str, schedule| SigningKeyRecord {
        kid: kid.into(),
        algorithm: Algorithm::ES256,
        private: PrivateHalf::Sealed(Sealed { root_key: super::root_key(1), text: vec![1, 2, 3] }),
        schedule,
    };
    let schedule = |now| Schedule { announced_at: now, active_at: now, retired_at: None, dropped_at: None };
    let (z, a) = (key("z", schedule(NOW)), key("a", schedule(NOW.plus(10))));
    let first = SigningKeyChange { set: std::slice::from_ref(&z), ..SigningKeyChange::default() };
    store.change_signing_keys(&first).await.unwrap();
    // Whoever has not seen that changes nothing.
    let blind = SigningKeyChange {
        set: std::slice::from_ref(&a),
        revoke: &[Revocation::of_key("z", NOW)],
        ..SigningKeyChange::default()
    };
    assert!(matches!(store.change_signing_keys(&blind).await, Err(SigningKeysNotChanged::Conflict)));
    let seen = store.signing_keys().await.unwrap();
    assert_eq!(seen.keys, std::slice::from_ref(&z));

    let retired = Schedule { retired_at: Some(NOW.plus(10)), ..schedule(NOW) };
    let private = PrivateHalf::Sealed(Sealed { root_key: super::root_key(2), text: vec![4] });
    let resealed = SigningKeyRecord { private, ..key("z", retired) };
    let both = SigningKeyChange { revision: seen.revision, set: &[resealed.clone(), a.clone()], ..first };
    store.change_signing_keys(&both).await.unwrap();
    let seen = store.signing_keys().await.unwrap();
    assert_eq!(seen.keys, [resealed, a.clone()]);

    let gone = SigningKeyChange {
        revision: seen.revision,
        set: &[],
        delete: &["z"],
        revoke: &[Revocation::of_key("z", NOW)],
    };
    store.change_signing_keys(&gone).await.unwrap();
    assert_eq!(store.signing_keys().await.unwrap().keys, [a]);
    assert_eq!(store.revocations(0, 9).await.unwrap().len(), 1);
    let keys_changed = ChangedSubject::SigningKeys;
    let expected = [keys_changed.clone(), keys_changed.clone(), ChangedSubject::Revocation, keys_changed];
    assert_eq!(subjects_after(store, 0).await, expected);
}

async fn reports_are_replaced_and_go_with_their_broker(store: &impl Store) {
    let report = |instance: &str, kid: &str, age| ReportRecord {
        broker: "b".parse().unwrap(),
        instance: instance.into(),
        secret: super::id(kid),
        report: Report { software: "x/1".into(), kids: vec![kid.into()], revocations: None, counters: None },
        reported_at: NOW.minus(age),
    };
    let set = async |said: &ReportRecord| store.set_report(said, 3).await.unwrap();
    set(&report("1", "k", 0)).await;
    assert_eq!(store.reports(NOW.minus(9)).await.unwrap(), []);
    add_broker(store, &broker("b", "urn:b")).await.unwrap();
    for said in [report("2", "k", 5), report("1", "k", 5), report("1", "l", 0)] {
        set(&said).await;
    }
    assert_eq!(store.reports(NOW.minus(9)).await.unwrap(), [report("1", "l", 0), report("2", "k", 5)]);
    assert_eq!(store.reports(NOW.minus(4)).await.unwrap(), [report("1", "l", 0)]);
    // Whoever was heard of longest ago gives way, and never who is heard now.
    add_broker(store, &broker("c", "urn:c")).await.unwrap();
    let other = ReportRecord { broker: "c".parse().unwrap(), ..report("9", "k", 9) };
    set(&other).await;
    for said in [report("3", "k", 0), report("4", "k", 0), report("5", "k", 8)] {
        set(&said).await;
    }
    let kept: Vec<Box<str>> =
        store.reports(NOW.minus(9)).await.unwrap().into_iter().map(|kept| kept.instance).collect();
    assert_eq!(kept, ["1", "3", "5", "9"].map(Box::from));
    store.forget_reports(NOW.minus(4)).await.unwrap();
    assert_eq!(store.reports(NOW.minus(9)).await.unwrap(), [report("1", "l", 0), report("3", "k", 0)]);
    assert!(remove_broker(store, "b").await);
    assert_eq!(store.reports(NOW.minus(9)).await.unwrap(), []);
}
