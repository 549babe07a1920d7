//! The agent as a device runs it: real issuer, real broker.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::device::curl;
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::process::{Running, run};
use fleetbadge_tests::programs::{Program, mosquitto_plugin};
use tempfile::TempDir;

on_every_mosquitto!(lines_and_messages_survive_renewals);

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

    fn command(&self, subcommand: &str, issuer: &Issuer, device: &Device) -> Command {
        let mut command = Program::Agent.command();
        command.args([subcommand, "--issuer", &issuer.url(), "--client-id", &device.client_id]);
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
    let first = run(files.command("token", &issuer, &device));
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let token = first.stdout.trim();
    assert_eq!(token.split('.').count(), 3, "a token and nothing else");
    assert!(!first.stderr.contains(token));

    let second = run(files.command("token", &issuer, &device));
    assert_eq!(second.stdout, first.stdout, "from the cache");
    issuer.stop();
    let third = run(files.command("token", &issuer, &device));
    assert_eq!(third.stdout, first.stdout, "while the issuer is away");

    std::fs::set_permissions(files.secret(), PermissionsExt::from_mode(0o644)).unwrap();
    let refused = run(files.command("token", &issuer, &device));
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("chmod"), "{}", refused.stderr);
}

#[test]
fn refused_device_is_told_apart_from_an_issuer_that_is_away() {
    let mut issuer = Issuer::start();
    let device = issuer.add_device("pump-1");
    let files = AgentDir::of(&device);
    assert_eq!(issuer.command(&["device", "disable", "pump-1"]).code, Some(0));
    let refused = run(files.command("token", &issuer, &device));
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("invalid_client"), "{}", refused.stderr);
    assert!(!refused.stderr.contains(&device.client_secret));
    issuer.stop();
    let away = run(files.command("token", &issuer, &device));
    assert_eq!(away.code, Some(3), "{}", away.stderr);
}

/// Tokens of a few seconds, twenty lines and messages, none lost and none twice.
fn lines_and_messages_survive_renewals(version: MosquittoVersion) {
    const LINES: usize = 20;
    let issuer = Issuer::start();
    let policy = ["--publish", "shared/#", "--subscribe", "shared/#", "--token-lifetime-s", "5"];
    assert_eq!(issuer.command(&[&["group", "set", "brief"], &policy[..]].concat()).code, Some(0));
    let add =
        |name| serde_json::from_value(issuer.json(&["device", "add", name, "--group", "brief"])).unwrap();
    let (writer, reader): (Device, Device) = (add("writer"), add("reader"));
    let broker = Mosquitto::builder(version);
    let jwks = broker.dir().write("jwks.json", curl([issuer.jwks_url()]).body.as_bytes());
    let broker = broker
        .config_line("allow_anonymous false")
        .plugin(mosquitto_plugin())
        .plugin_opt("issuer", &issuer.url())
        .plugin_opt("audience", "mqtt")
        .plugin_opt("jwks_file", &jwks.to_string_lossy())
        .start();

    let (writer_files, reader_files) = (AgentDir::of(&writer), AgentDir::of(&reader));
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let mut subscribe = reader_files.command("subscribe", &issuer, &reader);
    subscribe.args(["--broker", &url, "shared/#"]);
    let mut subscriber = Running::spawn(subscribe);
    broker.wait_for_log("Received SUBSCRIBE from reader");
    let mut publish = writer_files.command("run", &issuer, &writer);
    publish.args(["--broker", &url, "--topic", "shared/lines"]);
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
    let connections = broker.log().matches("New client connected").count();
    assert!(connections >= 6, "{connections} connections in 14 s with tokens of 5 s");
    for said in [broker.log(), received.stderr, published.stderr] {
        assert!(!said.contains("eyJ"), "a token in: {said}");
    }
}
