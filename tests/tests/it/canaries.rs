//! Secrets that can be recognised go everywhere that a secret can go, right
//! or wrong; none comes out again.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use fleetbadge_tests::device::{Response, curl};
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::ports;
use fleetbadge_tests::process::{Finished, Running};
use fleetbadge_tests::programs::Program;
use serde_json::Value;

const GRANT: &str = "grant_type=client_credentials";
/// In every secret of this test that was not made by the issuer.
const CANARY: &str = "canary";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Content-Type: application/json";

/// A device's secrets by their origin, and all that was said since.
struct Aviary {
    issuer: Issuer,
    ops: String,
    secrets: Vec<String>,
    said: Vec<String>,
}

impl Aviary {
    fn new() -> Self {
        let ops = format!("127.0.0.1:{}", ports::free());
        let issuer = Issuer::start_with(&["--log", "trace", "--ops-listen", &ops]);
        Self { issuer, ops, secrets: Vec::new(), said: Vec::new() }
    }

    /// Does what shows a secret, the one time.
    fn make(&mut self, arguments: &[&str]) -> String {
        let made = self.issuer.json(arguments);
        let secret = made["client_secret"].as_str().unwrap().to_owned();
        self.secrets.push(secret.clone());
        secret
    }

    fn import(&mut self, from: &str, secret: &str) -> Finished {
        let mut command = Program::Issuer.command();
        command.args(["device", "secret", "add", "pump-1", "--import", from, "--json", "--data-dir"]);
        let mut importing = Running::spawn(command_in(command, &self.issuer));
        if from == "-" {
            importing.say(secret);
        }
        importing.end_of_input();
        let finished = importing.wait();
        self.secrets.push(secret.to_owned());
        self.said.extend([finished.stdout.clone(), finished.stderr.clone()]);
        finished
    }

    fn command(&mut self, arguments: &[&str]) -> Finished {
        let finished = self.issuer.command(arguments);
        self.said.extend([finished.stdout.clone(), finished.stderr.clone()]);
        finished
    }

    fn ask(&mut self, arguments: &[&str]) -> Response {
        let url = self.issuer.url() + "/oauth2/token";
        self.ask_at(&url, arguments)
    }

    fn ask_at(&mut self, url: &str, arguments: &[&str]) -> Response {
        let response = curl(arguments.iter().copied().chain([url]));
        self.said.push(format!("{response:?}"));
        response
    }

    fn admin(&mut self, path: &str, arguments: &[&str]) -> Response {
        let socket = self.issuer.data_dir().join("admin.sock");
        let arguments = [&["--unix-socket", socket.to_str().unwrap()], arguments].concat();
        self.ask_at(&format!("http://localhost/admin/v1/{path}"), &arguments)
    }

    /// Everywhere that a client could put a secret. Returns the answers to
    /// the two right places.
    fn present(&mut self, name: &str, secret: &str) -> [u16; 2] {
        let user = format!("{name}:{secret}");
        let (id, value) = (format!("client_id={name}"), format!("client_secret={secret}"));
        let in_form = ["--data", GRANT, "--data", &id, "--data-urlencode", &value];
        let basic = self.ask(&["--user", &user, "--data", GRANT]).status;
        let form = self.ask(&in_form).status;

        let encoded = form_encoded(secret);
        let url = self.issuer.url() + "/oauth2/token?client_id=" + name + "&client_secret=" + &encoded;
        assert_eq!(self.ask_at(&url, &["--data", GRANT]).status, 400);
        assert_eq!(self.ask_at(&url, &["--request", "GET"]).status, 405);
        assert_eq!(self.ask_at(&url.replace("/token", "/nothing"), &["--data", GRANT]).status, 404);
        let json = format!("{{\"client_id\":\"{name}\",\"client_secret\":\"{secret}\"}}");
        assert_eq!(self.ask(&["--header", JSON, "--data", &json]).status, 400);
        assert_eq!(self.ask(&["--form", &value, "--form", &id]).status, 400);
        assert_eq!(self.ask(&[&in_form[..], &["--header", "Content-Type: text/plain"]].concat()).status, 400);
        assert_eq!(self.ask(&[&in_form[..], &["--user", &user]].concat()).status, 400);
        assert_eq!(self.ask(&[&in_form[..], &["--data-urlencode", &value]].concat()).status, 400);
        assert_eq!(self.ask(&[&in_form[..], &["--data", "x=%zz"]].concat()).status, 400);
        let bearer = format!("Authorization: Bearer {encoded}");
        assert_eq!(self.ask(&["--header", &bearer, "--data", GRANT]).status, 401);
        let no_base64 = format!("Authorization: Basic {user}");
        assert_eq!(self.ask(&["--header", &no_base64, "--data", GRANT]).status, 400);
        let assertion = format!("client_assertion={encoded}");
        self.ask(&["--header", FORM, "--data", GRANT, "--data", &id, "--data", &assertion]);
        let password = format!("password={encoded}");
        self.ask(&["--data", "grant_type=password", "--data", &password, "--data", "username=pump-1"]);
        [basic, form]
    }
}

