use std::sync::LazyLock;

use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::revocations::{Revocation, RevocationState};
use fleetbadge_validator::test_support::{TestKey, claims};
use fleetbadge_validator::verify::Verifier;
use serde_json::json;

use super::*;
use crate::broker::fake::FakeClient;

static KEY: LazyLock<TestKey> = LazyLock::new(TestKey::generate);

const ISSUER: &str = "https://id.example";
const START: UnixSeconds = UnixSeconds(1_000);
/// `exp` 1,060 and 5 s of skew.
const END: UnixSeconds = UnixSeconds(1_065);

fn token(device: &str, filters: &[&str]) -> VerifiedToken {
    let mut claims = claims(device, START.0, END.0 - 5);
    claims["acl"] = json!({"pub": filters, "sub": filters});
    let keys = KeySet::from_json("https://id.example", KEY.jwks().as_bytes()).unwrap().0;
    let verifier = Verifier::new("https://id.example", "mqtt");
    verifier.verify(&KEY.token(&claims), device, &keys, &RevocationState::NotFollowed, START).unwrap()
}

fn sessions() -> Sessions {
    Sessions::new(10)
}

/// A client that was let in, and its sessions.
fn connected(handle: usize, device: &str) -> (Sessions, FakeClient) {
    let (mut sessions, client) = (sessions(), FakeClient::new(handle, device).with_username(device));
    sessions.connect(client.handle(), token(device, &["a/#"]));
    (sessions, client)
}

fn code(result: Result<(), Refusal>) -> &'static str {
    result.map_or_else(|refusal| refusal.code(), |()| "allowed")
}

#[test]
fn a_connected_client_may_what_its_token_says_until_it_ends() {
    let (sessions, client) = connected(1, "pump-1");
    let ask = |access, topic, now| code(sessions.allows(&client, access, topic, now));
    for access in [Access::Read, Access::Write, Access::Subscribe] {
        assert_eq!(ask(access, "a/b", END.minus(1)), "allowed", "{access:?}");
        assert_eq!(ask(access, "b", START), "topic_not_allowed", "{access:?}");
        assert_eq!(ask(access, "a/b", END), "expired", "{access:?}");
    }
    assert_eq!(ask(Access::Subscribe, "$share/group/a/+", START), "allowed");
    assert_eq!(ask(Access::Subscribe, "$share/group/#", START), "topic_not_allowed");
    assert_eq!(ask(Access::Unsubscribe, "whatever", END), "allowed");
}

#[test]
fn who_was_not_let_in_may_nothing() {
    let (sessions, _) = connected(1, "pump-1");
    let clients = [
        ("another record, same client ID and name", FakeClient::new(2, "pump-1").with_username("pump-1")),
        ("another client ID", FakeClient::new(2, "pump-2").with_username("pump-1")),
        ("no user name", FakeClient::new(2, "pump-1")),
    ];
    for (what, client) in clients {
        for access in [Access::Read, Access::Write, Access::Subscribe, Access::Unsubscribe] {
            assert_eq!(code(sessions.allows(&client, access, "a", START)), "client_unknown", "{what}");
        }
    }
}

#[test]
fn a_parted_session_goes_on_queueing_under_its_last_token() {
    let (mut sessions, client) = connected(1, "pump-1");
    sessions.part(client.handle());
    let ask = |access, topic, now| code(sessions.allows(&client, access, topic, now));
    assert_eq!(ask(Access::Read, "a/b", END.plus(1_000_000)), "allowed");
    assert_eq!(ask(Access::Read, "b", END.plus(1_000_000)), "topic_not_allowed");
    assert_eq!(ask(Access::Subscribe, "a/b", START), "client_unknown", "it can ask for nothing more");
    assert_eq!(ask(Access::Unsubscribe, "a/b", START), "client_unknown");
}

