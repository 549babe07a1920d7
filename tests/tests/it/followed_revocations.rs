//! A token that was taken back is good for nothing any more: in the middle of
//! a session, at the door, while the client is away, and over a restart of the
//! broker while nobody can be asked.

use std::fs::{File, read_dir};
use std::thread;
use std::time::{Duration, SystemTime};

use fleetbadge_tests::badges::{Badges, ISSUER, following};
use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::paho::Paho;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::process::{Finished, Running};
use fleetbadge_tests::programs::Program;
use fleetbadge_tests::wire::{Connect, Protocol, Received, Wire};
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::test_support::feed_server::{FeedServer, Mode};
use fleetbadge_validator::time::{Clock as _, SystemClock, UnixSeconds};
use serde_json::{Value, json};

on_every_mosquitto!(
    live_sessions_end_within_a_second_of_the_event,
    a_will_does_not_go_out_after_a_revocation,
    revoked_offline_session_queues_nothing_more,
    what_is_revoked_stays_so_over_a_restart_without_the_feed,
    old_revocations_let_nobody_new_in,
    a_feed_never_heard_lets_nobody_in_until_the_credentials_are_right,
    the_issuer_hears_which_keys_are_held,
    wrong_options_of_the_feed_stop_the_start,
);

const HEARTBEAT: Duration = Duration::from_millis(500);

fn feed() -> FeedServer {
    FeedServer::start(HEARTBEAT)
}

fn guarded(badges: &Badges, feed: &FeedServer, version: MosquittoVersion) -> Mosquitto {
    following(badges.guarded(version), feed).start()
}

fn connect(broker: &Mosquitto, protocol: Protocol, client_id: &str, token: &str) -> (Wire, Option<u8>) {
    let mut wire = Wire::open(protocol, broker.port());
    let code = wire.connect(&Connect { client_id, username: Some(token), ..Connect::default() });
    (wire, code)
}

