use fleetbadge_validator::freshness::Freshness;
use fleetbadge_validator::revocations::{Revocation, RevocationState};
use fleetbadge_validator::test_support::{TestKey, claims, vectors};
use serde_json::{Value, json};

use super::*;
use crate::broker::fake::{FakeBroker, FakeClient};
use crate::keys::Keys;
use crate::options::Prefix;
use crate::revocations::Revocations;
use crate::status;

mod chain;
mod enhanced;
mod hand_on;
mod passwords;

const START: UnixSeconds = UnixSeconds(1_000_000);
/// `exp` is a minute after the start, the skew 5 s.
const END: UnixSeconds = UnixSeconds(START.0 + 65);

/// A guard, and everything around it.
struct Scene {
    broker: FakeBroker,
    key: TestKey,
    jwks: tempfile::NamedTempFile,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            broker: FakeBroker::default(),
            key: TestKey::generate(),
            jwks: tempfile::NamedTempFile::new().unwrap(),
        };
        std::fs::write(&scene.jwks, scene.key.jwks()).unwrap();
        scene
    }

    fn guard(&self, token_from: &str) -> Guard<&FakeBroker> {
        let options = [
            ("issuer", "https://id.example"),
            ("audience", "mqtt"),
            ("jwks_file", self.jwks.path().to_str().unwrap()),
            ("token_from", token_from),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Guard::new(&self.broker, Options::parse(options).unwrap()).unwrap()
    }

    fn claims(&self, device: &str) -> Value {
        claims(device, START.0, START.0 + 60)
    }

    fn token(&self, device: &str) -> String {
        self.key.token(&self.claims(device))
    }

    /// A client that the guard has let in.
    fn let_in(&self, guard: &Guard<&FakeBroker>, handle: usize, device: &str) -> FakeClient {
        let mut client = FakeClient::new(handle, device).with_username(&self.token(device));
        assert_eq!(guard.connect(&mut client, None, START), Verdict::Allow, "{}", self.broker.take_log());
        client
    }
}

#[test]
fn a_good_token_lets_its_device_in_and_goes_no_further() {
    let scene = Scene::new();
    let client = scene.let_in(&scene.guard("username"), 1, "pump-1");
    assert_eq!(client.username.as_deref(), Some("pump-1"));
}

#[test]
fn every_vector_has_its_verdict() {
    for (file, vectors) in vectors() {
        let scene = Scene::new();
        std::fs::write(&scene.jwks, vectors.jwks.to_string()).unwrap();
        for case in vectors.cases {
            // A new one each time, since the log tells the same only once.
            let mut guard = scene.guard("username");
            guard.authenticators.jwt_mut(0).revocations = fixed(case.revocation_state());
            let now = UnixSeconds(case.now);
            for handle in [1, 2] {
                let mut client = FakeClient::new(handle, &case.client_id).with_username(&case.token);
                client.certificate = case.certificate;
                let verdict = guard.connect(&mut client, None, now);
                let expected = if case.expect == "allow" { Verdict::Allow } else { Verdict::Deny };
                assert_eq!(verdict, expected, "{file}: {}", case.name);
            }
            let log = scene.broker.take_log();
            let says_why = log.contains(&case.expect) || log.contains("client_id_malformed");
            assert!(case.expect == "allow" || says_why, "{file}: {}: {log}", case.name);
            let signature = case.token.rsplit('.').next().unwrap();
            assert!(signature.len() < 20 || !log.contains(signature), "{file}: {}: {log}", case.name);
        }
    }
}

#[test]
fn a_denied_client_leaves_no_user_name_and_no_token_in_the_log() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    let token = scene.token("pump-2");
    let mut client = FakeClient::new(1, "pump-1").with_username(&token);
    assert_eq!(guard.connect(&mut client, Some("whatever"), START), Verdict::Deny);
    assert_eq!(client.username, None);
    assert_eq!(guard.acl_check(&client, Access::Read, Some("devices/pump-1/x"), START), Verdict::Deny);
    let log = scene.broker.take_log();
    assert!(log.contains("client pump-1 at 192.0.2.1"), "{log}");
    assert!(
        log.contains("the token is for MQTT client ID \"pump-2\"") && log.contains("(client_id_differs)")
    );
    for segment in token.split('.') {
        assert!(!log.contains(segment), "{log}");
    }
}