#[test]
fn a_will_goes_out_until_the_token_ends_or_with_the_disconnection_then() {
    let (mut sessions, client) = connected(1, "pump-1");
    sessions.part(client.handle());
    let will = |topic, now| code(sessions.allows(&client, Access::Write, topic, now));
    assert_eq!(will("a/will", START), "allowed");
    assert_eq!(will("a/will", END.plus(WILL_GRACE_S - 1)), "allowed");
    assert_eq!(will("a/will", END.plus(WILL_GRACE_S)), "expired");
    assert_eq!(will("b/will", START), "topic_not_allowed");
}

#[test]
fn a_record_used_again_inherits_nothing_from_a_parted_session() {
    let (mut sessions, client) = connected(1, "pump-1");
    sessions.part(client.handle());
    for (id, name) in [("pump-2", "pump-1"), ("pump-1", "pump-2")] {
        let next = FakeClient::new(1, id).with_username(name);
        assert_eq!(code(sessions.allows(&next, Access::Read, "a", START)), "client_unknown", "{id} {name}");
        assert_eq!(sessions.knows(&next, START), None, "{id} {name}");
    }
}

#[test]
fn a_connection_that_takes_over_keeps_its_session_when_the_old_one_ends() {
    let (mut sessions, old) = connected(1, "pump-1");
    let new = FakeClient { handle: 2, ..old.clone() };
    sessions.connect(new.handle(), token("pump-1", &["b/#"]));
    sessions.part(old.handle());
    assert_eq!(code(sessions.allows(&new, Access::Read, "b/c", START)), "allowed");
    assert_eq!(code(sessions.allows(&old, Access::Read, "a/b", START)), "client_unknown");
    assert!(sessions.parted.is_empty());
}

#[test]
fn the_source_of_a_retained_message_is_judged_by_its_last_token() {
    let (mut sessions, client) = connected(1, "pump-1");
    let source = FakeClient { handle: 99, ..client.clone() }.without_connection();
    let ask = |sessions: &Sessions, access, topic| {
        code(sessions.allows(&source, access, topic, END.plus(1_000_000)))
    };
    assert_eq!(ask(&sessions, Access::Write, "a/b"), "allowed");
    assert_eq!(ask(&sessions, Access::Read, "a/b"), "client_unknown");
    sessions.part(client.handle());
    assert_eq!(ask(&sessions, Access::Write, "a/b"), "allowed");
    sessions.connect(client.handle(), token("pump-1", &["b"]));
    assert_eq!(ask(&sessions, Access::Write, "a/b"), "topic_not_allowed");
    let imposter = source.clone().with_username("pump-2");
    assert_eq!(code(sessions.allows(&imposter, Access::Write, "b", START)), "client_not_seen");
}

#[test]
fn connections_are_taken_once_when_their_token_ends_and_keep_their_subscriptions() {
    let (mut sessions, client) = connected(1, "pump-1");
    assert!(sessions.take_ended(END.minus(1), 10).is_empty());
    assert_eq!(sessions.take_ended(END, 10), ["pump-1".into()]);
    assert!(sessions.take_ended(END, 10).is_empty());
    let ask = |access| code(sessions.allows(&client, access, "a/b", END));
    assert_eq!(ask(Access::Subscribe), "allowed", "asked by the broker while it disconnects");
    assert_eq!((ask(Access::Read), ask(Access::Write)), ("expired", "expired"));
}

#[test]
fn a_connection_that_was_taken_over_is_not_taken_for_its_successor() {
    let (mut sessions, client) = connected(1, "pump-1");
    sessions.connect(ClientHandle(2), token("pump-1", &["a/#"]));
    assert_eq!(sessions.take_ended(END, 10), ["pump-1".into()], "once, for the successor");
    assert_eq!(code(sessions.allows(&client, Access::Read, "a/b", END)), "expired");
}

