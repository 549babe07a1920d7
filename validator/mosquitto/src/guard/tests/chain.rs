//! Several authenticators.

use super::*;

const ISSUERS: [&str; 2] = ["https://id.example", "https://factory.example"];

/// Two issuers, each with a key.
struct Chain {
    broker: FakeBroker,
    keys: [TestKey; 2],
    folder: tempfile::TempDir,
}

impl Chain {
    fn new() -> Self {
        let chain = Self {
            broker: FakeBroker::default(),
            keys: [TestKey::generate(), TestKey::generate()],
            folder: tempfile::tempdir().unwrap(),
        };
        for (key, name) in chain.keys.iter().zip(["fleet", "factory"]) {
            chain.write_keys(name, &key.jwks());
        }
        chain
    }

    fn write_keys(&self, name: &str, jwks: &str) {
        std::fs::write(self.path(name), jwks).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn guard(&self, more: &[(&str, &str)]) -> Guard<&FakeBroker> {
        let [fleet, factory] = ["fleet", "factory"].map(|name| self.path(name).display().to_string());
        let options = [
            ("authenticators", "fleet factory"),
            ("fleet.issuer", ISSUERS[0]),
            ("fleet.audience", "mqtt"),
            ("fleet.jwks_file", &fleet),
            ("factory.issuer", ISSUERS[1]),
            ("factory.audience", "machines"),
            ("factory.jwks_file", &factory),
        ];
        let options =
            options.iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name)).chain(more);
        let options = options.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Guard::new(&self.broker, Options::parse(options).unwrap()).unwrap()
    }

    /// A good token of one of the issuers.
    fn token(&self, issuer: usize, device: &str) -> String {
        self.keys[issuer].token(&self.claims(issuer, device))
    }

    fn claims(&self, issuer: usize, device: &str) -> Value {
        let mut claims = claims(device, START.0, START.0 + 60);
        claims["iss"] = json!(ISSUERS[issuer]);
        claims["aud"] = json!(["mqtt", "machines"][issuer]);
        claims
    }

    /// What the log says when this client connects; nothing if it is let in.
    fn connect(&self, guard: &Guard<&FakeBroker>, client: &mut FakeClient) -> String {
        guard.tick(START.plus(30));
        // It tells the same only once in a while.
        guard.denials.replace(DenialLog::new());
        self.broker.take_log();
        let verdict = guard.connect(client, None, START.plus(30));
        let log = self.broker.take_log();
        assert_eq!(verdict == Verdict::Allow, log.is_empty(), "{log}");
        log
    }
}

#[test]
fn each_token_is_judged_by_its_issuer_alone() {
    let chain = Chain::new();
    let with = |signer: usize, issuer: usize, changes: Value| {
        let mut claims = chain.claims(issuer, "pump-1");
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        chain.keys[signer].token(&claims)
    };
    let cases = [
        (with(0, 0, json!({})), ""),
        (with(1, 1, json!({})), ""),
        (with(1, 0, json!({})), "(key_unknown)"),
        (with(0, 1, json!({})), "(key_unknown)"),
        (with(0, 0, json!({"aud": "machines"})), "(audience_differs)"),
        (with(1, 1, json!({"aud": "mqtt"})), "(audience_differs)"),
        (with(1, 1, json!({"iss": "https://factory.example/"})), "(issuer_unknown)"),
        (with(1, 1, json!({"iss": "https://nobody.example"})), "(issuer_unknown)"),
        (with(1, 1, json!({"iss": ""})), "(issuer_unknown)"),
        (with(1, 1, json!({"iss": 7})), "(claims_malformed)"),
        (with(1, 1, json!({"iss": [ISSUERS[0], ISSUERS[1]]})), "(claims_malformed)"),
        ("x".repeat(9_000), "(token_too_long)"),
        ("eyJ.eyJ.x".into(), "(token_malformed)"),
        ("pump-1".into(), "(token_malformed)"),
    ];
    for (token, expected) in cases {
        let guard = chain.guard(&[]);
        for handle in [1, 1] {
            // The second time from memory, if it was good.
            let mut client = FakeClient::new(handle, "pump-1").with_username(&token);
            assert!(chain.connect(&guard, &mut client).contains(expected), "{token}");
            guard.disconnect(client.handle());
        }
    }
}

