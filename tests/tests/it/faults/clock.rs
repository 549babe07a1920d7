//! The clock of a server is set back and forward while it runs.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use fleetbadge_tests::device::{Response, curl};
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::ports;
use fleetbadge_tests::postgres::SHARED;
use fleetbadge_validator::test_support::TestKey;
use fleetbadge_validator::time::{Clock as _, SystemClock};
use tempfile::TempDir;

use super::{
    BOUND_S, add_broker, add_signer, assertion, eventually, is_active, is_refused_for_now, present, soon,
};

/// In seconds.
const HOUR: i64 = 3_600;

/// An issuer with a clock of its own.
struct Clocked {
    issuer: Issuer,
    folder: TempDir,
    ops: String,
    key: TestKey,
    /// With a secret; `signer` has a key.
    pump: Device,
}

impl Clocked {
    fn start(options: &[&str]) -> Self {
        // The first key signs from when it is made.
        let mut clocked = Self::start_at(-3 * HOUR, options);
        clocked.set(0);
        clocked.issuer.restart();
        clocked.has_written(0);
        clocked
    }

    /// Starts for the first time so many seconds ahead of the true time.
    fn start_at(ahead_s: i64, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        fs::write(&file, format!("{ahead_s:+}")).unwrap();
        let under = [
            "env",
            concat!("LD_PRELOAD=", env!("FAKETIME_LIBRARY")),
            &format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ];
        let ops = format!("127.0.0.1:{}", ports::free());
        let options = [options, &["--ops-listen", &ops]].concat();
        let issuer = Issuer::start_under(under.map(str::to_owned).into(), &options);
        let key = add_signer(&issuer);
        let pump = issuer.add_device("pump-1");
        Self { issuer, folder, ops, key, pump }
    }

    fn clock(&self) -> serde_json::Value {
        self.issuer.json(&["clock", "show"])
    }

    /// Waits until the latest time is one so many seconds ahead of the true one.
    fn has_written(&self, ahead_s: i64) {
        let least = SystemClock.now().0.saturating_add_signed(ahead_s - 60);
        eventually("the time was written", || self.clock()["latest"].as_u64().unwrap() > least);
    }

    /// Sets the clock so many seconds ahead of the true time.
    fn set(&self, ahead_s: i64) {
        let new: PathBuf = self.folder.path().join("new");
        fs::write(&new, format!("{ahead_s:+}")).unwrap();
        fs::rename(&new, self.folder.path().join("clock")).unwrap();
    }

    fn ask(&self) -> Response {
        soon(|| self.issuer.request_token(&self.pump, &[]))
    }

    fn ready(&self) -> Response {
        curl([format!("http://{}/readyz", self.ops)])
    }

    /// An assertion that is made so many seconds ahead of the true time.
    fn assertion(&self, jti: &str, ahead_s: i64) -> String {
        assertion(&self.issuer, &self.key, jti, SystemClock.now().0.saturating_add_signed(ahead_s))
    }

    fn present(&self, assertion: &str) -> u16 {
        present(&self.issuer, assertion).status
    }

    fn accept(&self) {
        let accepted = self.issuer.command(&["clock", "accept", "--yes"]);
        assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);
    }
}

#[test]
#[cfg_attr(no_faketime, ignore = "no libfaketime")]
fn a_clock_that_is_set_back_stops_tokens_until_an_operator_says_that_it_is_right() {
    let server = Clocked::start(&[]);
    let used = server.assertion("1", 0);
    assert_eq!(server.present(&used), 200);
    assert_eq!((server.ask().status, server.ready().status), (200, 200));

    server.set(-HOUR);
    assert!(is_refused_for_now(&server.ask()));
    let ready = server.ready();
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("it was") && ready.body.contains("clock accept --yes"), "{}", ready.body);
    eventually("told in the log", || {
        server.issuer.log().contains("no token is issued reason=the clock shows")
    });
    assert!(server.clock()["refused"].as_str().unwrap().contains("clock accept --yes"));
    assert_eq!(server.issuer.command(&["clock", "accept"]).code, Some(2), "not by accident");
    assert!(is_refused_for_now(&server.ask()));

    server.accept();
    assert_eq!((server.ask().status, server.ready().status), (200, 200));
    assert_ne!(server.present(&used), 200);
    // May have been used at this time before; nobody remembers.
    assert_ne!(server.present(&server.assertion("2", -HOUR)), 200);

    server.set(0);
    assert_eq!(server.ask().status, 200);
    assert_eq!(server.present(&used), 401);
    assert_eq!(server.present(&server.assertion("3", 0)), 200);
}