#[test]
fn many_that_end_together_are_taken_in_portions() {
    let mut sessions = sessions();
    for handle in 0..25 {
        sessions.connect(ClientHandle(handle), token(&format!("pump-{handle}"), &[]));
    }
    let portions: Vec<usize> = (0..4).map(|_| sessions.take_ended(END, 10).len()).collect();
    assert_eq!(portions, [10, 10, 5, 0]);
}

#[test]
fn a_reload_knows_the_connected_and_the_parted() {
    let (mut sessions, client) = connected(1, "pump-1");
    let knows = |sessions: &mut Sessions, client: &FakeClient, now| {
        sessions.reload();
        sessions.knows(client, now)
    };
    assert_eq!(knows(&mut sessions, &client, END.minus(1)), Some(Ok(())));
    assert!(matches!(knows(&mut sessions, &client, END), Some(Err(Refusal::Denied(Denied::Expired { .. })))));
    let with_a_token = client.clone().with_username("eyJ...");
    assert_eq!(knows(&mut sessions, &with_a_token, START), None);
    let elsewhere = FakeClient { handle: 2, ..client.clone() };
    assert_eq!(knows(&mut sessions, &elsewhere, START), None);

    sessions.part(client.handle());
    assert_eq!(knows(&mut sessions, &client, END), Some(Ok(())), "it goes on queueing");
    let from_database = FakeClient { handle: 3, ..client.clone() }.without_connection();
    assert_eq!(sessions.knows(&from_database, START), Some(Ok(())));
    assert_eq!(code(sessions.allows(&from_database, Access::Read, "a/b", START)), "client_unknown");
    let not_seen = FakeClient::new(4, "pump-4").with_username("pump-4").without_connection();
    assert_eq!(sessions.knows(&not_seen, START), Some(Ok(())));
    assert_eq!(code(sessions.allows(&not_seen, Access::Read, "a/b", START)), "client_not_seen");
}

/// A stranger at the address of a client that has just gone, with its names.
#[test]
fn each_client_is_known_once_after_a_reload() {
    let (mut sessions, client) = connected(1, "pump-1");
    sessions.reload();
    assert_eq!(sessions.knows(&client, START), Some(Ok(())));
    assert_eq!(sessions.knows(&client, START), None);
    sessions.part(client.handle());
    assert_eq!(sessions.knows(&client, START), None, "parted after the reload");

    let (mut sessions, later) = connected(2, "pump-2");
    sessions.reload();
    sessions.part(later.handle());
    sessions.connect(later.handle(), token("pump-2", &[]));
    assert_eq!(sessions.knows(&FakeClient::new(3, "pump-2").with_username("pump-2"), START), None);
}

#[test]
fn after_a_reload_a_parted_session_has_no_will_left() {
    let (mut sessions, client) = connected(1, "pump-1");
    sessions.part(client.handle());
    sessions.reload();
    assert_eq!(code(sessions.allows(&client, Access::Write, "a/will", START)), "client_unknown");
    assert_eq!(code(sessions.allows(&client, Access::Read, "a/b", START)), "allowed");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut sessions = sessions();
    for handle in 0..100 {
        sessions.connect(ClientHandle(handle), token(&format!("pump-{handle}"), &["a/#"]));
        sessions.part(ClientHandle(handle));
    }
    assert_eq!((sessions.parted.len(), sessions.latest.len()), (10, 10));
    assert!(sessions.connected.is_empty() && sessions.ends.is_empty());
    let ask = |handle: usize| {
        let device = format!("pump-{handle}");
        let client = FakeClient::new(handle, &device).with_username(&device);
        code(sessions.allows(&client, Access::Read, "a/b", START))
    };
    assert_eq!((ask(89), ask(90)), ("client_unknown", "allowed"), "the longest parted went first");

    // One client that comes and goes takes one place.
    for _ in 0..100 {
        sessions.connect(ClientHandle(1), token("pump-99", &[]));
        sessions.part(ClientHandle(1));
    }
    assert_eq!((sessions.parted.len(), sessions.latest.len()), (10, 10));
}