/// Both issuers have a key with the same `kid`, and it is not the same key.
#[test]
fn a_kid_that_two_issuers_have_is_two_keys() {
    let chain = Chain::new();
    let renamed = |jwks: String, kid: String| jwks.replace(&kid, "k-1");
    for (name, key) in ["fleet", "factory"].into_iter().zip(&chain.keys) {
        chain.write_keys(name, &renamed(key.jwks(), key.kid()));
    }
    let guard = chain.guard(&[]);
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "k-1"}).to_string();
    for (signer, issuer, expected) in
        [(0, 0, ""), (1, 1, ""), (0, 1, "(signature_invalid)"), (1, 0, "(signature_invalid)")]
    {
        let id = format!("pump-{signer}-{issuer}");
        let token = chain.keys[signer].token_of(&header, chain.claims(issuer, &id).to_string());
        let mut client = FakeClient::new(signer * 2 + issuer, &id).with_username(&token);
        let log = chain.connect(&guard, &mut client);
        assert!(log.contains(expected) && log.is_empty() == expected.is_empty(), "{log}");
    }
}

/// Bytes that a reader of the first `iss` and one of the last would take for
/// tokens of different issuers.
#[test]
fn an_issuer_that_is_named_twice_is_none() {
    let chain = Chain::new();
    let guard = chain.guard(&[]);
    let claims = chain.claims(1, "pump-1").to_string();
    let twice = claims.replacen('{', &format!("{{\"iss\":{:?},", ISSUERS[0]), 1);
    let header = |key: &TestKey| json!({"alg": "ES256", "typ": "at+jwt", "kid": key.kid()}).to_string();
    for key in &chain.keys {
        let token = key.token_of(header(key), &twice);
        let mut client = FakeClient::new(1, "pump-1").with_username(&token);
        assert!(chain.connect(&guard, &mut client).contains("duplicate field"));
    }
}

#[test]
fn one_that_is_off_lets_nobody_in_and_its_files_need_not_be_there() {
    let chain = Chain::new();
    std::fs::remove_file(chain.path("factory")).unwrap();
    let guard = chain.guard(&[("factory.enabled", "false")]);
    let start = chain.broker.take_log();
    let list = "authenticators, in their order: fleet (tokens of https://id.example), factory (tokens of \
                https://factory.example, off)";
    assert!(start.contains(list), "{start}");
    let mut client = FakeClient::new(1, "pump-1").with_username(&chain.token(1, "pump-1"));
    assert!(chain.connect(&guard, &mut client).contains("(key_unknown)"), "the only one judges all");
    let mut client = FakeClient::new(1, "pump-1").with_username(&chain.token(0, "pump-1"));
    assert_eq!(chain.connect(&guard, &mut client), "");
}

#[test]
fn what_one_issuer_takes_back_is_nobody_elses() {
    let chain = Chain::new();
    let mut guard = chain.guard(&[]);
    for index in 0..2 {
        guard.authenticators.jwt_mut(index).revocations = fixed(known(&[]));
    }
    for (issuer, id) in [(0, "pump-1"), (1, "pump-2")] {
        let mut client = FakeClient::new(issuer, id).with_username(&chain.token(issuer, id));
        assert_eq!(chain.connect(&guard, &mut client), "");
    }
    guard.hear_from(1, known(&[Revocation::of_device("pump-1", START.plus(1), END)]));
    guard.tick(START.plus(30));
    assert!(chain.broker.kicked.take().is_empty(), "not its pump-1");
    guard.hear_from(1, known(&[Revocation::of_all(START.plus(1), END)]));
    guard.tick(START.plus(30));
    assert_eq!(chain.broker.kicked.take(), ["pump-2"]);
    let mut again = FakeClient::new(3, "pump-1").with_username(&chain.token(0, "pump-1"));
    assert_eq!(chain.connect(&guard, &mut again), "");
}

