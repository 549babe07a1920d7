//! Signing keys that turn while brokers, devices and power cuts have their say.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_tests::device::{Response, curl};
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::process::Running;
use fleetbadge_tests::programs::Program;
use serde_json::{Value, json};

/// As short as it gets: announced for 2 s, known to every node after 2 s.
const SHORT: [&str; 6] = ["--jwks-max-age-s", "1", "--key-announce-s", "2", "--propagation-bound-s", "2"];

#[test]
fn a_new_key_signs_when_every_instance_says_that_it_holds_it_and_survives_power_cuts() {
    let mut issuer = Issuer::start_with(&SHORT);
    let device = issuer.add_device("pump-1");
    let broker = issuer.json(&["broker", "add", "mqtt-1", "--audience", "mqtt", "--profile", "fleetbadge"]);
    let first = active(&issuer);
    for instance in ['a', 'b'] {
        assert_eq!(report(&issuer, &broker, instance, &[&first]).status, 204);
    }
    let old = issuer.token(&device);
    assert_eq!(issuer.command(&["key", "rotate"]).code, Some(0));
    let second = only(&issuer, "announced");
    let restart = |issuer: &mut Issuer| {
        let before = states(issuer);
        issuer.kill();
        issuer.restart();
        assert_eq!(states(issuer), before);
        assert_sound(issuer);
    };
    restart(&mut issuer);

    // One of two, a key of somebody else, and a device that has no say.
    report(&issuer, &broker, 'a', &[&first, &second]);
    report(&issuer, &broker, 'b', &[&first, "of-another-issuer"]);
    let of_device = json!({"client_id": device.client_id, "client_secret": device.client_secret});
    let refused = report(&issuer, &of_device, 'b', &[&first, &second]);
    assert_eq!((refused.status, &refused.json()["error"]), (403, &"unauthorized_client".into()));
    thread::sleep(Duration::from_secs(4));
    assert_eq!(active(&issuer), first);
    let list = issuer.command(&["key", "list"]);
    let row = list.stdout.lines().find(|line| line.starts_with(&second)).unwrap();
    assert!(
        row.contains(" at the latest, ") && row.ends_with(" at the earliest  mqtt-1: 1 of 2 instances"),
        "{row}"
    );
    let missing = format!("{second} waits until these instances of mqtt-1 say that they hold it: ");
    assert!(list.stderr.contains(&missing) && list.stderr.contains(&instance_id('b')), "{}", list.stderr);
    restart(&mut issuer);

    report(&issuer, &broker, 'b', &[&first, &second]);
    let settled = |issuer: &Issuer| {
        let key = find(issuer, &second);
        key["state"] == "active" || key["next_change_may_come_earlier"] == false
    };
    eventually(&issuer, settled);
    // Who comes later takes nothing back; neither does the power.
    report(&issuer, &broker, 'c', &[]);
    issuer.kill();
    issuer.restart();
    eventually(&issuer, |issuer| active(issuer) == second);
    restart(&mut issuer);
    assert_eq!(kid_of(&issuer.token(&device)), second);
    assert_eq!(kid_of(&old), first);
    assert!(jwks(&issuer).contains(&first), "its tokens are still about");
}

