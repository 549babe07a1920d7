//! What is no token, and left to others.

use super::*;

fn guard<'a>(scene: &'a Scene, token_from: &str) -> Guard<&'a FakeBroker> {
    let options = [
        ("authenticators", "fleet hand_on"),
        ("token_from", token_from),
        ("fleet.issuer", "https://id.example"),
        ("fleet.audience", "mqtt"),
        ("fleet.jwks_file", scene.jwks.path().to_str().unwrap()),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Guard::new(&scene.broker, Options::parse(options).unwrap()).unwrap()
}

/// A client that was handed on.
fn desk(guard: &Guard<&FakeBroker>, handle: usize, id: &str) -> FakeClient {
    let mut client = FakeClient::new(handle, id).with_username("desk");
    assert_eq!(guard.connect(&mut client, Some("secret"), START), Verdict::HandOn);
    assert_eq!(client.username.as_deref(), Some("desk"), "for who comes next");
    client
}

#[test]
fn only_what_has_nothing_of_a_token_is_handed_on() {
    let scene = Scene::new();
    let token = scene.token("pump-1");
    let (start, _) = token.rsplit_once('.').unwrap();
    let bad = scene.token("pump-2");
    let bearer = format!("Bearer {token}");
    let cases = [
        ("username", Some("desk"), Some("secret"), Verdict::HandOn),
        ("username", Some("desk"), None, Verdict::HandOn),
        ("username", Some(""), Some(""), Verdict::Deny),
        ("username", Some("plant.line.desk"), Some("a.b.c"), Verdict::HandOn),
        ("password", Some("desk"), Some("secret"), Verdict::HandOn),
        ("either", Some("desk"), Some("secret"), Verdict::HandOn),
        ("username", Some(&*token), Some("secret"), Verdict::Allow),
        ("username", Some(&*bad), Some("secret"), Verdict::Deny),
        ("username", Some(start), Some("secret"), Verdict::Deny),
        ("username", Some(&*bearer), Some("secret"), Verdict::Deny),
        ("username", Some("desk"), Some(&*token), Verdict::Deny),
        ("username", Some("desk"), Some(&*bearer), Verdict::Deny),
        ("password", Some(&*token), Some("secret"), Verdict::Deny),
        ("password", Some("desk"), Some(&*bad), Verdict::Deny),
        ("either", Some("desk"), Some(start), Verdict::Deny),
        ("username", None, None, Verdict::Deny),
        ("username", None, Some("secret"), Verdict::Deny),
        ("either", None, None, Verdict::Deny),
    ];
    for (token_from, username, password, expected) in cases {
        let mut client = FakeClient::new(1, "pump-1");
        client.username = username.map(Into::into);
        let verdict = guard(&scene, token_from).connect(&mut client, password, START);
        assert_eq!(verdict, expected, "{token_from} {username:?} {password:?}");
    }
    let mut client = FakeClient::new(1, "pump-1").with_username("desk");
    assert_eq!(scene.guard("username").connect(&mut client, Some("x"), START), Verdict::Deny, "opt-in");
}

#[test]
fn topics_of_those_alone_are_handed_on() {
    let scene = Scene::new();
    let guard = guard(&scene, "username");
    let device = scene.let_in(&guard, 1, "pump-1");
    let desk = desk(&guard, 2, "desk-1");
    let ask = |client: &FakeClient, access| guard.acl_check(client, access, Some("devices/pump-2/x"), START);
    for access in [Access::Read, Access::Write, Access::Subscribe, Access::Unsubscribe] {
        assert_eq!(ask(&desk, access), Verdict::HandOn);
    }
    assert_eq!(ask(&device, Access::Write), Verdict::Deny, "the token's word is final");
    let unasked = FakeClient::new(3, "with-a-certificate").with_username("desk");
    assert_eq!(ask(&unasked, Access::Write), Verdict::Deny);
    guard.disconnect(desk.handle());
    assert_eq!(ask(&desk, Access::Write), Verdict::HandOn, "its will");
    assert_eq!(ask(&desk, Access::Read), Verdict::HandOn, "what is queued for it");
    assert_eq!(ask(&FakeClient::new(9, "desk-1").without_connection(), Access::Write), Verdict::HandOn);
    assert_eq!(ask(&FakeClient::new(9, "desk-2").without_connection(), Access::Write), Verdict::Deny);
    let counts = guard.authenticators.hand_on().unwrap().counts();
    assert_eq!((counts.handed_on, counts.let_in), (1, 0));
}

/// Somebody with an entry in the password file takes a device's client ID.
#[test]
fn a_device_s_session_is_never_handed_on() {
    let scene = Scene::new();
    let guard = guard(&scene, "username");
    let device = scene.let_in(&guard, 1, "pump-1");
    let mut thief = FakeClient::new(2, "pump-1").with_username("desk");
    assert_eq!(guard.connect(&mut thief, Some("secret"), START), Verdict::Deny, "connected");
    assert!(scene.broker.take_log().contains("(client_id_of_device)"));
    guard.disconnect(device.handle());
    let mut thief = thief.with_username("desk").cleanly();
    assert_eq!(guard.connect(&mut thief, Some("secret"), START), Verdict::Deny, "parted");
}

/// A device's token opens the session that was left under its client ID by
/// somebody from the password file.
#[test]
fn what_was_queued_for_others_is_no_device_s() {
    let scene = Scene::new();
    let guard = guard(&scene, "username");
    let desk = desk(&guard, 1, "pump-1");
    let device = || FakeClient::new(2, "pump-1").with_username(&scene.token("pump-1"));
    guard.acl_check(&desk, Access::Subscribe, Some("x"), START);
    assert_eq!(guard.connect(&mut device(), None, START), Verdict::Deny);
    assert!(scene.broker.take_log().contains("(client_id_kept)"));
    guard.disconnect(desk.handle());
    assert_eq!(guard.connect(&mut device(), None, START), Verdict::Deny);
    assert_eq!(guard.connect(&mut device().cleanly(), None, START), Verdict::Allow);
    guard.disconnect(ClientHandle(2));
    assert_eq!(guard.connect(&mut device(), None, START), Verdict::Allow, "its own now");
    assert_eq!(guard.acl_check(&desk, Access::Write, Some("x"), START), Verdict::HandOn, "its will");
}

#[test]
fn a_reload_asks_others_again() {
    let scene = Scene::new();
    let guard = guard(&scene, "username");
    let (mut device, mut desk) = (scene.let_in(&guard, 1, "pump-1"), desk(&guard, 2, "desk-1"));
    guard.reload(START);
    assert_eq!(guard.connect(&mut device, None, START), Verdict::Allow);
    assert_eq!(guard.connect(&mut desk, Some("secret"), START), Verdict::HandOn);
    assert_eq!(guard.acl_check(&desk, Access::Write, Some("x"), START), Verdict::HandOn);
}
