//! Signing keys in a PKCS #11 token: a real server, and SoftHSM as the token.
//! Each test has a token directory of its own.
//!
//! `cargo test -p fleetbadge-issuer --features pkcs11 --test pkcs11`

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use fleetbadge_tests::postgres::Postgres;
use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::revocations::RevocationState;
use fleetbadge_validator::time::{Clock as _, SystemClock};
use fleetbadge_validator::verify::Verifier;
use serde_json::Value;

#[expect(dead_code, reason = "the other tests of the program need the rest")]
#[path = "../cli/place.rs"]
mod place;

use place::{ISSUER, Place, Server};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A token, and a server that keeps its signing keys there.
struct Fleet {
    place: Place,
    pin_file: String,
}

impl Fleet {
    fn new() -> Self {
        let place = Place::new();
        let tokens = place.path("tokens");
        fs::create_dir(&tokens).unwrap();
        let text = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
        let configuration = place.file("softhsm2.conf", &text);
        let pin_file = place.file("pin", "4321\n");
        fs::set_permissions(&pin_file, fs::Permissions::from_mode(0o600)).unwrap();
        // Debian's softhsm2, see tests/install.
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "fleet", "--so-pin", "1234", "--pin", "4321"])
            .env("SOFTHSM2_CONF", configuration)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self { place, pin_file }
    }

    fn arguments(&self, signer: &'static str) -> [&str; 8] {
        let pin_file = self.pin_file.as_str();
        let [module, token] = [["--pkcs11-module", MODULE], ["--pkcs11-token", "fleet"]];
        [module[0], module[1], token[0], token[1], "--pkcs11-pin-file", pin_file, "--signer", signer]
    }

    fn serve(&self, signer: &'static str) -> Server {
        let configuration = self.place.path("softhsm2.conf");
        let environment = [("SOFTHSM2_CONF", configuration.to_str().unwrap())];
        self.place.serve_with_env(&self.arguments(signer), &environment)
    }

    /// How many objects are in the token: two for each key.
    fn objects(&self) -> usize {
        let token = entries(&self.place.path("tokens")).pop().unwrap();
        let is_object = |path: &&PathBuf| {
            path.extension().is_some_and(|end| end == "object") && !path.ends_with("token.object")
        };
        entries(&token).iter().filter(is_object).count()
    }

    fn active_kid(&self, algorithm: &str) -> String {
        let keys = self.place.json_lines(&["key", "list"]);
        let active = keys.iter().find(|key| key["state"] == "active" && key["alg"] == algorithm).unwrap();
        active["kid"].as_str().unwrap().to_owned()
    }
}

/// What several nodes have in common beside the token.
struct Shared {
    database: String,
    root_key_file: String,
}

impl Shared {
    fn new(fleet: &Fleet, postgres: &Postgres) -> Self {
        let root_key_file = fleet.place.path("shared.key").to_str().unwrap().to_owned();
        assert!(fleet.place.run(&["root-key", "new", &root_key_file]).status.success());
        Self { database: postgres.database(), root_key_file }
    }