#[test]
fn every_refusal_says_why() {
    let scene = Scene::new();
    let other_key = TestKey::generate().token(&scene.claims("pump-1"));
    let mut wrong_audience = scene.claims("pump-1");
    wrong_audience["aud"] = json!("another");
    let wrong_audience = scene.key.token(&wrong_audience);
    let good = scene.token("pump-1");
    let client = FakeClient::new;
    let cases = [
        ("token_missing", client(1, "pump-1")),
        ("token_malformed", client(1, "pump-1").with_username("bob")),
        ("key_unknown", client(1, "pump-1").with_username(&other_key)),
        ("audience_differs", client(1, "pump-1").with_username(&wrong_audience)),
        ("client_id_malformed", client(1, "pump/1").with_username(&good)),
        ("client_id_malformed", FakeClient { id: None, ..client(1, "") }.with_username(&good)),
        ("client_id_is_username", client(1, &good).with_username(&good)),
        (
            "username_refused",
            FakeClient { takes_usernames: false, ..client(1, "pump-1") }.with_username(&good),
        ),
    ];
    for (code, mut client) in cases {
        let guard = scene.guard("username");
        assert_eq!(guard.connect(&mut client, None, START), Verdict::Deny, "{code}");
        let log = scene.broker.take_log();
        assert!(log.contains(&format!("({code})")), "{code}: {log}");
        assert!(!log.contains("eyJ"), "{log}");
        let verdict = guard.acl_check(&client, Access::Read, Some("devices/pump-1/x"), START);
        assert_eq!(verdict, Verdict::Deny, "{code}");
    }
}

#[test]
fn the_token_comes_from_where_the_options_say() {
    let scene = Scene::new();
    let (token, other) =
        (&*scene.token("pump-1"), &*scene.key.token(&claims("pump-1", START.0, START.0 + 61)));
    let cases = [
        ("username", Some(token), None, "allowed"),
        ("username", Some(token), Some(other), "allowed"),
        ("username", Some("pump-1"), Some(token), "token_malformed"),
        ("password", Some("pump-1"), Some(token), "allowed"),
        ("password", None, Some(token), "allowed"),
        ("password", Some(token), None, "token_missing"),
        ("either", Some(token), None, "allowed"),
        ("either", Some(token), Some("anything"), "allowed"),
        ("either", Some("plant.line.pump"), Some(token), "allowed"),
        ("either", Some(token), Some(token), "allowed"),
        ("either", Some(token), Some(other), "tokens_differ"),
        ("either", Some("pump-1"), Some("anything"), "token_missing"),
        ("either", None, None, "token_missing"),
    ];
    for (token_from, username, password, expected) in cases {
        let mut client = FakeClient::new(1, "pump-1");
        client.username = username.map(Into::into);
        let verdict = scene.guard(token_from).connect(&mut client, password, START);
        let log = scene.broker.take_log();
        match verdict {
            Verdict::Allow => assert_eq!("allowed", expected, "{token_from} {username:?} {password:?}"),
            Verdict::Deny => assert!(log.contains(&format!("({expected})")), "{expected}: {log}"),
            Verdict::HandOn | Verdict::Wait => panic!("nobody said so"),
        }
        let name = (verdict == Verdict::Allow).then_some("pump-1");
        assert_eq!(client.username.as_deref(), name, "{token_from}");
    }
}

