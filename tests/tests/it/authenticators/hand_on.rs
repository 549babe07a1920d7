//! A password file beside tokens, and who tries to get from one to the other.

use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::wire::Received;
use serde_json::json;

use super::*;

on_every_mosquitto!(
    a_password_file_goes_on_working_and_tokens_are_never_handed_on,
    without_an_acl_file_those_from_the_password_file_may_nothing,
    a_device_s_session_is_not_opened_with_a_password,
    a_token_does_not_open_what_a_password_has_left,
    without_the_choice_nothing_is_handed_on,
);

/// What `mosquitto_passwd` makes of the user `desk` with the password `secret`.
const PASSWORDS: &str = "desk:$7$101$E0IZYhydMA+MQfzj$uTVcCBaSrLJ0tplSNqlUbAo6AfzYDB0TOs58WWO7z9k8V6HSqsT/\
                         IYqjVXUYrEb3wLTMx841HVE7+VA8cy8/mA==\n";
const RULES: &str = "user desk\ntopic readwrite office/#\ntopic readwrite devices/pump-1/#\n";

/// A broker that hands on, or with another list of authenticators does not.
fn broker(badges: &Badges, list: &str, rules: Option<&str>, version: MosquittoVersion) -> Mosquitto {
    let builder = trusting(authenticated_by(list, version), "fleet", "https://id.example", badges);
    let passwords = builder.dir().write("passwords", PASSWORDS.as_bytes());
    let rules = rules.map(|rules| builder.dir().write("rules", rules.as_bytes()));
    let builder = builder.config_line(&format!("password_file {}", passwords.display()));
    match rules {
        Some(rules) => builder.config_line(&format!("acl_file {}", rules.display())).start(),
        None => builder.start(),
    }
}

fn a_password_file_goes_on_working_and_tokens_are_never_handed_on(version: MosquittoVersion) {
    let badges = Badges::new();
    let mut broker = broker(&badges, "fleet hand_on", Some(RULES), version);
    let token = badges.token("pump-1");
    let mut device = admitted(&broker, &with_token("pump-1", &token));
    let mut desk = admitted(&broker, &with_password("desk-1", "desk", "secret"));
    for _ in 0..2 {
        assert_eq!(desk.subscribe("office/#", 0), Some(0));
        assert_eq!(desk.publish("office/x", b"hello"), Some(0));
        assert_eq!(desk.packet(), Some(message("office/x", b"hello")));
        assert_eq!(desk.publish("elsewhere/x", b"no"), Some(0x87));
        assert_eq!(device.publish("devices/pump-1/x", b"1"), Some(NO_SUBSCRIBERS));
        assert_eq!(device.publish("office/x", b"no"), Some(0x87), "an ACL file gives a device nothing");
        broker.signal_hup();
    }
    let (start, _) = token.rsplit_once('.').unwrap();
    let bearer = format!("Bearer {token}");
    for (username, password) in [
        ("desk", "wrong"),
        ("nobody", "secret"),
        (start, "secret"),
        (&*bearer, "secret"),
        ("desk", &*token),
        ("desk", ""),
    ] {
        assert_eq!(
            connect(&broker, &with_password("desk-2", username, password)).1,
            Some(0x87),
            "{username}"
        );
    }
    let anonymous = Connect { client_id: "desk-3", ..Connect::default() };
    assert_eq!(connect(&broker, &anonymous).1, Some(0x87));
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.contains("eyJ"), "a token in the log");
}

fn without_an_acl_file_those_from_the_password_file_may_nothing(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = broker(&badges, "fleet hand_on", None, version);
    let mut desk = admitted(&broker, &with_password("desk-1", "desk", "secret"));
    assert!(desk.subscribe("office/#", 0).unwrap() >= 0x80);
    assert_eq!(desk.publish("office/x", b"hello"), Some(0x87));
}

fn a_device_s_session_is_not_opened_with_a_password(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = broker(&badges, "fleet hand_on", Some(RULES), version);
    let token = badges.token("pump-1");
    let kept = Connect { keep_session: true, ..with_token("pump-1", &token) };
    let mut device = admitted(&broker, &kept);
    assert_eq!(device.subscribe("devices/pump-1/#", 1), Some(1));
    let stolen = || {
        [true, false].map(|keep_session| {
            connect(&broker, &Connect { keep_session, ..with_password("pump-1", "desk", "secret") }).1
        })
    };
    assert_eq!(stolen(), [Some(0x87); 2]);
    assert_eq!(device.packet_within(Duration::from_millis(100)), Received::Nothing, "undisturbed");
    drop(device);
    std::thread::sleep(Duration::from_millis(200));
    let mut desk = admitted(&broker, &with_password("desk-1", "desk", "secret"));
    assert_eq!(desk.publish("devices/pump-1/x", b"for the device"), Some(0));
    assert_eq!(stolen(), [Some(0x87); 2]);
    let mut device = admitted(&broker, &kept);
    assert_eq!(device.packet(), Some(message("devices/pump-1/x", b"for the device")));
}

fn a_token_does_not_open_what_a_password_has_left(version: MosquittoVersion) {
    let badges = Badges::new();
    let broker = broker(&badges, "fleet hand_on", Some(RULES), version);
    let token = badges.token_with("pump-1", &json!({"acl": {"pub": ["#"], "sub": ["#"]}}));
    let kept = Connect { keep_session: true, ..with_password("pump-1", "desk", "secret") };
    let mut desk = admitted(&broker, &kept);
    assert_eq!(desk.subscribe("office/#", 1), Some(1));
    let resumed = Connect { keep_session: true, ..with_token("pump-1", &token) };
    assert_eq!(connect(&broker, &resumed).1, Some(0x87));
    drop(desk);
    std::thread::sleep(Duration::from_millis(200));
    let mut other = admitted(&broker, &with_password("desk-2", "desk", "secret"));
    assert_eq!(other.publish("office/x", b"for the desk"), Some(0));
    assert_eq!(connect(&broker, &resumed).1, Some(0x87));
    broker.wait_for_log("(client_id_kept)");
    let mut device = admitted(&broker, &with_token("pump-1", &token));
    assert_eq!(device.packet_within(Duration::from_millis(300)), Received::Nothing, "a new session");
}

fn without_the_choice_nothing_is_handed_on(version: MosquittoVersion) {
    let badges = Badges::new();
    for list in ["fleet", "fleet hand_on"] {
        let builder = trusting(authenticated_by(list, version), "fleet", "https://id.example", &badges);
        let passwords = builder.dir().write("passwords", PASSWORDS.as_bytes());
        let builder = builder.config_line(&format!("password_file {}", passwords.display()));
        let builder = if list == "fleet" { builder } else { builder.plugin_opt("hand_on.enabled", "false") };
        let broker = builder.start();
        assert_eq!(connect(&broker, &with_password("desk-1", "desk", "secret")).1, Some(0x87), "{list}");
    }
}
