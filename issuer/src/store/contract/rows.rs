//! Everything out of one store and into another.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::revocations::Revocation;
use tokio::sync::mpsc;

use super::{NOW, add_broker, broker, device, id, taken_back, used, with_group};
use crate::root_key::Sealed;
use crate::signing_keys::{PrivateHalf, Schedule};
use crate::store::tables::{ImportedRow, Row, TABLES};
use crate::store::{NotImported, Restoration, SigningKeyChange, SigningKeyRecord, Store, UsedJti};

pub(super) async fn check<S: Store, G>(make: &impl AsyncFn() -> (S, G)) {
    let (from, _from) = make().await;
    fill(&from).await;
    everything_arrives(&from, &make().await.0).await;
    half_of_it_is_nothing(&from, &make().await.0).await;
    nothing_old_comes_back_to_life(&from, &make().await.0).await;
    a_clock_is_set_back_by_an_operator_alone(&make().await.0).await;
}

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
    restoration: Option<&Restoration>,
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
    let (imported, ()) = tokio::join!(store.import(receiver, restoration), feed);
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
    let revoke = Revocation::of_all(NOW.plus(1), NOW.plus(100));
    let restoration = Restoration { revoke: revoke.clone(), statements_after: NOW.plus(330) };
    give_older(to, rows_of(from).await, true, Some(&restoration)).await.unwrap();
    let after = to.changes(before.last).await.unwrap();
    assert_ne!(after.epoch, before.epoch);
    assert!(after.last > before.last);
    assert_eq!(after.statements_after, NOW.plus(330));
    assert_eq!(to.signing_keys().await.unwrap().keys, []);
    let revocations = to.revocations(0, 9).await.unwrap();
    assert!(revocations.iter().any(|one| one.revocation == revoke), "{revocations:?}");
    assert!(revocations.iter().any(|one| one.revocation == taken_back("gone")), "{revocations:?}");
    assert_eq!(to.use_jtis(&[UsedJti { id: [0xff; 32], expires_at: NOW }]).await.unwrap(), [false]);
}

async fn a_clock_is_set_back_by_an_operator_alone(store: &impl Store) {
    for (now, high) in [(NOW, NOW), (NOW.minus(9), NOW), (NOW.plus(9), NOW.plus(9))] {
        store.reach_clock(now).await.unwrap();
        assert_eq!(store.changes(0).await.unwrap().clock_high, high);
    }
    store.accept_clock(NOW.minus(100), NOW.plus(230)).await.unwrap();
    let log = store.changes(0).await.unwrap();
    assert_eq!((log.clock_high, log.statements_after), (NOW.minus(100), NOW.plus(230)));
}