#[test]
fn the_end_of_a_connection_that_never_was_is_harmless() {
    let (mut sessions, client) = connected(1, "pump-1");
    sessions.part(ClientHandle(2));
    sessions.part(ClientHandle(0));
    assert_eq!(code(sessions.allows(&client, Access::Read, "a/b", START)), "allowed");
}

/// Takes everything back that was issued until the start.
fn revoke_everything(sessions: &mut Sessions) {
    sessions.revoke(ISSUER, &[Revocation::of_all(START.plus(1), END)].into_iter().collect());
}

#[test]
fn a_connection_whose_token_is_revoked_may_nothing_and_is_taken_once() {
    let (mut sessions, client) = connected(1, "pump-1");
    sessions.revoke(ISSUER, &[Revocation::of_device("pump-2", END, END)].into_iter().collect());
    assert!(sessions.take_barred(10).is_empty());
    revoke_everything(&mut sessions);
    revoke_everything(&mut sessions);
    let ask = |sessions: &Sessions, access| code(sessions.allows(&client, access, "a/b", START));
    for access in [Access::Read, Access::Write, Access::Subscribe, Access::Unsubscribe] {
        assert_eq!(ask(&sessions, access), "revoked", "{access:?}");
    }
    sessions.reload();
    assert!(matches!(sessions.knows(&client, START), Some(Err(refusal)) if refusal.is_revocation()));

    let taken = sessions.take_barred(10);
    assert!(
        matches!(&*taken, [(id, Refusal::Denied(Denied::Revoked { .. }))] if **id == *"pump-1"),
        "{taken:?}"
    );
    assert!(sessions.take_barred(10).is_empty());
    assert_eq!(ask(&sessions, Access::Subscribe), "allowed", "asked by the broker while it disconnects");
    assert_eq!((ask(&sessions, Access::Read), ask(&sessions, Access::Write)), ("revoked", "revoked"));
    assert!(sessions.take_ended(END, 10).is_empty(), "it was taken before");
}

#[test]
fn a_parted_session_whose_token_is_revoked_queues_nothing_and_sends_no_will() {
    // Revoked while it was connected, parted, and parted for longer than its
    // token lived.
    for (name, part_first, long_ago) in [("1", false, false), ("2", true, false), ("3", true, true)] {
        let (mut sessions, client) = connected(1, "pump-1");
        if part_first {
            sessions.part(client.handle());
        }
        revoke_everything(&mut sessions);
        sessions.part(client.handle());
        let now = if long_ago { END.plus(1_000_000) } else { START };
        let source = FakeClient { handle: 99, ..client.clone() }.without_connection();
        let ask = |client: &FakeClient, access| code(sessions.allows(client, access, "a/b", now));
        assert_eq!(ask(&client, Access::Read), "revoked", "{name}");
        assert_eq!(ask(&client, Access::Write), "revoked", "{name}");
        assert_eq!(ask(&source, Access::Write), "revoked", "the source of a retained message, {name}");
        assert!(sessions.take_barred(10).is_empty(), "{name}");
        sessions.reload();
        assert_eq!(sessions.knows(&client, now), Some(Ok(())), "it stays parted, {name}");
        assert_eq!(code(sessions.allows(&client, Access::Read, "a/b", now)), "revoked", "{name}");

        // With another token it may again.
        sessions.connect(client.handle(), token("pump-1", &["a/#"]));
        assert_eq!(code(sessions.allows(&client, Access::Read, "a/b", START)), "allowed");
    }
}

#[test]
fn whoever_comes_to_the_address_of_a_revoked_connection_is_left_alone() {
    let (mut sessions, client) = connected(1, "pump-1");
    revoke_everything(&mut sessions);
    sessions.part(client.handle());
    sessions.connect(client.handle(), token("pump-2", &["a/#"]));
    assert!(sessions.take_barred(10).is_empty());

    let (mut sessions, _) = connected(1, "pump-1");
    revoke_everything(&mut sessions);
    sessions.connect(ClientHandle(2), token("pump-1", &["a/#"]));
    assert!(sessions.take_barred(10).is_empty(), "the client ID is that of its successor");
}