#[test]
fn a_key_is_replaced_in_time_and_at_the_deadline_without_those_who_do_not_hold_it() {
    let schedule = ["--key-rotation-s", "4", "--key-confirm-deadline-s", "5"];
    let issuer = Issuer::start_with(&[&SHORT[..], &schedule].concat());
    let device = issuer.add_device("pump-1");
    let broker = issuer.json(&["broker", "add", "mqtt-1", "--audience", "mqtt", "--profile", "fleetbadge"]);
    let first = active(&issuer);
    report(&issuer, &broker, 'z', &[&first]);
    let gone = issuer.json(&["broker", "add", "mqtt-2", "--audience", "mqtt", "--profile", "fleetbadge"]);
    report(&issuer, &gone, 'y', &[]);
    assert_eq!(issuer.command(&["broker", "remove", "mqtt-2"]).code, Some(0));
    eventually(&issuer, |issuer| states(issuer).values().any(|state| state == "announced"));
    let second = only(&issuer, "announced");
    assert_eq!(active(&issuer), first);
    eventually(&issuer, |issuer| active(issuer) == second);
    assert_eq!(kid_of(&issuer.token(&device)), second);
    eventually(&issuer, |issuer| {
        issuer.log().contains("a key signs that not every instance of a broker holds")
    });
    let log = issuer.log();
    let warning = log.lines().find(|line| line.contains("a key signs that not every")).unwrap();
    assert!(warning.contains("WARN") && warning.contains(&second), "{warning}");
    assert!(warning.contains("mqtt-1: 0 of 1 instances") && warning.contains(&instance_id('z')), "{warning}");
    assert!(!log.contains("mqtt-2: "), "it is gone");
    let list = issuer.command(&["key", "list"]);
    assert!(list.stderr.contains("they deny its tokens"), "{}", list.stderr);
}

#[test]
fn the_active_key_is_revoked_while_devices_ask_for_tokens() {
    let issuer = Issuer::start();
    let device = issuer.add_device("pump-1");
    let broker = issuer.json(&["broker", "add", "mqtt-1", "--audience", "mqtt", "--profile", "fleetbadge"]);
    let old = issuer.token(&device);
    let first = active(&issuer);
    assert!(is_active_token(&issuer, &broker, &old));

    let asked = issuer.command(&["key", "revoke", &first]);
    assert_eq!(asked.code, Some(2), "{}", asked.stderr);
    assert!(
        asked.stderr.contains("--yes") && asked.stderr.contains("is good for nothing"),
        "{}",
        asked.stderr
    );
    assert_eq!(active(&issuer), first);
    let unknown = issuer.command(&["key", "revoke", "-not-a-key", "--yes"]);
    assert_eq!(unknown.code, Some(1), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("there is no signing key \"-not-a-key\""), "{}", unknown.stderr);

    let is_over = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let ask = || {
            let mut answers = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                answers.push(issuer.request_token(&device, &[]));
            }
            answers
        };
        let askers = [scope.spawn(ask), scope.spawn(ask)];
        thread::sleep(Duration::from_millis(300));
        let revoked = issuer.command(&["key", "revoke", &first, "--yes"]);
        assert_eq!(revoked.code, Some(0), "{}", revoked.stderr);
        let after = issuer.request_token(&device, &[]);
        assert_ne!(kid_of(after.json()["access_token"].as_str().unwrap()), first);
        thread::sleep(Duration::from_millis(300));
        is_over.store(true, Ordering::Release);
        askers.map(|asker| asker.join().unwrap()).concat()
    });
    for answer in &answers {
        match answer.status {
            200 => {}
            503 => assert!(answer.header("retry-after").is_some(), "{answer:?}"),
            _ => panic!("{answer:?}"),
        }
    }
    assert!(answers.len() > 10, "too few to see anything");
    assert!(!jwks(&issuer).contains(&first));
    assert!(!states(&issuer).contains_key(&first));
    assert_sound(&issuer);
    assert!(!is_active_token(&issuer, &broker, &old));
    assert!(is_active_token(&issuer, &broker, &issuer.token(&device)));
}

