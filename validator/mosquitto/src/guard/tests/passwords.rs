//! Static passwords.

use fleetbadge_validator::remote::password_exchange::{ExchangeError, Question};

use super::*;

const PASSWORD: &str = "fbp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const WRONG: &str = "fbp_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

fn guard<'a>(scene: &'a Scene, list: &str) -> Guard<&'a FakeBroker> {
    let options = [
        ("authenticators", list),
        ("fleet.issuer", "https://id.example"),
        ("fleet.audience", "mqtt"),
        ("fleet.jwks_file", scene.jwks.path().to_str().unwrap()),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut guard = Guard::new(&scene.broker, Options::parse(options).unwrap()).unwrap();
    guard.authenticators.fake_passwords();
    guard
}

impl Guard<&FakeBroker> {
    fn asked(&self) -> Vec<Question> {
        self.authenticators.passwords().unwrap().passwords.borrow().take_asked()
    }

    /// The broker ticks when the issuer has said this.
    fn answered(&self, number: u64, answer: Result<String, ExchangeError>) {
        self.authenticators.passwords().unwrap().passwords.borrow().answer(number, answer);
        self.tick(START);
    }

    fn counts(&self) -> crate::counters::Counts {
        self.authenticators.passwords().unwrap().counters.counts()
    }
}

fn pump(handle: usize) -> FakeClient {
    FakeClient::new(handle, "pump-1").with_username("pump-1")
}

/// A broker that says whom it has let in, as Mosquitto 2.1 does.
struct Waits<'a> {
    broker: &'a FakeBroker,
    guard: &'a Cell<Option<&'a Guard<Waits<'a>>>>,
}

impl Broker for Waits<'_> {
    fn log(&self, level: Level, line: &str) {
        self.broker.log(level, line);
    }

    fn kick(&self, client_id: &str, will: Will) {
        self.broker.kick(client_id, will);
    }

    fn can_wait(&self) -> bool {
        true
    }

    fn complete(&self, client_id: &str, let_in: bool) {
        self.broker.complete(client_id, let_in);
        if let (Some(guard), true) = (self.guard.get(), let_in) {
            // What was queued is asked about before it is reported.
            let client = pump(1);
            let queued = |topic| guard.acl_check(&client, Access::Read, Some(topic), START);
            assert_eq!(queued("devices/pump-1/x"), Verdict::Allow);
            assert_eq!(queued("devices/pump-2/x"), Verdict::Deny);
            guard.connected(ClientHandle(1));
        }
    }
}

#[test]
fn a_password_is_exchanged_while_the_connection_waits() {
    let scene = Scene::new();
    let guard = guard(&scene, "fleet hand_on");
    let mut client = pump(1);
    assert_eq!(guard.connect(&mut client, Some(PASSWORD), START), Verdict::Wait);
    let asked = guard.asked();
    let [Question { number, username, password, mqtt_client_id, client_address }] = &*asked else { panic!() };
    assert_eq!((&**username, password.as_str(), &**mqtt_client_id), ("pump-1", PASSWORD, "pump-1"));
    assert_eq!(client_address.unwrap().to_string(), "192.0.2.1");
    let ask = |client: &FakeClient| guard.acl_check(client, Access::Write, Some("devices/pump-1/x"), START);
    guard.tick(START);
    assert!(scene.broker.take_completed().is_empty());
    assert_eq!(ask(&client), Verdict::Deny, "not before it is let in");
    guard.answered(*number, Ok(scene.token("pump-1")));
    assert_eq!(scene.broker.take_completed(), [("pump-1".into(), true)]);
    assert_eq!(ask(&client), Verdict::Deny, "the broker has not said that it is there: it has gone");
    assert_eq!(guard.counts().let_in, 0);

    // From memory, without a question.
    assert_eq!(guard.connect(&mut client, Some(PASSWORD), START), Verdict::Allow);
    assert_eq!(ask(&client), Verdict::Allow);
    assert!(guard.asked().is_empty());
    assert_eq!(guard.counts().let_in, 1);
    // But not for another client ID, nor after the end of the token.
    let mut other = FakeClient::new(2, "pump-1-b").with_username("pump-1");
    assert_eq!(guard.connect(&mut other, Some(PASSWORD), START), Verdict::Wait);
    assert_eq!(guard.connect(&mut client, Some(PASSWORD), END), Verdict::Wait);
}