#[test]
fn topics_are_checked_and_a_denial_is_logged() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    let client = scene.let_in(&guard, 1, "pump-1");
    let ask = |access, topic| guard.acl_check(&client, access, topic, START);
    scene.broker.take_log();
    assert_eq!(ask(Access::Write, Some("devices/pump-1/x")), Verdict::Allow);
    assert_eq!(scene.broker.take_log(), "");
    assert_eq!(ask(Access::Write, Some("devices/pump-2/x")), Verdict::Deny);
    assert_eq!(ask(Access::Read, None), Verdict::Deny);
    let log = scene.broker.take_log();
    assert!(log.contains("publish \"devices/pump-2/x\": no rule of the token allows it (topic_not_allowed)"));
    assert!(log.contains("(topic_not_utf8)"), "{log}");
}

#[test]
fn a_client_is_disconnected_at_the_first_tick_after_its_token() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    scene.let_in(&guard, 1, "pump-1");
    guard.tick(END.minus(1));
    assert!(scene.broker.kicked.take().is_empty());
    for _ in 0..100 {
        guard.tick(END);
    }
    assert_eq!(scene.broker.kicked.take(), ["pump-1"]);
}

#[test]
fn more_clients_than_fit_a_tick_are_disconnected_by_the_next_ones() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    for handle in 0..1_500 {
        scene.let_in(&guard, handle, &format!("pump-{handle}"));
    }
    guard.tick(END);
    assert_eq!(scene.broker.kicked.take().len(), 1_000);
    guard.tick(END);
    assert_eq!(scene.broker.kicked.take().len(), 500);
}

#[test]
fn a_broker_without_ticks_disconnects_at_the_next_connection() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    scene.let_in(&guard, 1, "pump-1");
    let mut stranger = FakeClient::new(2, "pump-2");
    assert_eq!(guard.connect(&mut stranger, None, END), Verdict::Deny);
    assert_eq!(scene.broker.kicked.take(), ["pump-1"]);
}

#[test]
fn a_reload_keeps_good_clients_and_ends_before_anybody_new() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    let mut client = scene.let_in(&guard, 1, "pump-1");
    assert_eq!(guard.connect(&mut client.clone(), None, START), Verdict::Deny, "a name is no token");

    guard.reload(START);
    assert_eq!(guard.connect(&mut client, None, START), Verdict::Allow);
    assert_eq!(client.username.as_deref(), Some("pump-1"));
    let mut stranger = FakeClient::new(2, "pump-1").with_username("pump-1");
    assert_eq!(guard.connect(&mut stranger, None, START), Verdict::Deny);

    guard.tick(START);
    assert_eq!(guard.connect(&mut client.clone(), None, START), Verdict::Deny, "a tick ends it");
    guard.reload(START);
    let late = guard.connect(&mut client.clone(), None, END.minus(1));
    assert_eq!(late, Verdict::Allow, "however long the broker takes to ask for all");

    let guard = scene.guard("username");
    let client = scene.let_in(&guard, 1, "pump-1");
    guard.reload(START);
    let late = guard.connect(&mut client.clone(), None, START.plus(2));
    assert_eq!(late, Verdict::Deny, "where there are no ticks, time ends it");
}

#[test]
fn a_reload_reads_the_keys_again_and_survives_a_bad_file() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    let connect = || {
        let mut client = FakeClient::new(1, "pump-1").with_username(&scene.token("pump-1"));
        guard.connect(&mut client, None, START)
    };
    std::fs::write(&scene.jwks, "not JSON").unwrap();
    guard.reload(START);
    assert!(scene.broker.take_log().contains("the last good ones stay in force"));
    assert_eq!(connect(), Verdict::Allow);

    std::fs::write(&scene.jwks, TestKey::generate().jwks()).unwrap();
    guard.reload(START);
    assert_eq!(connect(), Verdict::Deny, "the key is gone");
    assert!(scene.broker.take_log().contains("(key_unknown)"));
}

