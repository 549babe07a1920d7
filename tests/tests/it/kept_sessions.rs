//! Nothing that an earlier token allowed reaches a client whom the present one
//! does not let have it: subscriptions, messages that wait or are under way,
//! retained ones, wills.

use std::time::Duration;

use fleetbadge_tests::auth_client::AuthClient;
use fleetbadge_tests::badges::Badges;
use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::paho::Paho;
use fleetbadge_tests::wire::Protocol;
use serde_json::{Value, json};

on_every_mosquitto!(
    messages_under_way_are_checked_at_a_new_connection,
    hoarded_messages_do_not_outlive_a_right,
    subscriptions_stay_and_deliver_what_the_present_token_allows,
    session_goes_on_under_its_last_good_token,
    will_is_of_the_present_token,
    retained_message_is_of_the_present_token_of_its_source,
    session_of_another_subject_is_empty,
);

const A_MOMENT: Duration = Duration::from_millis(300);

fn token(badges: &Badges, publish: &[&str], subscribe: &[&str]) -> String {
    badges.token_with("pump-1", &json!({"acl": {"pub": publish, "sub": subscribe}}))
}

/// What may publish everything.
fn writer(badges: &Badges, broker: &Mosquitto) -> Paho {
    let token = badges.token_with("writer", &json!({"acl": {"pub": ["#"], "sub": ["#"]}}));
    Paho::builder(Protocol::V5, broker.port()).client_id("writer").username(&token).connect()
}

/// Connects as `pump-1`, to go on with its session or to leave one behind.
fn resume(broker: &Mosquitto, token: &str, changes: &Value) -> (AuthClient, bool) {
    let mut connect = json!({"client_id": "pump-1", "method": "OAUTH2-JWT", "data": token,
                             "clean_start": false, "session_expiry_s": 60});
    connect.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let (client, answer) = AuthClient::connect(broker.port(), &connect);
    assert_eq!((&answer["packet"], &answer["reason"]), (&json!("CONNACK"), &json!(0)), "{answer}");
    (client, answer["session_present"] == true)
}

fn assert_nothing(client: &mut AuthClient) {
    assert_eq!(client.receive_within(A_MOMENT), json!({"packet": "nothing"}));
}

/// The payloads of what comes, and whether it is sent again.
fn messages(client: &mut AuthClient, count: usize) -> Vec<(Value, Value)> {
    let message = |_| {
        let packet = client.receive();
        (packet["payload"].clone(), packet["dup"].clone())
    };
    (0..count).map(message).collect()
}

/// Messages with QoS 1 and 2 that the client has and did not acknowledge:
/// Mosquitto sends them again, after it has asked about each.
fn messages_under_way_are_checked_at_a_new_connection(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).start();
    let wide = token(&badges, &[], &["secret/#", "all"]);
    let narrow = token(&badges, &[], &["all"]);
    let mut writer = writer(&badges, &broker);
    let told = |is_again: bool| ["secret/1", "all", "secret/2"].map(|topic| (json!(topic), json!(is_again)));
    for qos in [1, 2] {
        let (mut before, _) = resume(&broker, &wide, &json!({}));
        let granted = (before.subscribe("secret/#", qos), before.subscribe("all", qos));
        assert_eq!(granted, (qos.into(), qos.into()));
        for topic in ["secret/1", "all", "secret/2"] {
            assert_eq!(writer.publish(topic, topic, qos), 0);
        }
        assert_eq!(messages(&mut before, 3), told(false));
        drop(before);

        // With the same rights they come again: that is what is to be stopped.
        let (mut same, kept) = resume(&broker, &wide, &json!({}));
        assert!(kept);
        assert_eq!(messages(&mut same, 3), told(true));
        drop(same);

        let (mut after, kept) = resume(&broker, &narrow, &json!({}));
        assert!(kept);
        assert_eq!(messages(&mut after, 1), [(json!("all"), json!(true))], "QoS {qos}");
        assert_nothing(&mut after);
        drop(after);

        let (mut again, _) = resume(&broker, &wide, &json!({}));
        assert_eq!(messages(&mut again, 1), [(json!("all"), json!(true))], "the others are gone, not hidden");
        assert_nothing(&mut again);
        drop(again);
        drop(resume(&broker, &wide, &json!({"clean_start": true, "session_expiry_s": 0})));
    }
}