#[test]
#[cfg_attr(no_faketime, ignore = "no libfaketime")]
fn a_clock_that_was_wrong_for_a_while_brings_no_used_assertion_back() {
    let server = Clocked::start(&[]);
    let used = server.assertion("1", 0);
    assert_eq!(server.present(&used), 200);
    server.set(HOUR);
    eventually("the jump is noticed", || server.issuer.log().contains("the clock has jumped ahead"));
    assert_eq!((server.ask().status, server.ready().status), (200, 200));
    let later = server.assertion("1", HOUR);
    assert_eq!((server.present(&later), server.present(&later)), (401, 401), "the jti was used");
    // Long enough for whatever forgets to have done so.
    thread::sleep(Duration::from_secs(3));

    server.set(0);
    assert_eq!(server.present(&used), 401);
    assert_eq!((server.ask().status, server.ready().status), (200, 200));
    assert_eq!(server.present(&server.assertion("2", 0)), 200);

    // For good, with another hour that nobody has worked in.
    server.set(2 * HOUR);
    assert_eq!((server.ask().status, server.ready().status), (200, 200));
    assert_eq!(server.present(&server.assertion("3", 2 * HOUR)), 200);
}

/// One that starts with a wrong clock believes it, and forgets what has ended
/// by it.
#[test]
#[cfg_attr(no_faketime, ignore = "no libfaketime")]
fn a_restart_with_a_wrong_clock_brings_no_used_assertion_back() {
    let mut server = Clocked::start(&[]);
    let used = server.assertion("1", 0);
    assert_eq!(server.present(&used), 200);
    server.set(HOUR);
    server.issuer.restart();
    server.has_written(HOUR);
    assert_eq!(server.ask().status, 200);

    server.set(0);
    eventually("the clock is behind", || is_refused_for_now(&server.ask()));
    server.issuer.restart();
    assert!(is_refused_for_now(&server.ask()), "also after a restart");
    assert_ne!(server.present(&used), 200);
    server.accept();
    assert_eq!(server.ask().status, 200);
    assert_ne!(server.present(&used), 200);
}

/// As devices without a battery do: nothing was ever right. The only key signs
/// years from now.
#[test]
#[cfg_attr(no_faketime, ignore = "no libfaketime")]
fn an_issuer_that_was_set_up_in_another_year_works_once_the_clock_is_accepted() {
    const YEARS: i64 = 4 * 365 * 24 * HOUR;
    let server = Clocked::start_at(YEARS, &[]);
    assert_eq!(server.ask().status, 200);
    server.has_written(YEARS);
    server.set(0);
    eventually("the clock is behind", || is_refused_for_now(&server.ask()));
    server.accept();
    assert_eq!((server.ask().status, server.ready().status), (200, 200));
    let keys = server.issuer.json(&["key", "list"]);
    let key = &keys.as_array().unwrap()[0];
    assert_eq!(key["state"], "active");
    assert!(key["active_at"].as_u64().unwrap() <= SystemClock.now().0, "{key}");
}

/// Whose clock is not the database's cannot be told from one that is wrong.
#[test]
#[cfg_attr(any(no_faketime, no_postgresql), ignore = "no libfaketime or PostgreSQL")]
fn a_node_whose_clock_is_not_the_databases_issues_nothing() {
    let database = SHARED.database();
    let options = ["--database", &database, "--propagation-bound-s", &BOUND_S.to_string()];
    let server = Clocked::start(&options);
    let other = server.issuer.start_another_with(&options.map(str::to_owned));
    for wrong in [-HOUR, HOUR, 10] {
        server.set(wrong);
        eventually("it is noticed", || is_refused_for_now(&server.ask()));
        let ready = server.ready();
        assert_eq!(ready.status, 503);
        assert!(ready.body.contains("clock"), "{}", ready.body);
        assert_eq!(other.request_token(&server.pump, &[]).status, 200, "the other one goes on");
        server.set(0);
        eventually("all is well", || server.ask().status == 200 && server.ready().status == 200);
    }
    let log = server.issuer.log();
    assert!(log.contains("the clocks of this node and of the database differ"), "{log}");
}

/// One that starts with a wrong clock has nothing to compare it with but the
/// database's: what it believes must not become what all believe.
#[test]
#[cfg_attr(any(no_faketime, no_postgresql), ignore = "no libfaketime or PostgreSQL")]
fn a_node_that_starts_with_a_wrong_clock_makes_no_other_forget_or_stop() {
    let database = SHARED.database();
    let options = ["--database", &database, "--propagation-bound-s", &BOUND_S.to_string()];
    let mut server = Clocked::start(&options);
    let mut other = server.issuer.start_another_with(&options.map(str::to_owned));
    let user = add_broker(&other);
    let token = other.token(&server.pump);
    assert_eq!(other.command(&["revocation", "add", "--device", "pump-1"]).code, Some(0));
    let used = server.assertion("1", 0);
    assert_eq!(server.present(&used), 200);
    server.set(2 * HOUR);
    server.issuer.restart();
    assert!(is_refused_for_now(&server.ask()));
    // Longer than it takes until the time is written, and what has ended forgotten.
    thread::sleep(Duration::from_secs(7));
    assert!(is_refused_for_now(&server.ask()));
    // Nothing of it is in memory.
    other.restart();
    assert_eq!(soon(|| other.request_token(&server.pump, &[])).status, 200);
    assert_eq!(present(&other, &used).status, 401);
    assert!(!is_active(&other, &user, &token));
}
