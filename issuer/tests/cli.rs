//! The program as operators and devices meet it: a real server, its files,
//! its exit codes and what it says.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fleetbadge_validator::test_support::TestKey;
use fleetbadge_validator::time::{Clock as _, SystemClock};
use serde_json::{Value, json};

const ISSUER: &str = "http://127.0.0.1:1";

/// A folder for one test; the data directory is in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data_dir(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetbadge-issuer"));
        command.args(arguments).env("FLEETBADGE_DATA_DIR", self.data_dir());
        command
    }

    /// Runs a command to its end.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must go well, and reads the JSON it prints.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a command that must not, and returns its exit code and what it says.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert_eq!(output.stdout, b"", "{arguments:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn serve(&self, more: &[&str]) -> Server {
        let log = File::options().append(true).create(true).open(self.log()).unwrap();
        let mut process = self
            .command(
                &[
                    &["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--issuer", ISSUER],
                    more,
                ]
                .concat(),
            )
            .env("FLEETBADGE_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        while !said.contains("device add") {
            assert_ne!(stdout.read_line(&mut said).unwrap(), 0, "{said}{}", self.read_log());
        }
        let word_after =
            |label: &str| said.split_once(label).unwrap().1.split_whitespace().next().unwrap().to_owned();
        let ops =
            word_after("operations").trim_start_matches("http://").split('/').next().unwrap().to_owned();
        Server { process, address: word_after("listening on"), ops, said }
    }

    fn read_log(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }
}

/// A server that runs, until it is dropped.
struct Server {
    process: Child,
    address: String,
    ops: String,
    said: String,
}

