use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use url::Url;

use super::*;
use crate::denied::StaleState;
use crate::remote::http::HttpSetupError;
use crate::revocations::remote::{RemoteRevocations, RemoteRevocationsConfig};
use crate::revocations::{Revocation, RevocationState};
use crate::test_support::feed_server::FeedServer;
use crate::test_support::{TestKey, jwks};
use crate::time::{ManualClock, SystemClock};

const ISSUER: &str = "https://id.example";

/// An HTTP server that answers every request with what it is told to.
struct Server {
    url: Url,
    answer: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap()).parse().unwrap();
        let server = Self { url, answer: Arc::new(Mutex::new(answer)), requests: Arc::default() };
        let (answer, requests) = (Arc::clone(&server.answer), Arc::clone(&server.requests));
        // Ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                requests.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.lock().unwrap().as_bytes());
            }
        });
        server
    }

    fn answer(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn config(url: &Url, state_dir: &Path) -> RemoteKeysConfig {
    RemoteKeysConfig {
        issuer: ISSUER.into(),
        endpoint: Endpoint { url: url.clone(), ca_file: None, allow_insecure_http: false },
        state_dir: state_dir.into(),
        max_staleness_s: Freshness::DEFAULT_MAX_STALENESS_S,
        cool_down: Duration::from_millis(200),
    }
}

fn start(config: RemoteKeysConfig) -> Result<RemoteKeys, RemoteError> {
    RemoteKeys::start(config, Arc::new(SystemClock))
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 5 s: {what}");
}

fn has(keys: &RemoteKeys, key: &TestKey) -> bool {
    keys.current().get(&key.kid()).is_some()
}

#[test]
fn keys_are_fetched_and_kept_on_disk_for_a_restart_without_the_issuer() {
    let (key, state) = (TestKey::generate(), tempfile::tempdir().unwrap());
    let server = Server::start(ok(&key.jwks()));
    let keys = start(config(&server.url, state.path())).unwrap();
    eventually("the key is there", || has(&keys, &key));
    eventually("the file is there", || std::fs::read_dir(state.path()).unwrap().count() == 1);
    drop(keys);

    server.answer("HTTP/1.1 503 Gone fishing\r\ncontent-length: 0\r\n\r\n".into());
    let keys = start(config(&server.url, state.path())).unwrap();
    assert!(has(&keys, &key), "at once, before any fetch");
    eventually("the outage is told", || {
        keys.take_notices().iter().any(
            |n| matches!(n, Notice::Warning(text) if text.contains("503") && text.contains("stay in force")),
        )
    });
    assert!(has(&keys, &key));

    let file = std::fs::read_dir(state.path()).unwrap().next().unwrap().unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn keys_on_disk_that_others_may_write_are_not_used() {
    let (key, state) = (TestKey::generate(), tempfile::tempdir().unwrap());
    let server = Server::start(ok(&key.jwks()));
    let keys = start(config(&server.url, state.path())).unwrap();
    eventually("the file is there", || std::fs::read_dir(state.path()).unwrap().count() == 1);
    drop(keys);
    server.answer("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".into());

    let file = std::fs::read_dir(state.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o620)).unwrap();
    let keys = start(config(&server.url, state.path())).unwrap();
    assert!(!has(&keys, &key));
    assert!(keys.take_notices().iter().any(|n| matches!(n, Notice::Warning(text) if text.contains("0620"))));

    std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = start(config(&server.url, state.path())).unwrap_err();
    assert!(matches!(error, RemoteError::StateDir { .. }), "{error}");
}

#[test]
fn another_issuer_does_not_take_up_the_keys_on_disk() {
    let (key, state) = (TestKey::generate(), tempfile::tempdir().unwrap());
    let server = Server::start(ok(&key.jwks()));
    let keys = start(config(&server.url, state.path())).unwrap();
    eventually("the file is there", || std::fs::read_dir(state.path()).unwrap().count() == 1);
    drop(keys);
    server.answer("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".into());
    let other =
        RemoteKeysConfig { issuer: "https://other.example".into(), ..config(&server.url, state.path()) };
    assert!(!has(&start(other).unwrap(), &key));
}

#[test]
fn a_flood_of_unknown_kids_costs_one_fetch_per_cool_down() {
    let (old, new, state) = (TestKey::generate(), TestKey::generate(), tempfile::tempdir().unwrap());
    let server = Server::start(ok(&old.jwks()));
    let slow = RemoteKeysConfig { cool_down: Duration::from_secs(1), ..config(&server.url, state.path()) };
    let keys = start(slow).unwrap();
    eventually("the first key is there", || has(&keys, &old));
    server.answer(ok(&jwks(&[&old, &new])));
    for _ in 0..10_000 {
        keys.key_missing();
    }
    eventually("the new key is there", || has(&keys, &new));
    assert_eq!(server.requests(), 2, "at start, and once for ten thousand");
}

/// A revoked key signs nothing any more: the fleet must not wait for the
/// cool-down to be let in with the next.
#[test]
fn keys_are_fetched_at_once_and_once_when_the_feed_says_that_one_is_revoked() {
    let (old, new, state) = (TestKey::generate(), TestKey::generate(), tempfile::tempdir().unwrap());
    let server = Server::start(ok(&old.jwks()));
    let hour = Duration::from_secs(3_600);
    let slow = RemoteKeysConfig { cool_down: hour, ..config(&server.url, state.path()) };
    let keys = start(slow).unwrap();
    eventually("the first key is there", || has(&keys, &old));

    let issuer = FeedServer::start(Duration::from_secs(1));
    let credentials_file = state.path().join("broker.json");
    std::fs::write(&credentials_file, FeedServer::credentials()).unwrap();
    std::fs::set_permissions(&credentials_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let endpoint =
        Endpoint { url: issuer.feed_url().parse().unwrap(), ca_file: None, allow_insecure_http: false };
    let followed = RemoteRevocationsConfig {
        issuer: ISSUER.into(),
        endpoint,
        credentials_file,
        state_dir: state.path().into(),
        max_staleness_s: 60,
        first_retry: RemoteRevocationsConfig::DEFAULT_FIRST_RETRY,
        silence: RemoteRevocationsConfig::DEFAULT_SILENCE,
    };
    let feed = RemoteRevocations::start(followed, Some(keys.refresh()), Arc::new(SystemClock)).unwrap();
    let count = || match feed.state() {
        RevocationState::Known { revocations, .. } => Some(revocations.len()),
        RevocationState::Missing | RevocationState::NotFollowed => None,
    };
    eventually("the feed is followed", || count() == Some(0));
    let end = UnixSeconds(u64::MAX);
    issuer.revoke(Revocation::of_device("pump-1", end, end));
    eventually("it is in force", || count() == Some(1));
    assert_eq!(server.requests(), 1, "a device is no reason");

    server.answer(ok(&new.jwks()));
    issuer.revoke(Revocation::of_key(&old.kid(), end));
    eventually("the new key is there", || has(&keys, &new) && !has(&keys, &old));
    issuer.revoke(Revocation::of_key(&old.kid(), end));
    issuer.revoke(Revocation::of_device("pump-2", end, end));
    eventually("they are in force", || count() == Some(3));
    thread::sleep(Duration::from_millis(200));
    assert_eq!(server.requests(), 2, "once for a key");
}

#[test]
fn a_bad_answer_leaves_the_last_good_set() {
    let (key, state) = (TestKey::generate(), tempfile::tempdir().unwrap());
    let server = Server::start(ok(&key.jwks()));
    let keys = start(config(&server.url, state.path())).unwrap();
    eventually("the key is there", || has(&keys, &key));
    let bad = [
        ok("{}"),
        ok(r#"{"keys":[]}"#),
        ok("not json"),
        ok(&"x".repeat(MAX_JWKS_LENGTH + 1)),
        "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into(),
        "garbage\r\n\r\n".into(),
    ];
    for answer in bad {
        server.answer(answer.clone());
        eventually("the failure is told", || {
            keys.key_missing();
            keys.take_notices()
                .iter()
                .any(|n| matches!(n, Notice::Warning(text) if text.contains("stay in force")))
        });
        assert!(has(&keys, &key), "{answer:.60}");
        server.answer(ok(&key.jwks()));
        eventually("the end of it too", || {
            keys.take_notices().iter().any(|n| matches!(n, Notice::Info(text) if text.contains("again")))
        });
    }
}

#[test]
fn plain_http_to_another_machine_is_refused() {
    let state = tempfile::tempdir().unwrap();
    for url in
        ["http://192.0.2.1/jwks", "http://id.example/jwks", "http://localhost.example/", "ftp://127.0.0.1/"]
    {
        let error = start(config(&url.parse().unwrap(), state.path())).unwrap_err();
        assert!(matches!(error, RemoteError::Http(HttpSetupError::InsecureUrl { .. })), "{url}: {error}");
    }
    for url in ["http://127.0.0.2/", "http://[::1]/", "http://localhost:8080/", "https://id.example/"] {
        assert!(http::check_url(&url.parse().unwrap(), false).is_ok(), "{url}");
    }
}

#[test]
fn a_ca_file_without_a_certificate_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("ca.pem");
    let url = "https://id.example/jwks".parse().unwrap();
    let mut with_ca = config(&url, state.path());
    with_ca.endpoint.ca_file = Some(file.clone());
    assert!(
        matches!(start(with_ca.clone()), Err(RemoteError::Http(HttpSetupError::CaFile { .. }))),
        "not there"
    );
    std::fs::write(&file, "").unwrap();
    assert!(matches!(start(with_ca), Err(RemoteError::Http(HttpSetupError::CaFile { .. }))), "empty");
}

#[test]
fn keys_on_disk_age_also_over_a_restart() {
    let (key, state) = (TestKey::generate(), tempfile::tempdir().unwrap());
    let (server, clock) = (Server::start(ok(&key.jwks())), ManualClock::at(UnixSeconds(5_000)));
    let start = || RemoteKeys::start(config(&server.url, state.path()), Arc::new(clock.clone())).unwrap();
    let confirmed_at = |keys: &RemoteKeys| keys.current().freshness().map(|fresh| fresh.confirmed_at.0);
    let keys = start();
    eventually("the key is there", || has(&keys, &key));
    eventually("it is kept", || std::fs::read_dir(state.path()).unwrap().count() == 1);
    clock.set(UnixSeconds(5_100));
    eventually("the same answer confirms", || {
        keys.key_missing();
        confirmed_at(&keys) == Some(5_100)
    });
    drop(keys);

    server.answer("HTTP/1.1 503 Gone fishing\r\ncontent-length: 0\r\n\r\n".into());
    clock.set(UnixSeconds(9_000));
    let keys = start();
    assert_eq!(confirmed_at(&keys), Some(5_100));
}

/// As left behind by a clock that was ahead: they would never be too old.
#[test]
fn keys_of_the_future_let_nobody_in_until_they_are_fetched() {
    let (key, state) = (TestKey::generate(), tempfile::tempdir().unwrap());
    let (server, clock) = (Server::start(ok(&key.jwks())), ManualClock::at(UnixSeconds(500_000)));
    let start = || RemoteKeys::start(config(&server.url, state.path()), Arc::new(clock.clone())).unwrap();
    let is_fresh = |keys: &RemoteKeys| {
        let freshness = keys.current().freshness().unwrap();
        freshness.check(StaleState::Keys, clock.now()).is_ok()
    };
    let keys = start();
    eventually("the key is there", || has(&keys, &key));
    eventually("it is kept", || std::fs::read_dir(state.path()).unwrap().count() == 1);
    assert!(is_fresh(&keys));
    clock.set(UnixSeconds(100_000));
    assert!(!is_fresh(&keys), "set back while it runs");
    drop(keys);
    server.answer("HTTP/1.1 503 Gone fishing\r\ncontent-length: 0\r\n\r\n".into());
    let keys = start();
    assert!(has(&keys, &key) && !is_fresh(&keys), "and over a restart");
    server.answer(ok(&key.jwks()));
    eventually("they are fetched", || is_fresh(&keys));
}
