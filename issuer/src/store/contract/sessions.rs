//! Who is connected, told in parts.

use fleetbadge_validator::ids::MqttClientId;
use fleetbadge_validator::reports::Report;
use fleetbadge_validator::reports::sessions::{Online, SessionsKept, SessionsPart};

use super::{NOW, add_broker, broker, id, remove_broker};
use crate::store::{ReportRecord, SessionRecord, Store};

pub(super) async fn check<S: Store, G>(make: &impl AsyncFn() -> (S, G)) {
    parts_are_kept_in_their_order(&make().await.0).await;
    sessions_go_with_their_instance(&make().await.0).await;
    a_broker_has_room_for_so_many(&make().await.0).await;
}

const MOST: u64 = 5;

fn client(name: &str) -> MqttClientId {
    name.parse().unwrap()
}

fn online(name: &str, until: u64) -> Online {
    Online { client_id: client(name), since: NOW, until: NOW.plus(until) }
}

fn part(epoch: u64, part: u64, names: &[&str], gone: &[&str]) -> SessionsPart {
    let online = names.iter().map(|name| online(name, part)).collect();
    SessionsPart { epoch, part, online, gone: gone.iter().map(|name| client(name)).collect() }
}

async fn report(store: &impl Store, broker: &str, instance: &str, age: u64) {
    let report = Report { software: "x/1".into(), kids: Vec::new(), revocations: None, counters: None };
    let reported_at = NOW.minus(age);
    let record = ReportRecord {
        broker: broker.parse().unwrap(),
        instance: instance.into(),
        secret: id("1"),
        report,
        reported_at,
    };
    store.set_report(&record, 3).await.unwrap();
}

/// Two brokers, each with the instance `i`.
async fn with_brokers(store: &impl Store) {
    for name in ["b", "c"] {
        add_broker(store, &broker(name, &format!("urn:{name}"))).await.unwrap();
        report(store, name, "i", 0).await;
    }
}

async fn keep(store: &impl Store, broker: &str, part: &SessionsPart) -> SessionsKept {
    store.keep_sessions(broker, "i", part, MOST).await.unwrap()
}

async fn names(store: &impl Store, broker: &str) -> Vec<String> {
    let records = store.sessions_of_broker(broker, ("", ""), 99).await.unwrap();
    let names: Vec<String> = records.iter().map(|record| record.session.client_id.to_string()).collect();
    let counted: u64 = store.sessions_online(broker).await.unwrap().iter().map(|(_, count)| count).sum();
    assert_eq!(counted, names.len() as u64);
    names
}

async fn parts_are_kept_in_their_order(store: &impl Store) {
    with_brokers(store).await;
    assert_eq!(keep(store, "b", &part(7, 1, &["x"], &[])).await, SessionsKept::BeginAnew);
    assert_eq!(keep(store, "b", &part(7, 0, &["x", "y"], &["z"])).await, SessionsKept::Kept);
    assert_eq!(keep(store, "b", &part(7, 1, &["x", "z"], &["y"])).await, SessionsKept::Kept);
    assert_eq!(names(store, "b").await, ["x", "z"]);
    // Its answer was lost.
    assert_eq!(keep(store, "b", &part(7, 1, &["x", "z"], &["y"])).await, SessionsKept::Kept);
    for missing in [part(7, 3, &["y"], &[]), part(8, 2, &["y"], &[])] {
        assert_eq!(keep(store, "b", &missing).await, SessionsKept::BeginAnew);
    }
    assert_eq!(keep(store, "b", &part(7, 2, &[], &[])).await, SessionsKept::Kept);
    assert_eq!(names(store, "b").await, ["x", "z"]);

    assert_eq!(keep(store, "c", &part(7, 0, &["x"], &[])).await, SessionsKept::Kept);
    let record = |broker: &str, session| SessionRecord {
        broker: broker.parse().unwrap(),
        instance: "i".into(),
        session,
    };
    let found = store.sessions_of_clients(&[client("x"), client("nobody")], 9).await.unwrap();
    assert_eq!(found, [record("b", online("x", 1)), record("c", online("x", 0))]);
    assert_eq!(store.sessions_of_clients(&[client("x")], 1).await.unwrap().len(), 1);
    assert_eq!(store.sessions_of_clients(&[], 9).await.unwrap(), []);
    let page = store.sessions_of_broker("b", ("i", "x"), 1).await.unwrap();
    assert_eq!(page, [record("b", online("z", 1))]);
    assert_eq!(store.sessions_of_broker("b", ("i", "z"), 1).await.unwrap(), []);

    // A new list takes the place of all, and only of its own.
    assert_eq!(keep(store, "b", &part(9, 0, &["w"], &[])).await, SessionsKept::Kept);
    assert_eq!((names(store, "b").await, names(store, "c").await), (vec!["w".into()], vec!["x".into()]));
}

async fn sessions_go_with_their_instance(store: &impl Store) {
    assert_eq!(keep(store, "nobody", &part(7, 0, &["x"], &[])).await, SessionsKept::BeginAnew);
    with_brokers(store).await;
    let silent = store.keep_sessions("b", "unheard", &part(7, 0, &["x"], &[]), MOST).await.unwrap();
    assert_eq!(silent, SessionsKept::BeginAnew, "it has not reported");
    for broker in ["b", "c"] {
        keep(store, broker, &part(7, 0, &["x"], &[])).await;
    }
    // It reports again: nothing is lost by that.
    report(store, "b", "i", 9).await;
    assert_eq!(names(store, "b").await, ["x"]);
    store.forget_reports(NOW.minus(8)).await.unwrap();
    assert_eq!((names(store, "b").await.len(), names(store, "c").await.len()), (0, 1));
    report(store, "b", "i", 0).await;
    assert_eq!(keep(store, "b", &part(7, 1, &[], &[])).await, SessionsKept::BeginAnew);
    assert!(remove_broker(store, "c").await);
    assert!(names(store, "c").await.is_empty());
}

async fn a_broker_has_room_for_so_many(store: &impl Store) {
    with_brokers(store).await;
    report(store, "b", "j", 0).await;
    assert_eq!(keep(store, "b", &part(7, 0, &["1", "2", "3"], &[])).await, SessionsKept::Kept);
    let other = |names: &'static [&'static str]| async move {
        store.keep_sessions("b", "j", &part(7, 0, names, &[]), MOST).await.unwrap()
    };
    assert_eq!(other(&["1", "2", "3"]).await, SessionsKept::Full);
    assert_eq!(names(store, "b").await, ["1", "2", "3"], "nothing of it is kept");
    assert_eq!(other(&["1", "2"]).await, SessionsKept::Kept);
    assert_eq!(keep(store, "b", &part(7, 1, &["4"], &[])).await, SessionsKept::Full);
    assert_eq!(keep(store, "b", &part(7, 1, &["4", "3"], &["1"])).await, SessionsKept::Kept);
    assert_eq!(names(store, "b").await, ["2", "3", "4", "1", "2"]);
    assert_eq!(keep(store, "c", &part(7, 0, &["1", "2", "3"], &[])).await, SessionsKept::Kept);
}