/// Wherever the power goes: what was acknowledged is done, and one key signs.
#[test]
fn a_power_cut_in_the_middle_of_a_change_leaves_one_active_key() {
    let mut issuer = Issuer::start();
    let device = issuer.add_device("pump-1");
    let mut acknowledged = 0;
    for (n, delay_ms) in [1, 8, 12, 16, 20, 24, 30, 36, 45, 60, 80, 120].into_iter().enumerate() {
        let before = states(&issuer);
        let kid = active(&issuer);
        let change = match n % 3 {
            0 => vec!["key", "rotate"],
            1 => vec!["key", "rotate", "--now"],
            _ => vec!["key", "revoke", &kid, "--yes"],
        };
        let mut command = Program::Issuer.command();
        command.args(&change).arg("--data-dir").arg(issuer.data_dir());
        let mut changing = Running::spawn(command);
        thread::sleep(Duration::from_millis(delay_ms));
        issuer.kill();
        let is_acknowledged = changing.wait().code == Some(0);
        issuer.restart();
        assert_sound(&issuer);
        let after = states(&issuer);
        if is_acknowledged {
            acknowledged += 1;
            assert_ne!(after, before, "{change:?}");
        }
        if after != before && n % 3 == 2 {
            assert!(!after.contains_key(&kid), "{change:?}: {after:?}");
        }
        assert_eq!(kid_of(&issuer.token(&device)), active(&issuer));
    }
    assert!(acknowledged > 0, "all were cut off too early to see anything");
}

/// One key of the one algorithm in use signs, and is published.
fn assert_sound(issuer: &Issuer) {
    let published = jwks(issuer);
    assert!(published.contains(&active(issuer)));
    let states = states(issuer);
    assert_eq!(states.keys().filter(|kid| published.contains(kid)).count(), states.len());
    assert_eq!(published.len(), states.len());
}

fn jwks(issuer: &Issuer) -> Vec<String> {
    let keys = curl([issuer.jwks_url()]).json()["keys"].clone();
    keys.as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Each key's state, by `kid`.
fn states(issuer: &Issuer) -> BTreeMap<String, String> {
    let text = |key: &Value, member: &str| key[member].as_str().unwrap().to_owned();
    let keys = issuer.json_lines(&["key", "list"]);
    keys.iter().map(|key| (text(key, "kid"), text(key, "state"))).collect()
}

fn find(issuer: &Issuer, kid: &str) -> Value {
    issuer.json_lines(&["key", "list"]).into_iter().find(|key| key["kid"] == kid).unwrap()
}

/// The one key in this state.
fn only(issuer: &Issuer, state: &str) -> String {
    let states = states(issuer);
    let kids: Vec<&String> = states.iter().filter(|(_, of)| *of == state).map(|(kid, _)| kid).collect();
    assert_eq!(kids.len(), 1, "{state}: {states:?}");
    kids[0].clone()
}

fn active(issuer: &Issuer) -> String {
    only(issuer, "active")
}

fn kid_of(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

fn instance_id(instance: char) -> String {
    String::from(instance).repeat(22)
}

/// What a validator says with what `broker add` printed.
fn report(issuer: &Issuer, credentials: &Value, instance: char, kids: &[&str]) -> Response {
    let body = json!({
        "version": 1, "instance": instance_id(instance), "software": "curl/1", "kids": kids,
        "revocations": null, "unknown": "ignored",
    });
    curl([
        "--user",
        &user(credentials),
        "--header",
        "Content-Type: application/json",
        "--data",
        &body.to_string(),
        &(issuer.url() + "/oauth2/reports"),
    ])
}

fn is_active_token(issuer: &Issuer, credentials: &Value, token: &str) -> bool {
    let (user, token) = (user(credentials), format!("token={token}"));
    let answer = curl(["--user", &user, "--data", &token, &(issuer.url() + "/oauth2/introspect")]);
    answer.json()["active"].as_bool().unwrap()
}

fn user(credentials: &Value) -> String {
    let text = |member: &str| credentials[member].as_str().unwrap();
    format!("{}:{}", text("client_id"), text("client_secret"))
}

fn eventually(issuer: &Issuer, is_so: impl Fn(&Issuer) -> bool) {
    let deadline = Deadline::after(PATIENCE);
    while !is_so(issuer) {
        assert!(deadline.left().is_some(), "never; {:?}\n{}", states(issuer), issuer.log());
        thread::sleep(Duration::from_millis(50));
    }
}
