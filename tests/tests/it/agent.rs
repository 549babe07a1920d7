//! The agent as a device runs it: real issuer, real broker.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::device::curl;
use fleetbadge_tests::issuer::{Device, Issuer, operate, operate_json};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::process::{Running, run};
use fleetbadge_tests::programs::{Program, mosquitto_plugin};
use fleetbadge_tests::quickstart::Quickstart;
use tempfile::TempDir;

on_every_mosquitto!(lines_and_messages_survive_renewals);

/// Tokens of five seconds.
const BRIEF: [&str; 6] = ["--publish", "shared/#", "--subscribe", "shared/#", "--token-lifetime-s", "5"];

/// An agent's files: its secret and its state.
struct AgentDir(TempDir);

impl AgentDir {
    fn of(device: &Device) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = dir.path().join("secret");
        std::fs::write(&secret, &device.client_secret).expect("a file");
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).expect("its mode");
        Self(dir)
    }

    fn secret(&self) -> PathBuf {
        self.0.path().join("secret")
    }

    fn command(&self, subcommand: &str, issuer: &str, device: &Device) -> Command {
        let mut command = Program::Agent.command();
        command.args([subcommand, "--issuer", issuer, "--client-id", &device.client_id]);
        command.arg("--client-secret-file").arg(self.secret());
        command.arg("--state-dir").arg(self.0.path().join("state"));
        command
    }
}

#[test]
fn token_is_printed_and_kept_until_it_must_be_renewed() {
    let mut issuer = Issuer::start();
    let device = issuer.add_device("pump-1");
    let files = AgentDir::of(&device);
    let first = run(files.command("token", &issuer.url(), &device));
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let token = first.stdout.trim();
    assert_eq!(token.split('.').count(), 3, "a token and nothing else");
    assert!(!first.stderr.contains(token));

    let second = run(files.command("token", &issuer.url(), &device));
    assert_eq!(second.stdout, first.stdout, "from the cache");
    issuer.stop();
    let third = run(files.command("token", &issuer.url(), &device));
    assert_eq!(third.stdout, first.stdout, "while the issuer is away");

    std::fs::set_permissions(files.secret(), PermissionsExt::from_mode(0o644)).unwrap();
    let refused = run(files.command("token", &issuer.url(), &device));
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("chmod"), "{}", refused.stderr);
}

#[test]
fn refused_device_is_told_apart_from_an_issuer_that_is_away() {
    let mut issuer = Issuer::start();
    let device = issuer.add_device("pump-1");
    let files = AgentDir::of(&device);
    assert_eq!(issuer.command(&["device", "disable", "pump-1"]).code, Some(0));
    let refused = run(files.command("token", &issuer.url(), &device));
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("invalid_client"), "{}", refused.stderr);
    assert!(!refused.stderr.contains(&device.client_secret));
    issuer.stop();
    let away = run(files.command("token", &issuer.url(), &device));
    assert_eq!(away.code, Some(3), "{}", away.stderr);
}

#[test]
fn lines_and_messages_survive_reauthentications() {
    let quickstart = Quickstart::start();
    let [writer, reader] = brief_devices(&quickstart.data_dir(), ["writer", "reader"]);
    let url = quickstart.issuer_url();
    let said = lines_survive_renewals(&url, &writer, &reader, quickstart.mqtt_port());
    assert_reauthenticated(&said);
    let log = quickstart.log();
    assert_eq!(log.matches("let in").count(), 2, "{log}");
    assert!(log.matches("re-authenticated").count() >= 4, "{log}");
    assert!(!log.contains("eyJ"), "a token in: {log}");
}

