//! Tokens are taken back, and brokers hear of it.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fleetbadge_tests::authority::Authority;
use fleetbadge_tests::device::{Response, curl};
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::process::Running;
use fleetbadge_tests::programs::Program;
use serde_json::{Value, json};

/// A broker that follows the revocations with curl.
pub(crate) struct Feed {
    curl: Running,
    /// How many events were read.
    read: usize,
}

pub(crate) fn broker(issuer: &Issuer) -> String {
    let added = issuer.json(&["broker", "add", "site", "--audience", "mqtt", "--profile", "fleetbadge"]);
    format!("site:{}", added["client_secret"].as_str().expect("a secret"))
}

impl Feed {
    pub(crate) fn open(issuer: &Issuer, user: &str, last_event_id: Option<&str>) -> Self {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--no-buffer", "--noproxy", "*", "--user", user]);
        if let Some(authority) = issuer.authority() {
            command.arg("--cacert").arg(authority.certificate_of_authority());
        }
        if let Some(id) = last_event_id {
            command.args(["--header", &format!("Last-Event-ID: {id}")]);
        }
        command.arg(issuer.url() + "/oauth2/revocations");
        Self { curl: Running::spawn(command), read: 0 }
    }

    /// The data of the next event of this name.
    pub(crate) fn next(&mut self, event: &str) -> Value {
        let deadline = Deadline::after(PATIENCE);
        while deadline.left().is_some() {
            let said = self.curl.output();
            // What stands after the last empty line is not whole.
            let whole = said.rsplit_once("\n\n").map(|(whole, _)| whole.split("\n\n"));
            for told in whole.into_iter().flatten().skip(self.read) {
                self.read += 1;
                let field = |name: &str| told.lines().find_map(|line| line.strip_prefix(name));
                if field("event: ") == Some(event) {
                    return serde_json::from_str(field("data: ").expect("data")).expect("JSON");
                }
            }
            sleep(Duration::from_millis(2));
        }
        panic!("no {event}: {}", self.curl.output())
    }

    /// The id of the last event that had one.
    pub(crate) fn id(&self) -> String {
        let said = self.curl.output();
        let mut ids = said.lines().rev().filter_map(|line| line.strip_prefix("id: "));
        ids.next().expect("an id").to_owned()
    }
}

pub(crate) fn revoke(issuer: &Issuer, arguments: &[&str]) -> Value {
    issuer.json(&[&["revocation", "add"], arguments].concat())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures")]
fn an_event_comes_within_100_ms_of_the_answer_and_the_feed_outlives_every_time_limit() {
    let mut issuer = Issuer::start_with(&["--request-timeout-s", "1"]);
    let user = broker(&issuer);
    let mut feed = Feed::open(&issuer, &user, None);
    assert_eq!(feed.next("snapshot"), json!({"revocations": [], "more": false}));
    let mut took = Vec::new();
    for n in 0..7 {
        let name = format!("pump-{n}");
        let _ = issuer.add_device(&name);
        let verb = if n % 2 == 0 { "disable" } else { "remove" };
        assert_eq!(issuer.command(&["device", verb, &name]).code, Some(0));
        let answered = Instant::now();
        assert_eq!(feed.next("revocation")["device"], name.as_str());
        took.push(answered.elapsed());
    }
    took.sort_unstable();
    println!("from the answer to the event: median {:?}, longest {:?}", took[3], took[6]);
    assert!(took[3] < Duration::from_millis(100), "{took:?}");
    assert!(feed.next("heartbeat")["now"].is_u64());
    // With somebody who follows, it ends as fast as without.
    let ending = Instant::now();
    assert_eq!(issuer.stop().code, Some(0));
    assert!(ending.elapsed() < Duration::from_secs(5), "{:?}", ending.elapsed());
    assert_eq!(feed.curl.wait().code, Some(0), "the stream had an end");
}

#[test]
fn what_was_missed_is_told_after_a_restart_and_without_an_id_all_is() {
    let mut issuer = Issuer::start_tls(Authority::new());
    let user = broker(&issuer);
    let device = issuer.add_device("pump-1");
    let token = issuer.token(&device);
    let mut feed = Feed::open(&issuer, &user, None);
    feed.next("snapshot");
    revoke(&issuer, &["--group", "default"]);
    let group = feed.next("revocation");
    let id = feed.id();
    drop(feed);
    issuer.restart();
    let revoked = revoke_by_file(&issuer, &token);
    assert_eq!(revoked["jti"].as_str().map(str::len), Some(22));
    issuer.restart();

    let mut back = Feed::open(&issuer, &user, Some(&id));
    assert_eq!(back.next("revocation"), revoked, "and nothing before it");
    assert_ne!(back.id(), id);
    let mut new = Feed::open(&issuer, &user, Some("another-1"));
    assert_eq!(new.next("snapshot"), json!({"revocations": [group, revoked], "more": false}));
    assert_eq!(new.id(), back.id());
}

fn revoke_by_file(issuer: &Issuer, token: &str) -> Value {
    let mut command = Program::Issuer.command();
    command.args(["revocation", "add", "--token-file", "-", "--json", "--data-dir"]).arg(issuer.data_dir());
    let mut adding = Running::spawn(command);
    adding.say(token);
    adding.end_of_input();
    let finished = adding.wait();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).expect("JSON")
}

