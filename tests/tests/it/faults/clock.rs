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

use crate::backup::kids;

use super::{
    BOUND_S, add_broker, add_signer, assertion, eventually, is_active, is_refused_for_now, present, snapshot,
    soon,
};

/// In seconds.
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

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
        let clocked = Self::start_at(0, options);
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
        assert_eq!(self.ready().status, 200);
        // All is taken back that was issued in this very second.
        eventually("tokens again", || self.ask().status == 200);
    }

    /// A broker's user name, and a token of `pump-1` that is taken back.
    fn taken_back(&self) -> (String, String) {
        let (user, token) = (add_broker(&self.issuer), self.issuer.token(&self.pump));
        assert!(is_active(&self.issuer, &user, &token));
        let revoked = self.issuer.command(&["revocation", "add", "--device", "pump-1"]);
        assert_eq!(revoked.code, Some(0), "{}", revoked.stderr);
        eventually("tokens again", || self.ask().status == 200);
        (user, token)
    }

    /// What is taken back, by the feed.
    fn revoked(&self, user: &str) -> Vec<String> {
        snapshot(&self.issuer, user).iter().map(ToString::to_string).collect()
    }
}

#[test]
#[cfg_attr(no_faketime, ignore = "no libfaketime")]
fn a_clock_that_is_set_back_stops_tokens_until_an_operator_says_that_it_is_right() {
    let server = Clocked::start(&[]);
    let user = add_broker(&server.issuer);
    let used = server.assertion("1", 0);
    assert_eq!(server.present(&used), 200);
    assert_eq!((server.ask().status, server.ready().status), (200, 200));
    let (token, kid) = (server.issuer.token(&server.pump), kids(&server.issuer).remove(0));

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
    assert_ne!(server.present(&used), 200);
    let revoked = server.revoked(&user);
    for target in ["\"all\":true", &format!("\"kid\":\"{kid}\"")] {
        assert!(revoked.iter().any(|one| one.contains(target)), "{target}: {revoked:?}");
    }
    // May have been used at this time before; nobody remembers.
    assert_ne!(server.present(&server.assertion("2", -HOUR)), 200);

    server.set(0);
    assert_eq!(server.ask().status, 200);
    assert!(!is_active(&server.issuer, &user, &token), "of a time that has come again");
    assert_eq!(server.present(&used), 401);
    assert_eq!(server.present(&server.assertion("3", 0)), 200);
}

#[test]
#[cfg_attr(no_faketime, ignore = "no libfaketime")]
fn a_clock_that_was_wrong_for_a_while_brings_nothing_back() {
    let server = Clocked::start(&[]);
    let (user, token) = server.taken_back();
    let kid = kids(&server.issuer).remove(0);
    assert_eq!(server.issuer.command(&["key", "rotate", "--now"]).code, Some(0));
    let used = server.assertion("1", 0);
    assert_eq!(server.present(&used), 200);
    server.set(HOUR);
    eventually("the jump is noticed", || server.issuer.log().contains("the clock has jumped ahead"));
    assert_eq!((server.ask().status, server.ready().status), (200, 200));
    let later = server.assertion("1", HOUR);
    assert_eq!((server.present(&later), server.present(&later)), (401, 401), "the jti was used");
    // Longer than a key that signs no more is kept.
    server.set(2 * DAY);
    // Long enough for whatever forgets to have done so.
    thread::sleep(Duration::from_secs(3));

    server.set(0);
    assert_eq!(server.present(&used), 401);
    assert!(!is_active(&server.issuer, &user, &token));
    assert!(server.revoked(&user).iter().any(|one| one.contains("pump-1")));
    eventually("the retired key is still published", || kids(&server.issuer).contains(&kid));
    assert_eq!((server.ask().status, server.ready().status), (200, 200));
    assert_eq!(server.present(&server.assertion("2", 0)), 200);

    // For good, with another hour that nobody has worked in.
    server.set(2 * HOUR);
    assert_eq!((server.ask().status, server.ready().status), (200, 200));
    assert_eq!(server.present(&server.assertion("3", 2 * HOUR)), 200);
}

#[test]
#[cfg_attr(no_faketime, ignore = "no libfaketime")]
fn a_restart_with_a_wrong_clock_brings_nothing_back() {
    let mut server = Clocked::start(&[]);
    let (user, token) = server.taken_back();
    let used = server.assertion("1", 0);
    assert_eq!(server.present(&used), 200);
    for wrong in [2 * HOUR, 2 * DAY] {
        server.set(wrong);
        server.issuer.restart();
        assert_eq!(server.ask().status, 200);
        thread::sleep(Duration::from_secs(3));
        server.set(0);
        assert_eq!((server.ask().status, server.ready().status), (200, 200), "nobody believed it");
        assert_eq!(server.present(&used), 401);
        assert!(!is_active(&server.issuer, &user, &token));
        server.issuer.restart();
        assert!(!is_active(&server.issuer, &user, &token));
        assert!(server.revoked(&user).iter().any(|one| one.contains("pump-1")));
    }
}

/// It has worked at a later time for long, and forgotten what has ended by it.
#[test]
#[cfg_attr(no_faketime, ignore = "no libfaketime")]
fn a_clock_that_was_believed_and_is_put_right_brings_nothing_back() {
    let mut server = Clocked::start_at(HOUR, &[]);
    server.has_written(HOUR);
    let (user, token) = (add_broker(&server.issuer), server.issuer.token(&server.pump));
    let used = server.assertion("1", HOUR);
    assert_eq!(server.present(&used), 200);
    // Of a time that is to come.
    assert_eq!(server.issuer.command(&["revocation", "add", "--all", "--yes"]).code, Some(0));

    server.set(0);
    eventually("the clock is behind", || is_refused_for_now(&server.ask()));
    server.issuer.restart();
    assert!(is_refused_for_now(&server.ask()), "also after a restart");
    assert_ne!(server.present(&used), 200);
    let shown = server.issuer.command(&["clock", "show"]).stdout;
    assert!(shown.contains("none for everything until "), "{shown}");
    // Nobody is kept out for the rest of that hour.
    server.accept();
    assert_ne!(server.present(&used), 200);
    server.set(HOUR);
    assert_eq!(server.ask().status, 200);
    assert!(!is_active(&server.issuer, &user, &token));
    assert_eq!(server.present(&used), 401);
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
    let key = &server.issuer.json_lines(&["key", "list"])[0];
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
        // To be put right, not to be accepted.
        eventually("it is said", || {
            let ready = server.ready();
            ready.status == 503
                && ready.body.contains("clocks of this node")
                && !ready.body.contains("accept")
        });
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
