use super::*;
use crate::time::UnixSeconds;

fn of_device(n: u64) -> Revocation {
    Revocation::of_device(&format!("pump-{}", n % 40), UnixSeconds(n), UnixSeconds(n))
}

fn id(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

/// Whatever readers do, it is as if each batch had been added to the one map.
#[test]
fn copies_that_take_turns_are_one_map() {
    let (mut copies, mut expected) = (Copies::default(), Revocations::default());
    let mut current = Arc::<Revocations>::default();
    let mut readers = Vec::new();
    for n in 0..200_u64 {
        if n % 3 == 0 {
            readers.push((Arc::clone(&current), expected.clone()));
        }
        if n % 7 == 0 {
            readers.remove(0);
        }
        if n % 31 == 30 {
            // Something else is put in force.
            copies.forget();
            expected.add(of_device(10_000));
            current = Arc::new(expected.clone());
        }
        let batch: Vec<_> = (0..n % 5).map(|m| of_device(n + m * 100)).collect();
        batch.iter().cloned().for_each(|revocation| expected.add(revocation));
        let next = copies.with(&current, &batch);
        copies.keep(std::mem::replace(&mut current, next), batch);
        assert_eq!(*current, expected);
        assert!(readers.iter().all(|(held, then)| **held == *then), "readers see no change");
    }
    // A batch that is not kept leaves nothing behind.
    copies.with(&current, &[of_device(99_999)]);
    assert_eq!(*copies.with(&current, &[]), expected);
}

/// Without a reader, nothing is copied: the two maps stay where they are.
#[test]
fn a_batch_copies_nothing_that_is_there_already() {
    let mut copies = Copies::default();
    let mut current =
        Arc::new((0..1_000).map(|n| Revocation::of_token(&n.to_string(), UnixSeconds(9))).collect());
    let mut seen = Vec::new();
    for n in 0..100 {
        let batch = vec![of_device(n)];
        let next: Arc<Revocations> = copies.with(&current, &batch);
        copies.keep(std::mem::replace(&mut current, next), batch);
        let place = Arc::as_ptr(&current);
        if !seen.contains(&place) {
            seen.push(place);
        }
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_heartbeat_waits_for_what_was_told_before_it() {
    let beat = || Message::Heartbeat(Heartbeat { now: UnixSeconds(1) });
    let mut heard = Heard::new(true);
    assert!(!heard.add(vec![Message::Revocation(of_device(1), id("x-1"))]).unwrap());
    assert!(heard.add(vec![beat()]).unwrap());
    assert!(heard.take_heartbeat().is_none());
    let (news, event_id) = heard.take_news().unwrap();
    assert_eq!((news, event_id), (vec![of_device(1)], id("x-1")));
    assert!(heard.take_heartbeat().is_some() && heard.take_heartbeat().is_none());
    // Half a snapshot proves nothing.
    let part = Message::Snapshot(vec![of_device(2)], None);
    assert!(heard.add(vec![part, beat()]).unwrap());
    assert!(heard.take_heartbeat().is_none() && !heard.has_news());
}