    fn serve(&self, fleet: &Fleet, place: &Place) -> Server {
        let configuration = fleet.place.path("softhsm2.conf");
        let environment = [("SOFTHSM2_CONF", configuration.to_str().unwrap())];
        let shared = ["--database", self.database.as_str(), "--root-key-file", self.root_key_file.as_str()];
        place.serve_with_env(&[&fleet.arguments("pkcs11")[..], &shared[..]].concat(), &environment)
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

/// What a broker says of a token, and which key signed it.
fn verified(server: &Server, answer: &Value, audience: &str) -> String {
    let token = answer["access_token"].as_str().unwrap();
    let jwks = Server::get(&server.address, "/oauth2/jwks");
    let (keys, skipped) = KeySet::from_json(ISSUER, body(&jwks).as_bytes()).unwrap();
    assert!(skipped.is_empty());
    let now = SystemClock.now();
    let verified = Verifier::new(ISSUER, audience)
        .verify(token, "pump-1", &keys, &RevocationState::NotFollowed, now)
        .unwrap();
    verified.signed().key_id().to_owned()
}

fn until(is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(is_so(), "it did not come about");
}

fn is_ready(server: &Server) -> bool {
    Server::get(&server.ops, "/readyz").starts_with("HTTP/1.1 200")
}

#[test]
fn what_the_token_signs_is_good_for_the_validator() {
    let fleet = Fleet::new();
    let server = fleet.serve("pkcs11");
    let device = fleet.place.json(&["device", "add", "pump-1"]);
    assert_eq!(fleet.objects(), 2);
    let (status, answer) = server.token(&device);
    assert_eq!(status, 200);
    let first = verified(&server, &answer, "mqtt");
    assert_eq!(first, fleet.active_kid("ES256"));

    // RS256, for a broker that wants it.
    fleet.place.json(&[
        "broker",
        "add",
        "north",
        "--audience",
        "north",
        "--profile",
        "fleetbadge",
        "--algorithm",
        "RS256",
    ]);
    fleet.place.json(&["group", "set", "default", "--audience", "north"]);
    until(|| server.token(&device).0 == 200);
    assert_eq!(verified(&server, &server.token(&device).1, "north"), fleet.active_kid("RS256"));
    assert_eq!(fleet.objects(), 4);

    // Another server finds the same keys.
    assert!(server.stop("-TERM").success());
    let server = fleet.serve("pkcs11");
    assert_eq!(verified(&server, &server.token(&device).1, "north"), fleet.active_kid("RS256"));
    assert_eq!(fleet.objects(), 4);

    // Back to keys of one's own, and the token is needed no more once its keys
    // are dropped: but only then.
    assert!(server.stop("-TERM").success());
    let server = fleet.serve("local");
    fleet.place.json_lines(&["key", "rotate", "--now"]);
    assert_eq!(server.token(&device).0, 200);
    assert_ne!(fleet.active_kid("ES256"), first);
    assert_eq!(fleet.objects(), 4);
    assert!(server.stop("-TERM").success());
    let (code, said) = fleet.place.refused(&["serve", "--listen", "127.0.0.1:0", "--issuer", ISSUER]);
    assert_eq!((code, said.contains("pkcs11_module")), (4, true), "{said}");
}

#[test]
fn a_token_that_is_gone_stops_tokens_until_it_is_back() {
    let fleet = Fleet::new();
    let server = fleet.serve("pkcs11");
    let device = fleet.place.json(&["device", "add", "pump-1"]);
    assert_eq!(server.token(&device).0, 200);
    assert!(is_ready(&server));
    let [here, away] = ["tokens", "away"].map(|name| fleet.place.path(name));
    fs::rename(&here, &away).unwrap();
    fs::create_dir(&here).unwrap();
    until(|| !is_ready(&server));
    let (status, answer) = server.token(&device);
    assert_eq!((status, answer["error"].as_str()), (503, Some("temporarily_unavailable")), "{answer}");
    // What it has signed is still good, and operators are answered.
    assert!(Server::get(&server.address, "/oauth2/jwks").starts_with("HTTP/1.1 200"));
    assert_eq!(fleet.place.json_lines(&["key", "list"]).len(), 1);
    // Nor does a start need it.
    assert!(server.stop("-TERM").success());
    let server = fleet.serve("pkcs11");
    assert_eq!(server.token(&device).0, 503);
    fs::remove_dir(&here).unwrap();
    fs::rename(&away, &here).unwrap();
    until(|| is_ready(&server));
    let (status, answer) = server.token(&device);
    assert_eq!(status, 200);
    verified(&server, &answer, "mqtt");
}

#[test]
fn a_dropped_key_is_destroyed_in_the_token() {
    let fleet = Fleet::new();
    let server = fleet.serve("pkcs11");
    let device = fleet.place.json(&["device", "add", "pump-1"]);
    let first = fleet.active_kid("ES256");
    fleet.place.json_lines(&["key", "rotate", "--now"]);
    assert_eq!(fleet.objects(), 4);
    assert!(server.stop("-TERM").success());
    // A day later.
    let database = fleet.place.data_dir().join("issuer.sqlite3");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = sqlx::SqlitePool::connect(database.to_str().unwrap()).await.unwrap();
        let dropped = "UPDATE signing_keys SET dropped_at = retired_at WHERE retired_at IS NOT NULL";
        assert_eq!(sqlx::query(dropped).execute(&pool).await.unwrap().rows_affected(), 1);
        pool.close().await;
    });
    let server = fleet.serve("pkcs11");
    until(|| fleet.objects() == 2);
    let kids = || -> Vec<Value> {
        fleet.place.json_lines(&["key", "list"]).iter().map(|key| key["kid"].clone()).collect()
    };
    until(|| kids().len() == 1);
    assert!(!kids().contains(&first.into()));
    assert_eq!(server.token(&device).0, 200);
}