/// Two issuers have a device `pump-1` each: the one must not get what was
/// queued for the other.
#[test]
fn a_session_is_resumed_by_the_device_that_began_it_alone() {
    let chain = Chain::new();
    let guard = chain.guard(&[]);
    let of = |issuer: usize, handle| {
        FakeClient::new(handle, "pump-1").with_username(&chain.token(issuer, "pump-1"))
    };
    let mut first = of(0, 1);
    assert_eq!(chain.connect(&guard, &mut first), "");
    for mut other in [of(1, 2), of(1, 2).cleanly()] {
        assert!(chain.connect(&guard, &mut other).contains("(client_id_taken)"));
    }
    assert_eq!(chain.connect(&guard, &mut of(0, 3)), "", "its own next connection");
    guard.disconnect(first.handle());
    guard.disconnect(ClientHandle(3));
    assert!(chain.connect(&guard, &mut of(1, 2)).contains("(client_id_kept)"));
    let mut other = of(1, 2).cleanly();
    assert_eq!(chain.connect(&guard, &mut other), "", "there is nothing that it could get");
    guard.disconnect(other.handle());
    assert!(chain.connect(&guard, &mut of(0, 4)).contains("(client_id_kept)"), "now it is the other's");
}

#[test]
fn each_counts_what_it_has_done() {
    let chain = Chain::new();
    let guard = chain.guard(&[]);
    let tokens = [
        chain.token(0, "pump-1"),
        chain.token(0, "pump-1"),
        chain.token(1, "pump-1"),
        chain.token(1, "pump-2"),
        chain.keys[0].token(&chain.claims(1, "pump-1")),
        "nonsense".into(),
    ];
    for token in tokens {
        guard.connect(&mut FakeClient::new(1, "pump-1").with_username(&token), None, START);
    }
    guard.connect(&mut FakeClient::new(2, "pump-3"), None, START);
    let status = guard.authenticators.status();
    let [(Some(_), fleet), (Some(_), factory), (None, unjudged)] = &*status else { panic!("{status:?}") };
    assert_eq!((fleet.let_in, fleet.denied.len()), (2, 0));
    assert_eq!(factory.let_in, 0);
    let denied = [("client_id_differs", 1), ("client_id_taken", 1), ("key_unknown", 1)];
    assert_eq!(factory.denied, denied.into());
    assert_eq!(unjudged.denied, [("token_malformed", 1), ("token_missing", 1)].into());
    assert_eq!(factory.errors, 0);
}

/// Somebody behind a fleet's router sends one bad signature after the other.
#[test]
fn a_flood_of_bad_signatures_shuts_out_no_fleet() {
    let chain = Chain::new();
    let guard = chain.guard(&[]);
    let token = |device: &str, exp: u64| {
        let mut claims = chain.claims(0, device);
        claims["exp"] = json!(START.0 + exp);
        chain.keys[0].token(&claims)
    };
    let let_in = |handle, device, exp| {
        let mut client = FakeClient::new(handle, device).with_username(&token(device, exp));
        guard.connect(&mut client, None, START) == Verdict::Allow
    };
    assert!(let_in(1, "pump-1", 60));
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": chain.keys[0].kid()}).to_string();
    let stranger = TestKey::generate();
    for number in 0..1_000 {
        let id = format!("x-{number}");
        let bad = stranger.token_of(&header, chain.claims(0, &id).to_string());
        let mut client = FakeClient::new(2, &id).with_username(&bad);
        assert_eq!(guard.connect(&mut client, None, START), Verdict::Deny);
    }
    let denied = guard.authenticators.status().swap_remove(0).1.denied;
    assert_eq!(denied, [("signature_invalid", 200), ("signature_unchecked", 800)].into());
    assert!(let_in(3, "pump-1", 60), "a token seen before");
    assert!(let_in(4, "pump-1", 61), "a new token of a device that was here before");
    assert!(!let_in(5, "pump-2", 60), "a new device has to try again");
    let mut elsewhere = FakeClient::new(6, "pump-3").with_username(&token("pump-3", 60));
    elsewhere.address = Some("198.51.100.7".into());
    assert_eq!(guard.connect(&mut elsewhere, None, START), Verdict::Allow);
}
