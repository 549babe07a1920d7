//! An issuer moves from SQLite to PostgreSQL, and nobody notices but the
//! operator.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::postgres::SHARED;
use fleetbadge_tests::process::{Finished, Running, Signal, run};
use fleetbadge_tests::programs::Program;
use fleetbadge_validator::test_support::TestKey;
use serde_json::Value;

use crate::assertion;
use crate::revocations::{Feed, broker, revoke};

const DEVICES: u64 = 2_000;

fn command(data_dir: &Path, database: &str) -> Command {
    let mut command = Program::Issuer.command();
    command.args(["migrate-store", "--json", "--to", database, "--data-dir"]).arg(data_dir);
    command
}

fn migrate(data_dir: &Path, database: &str) -> Finished {
    run(command(data_dir, database))
}

fn add_devices(issuer: &Issuer, count: u64) {
    for n in 0..count {
        let body = format!("{{\"name\":\"many-{n}\"}}");
        let mut socket = UnixStream::connect(issuer.data_dir().join("admin.sock")).unwrap();
        write!(
            socket,
            "POST /admin/v1/devices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

fn serve(data_dir: &Path) -> Finished {
    let mut command = Program::Issuer.command();
    command.args(["serve", "--data-dir"]).arg(data_dir);
    run(command)
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn an_issuer_moves_with_all_that_it_has_however_often_it_is_interrupted() {
    let (mut issuer, database, key) = (Issuer::start(), SHARED.database(), TestKey::generate());
    let user = broker(&issuer);
    let device = issuer.add_device("pump-1");
    let disabled = issuer.add_device("pump-2");
    assertion::add_device(&issuer, "pump-3", &key);
    add_devices(&issuer, DEVICES);
    let used = assertion::make(issuer.identifier(), "pump-3", &key, "once");
    assert_eq!(assertion::present(&issuer, &used), 200);
    let token = issuer.token(&device);
    let keys = crate::backup::kids(&issuer);
    let mut feed = Feed::open(&issuer, &user, None);
    feed.next("snapshot");
    revoke(&issuer, &["--device", "pump-1"]);
    feed.next("revocation");
    let id = feed.id();
    assert_eq!(issuer.command(&["device", "disable", "pump-2"]).code, Some(0));
    drop(feed);

    let running = migrate(issuer.data_dir(), &database);
    assert_eq!(running.code, Some(4), "{running:?}");
    assert!(running.stderr.contains("another fleetbadge-issuer uses this data directory"), "{running:?}");
    issuer.stop();

    let mut was_killed = 0;
    for n in 0..12 {
        let mut migrating = Running::spawn(command(issuer.data_dir(), &database));
        thread::sleep(Duration::from_millis(60 * n));
        if !migrating.is_running() {
            break;
        }
        migrating.signal(Signal::KILL);
        migrating.wait();
        was_killed += 1;
    }
    assert!(was_killed > 1, "it was too fast to be killed");
    let done = migrate(issuer.data_dir(), &database);
    assert_eq!(done.code, Some(0), "{done:?}");
    let said: Value = serde_json::from_str(&done.stdout).unwrap();
    if said["migrated"] == true {
        let tables = said["tables"].as_array().unwrap();
        let devices = tables.iter().find(|count| count["table"] == "devices").unwrap();
        assert_eq!(devices["rows"], DEVICES + 3);
    }
    let again = migrate(issuer.data_dir(), &database);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.contains("\"migrated\":false"), "{again:?}");
    let old = serve(issuer.data_dir());
    assert!(old.code == Some(2) && old.stderr.contains("with --database"), "{old:?}");
    assert!(!issuer.data_dir().join("issuer.sqlite3").exists());
    assert!(!issuer.data_dir().join("issuer.sqlite3-wal").exists());
    // Whatever somebody calls it: what is taken back from now on is not in it.
    let [left, database_file] =
        ["issuer.sqlite3.migrated", "issuer.sqlite3"].map(|name| issuer.data_dir().join(name));
    fs::rename(&left, &database_file).unwrap();
    let old = serve(issuer.data_dir());
    assert!(old.code == Some(2) && old.stderr.contains("was moved to PostgreSQL"), "{old:?}");
    fs::rename(&database_file, &left).unwrap();

    issuer.go_on_with(None, &["--database", &database]);
    assert_eq!(crate::backup::kids(&issuer), keys);
    let introspect = |token: &str| {
        let url = issuer.url() + "/oauth2/introspect";
        let data = format!("token={token}");
        fleetbadge_tests::device::curl(["--user", &user, "--data", &data, &url]).json()["active"].clone()
    };
    // That one was taken back, and stays so.
    assert_eq!(introspect(&token), false);
    let mut feed = Feed::open(&issuer, &user, Some(&id));
    assert_eq!(feed.next("revocation")["device"], "pump-2", "only what it has missed");
    assert_eq!(assertion::present(&issuer, &used), 401, "it was used before");
    let fresh = assertion::make(issuer.identifier(), "pump-3", &key, "again");
    assert_eq!(assertion::present(&issuer, &fresh), 200);
    assert_eq!(issuer.request_token(&disabled, &[]).status, 401);
    assert_eq!(introspect(&crate::backup::token_soon(&issuer, &device)), true);
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn tokens_from_before_stay_good_and_what_is_in_a_database_stays_there() {
    let (mut issuer, mut other) = (Issuer::start(), Issuer::start());
    let user = broker(&issuer);
    let device = issuer.add_device("pump-1");
    let token = issuer.token(&device);
    let database = SHARED.database();
    other.stop();
    assert_eq!(migrate(other.data_dir(), &database).code, Some(0));
    issuer.stop();
    let refused = migrate(issuer.data_dir(), &database);
    assert!(refused.code == Some(2) && refused.stderr.contains("is not empty"), "{refused:?}");
    issuer.restart();
    assert_eq!(issuer.token(&device).split('.').count(), 3);
    issuer.stop();
    let database = SHARED.database();
    let done = migrate(issuer.data_dir(), &database);
    assert_eq!(done.code, Some(0), "{done:?}");
    issuer.go_on_with(None, &["--database", &database]);
    let url = issuer.url() + "/oauth2/introspect";
    let data = format!("token={token}");
    let answer = fleetbadge_tests::device::curl(["--user", &user, "--data", &data, &url]);
    assert_eq!(answer.json()["active"], true);
    // Nowhere to move from.
    let folder = tempfile::tempdir().unwrap();
    let refused = migrate(folder.path(), &database);
    assert!(refused.code == Some(2) && refused.stderr.contains("no SQLite database"), "{refused:?}");
    let wrong = migrate(folder.path(), "mysql://u:secret@h/n");
    assert!(wrong.code == Some(2) && !wrong.stderr.contains("secret"), "{wrong:?}");
    issuer.stop();
    fs::write(issuer.data_dir().join("issuer.sqlite3"), "").unwrap();
    let twice = migrate(issuer.data_dir(), &database);
    assert!(twice.stderr.contains("issuer.sqlite3.migrated: is there already"), "{twice:?}");
}