/// What one node makes and another one has made already is not left there.
#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn nodes_that_start_at_once_leave_one_key_in_the_token() {
    let (fleet, postgres) = (Fleet::new(), Postgres::start());
    let shared = Shared::new(&fleet, &postgres);
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    let servers: Vec<Server> = thread::scope(|scope| {
        let starting: Vec<_> =
            places.iter().map(|place| scope.spawn(|| shared.serve(&fleet, place))).collect();
        starting.into_iter().map(|one| one.join().unwrap()).collect()
    });
    until(|| fleet.objects() == 2);
    let device = places[0].json(&["device", "add", "pump-1"]);
    // A node that was not the first hears of the key from the database.
    for server in &servers {
        until(|| server.token(&device).0 == 200);
    }
    // Two operators at once.
    thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| place.run(&["key", "rotate", "--now"]));
        }
    });
    let keys = places[0].json_lines(&["key", "list"]).len();
    until(|| fleet.objects() == 2 * keys);
}

/// It was the last one that this node has signed with.
#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_key_that_another_node_has_destroyed_is_not_missed() {
    let (fleet, postgres) = (Fleet::new(), Postgres::start());
    let shared = Shared::new(&fleet, &postgres);
    let places = [Place::new(), Place::new()];
    let [one, two] = places.each_ref().map(|place| shared.serve(&fleet, place));
    let device = places[0].json(&["device", "add", "pump-1"]);
    assert_eq!(two.token(&device).0, 200);
    let kid = places[0].json(&["key", "list"])["kid"].as_str().unwrap().to_owned();
    places[0].json_lines(&["key", "revoke", &kid, "--yes"]);
    until(|| fleet.objects() == 2);
    // Longer than a token may be silent for.
    for _ in 0..80 {
        assert!(is_ready(&two), "{}", places[1].read_log());
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(two.token(&device).0, 200);
    assert_eq!(one.token(&device).0, 200);
    assert!(!places[1].read_log().contains("the PKCS #11 token is not there"));
}

#[test]
fn a_wrong_pin_or_token_is_said_and_the_pin_is_not() {
    let fleet = Fleet::new();
    let configuration = fleet.place.path("softhsm2.conf");
    let refused = |arguments: &[&str]| {
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--issuer", ISSUER];
        let output = fleet
            .place
            .command(&[&fixed, arguments].concat())
            .env("SOFTHSM2_CONF", &configuration)
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = refused(&["--signer", "pkcs11"]);
    assert_eq!((code, said.contains("pkcs11_module: is missing")), (2, true), "{said}");
    fs::set_permissions(&fleet.pin_file, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = refused(&fleet.arguments("pkcs11"));
    assert_eq!((code, said.contains("pkcs11_pin_file: ")), (2, true), "{said}");
    fs::set_permissions(&fleet.pin_file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&fleet.pin_file, "87654321").unwrap();
    // Without any key there is nothing to wait for.
    let (code, said) = refused(&fleet.arguments("pkcs11"));
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("see the log") && !said.contains("87654321"), "{said}");
}