/// A client that was let in with an authentication method, and its sessions.
fn connected_by_method(handle: usize, device: &str) -> (Sessions, FakeClient) {
    let (mut sessions, client) = (sessions(), FakeClient::new(handle, device).with_username(device));
    sessions.connect_enhanced(client.handle(), token(device, &["a/#"]));
    (sessions, client)
}

/// A token with these rules and this end, and claims of its own.
fn token_until(ends_at: UnixSeconds, changes: &serde_json::Value) -> VerifiedToken {
    let mut claims = claims("pump-1", START.0, ends_at.0 - 5);
    claims["acl"] = json!({"pub": ["a/#"], "sub": ["a/#"]});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let issuer = claims["iss"].as_str().unwrap();
    let keys = KeySet::from_json(issuer, KEY.jwks().as_bytes()).unwrap().0;
    let verifier = Verifier::new(issuer, "mqtt");
    verifier.verify(&KEY.token(&claims), "pump-1", &keys, &RevocationState::NotFollowed, START).unwrap()
}

#[test]
fn a_new_token_replaces_the_old_one_at_once() {
    let (mut sessions, client) = connected_by_method(1, "pump-1");
    let wider = json!({"acl": {"pub": ["b"], "sub": ["a/#", "b"]}});
    assert_eq!(sessions.renew(client.handle(), token_until(END.plus(100), &wider)), Ok(()));
    let ask = |sessions: &Sessions, access, topic, now| code(sessions.allows(&client, access, topic, now));
    assert_eq!(ask(&sessions, Access::Write, "b", END), "allowed", "past the end of the old one");
    assert_eq!(ask(&sessions, Access::Subscribe, "b", START), "allowed");
    assert_eq!(ask(&sessions, Access::Write, "a/b", START), "topic_not_allowed");
    assert!(sessions.take_ended(END, 10).is_empty(), "the old one's end is nobody's");
    assert_eq!(sessions.take_ended(END.plus(100), 10), ["pump-1".into()]);
    assert!(sessions.ends.is_empty());

    sessions.part(client.handle());
    assert_eq!(ask(&sessions, Access::Read, "b", END.plus(1_000)), "allowed", "it queues under the new one");
    assert_eq!(ask(&sessions, Access::Write, "a/will", START), "topic_not_allowed", "and so is its will");
}

#[test]
fn a_shorter_token_ends_the_session_sooner() {
    let (mut sessions, client) = connected_by_method(1, "pump-1");
    assert_eq!(sessions.renew(client.handle(), token_until(END.minus(30), &json!({}))), Ok(()));
    assert_eq!(code(sessions.allows(&client, Access::Read, "a/b", END.minus(30))), "expired");
    assert_eq!(sessions.take_ended(END.minus(30), 10), ["pump-1".into()]);
    assert!(sessions.take_ended(END, 10).is_empty());
}

#[test]
fn a_revocation_of_the_old_token_does_not_end_what_the_new_one_began() {
    let (mut sessions, client) = connected_by_method(1, "pump-1");
    let new = token_until(END, &json!({"jti": "new"}));
    let old_id = format!("pump-1-{}-{}", START.0, END.0 - 5);
    assert_eq!(sessions.renew(client.handle(), new), Ok(()));
    sessions.revoke(ISSUER, &[Revocation::of_token(&old_id, END)].into_iter().collect());
    assert!(sessions.take_barred(10).is_empty());
    assert_eq!(code(sessions.allows(&client, Access::Read, "a/b", START)), "allowed");
    sessions.revoke(ISSUER, &[Revocation::of_token("new", END)].into_iter().collect());
    assert_eq!(sessions.take_barred(10).len(), 1);
}

