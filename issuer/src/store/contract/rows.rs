//! Everything out of one store and into another.

use std::sync::Arc;

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::reports::Report;
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::time::{ManualClock, UnixSeconds};
use fleetbadge_validator::verify::Verifier;
use tokio::sync::mpsc;

use super::{NOW, add_broker, broker, device, id, taken_back, used, with_group};
use crate::revoker::Revoker;
use crate::root_key::Sealed;
use crate::signing_keys::{PrivateHalf, Schedule};
use crate::store::tables::{ImportedRow, Row, TABLES};
use crate::store::{NewEpoch, NotImported, ReportRecord, SigningKeyChange, SigningKeyRecord, Store, UsedJti};

pub(super) async fn check<S: Store, G>(make: &impl AsyncFn() -> (S, G)) {
    let (from, _from) = make().await;
    fill(&from).await;
    everything_arrives(&from, &make().await.0).await;
    half_of_it_is_nothing(&from, &make().await.0).await;
    nothing_old_comes_back_to_life(&from, &make().await.0).await;
    a_clock_is_set_back_by_an_operator_alone(&make().await.0).await;
    the_longest_life_of_a_token_is_kept(&make().await.0).await;
}

/// How long tokens may live in what is filled.
const LIFETIME_S: u64 = 900;

/// Something in every table.
pub(crate) async fn fill(store: &impl Store) {
    with_group(store).await;
    for name in ["a", "b", "gone"] {
        store.add_device(&super::with_keys(name, &[&format!("key-{name}")])).await.unwrap();
    }
    store.add_device(&device("with-secrets", &["other"])).await.unwrap();
    store.remove_device("gone", &taken_back("gone")).await.unwrap();
    add_broker(store, &broker("mqtt-1", "urn:mqtt-1")).await.unwrap();
    store.add_enrolment(&super::enrolment("e", 3)).await.unwrap();
    store.use_jtis(&[UsedJti { id: [0xff; 32], expires_at: NOW }]).await.unwrap();
    store.record_uses(&[used("a", "key-a", NOW)]).await.unwrap();
    let schedule = Schedule { announced_at: NOW, active_at: NOW, retired_at: None, dropped_at: None };
    let private = PrivateHalf::Sealed(Sealed { root_key: super::root_key(1), text: vec![0, 9] });
    store.set_root_key(super::root_key(1), None).await.unwrap();
    let key = SigningKeyRecord { kid: "k".into(), algorithm: Algorithm::ES256, private, schedule };
    let first = SigningKeyChange { set: &[key], ..SigningKeyChange::default() };
    store.change_signing_keys(&first).await.unwrap();
    store.make_terms(&super::terms("https://id.example", 5)).await.unwrap();
    store.reach_clock(NOW).await.unwrap();
    store.allow_token_lifetime(LIFETIME_S).await.unwrap();
    store.revoke(&[Revocation::of_token("j", NOW.plus(60))]).await.unwrap();
    let report = ReportRecord {
        broker: "mqtt-1".parse().unwrap(),
        instance: "i".into(),
        secret: id("1"),
        report: Report { software: "x/1".into(), kids: vec!["k".into()], revocations: None, counters: None },
        reported_at: NOW,
    };
    store.set_report(&report, 1).await.unwrap();
}

async fn rows_of(store: &impl Store) -> Vec<Row> {
    let (sender, mut receiver) = mpsc::channel(4);
    let mut rows = Vec::new();
    let collect = async {
        while let Some(row) = receiver.recv().await {
            rows.push(row);
        }
    };
    let (exported, ()) = tokio::join!(store.export(sender), collect);
    exported.unwrap();
    rows
}

async fn give(store: &impl Store, rows: Vec<Row>, ends: bool) -> Result<(), NotImported> {
    give_older(store, rows, ends, None).await
}

async fn give_older(
    store: &impl Store,
    rows: Vec<Row>,
    ends: bool,
    epoch: Option<&NewEpoch>,
) -> Result<(), NotImported> {
    let (sender, receiver) = mpsc::channel(4);
    let feed = async move {
        for row in rows {
            if sender.send(ImportedRow::Row(row)).await.is_err() {
                return;
            }
        }
        if ends {
            let _ = sender.send(ImportedRow::End).await;
        }
    };
    let (imported, ()) = tokio::join!(store.import(receiver, epoch), feed);
    imported
}