#[test]
fn a_line_that_causes_a_denial_does_not_cause_another_line() {
    /// Publishes each line to a client that may not read it.
    struct LoudBroker<'a>(&'a Cell<Option<&'a Guard<LoudBroker<'a>>>>, &'a Cell<usize>);

    impl Broker for LoudBroker<'_> {
        fn log(&self, _: Level, _: &str) {
            self.1.set(self.1.get() + 1);
            let reader = FakeClient::new(self.1.get(), &format!("reader-{}", self.1.get()));
            if let Some(guard) = self.0.get() {
                let verdict = guard.acl_check(&reader, Access::Read, Some("$SYS/broker/log/N"), START);
                assert_eq!(verdict, Verdict::Deny);
            }
        }

        fn kick(&self, _: &str, _: Will) {}

        fn can_wait(&self) -> bool {
            false
        }

        fn complete(&self, _: &str, _: bool) {}
    }

    let scene = Scene::new();
    let (guard_cell, lines) = (Cell::new(None), Cell::new(0));
    let options = [
        ("issuer", "https://id.example"),
        ("audience", "mqtt"),
        ("jwks_file", scene.jwks.path().to_str().unwrap()),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let guard = Guard::new(LoudBroker(&guard_cell, &lines), Options::parse(options).unwrap()).unwrap();
    guard.tick(START);
    lines.set(0);
    guard_cell.set(Some(&guard));
    assert_eq!(guard.connect(&mut FakeClient::new(1, "pump-1"), None, START), Verdict::Deny);
    assert_eq!(lines.get(), 1);
}

fn fixed(state: RevocationState) -> Revocations {
    Revocations::Fixed { state: state.into(), changes: Cell::new(1) }
}

/// What a feed that is current says.
fn known(revocations: &[Revocation]) -> RevocationState {
    RevocationState::Known {
        revocations: Arc::new(revocations.iter().cloned().collect()),
        freshness: Freshness { confirmed_at: START, max_staleness_s: 60 },
    }
}

impl Guard<&FakeBroker> {
    fn hear(&self, heard: RevocationState) {
        self.hear_from(0, heard);
    }

    fn hear_from(&self, authenticator: usize, heard: RevocationState) {
        let revocations = &self.authenticators.jwt(authenticator).revocations;
        let Revocations::Fixed { state, changes } = revocations else { panic!("it is fixed") };
        state.replace(heard);
        changes.set(changes.get() + 1);
    }
}

#[test]
fn a_revoked_client_is_disconnected_at_the_next_tick_without_its_will() {
    let scene = Scene::new();
    let mut guard = scene.guard("username");
    guard.authenticators.jwt_mut(0).revocations = fixed(known(&[]));
    let client = scene.let_in(&guard, 1, "pump-1");
    scene.let_in(&guard, 2, "pump-2");
    guard.tick(START);
    guard.hear(known(&[Revocation::of_device("pump-1", START.plus(1), END)]));
    assert_eq!(
        guard.acl_check(&client, Access::Read, Some("devices/pump-1/x"), START),
        Verdict::Deny,
        "before any tick"
    );
    guard.tick(START);
    guard.tick(START);
    assert_eq!(scene.broker.kicked.take(), ["pump-1"]);
    assert_eq!(scene.broker.without_will.take(), ["pump-1"]);
    let log = scene.broker.take_log();
    assert!(log.contains("disconnecting client pump-1: tokens of device \"pump-1\" issued before "), "{log}");
    guard.disconnect(client.handle());
    assert_eq!(guard.acl_check(&client, Access::Write, Some("devices/pump-1/will"), START), Verdict::Deny);

    // The log tells the same again after a while.
    let (mut again, later) = (FakeClient::new(3, "pump-1"), START.plus(20));
    again.username = Some(scene.token("pump-1"));
    assert_eq!(guard.connect(&mut again, None, later), Verdict::Deny);
    assert!(scene.broker.take_log().contains("(revoked)"));
}