#[test]
fn a_token_is_taken_back_by_its_device_and_none_is_ever_logged() {
    let mut issuer = Issuer::start_with(&["--log", "trace"]);
    let user = broker(&issuer);
    let (pump, valve) = (issuer.add_device("pump-1"), issuer.add_device("valve-1"));
    let of =
        |device: &fleetbadge_tests::issuer::Device| format!("{}:{}", device.client_id, device.client_secret);
    let ask = |path: &str, user: &str, token: &str| -> Response {
        curl(["--user", user, "--data", &format!("token={token}"), &(issuer.url() + "/oauth2/" + path)])
    };
    let token = issuer.token(&pump);
    assert_eq!(ask("introspect", &user, &token).json()["active"], true);
    let refused = ask("revoke", &of(&valve), &token);
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("unauthorized_client")));
    for cut in [1, 20, 60] {
        assert_eq!(ask("revoke", &of(&pump), token.get(..token.len() - cut).unwrap()).status, 200);
    }
    assert_eq!(ask("introspect", &user, &token).json()["active"], true);
    assert_eq!(ask("revoke", &of(&pump), &token).status, 200);
    assert_eq!(ask("introspect", &user, &token).json(), json!({"active": false}));
    let other = issuer.token(&pump);
    assert_eq!(ask("revoke", &user, &other).status, 200);
    let third = issuer.token(&pump);
    revoke_by_file(&issuer, &third);
    assert_eq!(ask("introspect", &user, &third).json(), json!({"active": false}));
    issuer.stop();
    let log = issuer.log();
    assert!(log.contains("token revoked") && log.contains("tokens revoked"), "{log}");
    for token in [token, other, third] {
        let claims = token.split('.').nth(1).expect("claims").to_owned();
        let signature = token.rsplit('.').next().expect("a signature").to_owned();
        for trace in [&claims, &signature, &signature.chars().take(20).collect()] {
            assert!(!log.contains(trace.as_str()), "{trace} is in the log");
        }
    }
}

#[test]
fn disabled_and_enabled_at_once_it_waits_and_the_old_token_stays_dead() {
    let issuer = Issuer::start();
    let user = broker(&issuer);
    let device = issuer.add_device("pump-1");
    let old = issuer.token(&device);
    for verb in ["disable", "enable"] {
        assert_eq!(issuer.command(&["device", verb, "pump-1"]).code, Some(0));
    }
    let new = loop {
        let response = issuer.request_token(&device, &[]);
        if response.status == 200 {
            break response.json()["access_token"].as_str().expect("a token").to_owned();
        }
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{response:?}");
        sleep(Duration::from_millis(50));
    };
    let is_active = |token: &str| {
        let data = format!("token={token}");
        curl(["--user", &user, "--data", &data, &(issuer.url() + "/oauth2/introspect")]).json()["active"]
            .clone()
    };
    assert_eq!((is_active(&old), is_active(&new)), (json!(false), json!(true)));
}
