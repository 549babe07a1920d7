//! A change of root keys from end to end, and what must not come of it.

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::rand::SystemRandom;
use fleetbadge_validator::jwk::Algorithm;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::*;
use crate::app::App;
use crate::config::Options;
use crate::profile::Profile;
use crate::secret::ClientSecret;
use crate::store::sqlite::SqliteStore;
use crate::test_support::{NOW, TestIssuer, basic, token_request};
use crate::{Issuer, OpenError};

const CHOSEN: &str = "a secret that people chose";

fn key(byte: u8) -> RootKey {
    RootKey::from_bytes([byte; 32])
}

#[expect(clippy::disallowed_methods, reason = "a test needs no repeatable root key")]
fn random() -> Random {
    Arc::new(SystemRandom::new())
}

async fn list(issuer: &TestIssuer) -> Vec<Value> {
    let answer = issuer.admin(Method::GET, "/admin/v1/root-keys", None).await;
    answer.json().as_array().unwrap().clone()
}

/// What is under each: signing keys, secrets, passwords.
async fn counts(issuer: &TestIssuer) -> Vec<(String, [u64; 3])> {
    let count = |key: &Value| {
        let counts = ["signing_keys", "secrets", "passwords"].map(|name| key[name].as_u64().unwrap());
        (key["state"].as_str().unwrap().to_owned(), counts)
    };
    list(issuer).await.iter().map(count).collect()
}

