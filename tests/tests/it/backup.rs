//! A backup of a running issuer, and what comes back of it: everything but
//! what could be used twice.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fleetbadge_tests::device::curl;
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::postgres::SHARED;
use fleetbadge_tests::process::{Finished, Running, run};
use fleetbadge_tests::programs::Program;
use fleetbadge_validator::test_support::TestKey;

use crate::assertion;

/// As short as it may be: so long nobody gets a token after a restore.
const BOUND: [&str; 2] = ["--propagation-bound-s", "2"];

fn with_database(url: &str) -> Vec<&str> {
    [&BOUND[..], &["--database", url]].concat()
}

fn backup(issuer: &Issuer, folder: &Path) -> PathBuf {
    let file = folder.join("backup");
    let done = issuer.command(&["backup", "create", file.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    file
}

fn restore(issuer: &str, file: &Path, data_dir: &Path, options: &[&str]) -> Finished {
    let mut command = Program::Issuer.command();
    command.args(["backup", "restore"]).arg(file).args(["--issuer", issuer, "--data-dir"]).arg(data_dir);
    command.args(options);
    run(command)
}

/// A token as soon as there is one: after a restore not at once.
pub(crate) fn token_soon(issuer: &Issuer, device: &Device) -> String {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let response = issuer.request_token(device, &[]);
        if response.status == 200 {
            return response.json()["access_token"].as_str().unwrap().to_owned();
        }
        assert_eq!(response.status, 503, "{response:?}");
        assert!(deadline.left().is_some(), "no token");
        thread::sleep(Duration::from_millis(100));
    }
}

/// What a broker's side says to a token of `pump-1`.
pub(crate) fn check(issuer: &Issuer, token: &str, credentials: &Path, jwks: &Path) -> Finished {
    let mut command = Program::Validator.command();
    command.args(["check", "--issuer", issuer.identifier(), "--audience", "mqtt", "--client-id", "pump-1"]);
    command.arg("--credentials-file").arg(credentials).arg("--jwks-file").arg(jwks);
    let mut running = Running::spawn(command);
    running.say(token);
    running.end_of_input();
    running.wait()
}

pub(crate) fn kids(issuer: &Issuer) -> Vec<String> {
    let keys = curl([issuer.jwks_url()]).json();
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Adds a broker; the file with its credentials.
pub(crate) fn broker(issuer: &Issuer, folder: &Path) -> PathBuf {
    let added = issuer.json(&["broker", "add", "site", "--audience", "mqtt", "--profile", "fleetbadge"]);
    let file = folder.join("broker.json");
    fs::write(&file, added.to_string()).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    file
}

fn comes_back(from: &[&str], to: &[&str]) {
    let mut issuer = Issuer::start_with(from);
    let (folder, key) = (tempfile::tempdir().unwrap(), TestKey::generate());
    let credentials = broker(&issuer, folder.path());
    let device = issuer.add_device("pump-1");
    let disabled = issuer.add_device("pump-2");
    assertion::add_device(&issuer, "pump-3", &key);
    assert_eq!(issuer.command(&["group", "set", "default", "--token-lifetime-s", "77"]).code, Some(0));
    assert_eq!(issuer.command(&["device", "disable", "pump-2"]).code, Some(0));
    let used = assertion::make(issuer.identifier(), "pump-3", &key, "once");
    assert_eq!(assertion::present(&issuer, &used), 200);
    let file = backup(&issuer, folder.path());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = issuer.command(&["backup", "create", file.to_str().unwrap()]);
    assert!(again.code == Some(2) && again.stderr.contains("exists; give another name"), "{}", again.stderr);
    let bytes = fs::read(&file).unwrap();
    for told in ["pump-1", "default", "devices", &device.client_secret] {
        assert!(!bytes.windows(told.len()).any(|part| part == told.as_bytes()), "{told} is readable");
    }
    // After the backup, so that it is not in it.
    let later = assertion::make(issuer.identifier(), "pump-3", &key, "later");
    assert_eq!(assertion::present(&issuer, &later), 200);
    let old = issuer.token(&device);
    let (old_kids, old_keys) = (kids(&issuer), folder.path().join("jwks.json"));
    fs::write(&old_keys, curl([issuer.jwks_url()]).body).unwrap();
    assert_eq!(check(&issuer, &old, &credentials, &old_keys).code, Some(0));
    issuer.stop();

    let place = issuer.another_data_dir();
    let restored = restore(issuer.identifier(), &file, place.path(), to);
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
    assert!(restored.stdout.contains(" is restored: "), "{}", restored.stdout);
    let twice = restore(issuer.identifier(), &file, place.path(), to);
    assert_eq!(twice.code, Some(2), "{}", twice.stderr);
    assert!(twice.stderr.contains("not empty") || twice.stderr.contains("is there already"), "{twice:?}");

    issuer.go_on_with(Some(place), to);
    let new = token_soon(&issuer, &device);
    let new_kids = kids(&issuer);
    assert!(!new_kids.is_empty() && new_kids.iter().all(|kid| !old_kids.contains(kid)), "{new_kids:?}");
    // Also for somebody who still holds the old keys: the feed says so.
    let refused = check(&issuer, &old, &credentials, &old_keys);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains("deny: revoked: "), "{}", refused.stdout);
    let new_keys = folder.path().join("new-jwks.json");
    fs::write(&new_keys, curl([issuer.jwks_url()]).body).unwrap();
    let good = check(&issuer, &new, &credentials, &new_keys);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert_eq!(issuer.json(&["group", "show", "default"])["token_lifetime_s"], 77);
    assert_eq!(issuer.request_token(&disabled, &[]).status, 401);
    for assertion in [used, later] {
        // Used before, or nobody knows.
        assert!(matches!(assertion::present(&issuer, &assertion), 401 | 503));
    }
}

#[test]
fn what_was_saved_comes_back_and_what_was_used_does_not() {
    comes_back(&BOUND, &BOUND);
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn sqlite_comes_back_in_postgresql() {
    comes_back(&BOUND, &with_database(&SHARED.database()));
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn postgresql_comes_back_in_sqlite() {
    comes_back(&with_database(&SHARED.database()), &BOUND);
}

/// Whoever has stolen a key signs after the restore too. A copy of everything
/// stands for that.
#[test]
fn a_key_that_was_revoked_after_the_backup_does_not_come_back() {
    let mut issuer = Issuer::start_with(&BOUND);
    let folder = tempfile::tempdir().unwrap();
    let (credentials, device) = (broker(&issuer, folder.path()), issuer.add_device("pump-1"));
    let (file, kid) = (backup(&issuer, folder.path()), kids(&issuer).remove(0));
    let old_keys = folder.path().join("jwks.json");
    fs::write(&old_keys, curl([issuer.jwks_url()]).body).unwrap();
    issuer.stop();
    let (place, stolen) = (issuer.another_data_dir(), issuer.another_data_dir());
    for name in files(issuer.data_dir()).iter().filter(|name| name.starts_with("issuer.sqlite3")) {
        fs::copy(issuer.data_dir().join(name), stolen.path().join(name)).unwrap();
    }
    issuer.restart();
    assert_eq!(issuer.command(&["key", "revoke", &kid, "--yes"]).code, Some(0));
    issuer.stop();

    let restored = restore(issuer.identifier(), &file, place.path(), &BOUND);
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
    issuer.go_on_with(Some(place), &BOUND);
    let new = token_soon(&issuer, &device);
    let thief = issuer.start_another_in(stolen, &BOUND.map(str::to_owned));
    let forged = thief.token(&device);
    assert_eq!(kids(&thief), [kid.as_str()]);
    // Nobody who has fetched keys since knows the old one; somebody has not.
    let refused = check(&issuer, &forged, &credentials, &old_keys);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stdout.contains("deny: revoked: ") && refused.stdout.contains(&kid),
        "{}",
        refused.stdout
    );
    let new_keys = folder.path().join("new-jwks.json");
    fs::write(&new_keys, curl([issuer.jwks_url()]).body).unwrap();
    assert_eq!(check(&issuer, &new, &credentials, &new_keys).code, Some(0));
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn what_is_not_whole_or_not_meant_leaves_nothing_behind() {
    let (issuer, other) = (Issuer::start(), Issuer::start());
    let folder = tempfile::tempdir().unwrap();
    let _ = issuer.add_device("pump-1");
    let (file, place, database) =
        (backup(&issuer, folder.path()), issuer.another_data_dir(), SHARED.database());
    let bytes = fs::read(&file).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let truncated = write("truncated", &bytes[..bytes.len() - 20]);
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let changed = write("changed", &changed);
    let refused = |identifier: &str, file: &Path, place: &Path, said: &str| {
        for options in [&[][..], &["--database", &database]] {
            let finished = restore(identifier, file, place, options);
            assert_eq!(finished.code, Some(2), "{finished:?}");
            assert!(finished.stderr.contains(said) && finished.stdout.is_empty(), "{said}: {finished:?}");
        }
    };
    let identifier = issuer.identifier();
    refused(identifier, &truncated, place.path(), "is not whole");
    refused(identifier, &changed, place.path(), "was changed");
    refused("http://127.0.0.1:1", &file, place.path(), &format!("give --issuer {identifier}"));
    assert_eq!(files(place.path()), ["lock", "root.key"]);
    let other_key = other.another_data_dir();
    refused(identifier, &file, other_key.path(), "which is not among those that are here");
    assert_eq!(files(other_key.path()), ["lock", "root.key"]);
    let no_key = tempfile::tempdir().unwrap();
    refused(identifier, &file, no_key.path(), "root.key: is missing");
    assert_eq!(files(no_key.path()), ["lock"]);
    let nowhere = no_key.path().join("nowhere");
    refused(identifier, &file, &nowhere, "there is no such folder");
    assert!(!nowhere.exists());
    let in_use = restore(identifier, &file, issuer.data_dir(), &[]);
    assert!(in_use.code == Some(4) && in_use.stderr.contains("another fleetbadge-issuer"), "{in_use:?}");

    // As a restore leaves it that is killed.
    File::create(place.path().join("issuer.sqlite3.unfinished")).unwrap();
    let mut serve = Program::Issuer.command();
    serve.args(["serve", "--data-dir"]).arg(place.path());
    let finished = run(serve);
    assert!(finished.code == Some(2) && finished.stderr.contains("was interrupted"), "{finished:?}");
    // After all of that, both places are as new.
    for options in [&[][..], &["--database", &database]] {
        let finished = restore(identifier, &file, place.path(), options);
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
    // What was restored has a root key already, though it has no other yet.
    let mut serve = Program::Issuer.command();
    serve.args(["serve", "--database", &database, "--data-dir"]).arg(no_key.path());
    let finished = run(serve);
    assert!(finished.code == Some(2) && finished.stderr.contains("root.key: is missing"), "{finished:?}");
}