#[test]
fn who_is_let_in_is_there_when_the_broker_says_so() {
    let scene = Scene::new();
    let options = [
        ("authenticators", "fleet"),
        ("fleet.issuer", "https://id.example"),
        ("fleet.audience", "mqtt"),
        ("fleet.jwks_file", scene.jwks.path().to_str().unwrap()),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let guard_cell = Cell::new(None);
    let broker = Waits { broker: &scene.broker, guard: &guard_cell };
    let mut guard = Guard::new(broker, Options::parse(options).unwrap()).unwrap();
    guard.authenticators.fake_passwords();
    assert_eq!(guard.connect(&mut pump(1), Some(PASSWORD), START), Verdict::Wait);
    let passwords = &guard.authenticators.passwords().unwrap().passwords;
    passwords.borrow().answer(1, Ok(scene.token("pump-1")));
    guard_cell.set(Some(&guard));
    guard.tick(START);
    let ask = |access| guard.acl_check(&pump(1), access, Some("devices/pump-1/x"), START);
    assert_eq!((ask(Access::Write), ask(Access::Subscribe)), (Verdict::Allow, Verdict::Allow));
    assert_eq!(guard.authenticators.passwords().unwrap().counters.counts().let_in, 1);
}

#[test]
fn what_could_be_no_password_is_not_asked_about() {
    let scene = Scene::new();
    for (list, verdict) in [("fleet", Verdict::Deny), ("fleet hand_on", Verdict::HandOn)] {
        let guard = guard(&scene, list);
        for password in [None, Some(""), Some("hunter2"), Some("fbp_short"), Some("fbs_AAAA")] {
            assert_eq!(guard.connect(&mut pump(1), password, START), verdict, "{password:?}");
        }
        assert!(guard.asked().is_empty());
    }
    let guard = guard(&scene, "fleet hand_on");
    for (id, username) in [("pump/1", "pump-1"), ("", "pump-1"), ("pump-1", "pump/1"), ("pump-1", "")] {
        let mut client = FakeClient::new(1, id).with_username(username);
        assert_eq!(guard.connect(&mut client, Some(PASSWORD), START), Verdict::Deny, "{id} {username}");
    }
    let mut client = FakeClient::new(1, "pump-1").with_username(&scene.token("pump-1"));
    assert_eq!(guard.connect(&mut client, Some(PASSWORD), START), Verdict::Allow, "it has a token");
    assert!(guard.asked().is_empty());
}

#[test]
fn a_refusal_a_failure_and_silence_deny() {
    let scene = Scene::new();
    let cases = [
        (Err(ExchangeError::Refused), "password_refused", 0),
        (Err(ExchangeError::Failed("HTTP 503".into())), "exchange_failed", 1),
        (Ok("nonsense".into()), "token_malformed", 0),
        (Ok(scene.token("pump-2")), "client_id_differs", 0),
        (
            Ok({
                let mut claims = scene.claims("pump-1");
                (claims["sub"], claims["client_id"]) = (json!("pump-2"), json!("pump-2"));
                scene.key.token(&claims)
            }),
            "password_of_another",
            0,
        ),
    ];
    for (answer, code, errors) in cases {
        let guard = guard(&scene, "fleet");
        assert_eq!(guard.connect(&mut pump(1), Some(PASSWORD), START), Verdict::Wait);
        guard.answered(1, answer);
        assert_eq!(scene.broker.take_completed(), [("pump-1".into(), false)], "{code}");
        let log = scene.broker.take_log();
        assert!(
            log.contains("denied client pump-1 at 192.0.2.1") && log.contains(&format!("({code})")),
            "{log}"
        );
        assert!(!log.contains("fbp_") && !log.contains("eyJ"), "{log}");
        let counts = guard.counts();
        assert_eq!((counts.denied, counts.errors), ([(code, 1)].into(), errors));
    }
    let guard = guard(&scene, "fleet");
    assert_eq!(guard.connect(&mut pump(1), Some(PASSWORD), START), Verdict::Wait);
    guard.tick(START.plus(4));
    assert!(scene.broker.take_completed().is_empty());
    guard.tick(START.plus(5));
    assert_eq!(scene.broker.take_completed(), [("pump-1".into(), false)]);
    guard.answered(1, Ok(scene.token("pump-1")));
    assert!(scene.broker.take_completed().is_empty(), "too late");
}

/// Somebody has the right password and leaves at once; a stranger comes with
/// the same client ID and waits in its place.
#[test]
fn an_answer_lets_in_nobody_but_who_caused_it() {
    let scene = Scene::new();
    let guard = guard(&scene, "fleet");
    assert_eq!(guard.connect(&mut pump(1), Some(PASSWORD), START), Verdict::Wait);
    assert_eq!(guard.connect(&mut pump(2), Some(WRONG), START), Verdict::Wait);
    guard.answered(1, Ok(scene.token("pump-1")));
    assert!(scene.broker.take_completed().is_empty());
    guard.answered(2, Err(ExchangeError::Refused));
    assert_eq!(scene.broker.take_completed(), [("pump-1".into(), false)]);
    // It is the same if the stranger is at the address of the other.
    assert_eq!(guard.connect(&mut pump(2), Some(PASSWORD), START), Verdict::Wait);
    assert_eq!(guard.connect(&mut pump(2), Some(WRONG), START), Verdict::Wait);
    guard.answered(3, Ok(scene.token("pump-1")));
    assert!(scene.broker.take_completed().is_empty());
}

#[test]
fn nobody_keeps_a_client_id_or_the_exchange_busy() {
    let scene = Scene::new();
    let guard = guard(&scene, "fleet");
    for number in 1..=3 {
        assert_eq!(guard.connect(&mut pump(1), Some(WRONG), START), Verdict::Wait);
        guard.answered(number, Err(ExchangeError::Refused));
    }
    scene.broker.take_log();
    assert_eq!(guard.connect(&mut pump(1), Some(WRONG), START), Verdict::Deny);
    assert!(scene.broker.take_log().contains("(too_many_failures)"));
    let elsewhere = || FakeClient { address: Some("198.51.100.7".into()), ..pump(2) };
    assert_eq!(guard.connect(&mut elsewhere(), Some(PASSWORD), START), Verdict::Wait, "the device itself");
    guard.answered(4, Ok(scene.token("pump-1")));
    assert_eq!(
        guard.connect(&mut pump(3), Some(PASSWORD), START),
        Verdict::Allow,
        "remembered, from anywhere"
    );
    let mut neighbour = FakeClient::new(4, "pump-2").with_username("pump-2");
    assert_eq!(guard.connect(&mut neighbour, Some(PASSWORD), START), Verdict::Wait, "behind the same router");
    assert_eq!(guard.connect(&mut pump(5), Some(WRONG), START.plus(10)), Verdict::Wait, "after a while");

    // Many at once from one network, while the issuer says nothing.
    let client = |n: usize, address: &str| FakeClient {
        address: Some(address.into()),
        ..FakeClient::new(n, &format!("c-{n}")).with_username("pump-1")
    };
    let waiting = |address: &str| {
        let verdicts = (0..200).map(|n| guard.connect(&mut client(n, address), Some(WRONG), START.plus(10)));
        verdicts.filter(|verdict| *verdict == Verdict::Wait).count()
    };
    assert_eq!(waiting("203.0.113.1"), 64);
    assert!(scene.broker.take_log().contains("(exchange_busy)"));
    assert!((1..=64).contains(&waiting("203.0.113.2")), "others are still asked for");
    assert_eq!(waiting("203.0.113.3"), 0, "but not without end");
}

/// While a connection waits, Mosquitto drops others with the same client ID.
#[test]
fn nobody_waits_with_the_client_id_of_a_connected_device_of_another_name() {
    let scene = Scene::new();
    let guard = guard(&scene, "fleet hand_on");
    scene.let_in(&guard, 1, "pump-2");
    let mut other = FakeClient::new(2, "pump-2").with_username("pump-1");
    assert_eq!(guard.connect(&mut other, Some(PASSWORD), START), Verdict::Deny);
    assert!(scene.broker.take_log().contains("(client_id_taken)"));
    assert!(guard.asked().is_empty());
}

#[test]
fn a_revoked_token_is_not_taken_from_memory() {
    let scene = Scene::new();
    let mut guard = guard(&scene, "fleet");
    guard.authenticators.jwt_mut(0).revocations = fixed(known(&[]));
    assert_eq!(guard.connect(&mut pump(1), Some(PASSWORD), START), Verdict::Wait);
    guard.answered(1, Ok(scene.token("pump-1")));
    guard.hear(known(&[Revocation::of_device("pump-1", START.plus(1), END)]));
    assert_eq!(
        guard.connect(&mut pump(1), Some(PASSWORD), START),
        Verdict::Wait,
        "the issuer is asked again"
    );
}

#[test]
fn a_broker_that_cannot_wait_does_not_start_with_it() {
    let broker = FakeBroker { cannot_wait: true, ..FakeBroker::default() };
    let options = [
        ("authenticators", "fleet old"),
        ("fleet.issuer", "https://id.example"),
        ("fleet.audience", "mqtt"),
        ("fleet.jwks_file", "/nowhere"),
        ("old.kind", "static_password"),
        ("old.issuer", "https://id.example"),
        ("old.credentials_file", "/nowhere"),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let error = Guard::new(&broker, Options::parse(options).unwrap()).err().unwrap().to_string();
    assert!(
        error.starts_with("plugin_opt_old.kind is static_password, which needs Mosquitto 2.1"),
        "{error}"
    );
}
