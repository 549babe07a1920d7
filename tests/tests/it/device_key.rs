//! `scripts/device-key.py`, a device that changes its own key, against the
//! running issuer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::ports;
use fleetbadge_tests::process::{Finished, run};
use fleetbadge_tests::python::{device_key, oauth};
use serde_json::{Value, json};

/// An enrolled device in a folder of its own.
struct Place {
    issuer: Issuer,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("fleetbadge-device-key-").tempdir().expect("a directory");
        let this = Self { issuer: Issuer::start(), dir };
        let create = ["enrolment", "create", "--group", "default", "--name-pattern", "pump-*"];
        let created = this.issuer.json(&[&create[..], &["--uses", "2", "--expires", "1h"]].concat());
        fs::write(this.path("enrolment"), created["enrolment_token"].as_str().unwrap()).unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, verb: &str, key: &str, more: &[&str]) -> Finished {
        let (url, key) = (self.issuer.url(), self.path(key));
        device_key([&[verb, "--issuer", &url, "--key", key.to_str().unwrap()], more].concat())
    }

    fn enrol(&self) -> Finished {
        let token = self.path("enrolment");
        self.run("enrol", "key", &["--enrolment-token-file", token.to_str().unwrap(), "--name", "pump-7"])
    }

    fn rotate(&self) -> Value {
        answer(&self.run("rotate", "key", &["--client-id", "pump-7"]))
    }

    fn token(&self, key: &str) -> Finished {
        self.run("token", key, &["--client-id", "pump-7"])
    }

    fn key(&self) -> String {
        fs::read_to_string(self.path("key")).unwrap()
    }

    /// The one key in the folder is good, and `old` is refused.
    fn assert_key_replaced(&self, old: &str) {
        assert_ne!(self.key(), old);
        let mut files: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["enrolment", "key"]);
        assert_eq!(fs::metadata(self.path("key")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(answer(&self.token("key"))["access_token"].is_string());
        fs::write(self.path("old"), old).unwrap();
        assert!(mistake(&self.token("old"), 1).contains("(401): invalid_client"));
        fs::remove_file(self.path("old")).unwrap();
    }
}

/// What it printed.
fn answer(finished: &Finished) -> Value {
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).expect("one JSON object")
}

/// The one line with which it ended.
fn mistake(finished: &Finished, code: i32) -> &str {
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(code), ""), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.starts_with("device-key.py: "), "{}", finished.stderr);
    &finished.stderr
}

fn make_key(path: &Path, curve: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{curve}"), "-out"]);
    openssl.arg(path);
    assert_eq!(run(openssl).code, Some(0));
}

#[test]
fn device_changes_its_key_and_is_never_locked_out() {
    let place = Place::new();
    assert_eq!(answer(&place.enrol())["client_id"], "pump-7");
    let first = place.key();
    let registered = place.rotate();
    assert_eq!(registered["jwks"]["keys"].as_array().unwrap().len(), 1, "{registered}");
    place.assert_key_replaced(&first);
    // Authlib reads the same file.
    let step = json!({"do": "token_by_pem", "issuer": place.issuer.url(), "client_id": "pump-7",
                      "pem": place.path("key")});
    assert_eq!(oauth(&step)["mqtt_client_id"], "pump-7");

    // Killed before the issuer had the key: the old one is good, and the next
    // rotation goes on with the other.
    let second = place.key();
    make_key(&place.path("key.new"), "P-256");
    let third = fs::read_to_string(place.path("key.new")).unwrap();
    assert!(answer(&place.token("key"))["access_token"].is_string());
    assert_eq!(place.key(), second);
    place.rotate();
    assert_eq!(place.key(), third);
    place.assert_key_replaced(&second);

    // Killed after the issuer had the key.
    let undo = |old: &str| {
        fs::rename(place.path("key"), place.path("key.new")).unwrap();
        fs::write(place.path("key"), old).unwrap();
    };
    undo(&second);
    assert!(answer(&place.token("key"))["access_token"].is_string());
    assert_eq!(place.key(), third);
    place.assert_key_replaced(&second);
    undo(&second);
    let finished = place.rotate();
    assert_eq!(place.key(), third, "the rotation that had begun is done");
    assert_eq!(finished["client_id"], "pump-7");
    place.assert_key_replaced(&second);

    // A key that an operator added is not the device's to remove.
    make_key(&place.path("other"), "P-256");
    let enrolled = place.run(
        "enrol",
        "other",
        &["--enrolment-token-file", place.path("enrolment").to_str().unwrap(), "--name", "pump-8"],
    );
    let jwks = answer(&enrolled)["jwks"].to_string();
    assert_eq!(place.issuer.command(&["device", "remove", "pump-8"]).code, Some(0));
    fs::write(place.path("jwks"), jwks).unwrap();
    let jwks = place.path("jwks");
    let added = place.issuer.command(&["device", "key", "add", "pump-7", "--jwks", jwks.to_str().unwrap()]);
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    assert_eq!(place.rotate()["jwks"]["keys"].as_array().unwrap().len(), 2);
    assert!(answer(&place.token("other"))["access_token"].is_string());
}

#[test]
fn everyday_mistakes_are_one_line() {
    let mut place = Place::new();
    assert!(mistake(&place.token("missing"), 2).contains("missing"));
    fs::write(place.path("text"), "no key").unwrap();
    assert!(mistake(&place.token("text"), 2).contains("text is no private key"));
    make_key(&place.path("p384"), "P-384");
    assert!(mistake(&place.token("p384"), 2).contains("not a P-256 key"));
    fs::create_dir(place.path("folder")).unwrap();
    mistake(&place.token("folder"), 2);
    let more = ["--enrolment-token-file", "/nowhere"];
    assert!(mistake(&place.run("enrol", "key", &more), 2).contains("/nowhere"));
    assert!(!place.path("key").exists());
    assert_eq!(place.run("token", "key", &[]).code, Some(2), "--client-id is missing");

    answer(&place.enrol());
    let stranger = place.run("rotate", "key", &["--client-id", "pump-9"]);
    assert!(mistake(&stranger, 1).contains("the issuer refuses (401): invalid_client"));
    assert!(!place.path("key.new").exists());
    let key = place.path("key");
    let nobody = format!("http://127.0.0.1:{}", ports::free());
    let slash = place.issuer.url() + "/";
    for (url, code, why) in [
        (&*nobody, 1, "the issuer does not answer"),
        ("127.0.0.1:8080", 2, "no URL"),
        (&*slash, 2, "calls itself"),
    ] {
        for verb in ["token", "rotate"] {
            let arguments = [verb, "--issuer", url, "--key", key.to_str().unwrap(), "--client-id", "pump-7"];
            assert!(mistake(&device_key(arguments), code).contains(why), "{verb} {url}");
        }
    }
    place.issuer.stop();
    assert!(mistake(&place.token("key"), 1).contains("does not answer"));
}
