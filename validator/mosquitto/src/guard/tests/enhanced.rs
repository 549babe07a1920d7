//! Authentication methods, re-authentication, and tokens that are bound to a
//! certificate.

use fleetbadge_validator::claims::CertificateThumbprint;
use serde_json::json;

use super::*;

const METHOD: Option<&str> = Some("OAUTH2-JWT");

impl Scene {
    /// A client that the guard has let in with an authentication method.
    fn let_in_by_method(&self, guard: &Guard<&FakeBroker>, handle: usize, device: &str) -> FakeClient {
        let mut client = FakeClient::new(handle, device);
        let answer = guard.authenticate(&mut client, METHOD, self.token(device).as_bytes(), START);
        assert_eq!(answer, Authentication::Succeeded, "{}", self.broker.take_log());
        client
    }

    fn token_with(&self, device: &str, changes: &Value) -> String {
        let mut claims = self.claims(device);
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.key.token(&claims)
    }
}

#[test]
fn a_method_lets_in_by_its_data_alone() {
    let scene = Scene::new();
    let token = scene.token("pump-1");
    for method in ["OAUTH2-JWT", "CUSTOM-JWT"] {
        for username in [None, Some("root"), Some(&*scene.token("pump-2"))] {
            let guard = scene.guard("password");
            let mut client = FakeClient::new(1, "pump-1");
            client.username = username.map(Into::into);
            let answer = guard.authenticate(&mut client, Some(method), token.as_bytes(), START);
            assert_eq!(answer, Authentication::Succeeded, "{username:?}");
            assert_eq!(client.username.as_deref(), Some("pump-1"), "a reload must know it by its name");
            let verdict = guard.acl_check(&client, Access::Read, Some("devices/pump-1/x"), START);
            assert_eq!(verdict, Verdict::Allow);
        }
    }
}

#[test]
fn a_method_that_fails_leaves_no_user_name_and_says_why() {
    let scene = Scene::new();
    let (good, other) = (scene.token("pump-1"), scene.token("pump-2"));
    let failed = Authentication::Failed;
    let unknown = Authentication::MethodUnknown;
    let cases: [(&str, Option<&str>, &[u8], Authentication); 8] = [
        ("token_missing", METHOD, b"", failed),
        ("token_malformed", METHOD, b"\xff", failed),
        ("client_id_differs", METHOD, other.as_bytes(), failed),
        ("authentication_method_unknown", None, good.as_bytes(), unknown),
        ("authentication_method_unknown", Some(""), good.as_bytes(), unknown),
        ("authentication_method_unknown", Some("oauth2-jwt"), good.as_bytes(), unknown),
        ("authentication_method_unknown", Some("OAUTH2-JWT "), good.as_bytes(), unknown),
        ("authentication_method_unknown", Some("SCRAM-SHA-1"), good.as_bytes(), unknown),
    ];
    for (code, method, data, expected) in cases {
        let guard = scene.guard("username");
        // A good token that is not the data of the method is nothing.
        let mut client = FakeClient::new(1, "pump-1").with_username(&good);
        assert_eq!(guard.authenticate(&mut client, method, data, START), expected, "{code}");
        assert_eq!(client.username, None);
        let log = scene.broker.take_log();
        assert!(log.contains(&format!("({code})")) && !log.contains("eyJ"), "{code}: {log}");
        let verdict = guard.acl_check(&client, Access::Read, Some("devices/pump-1/x"), START);
        assert_eq!(verdict, Verdict::Deny, "{code}");
    }
}

#[test]
fn the_token_as_client_id_is_refused_with_a_method_too() {
    let scene = Scene::new();
    let token = scene.token("pump-1");
    let mut client = FakeClient::new(1, &token).with_username(&token);
    let answer = scene.guard("username").authenticate(&mut client, METHOD, token.as_bytes(), START);
    assert_eq!(answer, Authentication::Failed);
    assert!(scene.broker.take_log().contains("(client_id_is_username)"));
}

#[test]
fn a_client_goes_on_with_a_new_token() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    let mut client = scene.let_in_by_method(&guard, 1, "pump-1");
    let longer = json!({"exp": END.0 + 100, "acl": {"pub": [], "sub": ["#"]}});
    let longer = scene.token_with("pump-1", &longer);
    let answer = guard.authenticate(&mut client, METHOD, longer.as_bytes(), START);
    assert_eq!(answer, Authentication::Succeeded, "{}", scene.broker.take_log());
    guard.tick(END);
    assert!(scene.broker.kicked.take().is_empty());
    let ask = |access| guard.acl_check(&client, access, Some("devices/pump-1/x"), END);
    assert_eq!((ask(Access::Read), ask(Access::Write)), (Verdict::Allow, Verdict::Deny));
}