fn form_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'-' | b'_' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn command_in(mut command: std::process::Command, issuer: &Issuer) -> std::process::Command {
    command.arg(issuer.data_dir());
    command
}

#[test]
fn no_secret_comes_out_again() {
    let mut aviary = Aviary::new();
    let first = aviary.make(&["device", "add", "pump-1", "--attribute", "hall=7"]);
    let added = aviary.make(&["device", "secret", "add", "pump-1", "--expires", "30d"]);
    let by_stdin = format!("{CANARY} chosen, by stdin");
    assert_eq!(aviary.import("-", &by_stdin).code, Some(0));
    let file = tempfile::NamedTempFile::new().unwrap();
    let by_file = format!("{CANARY} chosen, by file");
    fs::write(file.path(), format!("{by_file}\r\n")).unwrap();
    assert_eq!(aviary.import(file.path().to_str().unwrap(), &by_file).code, Some(0));
    let rotated = aviary.make(&["device", "rotate-secret", "pump-1", "--overlap", "24h"]);

    for right in [&first, &added, &by_stdin, &by_file, &rotated] {
        assert_eq!(aviary.present("pump-1", right), [200, 200]);
    }
    let disabled = aviary.make(&["device", "add", "pump-2"]);
    assert_eq!(aviary.command(&["device", "disable", "pump-2"]).code, Some(0));
    let wrong =
        [format!("fbs_{CANARY}"), format!("{CANARY} that nobody chose"), format!("{CANARY}\u{e4}\u{1b}[31m")];
    for (name, wrong) in wrong.iter().flat_map(|wrong| [("pump-1", wrong), ("pump-9", wrong)]) {
        assert_eq!(aviary.present(name, wrong), [401, 401]);
        aviary.secrets.push(wrong.clone());
    }
    assert_eq!(aviary.present("pump-2", &disabled), [401, 401]);

    // What operators get wrong.
    for wrong in [CANARY, &format!("fbs_{CANARY} that is long enough"), &format!("{CANARY} größer als ASCII")]
    {
        let refused = aviary.import("-", wrong);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains("secret: "), "{}", refused.stderr);
    }
    assert_eq!(aviary.import("-", &format!("{CANARY} that is one too many")).code, Some(1));
    for body in [
        format!("{{\"secret\":[\"{CANARY}\"]}}"),
        format!("{{\"secret\":{{\"{CANARY}\":1}}}}"),
        format!("{{\"secret\":\"{CANARY} without an end"),
        format!("{{\"secret\":\"{CANARY} with another field\",\"x\":1}}"),
        CANARY.to_owned(),
    ] {
        assert_eq!(aviary.admin("devices/pump-1/secrets", &["--header", JSON, "--data", &body]).status, 422);
        assert_eq!(aviary.admin("devices/pump-1/secrets", &["--data", &body]).status, 422);
        assert_eq!(aviary.admin("devices/pump-9/secrets", &["--header", JSON, "--data", &body]).status, 422);
    }
    let query = format!("devices/pump-1/secrets?secret={CANARY}");
    assert_eq!(aviary.admin(&query, &["--request", "POST"]).status, 422);

    // What shows secrets to operators shows nothing of them.
    let listed = aviary.command(&["device", "secret", "list", "pump-1", "--json"]);
    let ids: Vec<Value> = listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ids.len(), 5);
    assert!(ids.iter().all(|secret| secret["last_used_at"].is_u64()), "{}", listed.stdout);
    for arguments in [
        &["device", "show", "pump-1"][..],
        &["device", "show", "pump-1", "--json"],
        &["device", "list"],
        &["device", "list", "--json"],
        &["device", "secret", "list", "pump-1"],
        &["device", "secret", "remove", "pump-1", ids[0]["id"].as_str().unwrap()],
        &["device", "set", "pump-1", "--attribute", "hall=8"],
        &["group", "set", "default", "--publish", "a/${attr.hall}"],
        &["group", "list", "--json"],
    ] {
        assert_eq!(aviary.command(arguments).code, Some(0), "{arguments:?}");
    }
    let metrics = format!("http://{}/metrics", aviary.ops);
    assert_eq!(aviary.ask_at(&metrics, &[]).status, 200);
    aviary.issuer.stop();

    let log = aviary.issuer.log();
    for expected in [" DEBUG ", "secret added", "secret rotated", "client authentication failed"] {
        assert!(log.contains(expected), "the log has no {expected}");
    }
    aviary.said.push(log);
    for entry in fs::read_dir(aviary.issuer.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        aviary.said.push(format!(
            "{}: {}",
            path.display(),
            String::from_utf8_lossy(&fs::read(&path).unwrap())
        ));
    }
    let mut traces = vec![CANARY.to_owned()];
    for secret in &aviary.secrets {
        traces.push(secret.clone());
        for name in ["pump-1", "pump-2", "pump-9"] {
            let pair = format!("{name}:{secret}");
            traces.extend([STANDARD.encode(&pair), URL_SAFE.encode(&pair), URL_SAFE_NO_PAD.encode(&pair)]);
        }
    }
    assert!(traces.len() > 50);
    for said in &aviary.said {
        for trace in &traces {
            assert!(!said.contains(trace.as_str()), "{trace} is in {said}");
        }
    }
}