async fn add(issuer: &TestIssuer) -> String {
    let answer = issuer.admin(Method::POST, "/admin/v1/root-keys", None).await;
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn make_current(issuer: &TestIssuer, id: &str) -> StatusCode {
    issuer.admin(Method::POST, &format!("/admin/v1/root-keys/{id}/use"), None).await.status
}

async fn remove(issuer: &TestIssuer, id: &str) -> (StatusCode, String) {
    let answer = issuer.admin(Method::DELETE, &format!("/admin/v1/root-keys/{id}"), None).await;
    let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    (answer.status, said["detail"].as_str().unwrap_or_default().to_owned())
}

fn root_key_file(issuer: &TestIssuer) -> PathBuf {
    issuer.issuer.config().data_dir.join("root.key")
}

/// Ticks until every hash that was noted is written: on a busy machine a tick
/// writes few.
async fn write_all(app: &App) {
    while app.rehashes.waiting() > 0 {
        app.tick().await;
    }
}

struct Fleet {
    issuer: TestIssuer,
    made: String,
    password: String,
    broker: String,
}

impl Fleet {
    /// One credential of each kind that is hashed.
    async fn new() -> Self {
        let issuer = TestIssuer::new().await;
        let app = issuer.app();
        let made = issuer.add("made", &[]).await;
        issuer.add("chosen", &[]).await;
        app.devices
            .import_secret("chosen", ClientSecret::presented(CHOSEN.into()), &app.imported_secrets, None, NOW)
            .await
            .unwrap();
        let change = serde_json::from_value(json!({"static_passwords": true})).unwrap();
        issuer.set_group(change).await;
        let broker = issuer.add_broker("north", "mqtt", Profile::Fleetbadge).await;
        issuer.add("old", &[]).await;
        let password = issuer.admin(Method::PUT, "/admin/v1/devices/old/password", Some(json!({}))).await;
        let password = password.json()["password"].as_str().unwrap().to_owned();
        Self { issuer, made, password, broker }
    }

    async fn exchange(&self) -> StatusCode {
        let body = format!("grant_type=password&username=old&password={}", self.password);
        let request = token_request(body).header(header::AUTHORIZATION, basic("north", &self.broker));
        self.issuer.public(request.into()).await.status
    }

    async fn all_are_good(&self) -> bool {
        let made = self.issuer.token("made", &self.made, "").await.status;
        let chosen = self.issuer.token("chosen", CHOSEN, "").await.status;
        [made, chosen, self.exchange().await].iter().all(|status| *status == StatusCode::OK)
    }
}

#[tokio::test]
async fn a_root_key_follows_another_and_nobody_notices() {
    let fleet = Fleet::new().await;
    let (issuer, app) = (&fleet.issuer, fleet.issuer.app());
    let kid = app.keys.current().ring.active(Algorithm::ES256, NOW).unwrap().kid().to_owned();
    // Devices made, chosen (with two) and old have a secret each, and north.
    assert_eq!(counts(issuer).await, [("current".into(), [1, 5, 1])]);
    let first = list(issuer).await[0]["id"].as_str().unwrap().to_owned();
    let second = add(issuer).await;
    assert_eq!(counts(issuer).await, [("current".into(), [1, 5, 1]), ("known".into(), [0, 0, 0])]);
    assert_eq!(remove(issuer, &first).await.0, StatusCode::CONFLICT);

    assert_eq!(make_current(issuer, &second).await, StatusCode::OK);
    // The signing key at once, hashes when they are presented.
    assert_eq!(counts(issuer).await, [("current".into(), [1, 0, 0]), ("known".into(), [0, 5, 1])]);
    assert_eq!(app.keys.current().ring.active(Algorithm::ES256, NOW).unwrap().kid(), kid);
    // The node hears of its own changes, too, and forgets the devices once more.
    app.node.catch_up(&app).await.unwrap();
    assert!(fleet.all_are_good().await);
    let misses = app.devices.lookups();
    // Noted, not written: nobody has waited for it.
    assert_eq!(app.rehashes.waiting(), 4);
    assert!(fleet.all_are_good().await);
    assert_eq!((app.rehashes.waiting(), app.devices.lookups()), (4, misses));
    let (status, said) = remove(issuer, &first).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(said.contains("5 secrets and 1 static passwords") && said.contains("one of north"), "{said}");

    write_all(&app).await;
    assert_eq!(counts(issuer).await, [("current".into(), [1, 3, 1]), ("known".into(), [0, 2, 0])]);
    assert!(fleet.all_are_good().await);
    // One write for each: nothing is left to note.
    assert_eq!(app.rehashes.waiting(), 0);
    // The chosen one costs no slow hash anew.
    let turns = app.imported_secrets.turns_taken();
    assert!(fleet.all_are_good().await);
    assert_eq!(app.imported_secrets.turns_taken(), turns);

    // Those that nobody presents are in the way until they are gone.
    for device in ["chosen", "old"] {
        let (status, said) = remove(issuer, &first).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(said.contains(&format!("one of {device};")), "{said}");
        let record = app.devices.get(device).await.unwrap();
        let old = record.credentials.secrets.iter().find(|it| it.verifier.root_key().to_string() == first);
        app.devices.remove_secret(device, old.unwrap().id.as_str()).await.unwrap();
    }
    assert_eq!(remove(issuer, &second).await.0, StatusCode::CONFLICT);
    assert_eq!(remove(issuer, &first).await, (StatusCode::NO_CONTENT, String::new()));
    assert_eq!(remove(issuer, &first).await.0, StatusCode::NOT_FOUND);
    assert!(fleet.all_are_good().await);
    assert!(issuer.verify(&issuer.token("made", &fleet.made, "").await, "made").is_ok());

    let text = fs::read_to_string(root_key_file(issuer)).unwrap();
    assert_eq!(text.lines().count(), 1);
    drop(app);
    let Fleet { issuer, made, password, broker } = fleet;
    let fleet = Fleet { issuer: issuer.restart().await, made, password, broker };
    assert!(fleet.all_are_good().await);
    let app = fleet.issuer.app();
    assert_eq!(app.keys.current().ring.active(Algorithm::ES256, NOW).unwrap().kid(), kid);
}

/// Whoever got hold of a former root key, and can write rows, is somebody only
/// as long as its line stands in the file. Those whose hashes are under it are
/// told that their secrets are wrong once an operator says so, and not because
/// this node has lost a line.
#[tokio::test]
async fn a_hash_under_a_root_key_that_was_taken_away_is_refused() {
    let fleet = Fleet::new().await;
    let (issuer, app) = (&fleet.issuer, fleet.issuer.app());
    let second = add(issuer).await;
    assert_eq!(make_current(issuer, &second).await, StatusCode::OK);
    app.node.catch_up(&app).await.unwrap();
    // An operator takes the line away at once, and not with `remove`.
    let text = fs::read_to_string(root_key_file(issuer)).unwrap();
    fs::write(root_key_file(issuer), text.lines().last().unwrap()).unwrap();
    assert!(fleet.all_are_good().await);
    app.refresh_root_keys().await;
    let first = list(issuer).await[1]["id"].as_str().unwrap().to_owned();
    for (client, secret) in [("made", &*fleet.made), ("chosen", CHOSEN), ("nobody", "fbs_x")] {
        assert_eq!(
            issuer.token(client, secret, "").await.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{client}"
        );
    }
    assert_eq!(fleet.exchange().await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(issuer.ops("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let states = async || counts(issuer).await.into_iter().map(|(state, _)| state).collect::<Vec<_>>();
    assert_eq!(states().await, ["current", "missing"]);
    let (status, said) = remove(issuer, &first).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(said.ends_with(&format!("root-key remove {first} --yes")), "{said}");
    assert_eq!(remove(issuer, &format!("{first}?although_needed=true")).await.0, StatusCode::NO_CONTENT);

    assert_eq!(issuer.ops("/readyz").await.status, StatusCode::OK);
    assert_eq!(issuer.token("made", &fleet.made, "").await.error(), "invalid_client");
    assert_eq!(issuer.token("chosen", CHOSEN, "").await.error(), "invalid_client");
    assert_eq!(fleet.exchange().await, StatusCode::UNAUTHORIZED);
    assert_eq!(states().await, ["current", "missing"]);
    // It still signs, also after a restart.
    assert!(app.keys.current().ring.active(Algorithm::ES256, NOW).is_some());
    drop(app);
    let Fleet { issuer, .. } = fleet;
    let issuer = issuer.restart().await;
    assert!(issuer.app().keys.current().ring.active(Algorithm::ES256, NOW).is_some());
}

#[tokio::test]
async fn a_spoilt_file_changes_nothing_and_a_repaired_one_is_taken_up() {
    let fleet = Fleet::new().await;
    let (issuer, app) = (&fleet.issuer, fleet.issuer.app());
    let good = fs::read_to_string(root_key_file(issuer)).unwrap();
    let other = key(9).to_text();
    let ((cut, _), (half, _)) = (good.split_at(good.len() - 5), other.split_at(50));
    for spoilt in [cut, "", &good.repeat(2), &format!("{good}{half}")] {
        fs::write(root_key_file(issuer), spoilt).unwrap();
        app.refresh_root_keys().await;
        assert!(fleet.all_are_good().await, "{spoilt:?}");
        assert_eq!(issuer.admin(Method::POST, "/admin/v1/root-keys", None).await.status, 500);
        assert_eq!(fs::read_to_string(root_key_file(issuer)).unwrap(), spoilt);
    }
    fs::write(root_key_file(issuer), format!("{}{good}", *other)).unwrap();
    app.refresh_root_keys().await;
    // The order of the lines is nothing: the database says which is current.
    assert_eq!(counts(issuer).await, [("current".into(), [1, 5, 1]), ("known".into(), [0, 0, 0])]);
    assert!(fleet.all_are_good().await);
}

/// Two nodes over one database; the second one gets the file too late.
#[tokio::test]
async fn a_node_without_the_current_root_key_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.path().join("db")).await.unwrap());
    let node = async |name: &str| {
        let file = RootKeyFile::Given(folder.path().join(name));
        let keys = file.read().unwrap();
        RootKeys::open(file, &keys, Arc::clone(&store), random()).await
    };
    let paths = ["one", "other"].map(|name| folder.path().join(name));
    RootKeyFile::make_new(&paths[0], &*random()).unwrap();
    fs::copy(&paths[0], &paths[1]).unwrap();
    let (one, other) = (node("one").await.unwrap(), node("other").await.unwrap());
    let second = one.add().await.unwrap();
    assert_eq!(one.make_current(&second.to_string()).await.unwrap(), second);
    other.refresh().await.unwrap();
    assert_eq!(other.check(), Err(RootKeyMissing(second)));
    let states: Vec<_> = other.list(NOW).await.unwrap().into_iter().map(|(_, state, _)| state).collect();
    assert_eq!(states, [RootKeyState::CurrentMissing, RootKeyState::Known]);
    assert_eq!(other.list(NOW).await.unwrap()[0].0, second);
    // Nor can it be started like that.
    let refused = node("other").await.err().unwrap();
    assert!(matches!(refused, RootKeyError::OtherDatabase { found, .. } if found == second), "{refused}");
    fs::copy(&paths[0], &paths[1]).unwrap();
    other.refresh().await.unwrap();
    assert_eq!((other.check(), other.in_use().now().current()), (Ok(()), second));
    // And both follow where either leads.
    let third = other.add().await.unwrap();
    fs::copy(&paths[1], &paths[0]).unwrap();
    other.make_current(&third.to_string()).await.unwrap();
    one.refresh().await.unwrap();
    assert_eq!((one.check(), one.in_use().now().current()), (Ok(()), third));
    assert!(matches!(one.remove(&third.to_string(), true, NOW).await, Err(RootKeyError::Current(_))));
}

/// Each node has a file of its own, and what one has added the other does not
/// have yet: it must not make its own key the current one of all.
#[tokio::test]
async fn a_root_key_is_not_used_by_a_node_that_lacks_another() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let first = app.root_keys.in_use().now().current();
    let before = fs::read_to_string(root_key_file(&issuer)).unwrap();
    let second = add(&issuer).await;
    assert_eq!(make_current(&issuer, &second).await, StatusCode::OK);
    // The file of the other node, which has a key that the first one lacks.
    let third = key(9);
    fs::write(root_key_file(&issuer), format!("{before}{}", *third.to_text())).unwrap();
    let answer = issuer.admin(Method::POST, &format!("/admin/v1/root-keys/{}/use", third.id()), None).await;
    let said = answer.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(answer.status, StatusCode::CONFLICT, "{said}");
    assert!(said.contains(&second) && said.contains("copy the file from another node"), "{said}");
    let needed = app.store.root_keys().await.unwrap().unwrap();
    assert_eq!((needed.current.to_string(), needed.others), (second.clone(), vec![first]));
    // Nor if the database says nothing of the key that a signing key is under.
    let made = fs::read_to_string(root_key_file(&issuer)).unwrap();
    app.store.set_root_key(first, Some(needed.current)).await.unwrap();
    app.store.forget_root_key(needed.current).await.unwrap();
    fs::write(root_key_file(&issuer), made).unwrap();
    let answer = issuer.admin(Method::POST, &format!("/admin/v1/root-keys/{}/use", third.id()), None).await;
    let said = answer.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(answer.status, StatusCode::CONFLICT, "{said}");
    assert!(said.starts_with("signing key ") && said.contains(&second), "{said}");
    assert_eq!(app.store.root_keys().await.unwrap().unwrap().current, first);
}

