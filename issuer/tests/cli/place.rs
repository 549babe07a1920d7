//! A folder, a server that runs in it, and what is asked of them.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fleetbadge_validator::test_support::TestKey;
use fleetbadge_validator::time::{Clock as _, SystemClock};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "http://127.0.0.1:1";

/// A folder for one test; the data directory is in it.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// The path of a file of the test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetbadge-issuer"));
        command.args(arguments).env("FLEETBADGE_DATA_DIR", self.data_dir());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command and returns what it prints.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.run(arguments).stdout).unwrap()
    }

    /// Runs a command that must go well, and reads the one object it prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let [object] = <[Value; 1]>::try_from(self.json_lines(arguments)).unwrap();
        object
    }

    /// Runs a command that must go well, and reads the JSON on each line.
    pub(crate) fn json_lines(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs a command that must not, and returns its exit code and what it says.
    pub(crate) fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert_eq!(output.stdout, b"", "{arguments:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    pub(crate) fn serve(&self, more: &[&str]) -> Server {
        self.serve_with_env(more, &[])
    }

    /// With these in its environment.
    pub(crate) fn serve_with_env(&self, more: &[&str], environment: &[(&str, &str)]) -> Server {
        let log = File::options().append(true).create(true).open(self.path("log")).unwrap();
        let mut process = self
            .command(
                &[
                    &["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--issuer", ISSUER],
                    more,
                ]
                .concat(),
            )
            .env("FLEETBADGE_LOG", "trace")
            .envs(environment.iter().copied())
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

    pub(crate) fn read_log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Fails if one of `canaries` is in the log or in a file of the server,
    /// other than the one of the root key.
    pub(crate) fn assert_keeps_none_of(&self, canaries: &[&str]) {
        let log = self.read_log();
        for canary in canaries {
            assert!(!log.contains(canary), "{canary} is in the log");
            for entry in fs::read_dir(self.data_dir()).unwrap() {
                let path = entry.unwrap().path();
                if !path.ends_with("root.key") {
                    let bytes = fs::read(&path).unwrap();
                    let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
                    assert!(!found, "{canary} is in {}", path.display());
                }
            }
        }
    }
}

/// A server that runs, until it is dropped.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) address: String,
    pub(crate) ops: String,
    pub(crate) said: String,
}

impl Server {
    /// Sends a request as it stands and returns all that comes back.
    pub(crate) fn ask(address: &str, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn get(address: &str, path: &str) -> String {
        Self::ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    /// Posts to the public listener; returns the status and the body. Each
    /// header ends its line.
    fn post(&self, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = Self::ask(&self.address, &request);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    /// Posts a form with `client_secret_basic` and what a command printed of a
    /// client.
    pub(crate) fn form_of(&self, client: &Value, path: &str, body: &str) -> (u16, Value) {
        let text = |member: &str| client[member].as_str().unwrap();
        let pair = STANDARD.encode(format!("{}:{}", text("client_id"), text("client_secret")));
        self.post(path, &format!("Authorization: Basic {pair}\r\n{FORM}"), body)
    }

    /// Asks for a token with the secret of a device.
    pub(crate) fn token(&self, device: &Value) -> (u16, Value) {
        self.form_of(device, "/oauth2/token", "grant_type=client_credentials")
    }

    /// Asks for a token with a form and nothing else.
    pub(crate) fn form(&self, body: &str) -> (u16, Value) {
        self.post("/oauth2/token", FORM, body)
    }

    /// Registers a key with an enrolment token.
    pub(crate) fn register(&self, token: &str, key: &TestKey, wish: &str) -> (u16, Value) {
        let url = format!("{ISSUER}/oauth2/register");
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.public().to_jwk()});
        let claims = json!({
            "jti": TestKey::generate().kid(), "htm": "POST", "htu": url, "iat": SystemClock.now(),
            "ath": URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes())),
        });
        let proof = key.token_of(header.to_string(), claims.to_string());
        let headers =
            format!("Authorization: Bearer {token}\r\nDPoP: {proof}\r\nContent-Type: application/json\r\n");
        let body = json!({"jwks": {"keys": [key.public().to_jwk()]}, "client_name": wish});
        self.post("/oauth2/register", &headers, &body.to_string())
    }

    pub(crate) fn stop(mut self, signal: &str) -> ExitStatus {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        self.process.wait().unwrap()
    }
}

/// What a form is sent with.
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}