#[test]
fn what_is_not_the_same_client_going_on_with_as_much_is_no_renewal() {
    let refused = |sessions: &mut Sessions, changes| {
        code(sessions.renew(ClientHandle(1), token_until(END.plus(1), &changes)))
    };
    let (mut sessions, _) = connected(1, "pump-1");
    assert_eq!(refused(&mut sessions, json!({})), "authentication_method_missing");
    let (mut sessions, client) = connected_by_method(1, "pump-1");
    assert_eq!(refused(&mut sessions, json!({"sub": "pump-2", "client_id": "pump-2"})), "subject_differs");
    assert_eq!(refused(&mut sessions, json!({"iss": "https://other.example"})), "subject_differs");
    for narrower in [
        json!({"acl": {"pub": ["#"], "sub": ["a/b"]}}),
        json!({"acl": {"pub": ["#"], "sub": ["b/#", "a/+/#"]}}),
        json!({"scope": "mqtt.connect mqtt.publish"}),
        json!({"acl": {}}),
    ] {
        assert_eq!(refused(&mut sessions, narrower.clone()), "receives_less", "{narrower}");
    }
    assert_eq!(
        code(sessions.allows(&client, Access::Read, "a/b", START)),
        "allowed",
        "none has changed anything"
    );
    assert_eq!(code(sessions.renew(ClientHandle(2), token_until(END, &json!({})))), "client_unknown");
    // Who has received nothing has nothing to lose.
    assert_eq!(refused(&mut sessions, json!({"scope": "mqtt.connect mqtt.subscribe"})), "allowed");
}

#[test]
fn after_a_failed_renewal_nothing_is_allowed_and_nothing_renews() {
    let (mut sessions, client) = connected_by_method(1, "pump-1");
    sessions.bar(client.handle(), Refusal::AuthenticationContinued);
    sessions.bar(client.handle(), Refusal::ReceivesLess);
    for access in [Access::Read, Access::Write, Access::Subscribe, Access::Unsubscribe] {
        let refused = code(sessions.allows(&client, access, "a/b", START));
        assert_eq!(refused, "authentication_continued", "{access:?}");
    }
    let renewed = sessions.renew(client.handle(), token_until(END, &json!({})));
    assert_eq!(renewed, Err(Refusal::AuthenticationContinued));
    assert_eq!(sessions.take_barred(10), [("pump-1".into(), Refusal::AuthenticationContinued)], "once");
    assert!(sessions.take_barred(10).is_empty());
    let ask = |sessions: &Sessions, access| code(sessions.allows(&client, access, "a/b", START));
    assert_eq!(ask(&sessions, Access::Subscribe), "allowed", "asked by the broker while it disconnects");
    sessions.part(client.handle());
    assert_eq!(ask(&sessions, Access::Read), "allowed", "it goes on queueing under its last good token");
    assert_eq!(ask(&sessions, Access::Write), "allowed", "and has its will");
}

#[test]
fn a_revocation_takes_the_will_of_who_was_barred_before() {
    let (mut sessions, client) = connected_by_method(1, "pump-1");
    sessions.bar(client.handle(), Refusal::AuthenticationContinued);
    revoke_everything(&mut sessions);
    let barred = sessions.take_barred(10);
    assert!(matches!(&*barred, [(_, refusal)] if refusal.is_revocation()), "{barred:?}");
}

#[test]
fn an_address_that_is_used_again_is_another_client() {
    let (mut sessions, client) = connected_by_method(1, "pump-1");
    assert!(sessions.is_connected(&client));
    for other in [
        FakeClient::new(1, "pump-2").with_username("pump-1"),
        FakeClient::new(1, "pump-1").with_username("eyJ..."),
        FakeClient::new(1, "pump-1"),
        FakeClient::new(2, "pump-1").with_username("pump-1"),
    ] {
        assert!(!sessions.is_connected(&other), "{other:?}");
    }
    sessions.part(client.handle());
    assert!(!sessions.is_connected(&client));
}