async fn everything_arrives(from: &impl Store, to: &impl Store) {
    let rows = rows_of(from).await;
    for table in &TABLES {
        assert!(rows.iter().any(|row| row.table == table), "nothing of {} is exported", table.name);
    }
    give(to, rows.clone(), true).await.unwrap();
    assert_eq!(rows_of(to).await, rows);
    // Names that were given out stay so, and a device is found by its key.
    to.add_device(&device("gone", &["gone"])).await.unwrap_err();
    assert_eq!(to.device_of_key(&id("key-b")).await.unwrap(), from.device("b").await.unwrap());
    let again = give(to, rows, true).await;
    assert!(matches!(again, Err(NotImported::NotEmpty)), "{again:?}");
}

async fn half_of_it_is_nothing(from: &impl Store, to: &impl Store) {
    let rows = rows_of(from).await;
    let half = give(to, rows[..rows.len() / 2].to_vec(), false).await;
    assert!(matches!(half, Err(NotImported::Incomplete)), "{half:?}");
    assert_eq!(to.settings().await.unwrap().groups, []);
    give(to, rows, true).await.unwrap();
}

async fn nothing_old_comes_back_to_life(from: &impl Store, to: &impl Store) {
    let before = from.changes(0).await.unwrap();
    let epoch = new_epoch(NOW);
    give_older(to, rows_of(from).await, true, Some(&epoch)).await.unwrap();
    let after = to.changes(before.last).await.unwrap();
    assert_ne!(after.epoch, before.epoch);
    assert!(after.last > before.last);
    assert_eq!(after.statements_after, NOW.plus(330));
    assert_eq!(to.signing_keys().await.unwrap().keys, []);
    // All are taken back, for as long as any may live, and by name those that
    // whoever has stolen a key writes from now on.
    let all = Revocation::of_all(NOW.plus(1), NOW.plus(1 + LIFETIME_S + Verifier::MAX_SKEW_S));
    let revocations = revocations(to).await;
    assert!(revocations.contains(&all), "{revocations:?}");
    assert!(revocations.contains(&epoch.revoker.key("k")), "{revocations:?}");
    assert!(revocations.contains(&Revocation::of_token("j", NOW.plus(60))), "{revocations:?}");
    assert_eq!(revocations.len(), 3, "no other says more: {revocations:?}");
    assert_eq!(to.use_jtis(&[UsedJti { id: [0xff; 32], expires_at: NOW.plus(331) }]).await.unwrap(), [false]);
    nothing_ends_too_early(to).await;
}

/// A node may ask that has not heard of the new epoch.
async fn nothing_ends_too_early(store: &impl Store) {
    let jtis = [330, 331]
        .map(|end| UsedJti { id: [u8::try_from(end % 100).unwrap(); 32], expires_at: NOW.plus(end) });
    assert_eq!(store.use_jtis(&jtis).await.unwrap(), [false, true]);
    assert_eq!(store.use_jtis(&jtis).await.unwrap(), [false, false]);
}

/// By settings that allow less than was allowed before.
fn new_epoch(now: UnixSeconds) -> NewEpoch {
    NewEpoch { revoker: Revoker::new(Arc::new(ManualClock::at(now)), 0, 60), statements_after: now.plus(330) }
}

async fn revocations(store: &impl Store) -> Vec<Revocation> {
    store.revocations(0, 9).await.unwrap().into_iter().map(|one| one.revocation).collect()
}

async fn the_longest_life_of_a_token_is_kept(store: &impl Store) {
    for (allowed, longest) in [(900, 900), (60, 900), (901, 901)] {
        store.allow_token_lifetime(allowed).await.unwrap();
        assert_eq!(store.changes(0).await.unwrap().max_token_lifetime_s, longest);
    }
}

async fn a_clock_is_set_back_by_an_operator_alone(store: &impl Store) {
    for (now, high) in [(NOW, NOW), (NOW.minus(9), NOW), (NOW.plus(9), NOW.plus(9))] {
        store.reach_clock(now).await.unwrap();
        assert_eq!(store.changes(0).await.unwrap().clock_high, high);
    }
    // By the later clock.
    store
        .revoke(&[taken_back("a"), Revocation::of_all(NOW, NOW), Revocation::of_key("k", NOW)])
        .await
        .unwrap();
    let former = store.changes(0).await.unwrap();
    let epoch = new_epoch(NOW.minus(100));
    store.accept_clock(NOW.minus(100), &epoch).await.unwrap();
    let log = store.changes(former.last).await.unwrap();
    assert_eq!((log.clock_high, log.statements_after), (NOW.minus(100), NOW.plus(230)));
    assert_ne!(log.epoch, former.epoch);
    assert_eq!(revocations(store).await, [Revocation::of_key("k", NOW), epoch.revoker.all()]);
}
