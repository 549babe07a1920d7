use std::time::Instant;

use super::*;
use crate::test_support::{NOW, TestIssuer};

const END: UnixSeconds = NOW.plus(1_000);
const DB: &str = "epoch";

fn holding(revocations: impl IntoIterator<Item = Revocation>) -> IssuedRevocations {
    let issued = IssuedRevocations::new();
    {
        let mut state = issued.write();
        state.position.epoch = DB.into();
        for (id, revocation) in (1..).zip(revocations) {
            issued
                .latest_before
                .fetch_max(revocation.before().map_or(0, |before| before.0), Ordering::AcqRel);
            state.take_up(NumberedRevocation { id, revocation });
            state.position.last = id;
        }
    }
    issued
}

fn ids(issued: &IssuedRevocations, after: u64, limit: usize) -> (Vec<u64>, Option<u64>) {
    let page = issued.after(DB, after, limit).unwrap();
    (page.revocations.iter().map(|numbered| numbered.id).collect(), page.end.map(|end| end.last))
}

#[test]
fn one_of_the_same_target_takes_the_place_and_comes_last() {
    let device = |name, before| Revocation::of_device(name, NOW.plus(before), END);
    let issued = holding([device("a", 1), device("b", 1), device("c", 1), device("a", 2)]);
    assert_eq!(ids(&issued, 0, 2), (vec![2, 3], None));
    assert_eq!(ids(&issued, 3, 2), (vec![4], Some(4)));
    assert_eq!(ids(&issued, 4, 2), (vec![], Some(4)));
    assert_eq!(ids(&issued, u64::MAX, 2), (vec![], Some(4)));
    assert_eq!(issued.after("another", 0, 2), None);
    issued.forget_expired(END);
    assert_eq!((ids(&issued, 0, 2), issued.current().len()), ((vec![], Some(4)), 0));
}

#[test]
fn whoever_is_named_is_told_how_long() {
    let issued = holding([
        Revocation::of_device("pump", NOW.plus(3), END),
        Revocation::of_group("valves", NOW.plus(5), END),
    ]);
    let shut_out = |device, group, later| issued.shut_out_for_s(device, group, NOW.plus(later));
    assert_eq!(shut_out("pump", "pumps", 0), Some(3));
    assert_eq!(shut_out("pump", "pumps", 2), Some(1));
    assert_eq!(shut_out("pump", "pumps", 3), None);
    assert_eq!(shut_out("pump", "valves", 3), Some(2));
    assert_eq!(shut_out("other", "pumps", 0), None);
    assert_eq!(holding([]).shut_out_for_s("pump", "pumps", UnixSeconds(0)), None);
}

/// 100,000 entries do not make the next one slow: no more than a few times as
/// long as the first. Before, each looked at all the others.
#[test]
#[expect(clippy::disallowed_methods, reason = "measures")]
fn many_do_not_make_the_next_one_slow() {
    let entries = |from: u32, count: u32| {
        let entry = |n: u32| Revocation::of_token(&n.to_string(), END);
        (from..from + count).map(entry).collect::<Vec<_>>()
    };
    let issued = holding(entries(0, 100_000));
    let began = Instant::now();
    let mut state = issued.write();
    for (id, revocation) in (200_000..).zip(entries(100_000, 10_000)) {
        state.take_up(NumberedRevocation { id, revocation });
    }
    println!("10,000 more than 100,000 revocations are taken up in {:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_read_is_what_was_written() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let several: Vec<_> = (0..2_500).map(|n: u32| Revocation::of_token(&n.to_string(), END)).collect();
    app.store.revoke(&several).await.unwrap();
    app.node.catch_up(&app).await.unwrap();
    assert_eq!(app.revocations.current().len(), 2_500);
    // Of another database, as after a restore, everything is read anew.
    app.revocations.read_new(&*app.store, DB).await.unwrap();
    assert_eq!(app.revocations.current().len(), 2_500);
    assert_eq!(*app.revocations.follow().borrow().epoch, *DB);
    assert_eq!(ids(&app.revocations, 0, 5_000).0.len(), 2_500);
}