#[tokio::test]
async fn without_the_current_root_key_nobody_is_told_that_a_secret_is_wrong() {
    let fleet = Fleet::new().await;
    let (issuer, app) = (&fleet.issuer, fleet.issuer.app());
    let first = app.root_keys.in_use().now().current();
    assert!(app.store.set_root_key(key(9).id(), Some(first)).await.unwrap());
    app.refresh_root_keys().await;
    let answer = issuer.token("made", &fleet.made, "").await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("5")));
    assert_eq!(fleet.exchange().await, StatusCode::SERVICE_UNAVAILABLE);
    let ready = issuer.ops("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8(ready.body).unwrap().contains(&key(9).id().to_string()));
    assert!(app.store.set_root_key(first, Some(key(9).id())).await.unwrap());
    app.store.forget_root_key(key(9).id()).await.unwrap();
    app.refresh_root_keys().await;
    assert!(fleet.all_are_good().await);
    assert_eq!(issuer.ops("/readyz").await.status, StatusCode::OK);
}

/// A database that was put in the place of another: of another issuer, or with
/// rows that somebody wrote with a root key of his own.
#[tokio::test]
async fn a_database_of_another_root_key_is_refused() {
    let (one, other) = (TestIssuer::new().await, TestIssuer::new().await);
    let config = one.issuer.config().clone();
    let [here, there] = [&one, &other].map(|issuer| issuer.issuer.config().data_dir.join("issuer.sqlite3"));
    one.app().store.ping().await.unwrap();
    let clock = Arc::new(one.clock.clone());
    let folder = one.end();
    let _other_folder = other.end();
    for suffix in ["", "-wal", "-shm"] {
        let [to, from] = [&here, &there].map(|path| format!("{}{suffix}", path.display()));
        let _ = fs::remove_file(&to);
        if fs::exists(&from).unwrap() {
            fs::copy(&from, &to).unwrap();
        }
    }
    let refused = Issuer::open(config, clock).await.err().unwrap();
    assert!(
        matches!(&refused, OpenError::RootKeys(RootKeyError::OtherDatabase { had, .. }) if had.len() == 1),
        "{refused}"
    );
    assert!(refused.to_string().contains("the database is under root key"), "{refused}");
    drop(folder);
}

