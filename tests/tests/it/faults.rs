//! Faults, for real: nodes that are killed, databases that are slow, clocks
//! that jump, disks that are full. What was acknowledged stays, nothing that
//! was taken back is good for anything, and everybody recovers alone.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use fleetbadge_tests::device::{Response, curl};
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_validator::test_support::TestKey;
use serde_json::{Value, json};

mod backups;
mod clock;
mod disk_full;
mod load;
mod revoking;
mod slow_database;

/// How long a node goes on that hears nothing of the database, in seconds.
const BOUND_S: u64 = 2;
/// No request takes longer, whatever happens.
const ANSWERED: Duration = Duration::from_secs(6);

/// Waits until something is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Deadline::after(PATIENCE);
    while !is_so() {
        assert!(deadline.left().is_some(), "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// An answer, which must come soon.
#[expect(clippy::disallowed_methods, reason = "no request may hang")]
fn soon(ask: impl FnOnce() -> Response) -> Response {
    let asked = Instant::now();
    let answer = ask();
    let taken = asked.elapsed();
    assert!(taken < ANSWERED, "{taken:?}: {answer:?}");
    answer
}

/// Says 503, and when to come again.
fn is_refused_for_now(answer: &Response) -> bool {
    if answer.status == 503 {
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    answer.status == 503
}

/// A broker's user name and password.
fn add_broker(issuer: &Issuer) -> String {
    let added = issuer.json(&["broker", "add", "site", "--audience", "mqtt", "--profile", "fleetbadge"]);
    format!("site:{}", added["client_secret"].as_str().expect("a secret"))
}

/// The revocations with which the feed begins.
fn snapshot(issuer: &Issuer, user: &str) -> Vec<Value> {
    // It does not end by itself.
    let script =
        r#"curl --silent --no-buffer --noproxy '*' --max-time 10 --user "$1" "$2" | sed '/"more":false/q'"#;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh", user, &(issuer.url() + "/oauth2/revocations")]);
    let said = fleetbadge_tests::process::run(command).stdout;
    let events = said.lines().filter_map(|line| line.strip_prefix("data: "));
    let data: Vec<Value> = events.map(|data| serde_json::from_str(data).expect("JSON")).collect();
    assert!(data.last().is_some_and(|last| last["more"] == false), "{said}");
    data.iter().flat_map(|data| data["revocations"].as_array().expect("a list").clone()).collect()
}

/// What a broker is told of a token.
fn is_active(issuer: &Issuer, user: &str, token: &str) -> bool {
    let token = format!("token={token}");
    let answer = curl(["--user", user, "--data", &token, &(issuer.url() + "/oauth2/introspect")]);
    answer.json()["active"].as_bool().unwrap_or_else(|| panic!("{answer:?}"))
}

/// Adds the device `signer`, which proves itself with this key.
fn add_signer(issuer: &Issuer) -> TestKey {
    let (key, jwks) = (TestKey::generate(), issuer.data_dir().join("jwks.json"));
    fs::write(&jwks, key.jwks()).expect("the directory is ours");
    let jwks = jwks.to_str().expect("a path");
    let added = issuer.command(&["device", "add", "signer", "--no-secret", "--jwks", jwks]);
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    key
}

/// An assertion of `signer` that is made at this time.
fn assertion(issuer: &Issuer, key: &TestKey, jti: &str, now: u64) -> String {
    let claims = json!({
        "iss": "signer", "sub": "signer", "aud": issuer.identifier(), "jti": jti, "iat": now, "exp": now + 60,
    });
    key.token_of(json!({"alg": "ES256", "kid": key.kid()}).to_string(), claims.to_string())
}

/// Asks for a token with an assertion.
fn present(issuer: &Issuer, assertion: &str) -> Response {
    let kind = "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let (grant, assertion) = ("grant_type=client_credentials", format!("client_assertion={assertion}"));
    let url = issuer.url() + "/oauth2/token";
    soon(|| curl(["--data", grant, "--data", kind, "--data", &assertion, &url]))
}