#[test]
fn old_or_missing_revocations_deny_the_new_and_keep_the_connected() {
    let scene = Scene::new();
    let mut guard = scene.guard("username");
    guard.authenticators.jwt_mut(0).revocations = fixed(known(&[]));
    let client = scene.let_in(&guard, 1, "pump-1");
    let late = START.plus(61);
    let mut new = FakeClient::new(2, "pump-2").with_username(&scene.token("pump-2"));
    assert_eq!(guard.connect(&mut new, None, late), Verdict::Deny);
    assert!(scene.broker.take_log().contains("(stale)"));
    guard.hear(RevocationState::Missing);
    let mut new = FakeClient::new(2, "pump-3").with_username(&scene.token("pump-3"));
    assert_eq!(guard.connect(&mut new, None, START), Verdict::Deny);
    assert!(scene.broker.take_log().contains("(revocations_missing)"));
    guard.tick(late);
    assert_eq!(guard.acl_check(&client, Access::Read, Some("devices/pump-1/x"), late), Verdict::Allow);
    assert!(scene.broker.kicked.take().is_empty());
}

#[test]
fn a_whole_fleet_that_is_revoked_goes_in_portions_and_may_nothing_meanwhile() {
    let scene = Scene::new();
    let mut guard = scene.guard("username");
    guard.authenticators.jwt_mut(0).revocations = fixed(known(&[]));
    let clients: Vec<_> =
        (0..1_500).map(|handle| scene.let_in(&guard, handle, &format!("pump-{handle}"))).collect();
    guard.hear(known(&[Revocation::of_group("default", START.plus(1), END)]));
    guard.tick(START);
    assert_eq!(scene.broker.kicked.take().len(), 1_000);
    for client in &clients {
        let topic = format!("devices/{}/x", client.id().unwrap());
        assert_eq!(guard.acl_check(client, Access::Write, Some(&topic), START), Verdict::Deny);
    }
    guard.tick(START);
    assert_eq!(scene.broker.kicked.take().len(), 500);
}

#[test]
fn a_broker_without_ticks_disconnects_the_revoked_at_the_next_connection() {
    let scene = Scene::new();
    let mut guard = scene.guard("username");
    guard.authenticators.jwt_mut(0).revocations = fixed(known(&[]));
    scene.let_in(&guard, 1, "pump-1");
    guard.hear(known(&[Revocation::of_all(START.plus(1), END)]));
    let mut stranger = FakeClient::new(2, "pump-2");
    assert_eq!(guard.connect(&mut stranger, None, START.plus(2)), Verdict::Deny);
    assert_eq!(scene.broker.kicked.take(), ["pump-1"]);
}

#[test]
fn what_happens_is_counted_and_who_is_connected_known() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("status.json");
    let mut guard = scene.guard("username");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let jwt = guard.authenticators.jwt_mut(0);
    let activity = Arc::clone(&jwt.activity);
    let write = |keys: &Keys, path| status::start(Some(path), &Prefix::default(), keys, &activity, &clock);
    jwt.status_file = write(&jwt.keys, path.clone()).unwrap();
    let (first, _second) = (scene.let_in(&guard, 1, "pump-1"), scene.let_in(&guard, 2, "pump-2"));
    for _ in 0..3 {
        let _ = guard.acl_check(&first, Access::Write, Some("elsewhere"), START);
        let _ = guard.acl_check(&first, Access::Write, Some("devices/pump-1/x"), START);
    }
    let mut stranger = FakeClient::new(3, "pump-3").with_username("bob");
    assert_eq!(guard.connect(&mut stranger, None, START), Verdict::Deny);
    let counters = activity.counters();
    assert_eq!(counters.let_in, 2);
    let denied = [("token_malformed".to_owned(), 1), ("topic_not_allowed".to_owned(), 3)];
    assert_eq!(counters.denied, denied.into());
    assert_eq!(activity.online(), 2);
    // Another connection has taken the session over; the first one's end comes after.
    let _again = scene.let_in(&guard, 4, "pump-1");
    guard.disconnect(first.handle());
    guard.disconnect(stranger.handle());
    assert_eq!(activity.online(), 2);
    guard.disconnect(ClientHandle(4));
    assert_eq!(activity.online(), 1);
    assert!(path.exists());
    let nowhere = write(&guard.authenticators.jwt(0).keys, folder.path().join("no/file"));
    let error = nowhere.unwrap_err().to_string();
    assert!(error.starts_with("plugin_opt_status_file: ") && error.contains("no/file"), "{error}");
}
