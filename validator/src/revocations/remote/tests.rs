use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use super::sse::Parser;
use super::*;
use crate::remote::http::HttpSetupError;
use crate::revocations::{Revocation, TokenFacts};
use crate::test_support::feed_server::{FeedServer, Mode, event, snapshot};
use crate::time::{ManualClock, SystemClock};
use serde_json::json;

const END: UnixSeconds = UnixSeconds(u64::MAX);
const HEARTBEAT: Duration = Duration::from_millis(50);

/// A validator's folder: its credentials and its state.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write_credentials(&FeedServer::credentials());
        std::fs::create_dir(place.state_dir()).unwrap();
        place
    }

    fn state_dir(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn credentials_file(&self) -> PathBuf {
        self.0.path().join("broker.json")
    }

    fn write_credentials(&self, json: &str) {
        std::fs::write(self.credentials_file(), json).unwrap();
        std::fs::set_permissions(self.credentials_file(), PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn config(&self, url: &str) -> RemoteRevocationsConfig {
        RemoteRevocationsConfig {
            issuer: "https://id.example".into(),
            endpoint: Endpoint { url: url.parse().unwrap(), ca_file: None, allow_insecure_http: false },
            credentials_file: self.credentials_file(),
            state_dir: self.state_dir(),
            max_staleness_s: 60,
            first_retry: Duration::from_millis(20),
            silence: Duration::from_millis(500),
        }
    }

    fn follow(&self, server: &FeedServer) -> RemoteRevocations {
        RemoteRevocations::start(self.config(&server.feed_url()), None, Arc::new(SystemClock)).unwrap()
    }

    fn file(&self) -> Option<PathBuf> {
        std::fs::read_dir(self.state_dir())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("revocations-"))
    }
}

fn server() -> FeedServer {
    FeedServer::start(HEARTBEAT)
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("not within 5 s: {what}");
}

fn of_device(n: usize) -> Revocation {
    Revocation::of_device(&format!("pump-{n}"), UnixSeconds(1_000), END)
}

fn count(feed: &RemoteRevocations) -> Option<usize> {
    match feed.state() {
        RevocationState::Known { revocations, .. } => Some(revocations.len()),
        RevocationState::Missing | RevocationState::NotFollowed => None,
    }
}

fn takes_back(feed: &RemoteRevocations, n: usize) -> bool {
    let RevocationState::Known { revocations, .. } = feed.state() else { return false };
    let device = format!("pump-{n}");
    let token = TokenFacts { jti: "j", device: &device, kid: "k", iat: UnixSeconds(1) };
    revocations.find(&token, []).is_some()
}

fn confirmed_at(feed: &RemoteRevocations) -> UnixSeconds {
    let RevocationState::Known { freshness, .. } = feed.state() else { panic!("nothing is known") };
    freshness.confirmed_at
}

/// The notices so far that contain `text`.
fn told(feed: &RemoteRevocations, text: &str) -> usize {
    let has = |notice: &Notice| match notice {
        Notice::Info(line) | Notice::Warning(line) => line.contains(text),
    };
    feed.take_notices().iter().filter(|notice| has(notice)).count()
}

#[test]
fn a_snapshot_in_parts_is_one_and_an_event_is_in_force_at_once() {
    let (server, place) = (server(), Place::new());
    server.set_part(7);
    (0..20).for_each(|n| server.revoke(of_device(n)));
    let feed = place.follow(&server);
    eventually("the snapshot is there", || count(&feed) == Some(20));
    let changes = feed.changes();
    server.revoke(of_device(20));
    eventually("the event is there", || takes_back(&feed, 20) && count(&feed) == Some(21));
    assert!(feed.changes() > changes);
    let followed = feed.followed();
    eventually("so is its id", || followed.at(END).unwrap().event_id == server.event_id());
    assert_eq!(server.last_event_ids(), [None]);
}

#[test]
fn it_resumes_after_a_break_and_after_a_restart_without_the_feed() {
    let (server, place) = (server(), Place::new());
    (0..3).for_each(|n| server.revoke(of_device(n)));
    let feed = place.follow(&server);
    eventually("the snapshot is there", || count(&feed) == Some(3));
    let before = server.event_id();
    server.set_mode(Mode::Down);
    eventually("the outage is told", || told(&feed, "stay in force") == 1);
    server.revoke(of_device(3));
    server.set_mode(Mode::Serving);
    eventually("what was missed is there", || count(&feed) == Some(4));
    assert_eq!(server.last_event_ids().last().unwrap().as_ref(), Some(&before), "it resumed");
    eventually("the end of the outage is told", || told(&feed, "followed again") == 1);
    drop(feed);

    server.set_mode(Mode::Down);
    let feed = place.follow(&server);
    assert!(takes_back(&feed, 3), "at once, before any connection");
    server.set_mode(Mode::Serving);
    eventually("it has resumed", || server.last_event_ids().last() == Some(&Some(server.event_id())));
    assert_eq!(count(&feed), Some(4));
    let mode = std::fs::metadata(place.file().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_cannot_be_understood_changes_nothing_and_everything_is_asked_for_anew() {
    let known = [of_device(0)];
    let snapshot = |part| snapshot(&known, part);
    let unusable = [
        event("revocation", Some("x-2"), &json!({"fleet": "all", "expires_at": 5})),
        event("revocation", Some("x-2"), &json!({"device": "pump-1", "expires_at": 5})),
        event("revocation", None, &json!({"jti": "j", "expires_at": 5})),
        event("revocation", Some("\u{1}"), &json!({"jti": "j", "expires_at": 5})),
        event("revocation", Some("x-\u{e9}"), &json!({"jti": "j", "expires_at": 5})),
        "event: revocation\nid: x-2\ndata: {\n\n".into(),
        event("snapshot", None, &json!({"revocations": [], "more": false})),
        event("snapshot", Some("x-1"), &json!({"revocations": [{"kid": 1}], "more": false})),
        event("snapshot", Some("x-1"), &json!({"more": false})),
        event("snapshot", None, &json!({"revocations": [], "more": true}))
            + &event("revocation", Some("x-2"), &json!({"jti": "j", "expires_at": 5})),
        event("snapshot", Some("x-1"), &json!({"revocations": vec![of_device(1); 1_001], "more": false})),
        format!("data: {}\n\n", "x".repeat(Parser::MAX_EVENT_LENGTH + 1)),
        "x".repeat(Parser::MAX_EVENT_LENGTH + 1),
    ];
    for text in unusable {
        let (server, place) = (server(), Place::new());
        server.revoke(of_device(0));
        let feed = place.follow(&server);
        eventually("it is followed", || count(&feed) == Some(1));
        server.set_mode(Mode::Events(text.clone()));
        eventually("it is told", || told(&feed, "cannot be understood") == 1);
        let asked = server.last_event_ids().len();
        eventually("it goes on asking", || server.last_event_ids().len() > asked);
        assert_eq!(server.last_event_ids().last(), Some(&None), "for everything: {text:.80}");
        assert!(takes_back(&feed, 0) && count(&feed) == Some(1), "{text:.80}");
        server.set_mode(Mode::Serving);
        server.revoke(of_device(1));
        eventually("it is followed again", || count(&feed) == Some(2));
    }
    // What it does not know, it passes over.
    let (server, place) = (server(), Place::new());
    server.set_mode(Mode::Events(snapshot(1) + &event("policy", None, &json!(1)) + ": comment\n\n"));
    let feed = place.follow(&server);
    eventually("it is followed", || count(&feed) == Some(1));
}

#[test]
fn half_a_snapshot_is_not_in_force() {
    let (server, place) = (server(), Place::new());
    let part = event("snapshot", None, &json!({"revocations": [of_device(1)], "more": true}));
    let beat = event("heartbeat", None, &json!({"now": 1}));
    server.set_mode(Mode::Events(part + &beat));
    let feed = place.follow(&server);
    eventually("it has ended", || server.last_event_ids().len() > 2);
    assert!(matches!(feed.state(), RevocationState::Missing));
    assert_eq!(place.file(), None);
}

#[test]
fn wrong_credentials_are_told_plainly_and_tried_slowly_until_they_are_replaced() {
    let (server, place) = (server(), Place::new());
    place.write_credentials(r#"{"client_id":"hall-1","client_secret":"old"}"#);
    let feed = place.follow(&server);
    eventually("it is told", || told(&feed, "(401)") == 1);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(server.last_event_ids().len(), 1);
    place.write_credentials(&FeedServer::credentials());
    feed.retry();
    eventually("it is followed", || count(&feed) == Some(0));
}

#[test]
fn other_answers_are_no_feed() {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
    let answers = [
        (format!("{head}content-type: application/json\r\n\r\n{{}}"), "no stream of events"),
        (format!("{head}\r\n{}", snapshot(&[], 1)), "no stream of events"),
        ("HTTP/1.1 503 Gone fishing\r\ncontent-length: 0\r\n\r\n".into(), "503"),
        ("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n".into(), "302"),
        ("garbage\r\n\r\n".into(), "everything is denied"),
    ];
    for (answer, text) in answers {
        let (server, place) = (server(), Place::new());
        server.set_mode(Mode::Raw(answer));
        let feed = place.follow(&server);
        eventually(text, || told(&feed, text) == 1);
        assert!(matches!(feed.state(), RevocationState::Missing));
    }
}

#[test]
fn without_heartbeats_it_connects_anew_and_what_it_holds_ages() {
    let (server, place, clock) = (server(), Place::new(), ManualClock::at(UnixSeconds(5_000)));
    server.revoke(of_device(0));
    let feed =
        RemoteRevocations::start(place.config(&server.feed_url()), None, Arc::new(clock.clone())).unwrap();
    eventually("it is followed", || count(&feed) == Some(1));
    clock.set(UnixSeconds(5_010));
    eventually("a heartbeat confirms", || confirmed_at(&feed).0 == 5_010);

    for mode in [Mode::Silent, Mode::Heartless] {
        server.set_mode(mode);
        clock.advance(100);
        let asked = server.last_event_ids().len();
        // Not even revocations are a proof.
        server.revoke(of_device(1));
        eventually("it connects anew", || server.last_event_ids().len() > asked + 1);
        assert_eq!(confirmed_at(&feed).0, 5_010);
    }
    assert!(told(&feed, "nothing was heard for") > 0);
    drop(feed);

    // After a restart it is as old as it was.
    let feed =
        RemoteRevocations::start(place.config(&server.feed_url()), None, Arc::new(clock.clone())).unwrap();
    assert!((4_980..=5_010).contains(&confirmed_at(&feed).0), "{:?}", confirmed_at(&feed));
    server.set_mode(Mode::Serving);
    eventually("it is current again", || confirmed_at(&feed) == clock.now());
}

/// Each is a chunk of its own, and after each change the thread rests: taken in
/// one by one they would take a hundred seconds.
#[test]
fn a_flood_is_taken_in_as_it_comes() {
    let (server, place) = (server(), Place::new());
    let feed = place.follow(&server);
    eventually("it is followed", || count(&feed) == Some(0));
    (0..1_000).for_each(|n| server.revoke(of_device(n)));
    eventually("all are in force", || count(&feed) == Some(1_000));
    assert!(takes_back(&feed, 999));
    assert!(feed.changes() < 100, "{}", feed.changes());
    drop(feed);
    server.set_mode(Mode::Down);
    assert_eq!(count(&place.follow(&server)), Some(1_000), "and on disk");
}

/// The last that a connection tells counts, though it ends right after it.
#[test]
fn what_was_told_before_the_end_of_a_connection_is_in_force() {
    let (server, place) = (server(), Place::new());
    let one = |n: u32| {
        event("revocation", Some(&format!("x-{n}")), &json!({"jti": n.to_string(), "expires_at": END}))
    };
    server.set_mode(Mode::Events(snapshot(&[], 1) + &one(2)));
    let feed = place.follow(&server);
    eventually("it is in force", || count(&feed) == Some(1));
    server.set_mode(Mode::Events(one(3) + &one(4)));
    eventually("so are these", || count(&feed) == Some(3));
}

/// A node that knows less, or one of another database, revives nothing.
#[test]
fn a_snapshot_only_adds() {
    let (server, place) = (server(), Place::new());
    (0..3).for_each(|n| server.revoke(of_device(n)));
    let feed = place.follow(&server);
    eventually("it is followed", || count(&feed) == Some(3));
    let narrower = Revocation::of_device("pump-0", UnixSeconds(1), UnixSeconds(2));
    let other = event(
        "snapshot",
        Some("another-1"),
        &json!({"revocations": [narrower, of_device(3)], "more": false}),
    );
    server.set_mode(Mode::Events(other));
    eventually("it is added", || takes_back(&feed, 3));
    assert_eq!(count(&feed), Some(4));
    assert!((0..4).all(|n| takes_back(&feed, n)));
    drop(feed);
    server.set_mode(Mode::Down);
    assert!((0..4).all(|n| takes_back(&place.follow(&server), n)), "also on disk");
}

/// What is acted upon is on disk by then: whenever the broker dies, it does not
/// let in what it refused.
#[test]
fn what_is_in_force_is_on_disk() {
    let (server, place) = (server(), Place::new());
    let feed = place.follow(&server);
    eventually("it is followed", || count(&feed) == Some(0));
    for n in 0..50 {
        server.revoke(of_device(n));
        while !takes_back(&feed, n) {
            thread::yield_now();
        }
        let kept = std::fs::read_to_string(place.file().unwrap()).unwrap();
        assert!(kept.contains(&format!("\"pump-{n}\"")), "{kept}");
    }
}

#[test]
fn a_state_of_the_future_lets_nobody_in_until_it_is_confirmed() {
    let (server, place) = (server(), Place::new());
    server.revoke(of_device(0));
    let feed = place.follow(&server);
    eventually("it is kept", || place.file().is_some());
    drop(feed);
    server.set_mode(Mode::Down);
    let future = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(SystemClock.now().0 + 3 * 86_400);
    std::fs::File::options().write(true).open(place.file().unwrap()).unwrap().set_modified(future).unwrap();
    let feed = place.follow(&server);
    let is_fresh = || {
        let RevocationState::Known { freshness, .. } = feed.state() else { panic!("it is known") };
        freshness.check(crate::denied::StaleState::Revocations, SystemClock.now()).is_ok()
    };
    assert!(!is_fresh());
    assert!(feed.followed().at(SystemClock.now()).unwrap().age_s > 86_400);
    server.set_mode(Mode::Serving);
    eventually("a heartbeat confirms it", is_fresh);
}

#[test]
fn what_has_died_by_both_clocks_is_forgotten() {
    let (server, place, clock) = (server(), Place::new(), ManualClock::at(UnixSeconds(5_000)));
    server.revoke(Revocation::of_token("j", UnixSeconds(5_100)));
    // The issuer's clock is right.
    let alive = SystemClock.now().plus(1_000);
    server.revoke(Revocation::of_device("pump-0", UnixSeconds(1_000), alive));
    let feed =
        RemoteRevocations::start(place.config(&server.feed_url()), None, Arc::new(clock.clone())).unwrap();
    eventually("it is followed", || count(&feed) == Some(2));
    clock.set(UnixSeconds(5_100));
    eventually("it is forgotten", || count(&feed) == Some(1));
    // A clock set forward and back revives no token.
    clock.set(alive.plus(100_000));
    eventually("a heartbeat has come", || confirmed_at(&feed) == clock.now());
    clock.set(UnixSeconds(5_200));
    eventually("and another", || confirmed_at(&feed) == clock.now());
    assert!(takes_back(&feed, 0) && count(&feed) == Some(1));
}

#[test]
fn a_state_that_others_may_write_or_of_another_feed_is_not_used() {
    let (server, place) = (server(), Place::new());
    server.revoke(of_device(0));
    let feed = place.follow(&server);
    eventually("it is kept", || place.file().is_some());
    drop(feed);
    server.set_mode(Mode::Down);
    let other = format!("{}?x", server.feed_url());
    let feed = RemoteRevocations::start(place.config(&other), None, Arc::new(SystemClock)).unwrap();
    assert_eq!(count(&feed), None);
    drop(feed);

    let file = place.file().unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o620)).unwrap();
    let feed = place.follow(&server);
    assert_eq!((count(&feed), told(&feed, "0620")), (None, 1));
    drop(feed);

    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&file, "{").unwrap();
    let feed = place.follow(&server);
    assert_eq!((count(&feed), told(&feed, "not usable")), (None, 1));
}

#[test]
fn a_disk_that_cannot_be_written_is_told_once_and_stops_nothing() {
    let (server, place) = (server(), Place::new());
    let feed = place.follow(&server);
    eventually("it is kept", || place.file().is_some());
    std::fs::remove_dir_all(place.state_dir()).unwrap();
    drop(feed.take_notices());
    for n in 0..3 {
        server.revoke(of_device(n));
        eventually("it is in force", || count(&feed) == Some(n + 1));
    }
    eventually("it is told", || told(&feed, "cannot be kept on disk") == 1);
    server.revoke(of_device(3));
    eventually("it is in force", || count(&feed) == Some(4));
    assert_eq!(told(&feed, "cannot be kept on disk"), 0);
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let place = Place::new();
    let start = |config| RemoteRevocations::start(config, None, Arc::new(SystemClock)).unwrap_err();
    let error = start(place.config("http://192.0.2.1/oauth2/revocations"));
    assert!(matches!(error, RemoteError::Http(HttpSetupError::InsecureUrl { .. })), "{error}");
    let url = "https://id.example/oauth2/revocations";
    let nowhere = Path::new("/nowhere").to_owned();
    let error = start(RemoteRevocationsConfig { state_dir: nowhere.clone(), ..place.config(url) });
    assert!(matches!(error, RemoteError::StateDir { .. }), "{error}");
    let error = start(RemoteRevocationsConfig { credentials_file: nowhere, ..place.config(url) });
    assert!(matches!(error, RemoteError::Credentials(_)), "{error}");
}