#[test]
fn a_renewal_that_fails_ends_the_session_even_if_the_broker_did_not() {
    let scene = Scene::new();
    let less = json!({"acl": {"pub": [], "sub": []}});
    let another = json!({"sub": "pump-2", "client_id": "pump-2"});
    for (code, token, expected) in [
        ("token_malformed", "rubbish".to_owned(), Authentication::Failed),
        ("client_id_differs", scene.token("pump-2"), Authentication::Failed),
        ("subject_differs", scene.token_with("pump-1", &another), Authentication::Failed),
        ("receives_less", scene.token_with("pump-1", &less), Authentication::ConnectAgain),
    ] {
        let guard = scene.guard("username");
        guard.tick(START);
        let mut client = scene.let_in_by_method(&guard, 1, "pump-1");
        let answer = guard.authenticate(&mut client, METHOD, token.as_bytes(), START);
        assert_eq!(answer, expected, "{code}");
        assert!(scene.broker.take_log().contains(&format!("({code})")), "{code}");
        assert_eq!(client.username.as_deref(), Some("pump-1"), "its session goes on queueing");
        let ask = |access| guard.acl_check(&client, access, Some("devices/pump-1/x"), START);
        assert_eq!((ask(Access::Read), ask(Access::Write)), (Verdict::Deny, Verdict::Deny), "{code}");
        let good = scene.token("pump-1");
        let mut again = client.clone();
        let answer = guard.authenticate(&mut again, METHOD, good.as_bytes(), START);
        assert_ne!(answer, Authentication::Succeeded, "{code}: there is no second try");
        guard.tick(START);
        assert_eq!(scene.broker.kicked.take(), ["pump-1"], "{code}");
        assert!(scene.broker.without_will.take().is_empty());
    }
}

/// Mosquitto 2.0.11 without ticks: a kick from within its own AUTH would free
/// the connection twice.
#[test]
fn a_renewal_kicks_nobody_itself() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    let mut client = scene.let_in_by_method(&guard, 1, "pump-1");
    let late = scene.token_with("pump-1", &json!({"iat": END.0, "nbf": END.0, "exp": END.0 + 60}));
    let answer = guard.authenticate(&mut client, METHOD, late.as_bytes(), END.plus(1));
    assert_eq!(answer, Authentication::Succeeded, "{}", scene.broker.take_log());
    assert!(scene.broker.kicked.take().is_empty());
}

#[test]
fn an_authentication_that_goes_on_ends_at_the_next_tick() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    let client = scene.let_in_by_method(&guard, 1, "pump-1");
    assert_eq!(guard.go_on(&client, START), Authentication::Awaited);
    assert_eq!(guard.acl_check(&client, Access::Read, Some("devices/pump-1/x"), START), Verdict::Deny);
    assert!(scene.broker.kicked.take().is_empty());
    guard.tick(START);
    assert_eq!(scene.broker.kicked.take(), ["pump-1"]);
}

#[test]
fn a_reload_knows_who_came_with_a_method() {
    let scene = Scene::new();
    let guard = scene.guard("username");
    let mut client = scene.let_in_by_method(&guard, 1, "pump-1");
    guard.reload(START);
    assert_eq!(guard.connect(&mut client, None, START), Verdict::Allow);
    assert_eq!(guard.connect(&mut client, None, START), Verdict::Deny, "once");
}

#[test]
fn a_bound_token_needs_its_certificate_each_time() {
    let scene = Scene::new();
    let (right, wrong) = (CertificateThumbprint([1; 32]), CertificateThumbprint([2; 32]));
    let bound = scene.token_with("pump-1", &json!({"cnf": {"x5t#S256": right}}));
    for (certificate, expected) in
        [(None, "certificate_missing"), (Some(wrong), "certificate_differs"), (Some(right), "allowed")]
    {
        let guard = scene.guard("username");
        for _ in 0..2 {
            let mut client = FakeClient::new(1, "pump-1").with_username(&bound);
            client.certificate = certificate;
            let verdict = guard.connect(&mut client, None, START);
            assert_eq!(verdict == Verdict::Allow, expected == "allowed", "{expected}");
        }
        let log = scene.broker.take_log();
        assert!(expected == "allowed" || log.contains(expected), "{expected}: {log}");

        let mut client = scene.let_in_by_method(&guard, 2, "pump-1");
        client.certificate = certificate;
        let answer = guard.authenticate(&mut client, METHOD, bound.as_bytes(), START);
        assert_eq!(answer == Authentication::Succeeded, expected == "allowed", "{expected}");
    }
    // A certificate is no use to a token that names none, nor a hindrance.
    let mut client = FakeClient::new(1, "pump-1").with_username(&scene.token("pump-1"));
    client.certificate = Some(wrong);
    assert_eq!(scene.guard("username").connect(&mut client, None, START), Verdict::Allow);
}