#[tokio::test]
async fn a_given_file_is_used_and_never_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let options = || Options { root_key_file: Some(path.clone()), ..Options::default() };
    let id = RootKeyFile::make_new(&path, &*random()).unwrap().id();
    let issuer = TestIssuer::with(options()).await;
    assert_eq!(issuer.app().root_keys.in_use().now().current(), id);
    assert!(!root_key_file(&issuer).exists());
    let second = add(&issuer).await;
    assert_eq!(RootKeyFile::Given(path.clone()).read().unwrap().len(), 2);
    assert_eq!(make_current(&issuer, &second).await, StatusCode::OK);
    assert_eq!(make_current(&issuer, "1234").await, StatusCode::NOT_FOUND);
    // systemd's, if nothing else was said.
    let with = |options: Options| options.with_credentials(Some(folder.path().as_os_str())).root_key_file;
    assert_eq!(with(Options::default()), None);
    fs::copy(&path, folder.path().join("fleetbadge-root-key")).unwrap();
    assert_eq!(with(Options::default()), Some(folder.path().join("fleetbadge-root-key")));
    assert_eq!(with(options()), Some(path));
}

/// The fleet comes back all at once.
#[tokio::test]
async fn hashes_are_made_anew_a_bounded_number_at_a_time() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let mut secrets = Vec::new();
    for n in 0..210 {
        secrets.push(issuer.add(&format!("pump-{n}"), &[]).await);
    }
    let second = add(&issuer).await;
    assert_eq!(make_current(&issuer, &second).await, StatusCode::OK);
    for (n, secret) in secrets.iter().enumerate() {
        assert_eq!(issuer.token(&format!("pump-{n}"), secret, "").await.status, StatusCode::OK);
    }
    assert_eq!(app.rehashes.waiting(), 210);
    app.tick().await;
    assert!(app.rehashes.waiting() >= 10);
    write_all(&app).await;
    assert_eq!(counts(&issuer).await, [("current".into(), [1, 210, 0]), ("known".into(), [0, 0, 0])]);
}

/// Between noting and writing the secret was replaced: the old one does not
/// come back.
#[tokio::test]
async fn a_secret_that_was_removed_meanwhile_stays_removed() {
    let fleet = Fleet::new().await;
    let (issuer, app) = (&fleet.issuer, fleet.issuer.app());
    let second = add(issuer).await;
    assert_eq!(make_current(issuer, &second).await, StatusCode::OK);
    assert!(fleet.all_are_good().await);
    let id = app.devices.get("made").await.unwrap().credentials.secrets[0].id.clone();
    app.devices.remove_secret("made", id.as_str()).await.unwrap();
    app.devices.set_status("chosen", crate::store::DeviceStatus::Disabled).await.unwrap();
    write_all(&app).await;
    assert_eq!(issuer.token("made", &fleet.made, "").await.error(), "invalid_client");
    assert_eq!(issuer.token("chosen", CHOSEN, "").await.error(), "invalid_client");
}