/// Tries until the broker lets the client in: it hears the feed by itself.
fn let_in(broker: &Mosquitto, protocol: Protocol, client_id: &str, token: &str) -> Wire {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let (wire, code) = connect(broker, protocol, client_id, token);
        if code == Some(0) {
            return wire;
        }
        assert!(deadline.left().is_some(), "never let in:\n{}", broker.log());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Takes back what the device was issued so far.
fn revoke_device(feed: &FeedServer, name: &str) {
    let now = SystemClock.now();
    feed.revoke(Revocation::of_device(name, now, now.plus(1_000)));
}

/// A token that [`revoke_device`] spares.
fn later_token(badges: &Badges, client: &str) -> String {
    let iat = SystemClock.now().plus(1);
    badges.token_with(client, &json!({"iat": iat, "nbf": iat}))
}

fn live_sessions_end_within_a_second_of_the_event(version: MosquittoVersion) {
    let (badges, feed) = (Badges::new(), feed());
    let mut broker = guarded(&badges, &feed, version);
    let (soon, end) = (SystemClock.now().plus(60), SystemClock.now().plus(1_000));
    for (n, protocol) in Protocol::ALL.into_iter().enumerate() {
        let (jti, device, group) = (format!("jti-{n}"), format!("pump-{n}"), format!("hall-{n}"));
        let victims = [
            ("by-jti", json!({"jti": jti}), Revocation::of_token(&jti, end)),
            (&*device, json!({}), Revocation::of_device(&device, soon, end)),
            ("by-group", json!({"groups": ["all", group]}), Revocation::of_group(&group, soon, end)),
        ];
        let mut other = let_in(&broker, protocol, "other", &badges.token("other"));
        for (client, claims, revocation) in victims {
            let token = badges.token_with(client, &claims);
            let mut victim = let_in(&broker, protocol, client, &token);
            broker.signal_hup();
            assert_eq!(victim.packet_within(Duration::from_millis(200)), Received::Nothing, "a reload");
            feed.revoke(revocation.clone());
            assert!(victim.ended_within(Duration::from_secs(1)), "{revocation:?}\n{}", broker.log());
            let (_, code) = connect(&broker, protocol, client, &token);
            assert_eq!(code, Some(protocol.not_authorized()), "{revocation:?}");
            assert_eq!(other.packet_within(Duration::from_millis(50)), Received::Nothing, "others stay");
        }
    }
    broker.wait_for_log("(revoked)");
    let mut last = let_in(&broker, Protocol::V5, "other", &badges.token("other"));
    feed.revoke(Revocation::of_key(&badges.kid(), end));
    assert!(last.ended_within(Duration::from_secs(1)), "its key was revoked");
}

fn a_will_does_not_go_out_after_a_revocation(version: MosquittoVersion) {
    let (badges, feed) = (Badges::new(), feed());
    let broker = guarded(&badges, &feed, version);
    drop(let_in(&broker, Protocol::V5, "first", &badges.token("first")));
    let watch = badges.token_with("watcher", &json!({"acl": {"pub": [], "sub": ["devices/#"]}}));
    let mut watcher =
        Paho::builder(Protocol::V5, broker.port()).client_id("watcher").username(&watch).connect();
    assert_eq!(watcher.subscribe("devices/#", 1), 1);
    for (n, protocol) in Protocol::ALL.into_iter().enumerate() {
        let (name, later) = (format!("pump-{n}"), format!("late-{n}"));
        let device = |name: &str| {
            Paho::builder(protocol, broker.port()).client_id(name).username(&badges.token(name)).will(
                &format!("devices/{name}/will"),
                "gone",
                1,
            )
        };
        let mut live = device(&name).connect();
        assert_eq!(live.connack(), Some(0));
        revoke_device(&feed, &name);
        assert!(live.disconnected_within(Duration::from_secs(1)).is_some(), "{}", broker.log());
        if protocol == Protocol::V5 {
            // A will that waits when the device is revoked.
            let gone = device(&later).session_expiry_s(60).will_delay_s(2).connect();
            assert_eq!(gone.connack(), Some(0));
            gone.vanish();
            thread::sleep(Duration::from_millis(500));
            revoke_device(&feed, &later);
        }
    }
    assert_eq!(watcher.message_within(Duration::from_secs(4)), None);
}

fn revoked_offline_session_queues_nothing_more(version: MosquittoVersion) {
    let (badges, feed) = (Badges::new(), feed());
    let broker = guarded(&badges, &feed, version);
    drop(let_in(&broker, Protocol::V5, "first", &badges.token("first")));
    let write = badges.token_with("writer", &json!({"acl": {"pub": ["devices/#"], "sub": []}}));
    for (n, protocol) in Protocol::ALL.into_iter().enumerate() {
        let name = format!("pump-{n}");
        let topic = format!("devices/{name}/x");
        let device = Paho::builder(protocol, broker.port()).client_id(&name).session_expiry_s(60);
        let mut before = device.clone().username(&badges.token(&name)).connect();
        assert_eq!(before.subscribe(&topic, 1), 1);
        before.disconnect();
        let position = broker.log_position();
        revoke_device(&feed, &name);

        let mut writer =
            Paho::builder(protocol, broker.port()).client_id("writer").username(&write).connect();
        let deadline = Deadline::after(PATIENCE);
        // Nothing else shows when the broker has heard of it.
        while !broker.log().contains(&format!("client {name} at")) {
            assert!(deadline.left().is_some(), "{}", broker.log());
            writer.publish(&topic, "early", 1);
            thread::sleep(Duration::from_millis(20));
        }
        broker.wait_for_log_since(position, "(revoked)");
        assert_eq!(writer.publish(&topic, "while it is revoked", 1), 0);

        let mut after = device.username(&later_token(&badges, &name)).connect();
        assert_eq!(after.connack(), Some(0), "{}", broker.log());
        assert_eq!(writer.publish(&topic, "after", 1), 0);
        let mut message = after.message();
        while message.payload == "early" {
            message = after.message();
        }
        assert_eq!(message.payload, "after", "its subscription is still there");
        after.disconnect();
    }
}

fn what_is_revoked_stays_so_over_a_restart_without_the_feed(version: MosquittoVersion) {
    let (badges, feed) = (Badges::new(), feed());
    let mut broker = guarded(&badges, &feed, version);
    let token = badges.token("pump-1");
    let mut victim = let_in(&broker, Protocol::V5, "pump-1", &token);
    revoke_device(&feed, "pump-1");
    assert!(victim.ended_within(Duration::from_secs(1)));
    broker.stop();
    feed.set_mode(Mode::Down);
    broker.start();
    for _ in 0..2 {
        assert_eq!(connect(&broker, Protocol::V5, "pump-1", &token).1, Some(0x87));
        assert_eq!(connect(&broker, Protocol::V5, "pump-2", &badges.token("pump-2")).1, Some(0));
    }
    broker.wait_for_log("(revoked)");
    // And it goes on from there.
    feed.set_mode(Mode::Serving);
    let mut other = let_in(&broker, Protocol::V5, "pump-2", &badges.token("pump-2"));
    revoke_device(&feed, "pump-2");
    assert!(other.ended_within(PATIENCE));
    assert!(feed.last_event_ids().last().is_some_and(Option::is_some), "it resumed");
}

fn old_revocations_let_nobody_new_in(version: MosquittoVersion) {
    let (badges, feed) = (Badges::new(), feed());
    let mut broker = following(badges.guarded(version), &feed).plugin_opt("max_staleness_s", "3600").start();
    let token = badges.token("pump-1");
    drop(let_in(&broker, Protocol::V5, "pump-1", &token));
    broker.stop();
    feed.set_mode(Mode::Down);
    // As if the issuer had been away for two hours.
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(SystemClock.now().minus(7_200).0);
    for entry in read_dir(broker.dir().path().join("state")).unwrap() {
        let path = entry.unwrap().path();
        File::options().write(true).open(path).and_then(|file| file.set_modified(old)).unwrap();
    }
    broker.start();
    assert_eq!(connect(&broker, Protocol::V5, "pump-1", &token).1, Some(0x87));
    broker.wait_for_log("(stale)");
    feed.set_mode(Mode::Serving);
    let mut live = let_in(&broker, Protocol::V5, "pump-1", &token);
    assert_eq!(live.packet_within(Duration::from_millis(100)), Received::Nothing);
}

fn a_feed_never_heard_lets_nobody_in_until_the_credentials_are_right(version: MosquittoVersion) {
    let (badges, feed) = (Badges::new(), feed());
    let broker = following(badges.guarded(version), &feed);
    broker.dir().write("broker.json", br#"{"client_id":"hall-1","client_secret":"old"}"#);
    let mut broker = broker.start();
    let token = badges.token("pump-1");
    assert_eq!(connect(&broker, Protocol::V5, "pump-1", &token).1, Some(0x87));
    broker.wait_for_log("(revocations_missing)");
    broker.wait_for_log("the issuer does not take these credentials (401)");
    broker.dir().write("broker.json", FeedServer::credentials().as_bytes());
    broker.signal_hup();
    let deadline = Deadline::after(Duration::from_secs(5));
    drop(let_in(&broker, Protocol::V5, "pump-1", &token));
    assert!(deadline.left().is_some(), "at once, not at the next try");
    assert!(!broker.log().contains("s3cret"));
}

fn the_issuer_hears_which_keys_are_held(version: MosquittoVersion) {
    let (badges, feed) = (Badges::new(), feed());
    let mut broker = guarded(&badges, &feed, version);
    let report = |count: usize| -> Value {
        let deadline = Deadline::after(PATIENCE);
        while feed.reports().len() < count {
            assert!(deadline.left().is_some(), "no report");
            thread::sleep(Duration::from_millis(50));
        }
        feed.reports()[count - 1].clone()
    };
    let first = report(1);
    assert_eq!((&first["version"], &first["kids"]), (&json!(1), &json!([badges.kid()])));
    assert!(first["software"].as_str().unwrap().starts_with("fleetbadge-mosquitto/"));
    assert_eq!(first["instance"].as_str().unwrap().len(), 22);

    // A new key in the file.
    let next = Badges::new();
    broker.dir().write("jwks.json", next.jwks().as_bytes());
    broker.signal_hup();
    let changed = report(2);
    assert_eq!(changed["kids"], json!([next.kid()]));
    assert_eq!(changed["revocations"]["event_id"], json!(feed.event_id()));
    assert!(changed["revocations"]["age_s"].as_u64().unwrap() < 10);
    broker.restart();
    assert_eq!(report(3)["instance"], first["instance"]);
    assert_eq!(changed["instance"], first["instance"]);
}

fn wrong_options_of_the_feed_stop_the_start(version: MosquittoVersion) {
    let (badges, feed) = (Badges::new(), feed());
    let guarded = || badges.guarded(version);
    let open = following(guarded(), &feed);
    let credentials = open.dir().path().join("broker.json");
    std::fs::set_permissions(&credentials, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let elsewhere = following(guarded(), &feed);
    elsewhere.dir().write("broker.json", b"{}");
    let attempts = [
        ("plugin_opt_credentials_file: ", open),
        ("plugin_opt_credentials_file: ", elsewhere),
        ("plugin_opt_credentials_file is missing", guarded().plugin_opt("revocations_url", &feed.feed_url())),
        ("plugin_opt_max_staleness_s", following(guarded(), &feed).plugin_opt("max_staleness_s", "never")),
        ("plugin_opt_state_dir is missing", {
            let broker = guarded();
            let file = broker.dir().write("broker.json", FeedServer::credentials().as_bytes());
            broker.plugin_opt("credentials_file", &file.to_string_lossy())
        }),
    ];
    for (said, attempt) in attempts {
        let ended = attempt.fails_to_start();
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
        assert!(!ended.stderr.contains("s3cret"));
    }
}

/// What `fleetbadge-validator check` says to a token of `pump-1`.
fn check(badges: &Badges, token: &str, arguments: &[&str]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let jwks = folder.path().join("jwks.json");
    std::fs::write(&jwks, badges.jwks()).unwrap();
    let mut command = Program::Validator.command();
    command.args(["check", "--issuer", ISSUER, "--audience", "mqtt", "--client-id", "pump-1", "--jwks-file"]);
    command.arg(jwks).args(arguments);
    let mut running = Running::spawn(command);
    running.say(token);
    running.end_of_input();
    running.wait()
}

#[test]
fn check_asks_the_feed_and_explains() {
    let (badges, feed) = (Badges::new(), feed());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.json");
    let write = |json: &str| {
        std::fs::write(&file, json).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    write(&FeedServer::credentials());
    let (token, url) = (badges.token("pump-1"), feed.feed_url());
    let asked = ["--credentials-file", &*file.to_string_lossy(), "--revocations-url", &url];

    let unasked = check(&badges, &token, &[]);
    assert!(unasked.stdout.contains("13. -   not revoked (not asked"), "{}", unasked.stdout);
    let good = check(&badges, &token, &asked);
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    assert!(good.stdout.contains("13. ok  not revoked\n"), "{}", good.stdout);
    feed.set_part(1);
    (0..5).for_each(|n| feed.revoke(Revocation::of_key(&format!("k{n}"), UnixSeconds(u64::MAX))));
    revoke_device(&feed, "pump-1");
    let revoked = check(&badges, &token, &asked);
    assert_eq!(revoked.code, Some(1));
    assert!(
        revoked.stdout.contains("deny: revoked: tokens of device \"pump-1\" issued before "),
        "{}",
        revoked.stdout
    );

    for (mode, said) in
        [(Mode::Down, "without --credentials-file"), (Mode::Unauthorized, "broker rotate-secret")]
    {
        feed.set_mode(mode);
        let failed = check(&badges, &token, &asked);
        assert_eq!(failed.code, Some(2));
        assert!(failed.stderr.contains(said), "{}", failed.stderr);
    }
    write("{}");
    let failed = check(&badges, &token, &asked);
    assert!(failed.code == Some(2) && failed.stderr.contains("broker add --json"), "{}", failed.stderr);
    let failed = check(&badges, &token, &asked[2..]);
    assert!(failed.code == Some(2) && failed.stderr.contains("--credentials-file"), "{}", failed.stderr);
}