/// What a token no longer allows is not received with it, and the agent says so.
#[test]
fn renewal_that_takes_a_subscription_away_ends_it() {
    let quickstart = Quickstart::start();
    let data_dir = quickstart.data_dir();
    let [reader] = brief_devices(&data_dir, ["reader"]);
    let files = AgentDir::of(&reader);
    let mut subscribe = files.command("subscribe", &quickstart.issuer_url(), &reader);
    subscribe.args(["--broker", &format!("mqtt://127.0.0.1:{}", quickstart.mqtt_port()), "shared/#"]);
    let mut subscriber = Running::spawn(subscribe);
    subscriber.wait_for("subscribed");
    let narrower = ["group", "set", "brief", "--subscribe", "other/#", "--token-lifetime-s", "5"];
    assert_eq!(operate(&data_dir, &narrower).code, Some(0));
    let ended = subscriber.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("refused the subscription"), "{}", ended.stderr);
    assert!(quickstart.log().contains("subscribes_to_less"), "{}", quickstart.log());
}

fn lines_and_messages_survive_renewals(version: MosquittoVersion) {
    let issuer = Issuer::start();
    let [writer, reader] = brief_devices(issuer.data_dir(), ["writer", "reader"]);
    let broker = Mosquitto::builder(version);
    let jwks = broker.dir().write("jwks.json", curl([issuer.jwks_url()]).body.as_bytes());
    let broker = broker
        .config_line("allow_anonymous false")
        .plugin(mosquitto_plugin())
        .plugin_opt("issuer", &issuer.url())
        .plugin_opt("audience", "mqtt")
        .plugin_opt("jwks_file", &jwks.to_string_lossy())
        .start();

    let said = lines_survive_renewals(&issuer.url(), &writer, &reader, broker.port());
    assert_reauthenticated(&said);
    let connections = broker.log().matches("New client connected").count();
    assert_eq!(connections, 2);
    assert!(!broker.log().contains("eyJ"), "a token in: {}", broker.log());
}

/// Devices in a group with brief tokens.
fn brief_devices<const N: usize>(data_dir: &Path, names: [&str; N]) -> [Device; N] {
    assert_eq!(operate(data_dir, &[&["group", "set", "brief"], &BRIEF[..]].concat()).code, Some(0));
    names.map(|name| {
        let added = operate_json(data_dir, &["device", "add", name, "--group", "brief"]);
        serde_json::from_value(added).expect("the promised object")
    })
}

/// Twenty lines and messages over several tokens, none lost and none twice.
/// Returns what the two agents said.
fn lines_survive_renewals(issuer: &str, writer: &Device, reader: &Device, broker: u16) -> [String; 2] {
    const LINES: usize = 20;
    let (writer_files, reader_files) = (AgentDir::of(writer), AgentDir::of(reader));
    let url = format!("mqtt://127.0.0.1:{broker}");
    let connection = ["--broker", &url, "--log-level", "debug"];
    let mut subscribe = reader_files.command("subscribe", issuer, reader);
    subscribe.args(connection).arg("shared/#");
    let mut subscriber = Running::spawn(subscribe);
    subscriber.wait_for("subscribed");
    let mut publish = writer_files.command("run", issuer, writer);
    publish.args(connection).args(["--topic", "shared/lines"]);
    let mut publisher = Running::spawn(publish);

    for line in 0..LINES {
        publisher.say(&format!("line {line}"));
        std::thread::sleep(Duration::from_millis(700));
    }
    publisher.end_of_input();
    let published = publisher.wait();
    assert_eq!(published.code, Some(0), "{}", published.stderr);
    subscriber.wait_for(&format!("line {}", LINES - 1));
    let received = subscriber.stop();
    assert_eq!(received.code, Some(0), "SIGTERM is an orderly end: {}", received.stderr);
    let expected: Vec<String> = (0..LINES).map(|line| format!("line {line}")).collect();
    assert_eq!(received.stdout.lines().collect::<Vec<_>>(), expected);
    [published.stderr, received.stderr]
}

fn assert_reauthenticated(said: &[String]) {
    for said in said {
        let count = |text| said.matches(text).count();
        let (fell_back, reauthenticated, renewed) = (
            count("does not know OAUTH2-JWT"),
            count("\"re-authenticated\""),
            count("\"renewed the connection\""),
        );
        assert!(fell_back == 0 && renewed == 0 && reauthenticated >= 2, "{said}");
        assert_eq!(count("\"connected to the broker\""), 1, "{said}");
        assert!(!said.contains("eyJ"), "a token in: {said}");
    }
}