impl Server {
    /// Sends a request as it stands and returns all that comes back.
    fn ask(address: &str, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(address: &str, path: &str) -> String {
        Self::ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    /// Asks for a token; returns the status and the body.
    fn token(&self, device: &Value) -> (u16, Value) {
        let text = |member: &str| device[member].as_str().unwrap();
        let pair = STANDARD.encode(format!("{}:{}", text("client_id"), text("client_secret")));
        let body = "grant_type=client_credentials";
        let answer = Self::ask(
            &self.address,
            &format!(
                "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {pair}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    /// Registers a key with an enrolment token; returns the status and the body.
    fn register(&self, token: &str, key: &TestKey, wish: &str) -> (u16, Value) {
        let url = format!("{ISSUER}/oauth2/register");
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.public().to_jwk()});
        let claims = json!({
            "jti": TestKey::generate().kid(), "htm": "POST", "htu": url, "iat": SystemClock.now(),
            "ath": URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes())),
        });
        let proof = key.token_of(header.to_string(), claims.to_string());
        let body = json!({"jwks": {"keys": [key.public().to_jwk()]}, "client_name": wish}).to_string();
        let answer = Self::ask(
            &self.address,
            &format!(
                "POST /oauth2/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \
                 {token}\r\nDPoP: {proof}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    /// Asks for a token with a form and nothing else; returns the status and
    /// the body.
    fn form(&self, body: &str) -> (u16, Value) {
        let answer = Self::ask(
            &self.address,
            &format!(
                "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: \
                 application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    fn stop(mut self, signal: &str) -> ExitStatus {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        self.process.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

#[test]
fn from_an_empty_folder_to_a_token_and_over_restarts() {
    let place = Place::new();
    let server = place.serve(&[]);
    assert!(
        server.said.contains(&format!(
            "fleetbadge-issuer device add pump-1 --data-dir {}",
            place.data_dir().display()
        ))
    );
    assert_eq!(mode(&place.data_dir()), 0o700);
    for entry in fs::read_dir(place.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }

    let device = place.json(&["device", "add", "pump-1", "--mqtt-client-id", "c1", "c2"]);
    assert_eq!(device["mqtt_client_ids"], serde_json::json!(["c1", "c2"]));
    assert_eq!(device["group"], "default");
    let (status, token) = server.token(&device);
    assert_eq!((status, &token["mqtt_client_id"]), (200, &"c1".into()));
    let keys = |server: &Server| {
        Server::get(&server.address, "/oauth2/jwks").split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let published = keys(&server);

    // An orderly end, and one that leaves its socket behind.
    assert!(server.stop("-TERM").success());
    assert!(!place.data_dir().join("admin.sock").exists());
    let server = place.serve(&[]);
    assert_eq!(keys(&server), published);
    server.stop("-KILL");
    assert!(place.data_dir().join("admin.sock").exists());
    let server = place.serve(&[]);
    assert_eq!(server.token(&device).0, 200);
    // A hang-up asks for changed files, not for the end.
    let id = server.process.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    assert_eq!(server.token(&device).0, 200);
    assert!(server.stop("-INT").success());
}

#[test]
fn a_device_enrols_and_is_approved() {
    let place = Place::new();
    let server = place.serve(&[]);
    let create = |more: &[&str]| {
        let terms = ["enrolment", "create", "--group", "default", "--name-pattern", "pump-*", "--uses", "1"];
        place.json(&[&terms, more].concat())
    };
    let made = create(&["--expires", "24h", "--approval"]);
    let token = made["enrolment_token"].as_str().unwrap();
    assert_eq!(made["registration_endpoint"], format!("{ISSUER}/oauth2/register"));
    assert_eq!(made["expires_at"].as_u64().unwrap() - made["created_at"].as_u64().unwrap(), 86_400);

    let key = TestKey::generate();
    let (status, device) = server.register(token, &key, "pump-7");
    assert_eq!((status, &device["client_id"], &device["status"]), (201, &"pump-7".into(), &"pending".into()));
    let (status, error) = server.register(token, &TestKey::generate(), "pump-8");
    assert_eq!((status, &error["error"]), (401, &"invalid_token".into()));
    let pending = || place.run(&["device", "list", "--status", "pending", "--json"]).stdout;
    assert_eq!(serde_json::from_slice::<Value>(&pending()).unwrap()["client_id"], "pump-7");
    let approved = String::from_utf8(place.run(&["device", "approve", "pump-7"]).stdout).unwrap();
    assert_eq!(approved, "Device pump-7 is enabled: it gets tokens from now on.\n");
    assert!(pending().is_empty());
    let (code, said) = place.refused(&["device", "approve", "pump-7"]);
    assert_eq!((code, said.contains("pump-7 is enabled; only a pending one")), (1, true), "{said}");

    let listed = place.json(&["enrolment", "list"]);
    assert_eq!((&listed["id"], &listed["uses_left"]), (&made["id"], &0.into()));
    let id = made["id"].as_str().unwrap();
    assert_eq!(place.json(&["enrolment", "remove", id]), json!({"id": id, "removed": true}));
    assert_eq!(place.refused(&["enrolment", "remove", id]).0, 1);
    for expires in ["24", "1w", "400d", "0s"] {
        let terms = ["enrolment", "create", "--group", "default", "--name-pattern", "x", "--uses", "1"];
        let (code, said) = place.refused(&[&terms[..], &["--expires", expires]].concat());
        assert!(matches!(code, 1 | 2), "{expires}: {said}");
    }

    // Neither token is anywhere but with whoever made it.
    let canaries = [token.to_owned(), create(&["--expires", "1h"])["enrolment_token"].to_string()];
    assert!(server.stop("-TERM").success());
    let log = place.read_log();
    assert!(log.contains("device enrolled"), "{log}");
    for canary in canaries.iter().map(|token| token.trim_matches('"')) {
        assert!(!log.contains(canary));
        for entry in fs::read_dir(place.data_dir()).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(canary.len()).any(|window| window == canary.as_bytes()));
        }
    }
}

#[test]
fn secrets_are_in_no_log_and_no_file() {
    let place = Place::new();
    let server = place.serve(&["--log-format", "json"]);
    let device = place.json(&["device", "add", "pump-1"]);
    let (_, answer) = server.token(&device);
    let mut wrong = device.clone();
    wrong["client_secret"] = "fbs_canary-wrong".into();
    assert_eq!(server.token(&wrong).0, 401);
    let metrics = Server::get(&server.ops, "/metrics");
    assert!(server.stop("-TERM").success());

    let log = place.read_log();
    assert!(log.contains("device added"), "{log}");
    let root_key = fs::read_to_string(place.data_dir().join("root.key")).unwrap();
    let canaries = [
        device["client_secret"].as_str().unwrap(),
        answer["access_token"].as_str().unwrap(),
        "fbs_canary-wrong",
        root_key.split_once(':').unwrap().1.trim(),
    ];
    for canary in canaries {
        let encoded = STANDARD.encode(format!("pump-1:{canary}"));
        for (place, text) in [("log", &log), ("metrics", &metrics)] {
            assert!(!text.contains(canary) && !text.contains(&encoded), "{canary} is in the {place}");
        }
        for entry in fs::read_dir(place.data_dir()).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("root.key") {
                let bytes = fs::read(&path).unwrap();
                let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
                assert!(!found, "{canary} is in {}", path.display());
            }
        }
    }
}

#[test]
fn what_operators_do_and_what_is_refused() {
    let place = Place::new();
    let (code, said) = place.refused(&["device", "list"]);
    assert_eq!(code, 3);
    assert!(said.contains("start it with: fleetbadge-issuer serve"), "{said}");

    let server = place.serve(&[]);
    for name in ["b", "a", "c"] {
        place.json(&["device", "add", name]);
    }
    let list = place.run(&["device", "list", "--json"]);
    let names: Vec<Value> = list
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<Value>(line).unwrap()["client_id"].clone())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);

    assert_eq!(place.json(&["device", "disable", "a"])["status"], "disabled");
    assert_eq!(place.json(&["device", "show", "a"])["status"], "disabled");
    assert_eq!(place.json(&["device", "enable", "a"])["status"], "enabled");
    assert_eq!(place.json(&["device", "remove", "a"])["removed"], true);
    let (code, said) = place.refused(&["device", "add", "a"]);
    assert_eq!((code, said.contains("never used again")), (1, true), "{said}");
    assert_eq!(place.refused(&["device", "show", "a"]).0, 1);
    assert_eq!(place.refused(&["device", "show", "../groups"]).0, 1);
    let (code, said) = place.refused(&["device", "add", "x/y"]);
    assert_eq!((code, said.starts_with("fleetbadge-issuer: name: ")), (1, true), "{said}");

    let group = place.json(&[
        "group",
        "set",
        "pumps",
        "--publish",
        "up/${device}",
        "up/all",
        "--subscribe",
        "down/${device}/#",
        "--token-lifetime-s",
        "60",
        "--scope",
        "mqtt.connect",
        "mqtt.publish",
        "--audience",
        "hall-1",
    ]);
    assert_eq!(group["publish"], serde_json::json!(["up/${device}", "up/all"]));
    assert_eq!(group["scope"], "mqtt.connect mqtt.publish");
    let group = place.json(&["group", "set", "pumps", "--publish"]);
    assert_eq!(group["publish"], serde_json::json!([]));
    assert_eq!(group["token_lifetime_s"], 60);
    let device = place.json(&["device", "add", "p", "--group", "pumps"]);
    // Lives are jittered downwards by up to a tenth.
    let lifetime_s = server.token(&device).1["expires_in"].as_u64().unwrap();
    assert!((54..=60).contains(&lifetime_s), "{lifetime_s}");

    let key = place.json(&["key", "list"]);
    assert_eq!((&key["alg"], &key["state"]), (&"ES256".into(), &"active".into()));
    assert!(place.run(&["key", "rotate"]).status.success());
    let (code, said) = place.refused(&["key", "rotate"]);
    let expected = "fleetbadge-issuer: the next ES256 key is announced already and signs from 20";
    assert_eq!((code, said.starts_with(expected)), (1, true), "{said}");
    assert!(place.run(&["key", "rotate", "--now", "--algorithm", "ES256"]).status.success());
    let (code, said) = place.refused(&["key", "rotate", "--algorithm", "RS256"]);
    assert_eq!((code, said.contains("there is no RS256 key")), (1, true), "{said}");
    let (code, said) = place.refused(&["key", "rotate", "--algorithm", "HS256"]);
    assert_eq!((code, said.contains("[possible values: ES256, RS256, EdDSA]")), (2, true), "{said}");
    assert_eq!(server.token(&device).0, 200);

    // Usage.
    assert_eq!(place.refused(&["device", "add"]).0, 2);
    assert_eq!(place.refused(&["device", "ad", "x"]).0, 2);
    // For people there is text, with the way on.
    let added = String::from_utf8(place.run(&["device", "add", "d"]).stdout).unwrap();
    assert!(
        added.contains(&format!("curl -u 'd:SECRET' -d grant_type=client_credentials {ISSUER}/oauth2/token")),
        "{added}"
    );
}

#[test]
fn static_passwords_from_consent_to_removal() {
    let place = Place::new();
    let server = place.serve(&[]);
    place.json(&["device", "add", "pump-1"]);
    let (code, said) = place.refused(&["device", "password", "set", "pump-1"]);
    assert_eq!(code, 1);
    let way_out = said.trim_end().split_once("fleetbadge-issuer group set ").unwrap().1;
    assert_eq!(way_out, "default --static-passwords");
    assert_eq!(place.json(&["group", "set", "default", "--static-passwords"])["static_passwords"], true);

    let set = place.json(&["device", "password", "set", "pump-1", "--expires", "30d"]);
    let password = set["password"].as_str().unwrap();
    assert!(password.starts_with("fbp_"));
    assert_eq!(set["username"], "pump-1");
    let lifetime_s = set["expires_at"].as_u64().unwrap() - set["created_at"].as_u64().unwrap();
    assert_eq!(lifetime_s, 30 * 86_400);
    assert_eq!(place.refused(&["device", "password", "set", "pump-1", "--expires", "soon"]).0, 2);
    let (code, said) = place.refused(&["device", "password", "set", "pump-1", "--expires", "0s"]);
    assert_eq!((code, said.contains("expires_in_s: 0")), (1, true), "{said}");

    // The device's own exchange is a second consent.
    let body = format!("grant_type=password&client_id=pump-1&username=pump-1&password={password}");
    let (status, answer) = server.form(&body);
    assert_eq!((status, &answer["error"]), (401, &"invalid_client".into()));
    place.json(&["group", "set", "default", "--device-password-grant"]);
    let (status, answer) = server.form(&body);
    assert_eq!((status, &answer["mqtt_client_id"]), (200, &"pump-1".into()));
    assert_eq!(server.form(&body.replace("fbp_", "fbp_canary")).0, 401);
    let shown = String::from_utf8(place.run(&["device", "show", "pump-1"]).stdout).unwrap();
    assert!(shown.contains("last used 2"), "{shown}");
    place.json(&["group", "set", "default", "--device-password-grant=false"]);
    assert_eq!(server.form(&body).0, 401);

    // For people there is text; the password in it replaces the other.
    place.json(&["group", "set", "default", "--device-password-grant"]);
    let text = String::from_utf8(place.run(&["device", "password", "set", "pump-1"]).stdout).unwrap();
    assert!(text.contains("user name  pump-1"), "{text}");
    let second = text.split_whitespace().find(|word| word.starts_with("fbp_")).unwrap();
    assert_eq!(server.form(&body).0, 401);
    assert_eq!(server.form(&body.replace(password, second)).0, 200);
    assert_eq!(place.json(&["device", "password", "remove", "pump-1"])["removed"], true);
    assert_eq!(server.form(&body.replace(password, second)).0, 401);
    assert_eq!(place.refused(&["device", "password", "remove", "pump-1"]).0, 1);

    assert!(server.stop("-TERM").success());
    let log = place.read_log();
    assert!(log.contains("static password set"), "{log}");
    for canary in [password, second, "fbp_canary"] {
        assert!(!log.contains(canary), "{canary} is in the log");
        for entry in fs::read_dir(place.data_dir()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{canary} is in {}", path.display());
        }
    }
}

#[test]
fn brokers_policies_and_why() {
    let place = Place::new();
    let server = place.serve(&[]);
    let broker = place.json(&["broker", "add", "site-1", "--audience", "mqtt", "--profile", "emqx"]);
    let members: Vec<&String> = broker.as_object().unwrap().keys().collect();
    assert_eq!(members, ["audience", "client_id", "client_secret", "profile", "resource"]);
    let said = place.run(&["broker", "add", "site-2", "--audience", "eu", "--profile", "fleetbadge"]).stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("audience       eu\n") && said.contains("umask 077"), "{said}");
    let shown = String::from_utf8(place.run(&["broker", "show", "site-1"]).stdout).unwrap();
    assert!(shown.contains("algorithm  ES256") && !shown.contains(broker["client_secret"].as_str().unwrap()));
    let list = String::from_utf8(place.run(&["broker", "list"]).stdout).unwrap();
    assert_eq!(list.lines().count(), 2, "{list}");

    let rabbit = ["broker", "add", "rabbit", "--audience", "r", "--profile", "rabbitmq"];
    let (code, said) = place.refused(&rabbit);
    assert!(code == 1 && said.contains("say --accept-unbound-publishers"), "{said}");
    place.json(&[&rabbit[..], &["--vhost", "fleet", "--accept-unbound-publishers"]].concat());
    assert_eq!(place.json(&["broker", "show", "rabbit"])["vhost"], "fleet");
    assert_eq!(place.refused(&["broker", "add", "x", "--audience", "a", "--profile", "nginx"]).0, 2);
    let hs256 = ["broker", "add", "x", "--audience", "a", "--profile", "emqx", "--algorithm", "HS256"];
    assert_eq!(place.refused(&hs256).0, 2);

    let group = place.json(&[
        "group",
        "set",
        "pumps",
        "--publish",
        "up/${device}/#",
        "--audience",
        "mqtt",
        "eu",
        "--refresh-window",
        "40-60",
        "--static-passwords",
        "--device-password-grant",
    ]);
    assert_eq!(group["audiences"], serde_json::json!(["mqtt", "eu"]));
    assert_eq!(group["refresh_window"], serde_json::json!({"from_percent": 40, "to_percent": 60}));
    assert_eq!((&group["static_passwords"], &group["device_password_grant"]), (&true.into(), &true.into()));
    let shown = String::from_utf8(place.run(&["group", "show", "pumps"]).stdout).unwrap();
    assert!(shown.contains("refresh window         40-60 %\n"), "{shown}");
    assert_eq!(place.refused(&["group", "set", "pumps", "--refresh-window", "50"]).0, 2);
    let (code, said) = place.refused(&["group", "set", "pumps", "--refresh-window", "80-50"]);
    assert!(code == 1 && said.contains("refresh_window: 80 to 50 percent"), "{said}");

    place.json(&["device", "add", "pump-1", "--group", "pumps"]);
    let yes = place.json(&["policy", "explain", "pump-1", "--publish", "up/pump-1/x"]);
    assert_eq!((&yes["allowed"], &yes["token"]["profile"]), (&true.into(), &"emqx".into()));
    let no = place.run(&["policy", "explain", "pump-1", "--publish", "up/pump-2/x"]);
    assert_eq!(no.status.code(), Some(1));
    let said = String::from_utf8(no.stdout).unwrap();
    assert!(
        said.starts_with("denied: no publish rule allows it; nearest is up/pump-1/#: at level 2"),
        "{said}"
    );
    assert!(said.contains("up/${device}/# → up/pump-1/#"), "{said}");
    let (code, said) = place.refused(&["policy", "explain", "pump-1", "--publish", "a/#"]);
    assert!(code == 1 && said.contains("publish: \"a/#\" has a wildcard"), "{said}");
    let help = String::from_utf8(place.run(&["policy", "explain", "--help"]).stdout).unwrap();
    assert!(help.contains("0 allowed, 1 denied"), "{help}");

    assert!(place.run(&["broker", "remove", "site-1"]).status.success());
    let (code, said) = place.refused(&["broker", "show", "site-1"]);
    assert!(code == 1 && said.contains("there is no broker \"site-1\""), "{said}");
    assert!(server.stop("-TERM").success());
    assert!(!place.read_log().contains(broker["client_secret"].as_str().unwrap()));
}

#[test]
fn a_device_proves_itself_with_its_keys() {
    let place = Place::new();
    let server = place.serve(&[]);
    let (first, second) = (TestKey::generate(), TestKey::generate());
    let file = |name: &str, text: &str| {
        let path = place.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ask = |key: &TestKey, jti: &str| {
        let now = SystemClock.now().0;
        let claims =
            json!({"iss": "pump-1", "sub": "pump-1", "aud": ISSUER, "exp": now + 60, "jti": jti}).to_string();
        let assertion = key.token_of(json!({"alg": "ES256", "kid": key.kid()}).to_string(), claims);
        server.form(&format!(
            "grant_type=client_credentials&client_assertion={assertion}&client_assertion_type=\
             urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        ))
    };

    let added = place.json(&["device", "add", "pump-1", "--jwks", &file("first.json", &first.jwks())]);
    assert_eq!((&added["client_id"], added.get("client_secret")), (&"pump-1".into(), None));
    assert_eq!(ask(&first, "1").0, 200);
    assert_eq!(ask(&first, "1"), (401, ask(&second, "1").1));

    let mut add = place.command(&["device", "key", "add", "pump-1", "--jwks", "-", "--json"]);
    let mut add = add.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    add.stdin.take().unwrap().write_all(second.jwks().as_bytes()).unwrap();
    let listed = String::from_utf8(add.wait_with_output().unwrap().stdout).unwrap();
    let kids: Vec<String> = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["thumbprint"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kids, [first.kid(), second.kid()]);
    assert_eq!(ask(&second, "2").0, 200);
    let shown = String::from_utf8(place.run(&["device", "show", "pump-1"]).stdout).unwrap();
    assert!(
        shown.contains(&format!("{}  ES256  added", first.kid())) && shown.contains("last used 2"),
        "{shown}"
    );

    let removed = place.json(&["device", "key", "remove", "pump-1", &first.kid()]);
    assert_eq!((&removed["removed"], &removed["has_credentials"]), (&json!(true), &json!(true)));
    assert_eq!(ask(&first, "3").0, 401);
    assert_eq!(ask(&second, "3").0, 200);

    // A private key goes no further than the command that reads it.
    let mut private: Value = serde_json::from_str(&TestKey::generate().jwks()).unwrap();
    private["keys"][0]["d"] = "fb-canary".into();
    for (text, code, reason) in [
        (private.to_string(), 2, "key 1: has the private or symmetric member d"),
        ("-----BEGIN PRIVATE KEY-----\nfb-canary".into(), 2, "is not JSON"),
        ("\"fb-canary\"".into(), 2, "is not a JWK Set"),
        (second.jwks(), 1, "belongs to device pump-1"),
    ] {
        let path = file("other.json", &text);
        let (found, said) = place.refused(&["device", "add", "pump-2", "--jwks", &path]);
        assert_eq!((found, said.contains(reason), said.contains("fb-canary")), (code, true, false), "{said}");
    }
    assert_eq!(place.refused(&["device", "show", "pump-2"]).0, 1);
    let path = file("other.json", &TestKey::generate().jwks());
    let both = place.json(&["device", "add", "pump-2", "--jwks", &path, "--secret"]);
    assert_eq!(server.token(&both).0, 200);

    assert!(server.stop("-TERM").success());
    assert!(!place.read_log().contains("fb-canary"));
}

#[test]
fn a_server_that_cannot_be_safe_does_not_start() {
    let place = Place::new();
    let refused =
        |arguments: &[&str]| place.refused(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat());
    assert_eq!(refused(&[]).0, 2);
    let (code, said) = refused(&["--issuer", "http://id.example"]);
    assert_eq!((code, said.contains("issuer: ")), (2, true), "{said}");
    let (code, said) = place.refused(&["serve", "--listen", "0.0.0.0:0", "--issuer", "https://id.example"]);
    assert_eq!((code, said.contains("--allow-insecure-http")), (2, true), "{said}");
    let proxied =
        ["serve", "--listen", "0.0.0.0:0", "--issuer", "https://id.example", "--allow-insecure-http"];
    let (code, said) = place.refused(&proxied);
    assert_eq!((code, said.contains("--trusted-proxy")), (2, true), "{said}");
    let (code, said) = place.refused(&[&proxied[..], &["--trusted-proxy", "10.0.0.1/8"]].concat());
    assert_eq!((code, said.contains("write 10.0.0.0/8")), (2, true), "{said}");
    assert!(!place.data_dir().exists());

    let (code, said) = place.refused(&["serve", "--listen", "loopback"]);
    assert_eq!((code, said.contains("'--listen <IP:PORT>'")), (2, true), "{said}");
    let file = place.0.path().join("file");
    fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let (code, said) = refused(&["--issuer", ISSUER, "--data-dir", file]);
    assert_eq!((code, said.contains(&format!("data_dir: {file}: is no folder"))), (4, true), "{said}");

    let server = place.serve(&[]);
    let other = Place::new();
    let (code, said) = other.refused(&["serve", "--listen", &server.address]);
    let expected = format!("listen: {}: Address already in use", server.address);
    assert_eq!((code, said.contains(&expected)), (4, true), "{said}");
    assert!(said.ends_with("or give another port\n"), "{said}");
    let (code, said) = refused(&["--issuer", ISSUER]);
    assert_eq!((code, said.contains("another fleetbadge-issuer")), (4, true), "{said}");
    drop(server);
    fs::set_permissions(place.data_dir().join("root.key"), Permissions::from_mode(0o644)).unwrap();
    let (code, said) = refused(&["--issuer", ISSUER]);
    assert_eq!((code, said.contains("chmod 600")), (4, true), "{said}");
    fs::remove_file(place.data_dir().join("root.key")).unwrap();
    let (code, said) = refused(&["--issuer", ISSUER]);
    assert_eq!((code, said.contains("restore it")), (4, true), "{said}");
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let place = Place::new();
    let file = place.0.path().join("issuer.toml");
    fs::write(&file, "listen = '127.0.0.1:1001'\nskew_s = 1\njwks_max_age_s = 100\n").unwrap();
    let output = place
        .command(&["serve", "--print-config", "--config", file.to_str().unwrap(), "--skew-s", "3"])
        .env("FLEETBADGE_SKEW_S", "2")
        .env("FLEETBADGE_JWKS_MAX_AGE_S", "200")
        .env("FLEETBADGE_ALLOW_INSECURE_HTTP", "true")
        .output()
        .unwrap();
    let config = String::from_utf8(output.stdout).unwrap();
    for line in [
        "skew_s = 3",
        "jwks_max_age_s = 200",
        "listen = \"127.0.0.1:1001\"",
        "issuer = \"http://127.0.0.1:1001\"",
        "key_announce_s = 400",
        "allow_insecure_http = true",
        "max_token_lifetime_s = 86400",
    ] {
        assert!(config.lines().any(|l| l == line), "{line} is not in\n{config}");
    }
    fs::write(&file, "skew = 1\n").unwrap();
    let (code, said) = place.refused(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!((code, said.contains("unknown field `skew`")), (2, true), "{said}");
}

#[test]
fn slow_clients_are_cut_off_and_probes_are_answered() {
    let place = Place::new();
    let server = place.serve(&["--request-timeout-s", "1"]);
    // Neither silence nor half a request holds a connection.
    for beginning in ["", "GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\n"] {
        let answer = Server::ask(&server.address, beginning);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    let half_a_body = "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                       Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nx";
    assert!(Server::ask(&server.address, half_a_body).starts_with("HTTP/1.1 408"));
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(Server::get(&server.ops, path).starts_with("HTTP/1.1 200"), "{path}");
        assert!(Server::get(&server.address, path).starts_with("HTTP/1.1 404"), "{path}");
    }
}

#[test]
fn secrets_and_devices_are_changed_and_the_last_use_outlives_the_server() {
    let place = Place::new();
    let server = place.serve(&[]);
    place.json(&["group", "set", "pumps", "--publish", "halls/${attr.hall}/${device}"]);
    let device = place.json(&["device", "add", "pump-1", "--attribute", "hall=7"]);
    place.json(&["device", "add", "pump-2"]);
    let set =
        ["device", "set", "pump-1", "--group", "pumps", "--attribute", "line=2", "--no-attribute", "hall"];
    assert_eq!(place.json(&set)["attributes"], serde_json::json!({"line": "2"}));
    let text = |arguments: &[&str]| String::from_utf8(place.run(arguments).stdout).unwrap();
    let listed = text(&["device", "list", "--group", "pumps", "--status", "enabled"]);
    assert_eq!(listed, "CLIENT_ID  GROUP  STATUS   MQTT_CLIENT_IDS\npump-1     pumps  enabled  pump-1\n");
    assert_eq!(text(&["device", "list", "--status", "disabled"]), "");

    let rotated = place.json(&["device", "rotate-secret", "pump-1", "--overlap", "24h"]);
    for secret in [&device, &rotated] {
        assert_eq!(server.token(secret).0, 200);
    }
    let added = place.json(&["device", "secret", "add", "pump-1", "--expires", "30d"]);
    assert_eq!(added["token_endpoint"], format!("{ISSUER}/oauth2/token"));
    for wrong in [&["--expires", "30"][..], &["--expires", "-1d"], &["--import", "/nowhere"]] {
        let (code, said) = place.refused(&[&["device", "secret", "add", "pump-1"], wrong].concat());
        assert_eq!(code, 2, "{said}");
    }
    assert_eq!(place.refused(&["device", "rotate-secret", "pump-1"]).0, 2);
    let rotate = ["device", "rotate-secret", "pump-2", "--overlap", "1h"];
    for (arguments, last_line) in
        [(&["device", "secret", "add", "pump-2"][..], "The secret is shown"), (&rotate, "The other secrets")]
    {
        let said = text(arguments);
        assert!(said.ends_with(".\n") && said.lines().last().unwrap().starts_with(last_line), "{said}");
    }

    // Ended at once: what the last second has seen is written at the end.
    assert!(server.stop("-TERM").success());
    let server = place.serve(&[]);
    let secrets = text(&["device", "secret", "list", "pump-1"]);
    let lines: Vec<&str> = secrets.lines().collect();
    assert!(lines[0].contains("  ends 20") && lines[0].contains("  last used 20"), "{secrets}");
    assert!(lines[1].contains("  no end  last used 20"), "{secrets}");
    assert!(lines[2].contains("  ends 20") && lines[2].ends_with("  never used"), "{secrets}");
    assert!(text(&["device", "show", "pump-1"]).contains(lines[1]));

    for (line, is_last) in lines.into_iter().zip([false, false, true]) {
        let said = text(&["device", "secret", "remove", "pump-1", line.split(' ').next().unwrap()]);
        assert_eq!(said.contains("It was the last credential"), is_last, "{said}");
    }
    assert_eq!(server.token(&rotated).0, 401);
    assert_eq!(place.refused(&["device", "secret", "remove", "pump-1", "0"]).0, 1);
}