/// A client that takes one message at a time, and leaves the broker to keep the
/// others, until it has a token that does not allow them: Mosquitto does not ask
/// before it sends what it has queued on a connection in use.
fn hoarded_messages_do_not_outlive_a_right(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let wide = token(&badges, &[], &["secret/#", "all"]);
    let narrow = token(&badges, &[], &["all"]);
    let mut writer = writer(&badges, &broker);
    let (mut client, _) = resume(&broker, &wide, &json!({"receive_maximum": 1}));
    assert_eq!((client.subscribe("secret/#", 1), client.subscribe("all", 1)), (1, 1));
    for topic in ["secret/1", "secret/2", "all", "secret/3"] {
        assert_eq!(writer.publish(topic, topic, 1), 0);
    }
    let first = client.receive();
    assert_eq!(first["payload"], "secret/1");
    assert_nothing(&mut client);
    let as_wide = token(&badges, &["x"], &["secret/#", "all", "more"]);
    assert_eq!(client.reauthenticate(&as_wide)["packet"], "AUTH", "with as much it may go on");
    client.acknowledge(&first);
    let second = client.receive();
    assert_eq!(second["payload"], "secret/2");

    let last = client.reauthenticate(&narrow);
    assert!(last["packet"] == "closed" || last["reason"] == 0x80, "{last}");
    if last["packet"] != "closed" {
        assert_eq!(client.last_words(), []);
    }
    broker.wait_for_log("(receives_less)");
    // Mosquitto does not give back the place of a message under way that it
    // drops, so what may come may have to wait for the next connection.
    let (mut after, kept) = resume(&broker, &narrow, &json!({"receive_maximum": 1}));
    assert!(kept);
    let heard = after.receive_within(A_MOMENT);
    assert!(heard["packet"] == "nothing" || heard["payload"] == "all", "{heard}");
    drop(after);
    let (mut again, _) = resume(&broker, &wide, &json!({}));
    assert_eq!(messages(&mut again, 1)[0].0, "all", "the others are gone, not hidden");
    assert_nothing(&mut again);
    assert_eq!(broker.stop().code, Some(0));
}

fn subscriptions_stay_and_deliver_what_the_present_token_allows(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).start();
    let wide = token(&badges, &[], &["secret/#", "all"]);
    let narrow = token(&badges, &[], &["all"]);
    let mut writer = writer(&badges, &broker);
    let (mut before, _) = resume(&broker, &wide, &json!({}));
    for filter in ["secret/#", "$share/group/secret/#", "all"] {
        assert_eq!(before.subscribe(filter, 1), 1);
    }
    drop(before);
    let (mut after, kept) = resume(&broker, &narrow, &json!({}));
    assert!(kept);
    assert_eq!((writer.publish("secret/1", "live", 1), writer.publish("secret/1", "live", 0)), (0, 0));
    assert_nothing(&mut after);
    assert_eq!(writer.publish("all", "live", 0), 0);
    assert_eq!(after.receive()["topic"], "all");
    // To a token that allows more again there is no need to connect.
    assert_eq!(after.reauthenticate(&wide)["packet"], "AUTH");
    assert_eq!(writer.publish("secret/1", "live", 0), 0);
    assert_eq!(messages(&mut after, 2).len(), 2, "once for each subscription");
    assert_nothing(&mut after);
}

fn session_goes_on_under_its_last_good_token(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).start();
    let first = token(&badges, &[], &["all"]);
    let second = token(&badges, &[], &["all", "more"]);
    let mut writer = writer(&badges, &broker);
    for fails in [false, true] {
        let (mut client, _) = resume(&broker, &first, &json!({}));
        assert_eq!((client.subscribe("all", 1), client.subscribe("more", 1)), (1, 0x87));
        assert_eq!(client.reauthenticate(&second)["packet"], "AUTH");
        assert_eq!(client.subscribe("more", 1), 1);
        if fails {
            client.reauthenticate("rubbish");
            client.last_words();
        } else {
            drop(client);
        }
        assert_eq!(writer.publish("more", "while it was away", 1), 0);
        let (mut client, kept) = resume(&broker, &second, &json!({}));
        assert!(kept);
        assert_eq!(messages(&mut client, 1)[0].0, "while it was away", "fails: {fails}");
        drop(client);
        drop(resume(&broker, &second, &json!({"clean_start": true, "session_expiry_s": 0})));
    }
}

fn will_is_of_the_present_token(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = badges.guarded(version).start();
    let mut writer = writer(&badges, &broker);
    assert_eq!(writer.subscribe("wills/#", 1), 1);
    let with = token(&badges, &["wills/pump-1"], &["all"]);
    let without = token(&badges, &["else"], &["all"]);
    for (renewals, is_sent) in [
        (vec![&with], true),
        (vec![&without], false),
        (vec![&without, &with], true),
        (vec![&with, &without], false),
    ] {
        let will = json!({"will": {"topic": "wills/pump-1", "payload": "gone"}, "session_expiry_s": 0});
        let (mut client, _) = resume(&broker, &with, &will);
        for renewal in &renewals {
            assert_eq!(client.reauthenticate(renewal)["packet"], "AUTH");
        }
        drop(client);
        let heard = if is_sent { Some(writer.message()) } else { writer.message_within(A_MOMENT) };
        assert_eq!(heard.is_some(), is_sent, "{}", renewals.len());
    }
    assert_eq!(broker.stop().code, Some(0));
}

fn retained_message_is_of_the_present_token_of_its_source(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).config_line("check_retain_source true").start();
    let loud = token(&badges, &["kept"], &[]);
    let mute = token(&badges, &["else"], &[]);
    let (mut source, _) = resume(&broker, &loud, &json!({}));
    source.send(b"\x31\x0B\0\x04kept\0kept");
    assert!(source.is_alive());
    let reader = badges.token_with("reader", &json!({"acl": {"pub": [], "sub": ["kept"]}}));
    let found = || {
        let mut reader = AuthClient::admitted(broker.port(), "reader", &reader);
        assert_eq!(reader.subscribe("kept", 0), 0);
        reader.receive_within(A_MOMENT)["packet"] == "PUBLISH"
    };
    assert!(found());
    assert_eq!(source.reauthenticate(&mute)["packet"], "AUTH");
    assert!(!found(), "the source may publish it no more");
    assert_eq!(source.reauthenticate(&loud)["packet"], "AUTH");
    assert!(found());
}

/// An issuer that gives a client ID to another device.
fn session_of_another_subject_is_empty(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = badges.guarded(version).start();
    let one = token(&badges, &[], &["one/#"]);
    let other = json!({"sub": "pump-9", "client_id": "pump-9", "acl": {"pub": [], "sub": ["other/#"]}});
    let other = badges.token_with("pump-1", &other);
    let mut writer = writer(&badges, &broker);
    let (mut before, _) = resume(&broker, &one, &json!({}));
    assert_eq!(before.subscribe("one/#", 1), 1);
    assert_eq!(writer.publish("one/1", "under way", 1), 0);
    assert_eq!(messages(&mut before, 1)[0].0, "under way");
    drop(before);
    assert_eq!(writer.publish("one/2", "queued", 1), 0);
    let connect =
        json!({"client_id": "pump-1", "method": "OAUTH2-JWT", "data": &other, "clean_start": false});
    let refused = AuthClient::connect(broker.port(), &connect).1;
    assert_eq!((&refused["packet"], &refused["reason"]), (&json!("CONNACK"), &json!(0x87)), "{refused}");
    broker.wait_for_log("(client_id_");
    let (mut after, is_present) = resume(&broker, &other, &json!({"clean_start": true}));
    assert!(!is_present);
    assert_eq!(writer.publish("one/3", "live", 1), 0x10, "nobody subscribes");
    assert_nothing(&mut after);
    assert_eq!(after.reauthenticate(&other)["packet"], "AUTH");
    let first = after.reauthenticate(&one);
    assert_ne!(first["packet"], "AUTH", "nor may the first one come back into this connection");
    broker.wait_for_log("(subject_differs)");
}
