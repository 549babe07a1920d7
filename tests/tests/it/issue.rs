//! Tokens by curl, as a device without a library gets them.

use fleetbadge_tests::device::{Response, curl};
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::process::run;
use fleetbadge_tests::programs::Program;
use serde_json::json;

const GRANT: &str = "grant_type=client_credentials";

#[test]
fn token_is_bound_scoped_and_never_cached() {
    let issuer = Issuer::start();
    let device = issuer.json(&[
        "device",
        "add",
        "pump-1",
        "--mqtt-client-id",
        "pump-1-a",
        "--mqtt-client-id",
        "pump-1-b",
    ]);
    assert_eq!(device["mqtt_client_ids"], json!(["pump-1-a", "pump-1-b"]));
    assert_eq!((device["client_id"].as_str(), device["group"].as_str()), (Some("pump-1"), Some("default")));
    let device = serde_json::from_value(device).unwrap();

    let response = issuer.request_token(&device, &[]);
    assert_eq!(response.status, 200);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let body = response.json();
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["mqtt_client_id"], "pump-1-a");
    assert_eq!(body["scope"], "mqtt.connect mqtt.publish mqtt.subscribe");
    assert!(body["expires_in"].as_u64().is_some_and(|seconds| seconds <= 900), "{body}");

    let narrowed = issuer.request_token(&device, &["mqtt_client_id=pump-1-b", "scope=mqtt.connect"]).json();
    assert_eq!(narrowed["mqtt_client_id"], "pump-1-b");
    assert_eq!(narrowed["scope"], "mqtt.connect");

    let unregistered = issuer.request_token(&device, &["mqtt_client_id=pump-2"]);
    assert_eq!((unregistered.status, unregistered.json()["error"].as_str()), (400, Some("invalid_request")));
    let unknown = issuer.request_token(&device, &["scope=mqtt.connect admin"]);
    assert_eq!((unknown.status, unknown.json()["error"].as_str()), (400, Some("invalid_scope")));
}

#[test]
fn token_passes_the_check_and_says_why() {
    let issuer = Issuer::start();
    let device = issuer.add_device("pump-1");
    let token = issuer.token(&device);
    let check = |client_id: &str, token: &str| {
        let mut command = Program::Validator.command();
        command.args([
            "check",
            "--issuer",
            &issuer.url(),
            "--audience",
            "mqtt",
            "--client-id",
            client_id,
            "--json",
        ]);
        let mut running = fleetbadge_tests::process::Running::spawn(command);
        running.say(token);
        running.end_of_input();
        let finished = running.wait();
        (finished.code, serde_json::from_str(&finished.stdout).unwrap_or(json!(finished.stderr)))
    };
    let (code, allowed) = check("pump-1", &token);
    assert_eq!((code, allowed["allowed"].as_bool()), (Some(0), Some(true)), "{allowed}");
    assert_eq!(allowed["token"]["publish"], json!(["devices/pump-1/#"]));
    let (code, denied) = check("pump-2", &token);
    assert_eq!((code, denied["code"].as_str()), (Some(1), Some("client_id_differs")), "{denied}");
    let mut command = Program::Validator.command();
    command.args(["check", "--issuer", "http://192.0.2.1", "--audience", "mqtt", "--client-id", "x"]);
    let mut running = fleetbadge_tests::process::Running::spawn(command);
    running.say(&token);
    running.end_of_input();
    let refused = running.wait();
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("plain HTTP"), "{}", refused.stderr);
}

#[test]
fn strangers_cannot_tell_what_exists() {
    let issuer = Issuer::start();
    let (device, disabled) = (issuer.add_device("pump-1"), issuer.add_device("pump-2"));
    assert_eq!(issuer.command(&["device", "disable", "pump-2"]).code, Some(0));
    let ask = |user: &str| -> Response {
        let mut response = curl(["--user", user, "--data", GRANT, &(issuer.url() + "/oauth2/token")]);
        response.headers.retain(|(name, _)| name != "date");
        response
    };
    let unknown = ask("pump-9:fbs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!((unknown.status, unknown.json()["error"].as_str()), (401, Some("invalid_client")));
    assert!(unknown.header("www-authenticate").is_some_and(|value| value.starts_with("Basic ")));
    assert_eq!(ask("pump-1:fbs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), unknown);
    assert_eq!(ask("pump-1:short"), unknown);
    assert_eq!(ask(&format!("pump-2:{}", disabled.client_secret)), unknown);
    assert_eq!(ask(&format!("pump-2:{}", device.client_secret)), unknown);

    assert_eq!(issuer.command(&["device", "enable", "pump-2"]).code, Some(0));
    // Until the second is over in which its tokens were taken back.
    while issuer.request_token(&disabled, &[]).status == 503 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(issuer.request_token(&disabled, &[]).status, 200);
    assert_eq!(issuer.command(&["device", "remove", "pump-2"]).code, Some(0));
    assert_eq!(ask(&format!("pump-2:{}", disabled.client_secret)), unknown);
}

#[test]
fn everything_is_found_again_after_a_restart_and_nothing_secret_was_said() {
    let mut issuer = Issuer::start();
    let device = issuer.add_device("pump-1");
    let before = issuer.token(&device);
    issuer.restart();
    let after = issuer.token(&device);
    assert_eq!(before.split('.').next(), after.split('.').next(), "the same key signs");
    let log = issuer.log();
    for secret in
        [&device.client_secret, before.rsplit('.').next().unwrap(), after.rsplit('.').next().unwrap()]
    {
        assert!(!log.contains(secret), "{log}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(issuer.data_dir()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has {mode:o}", entry.path().display());
    }
    // Text that is readable in no file: secrets are kept as keyed hashes.
    for entry in std::fs::read_dir(issuer.data_dir()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(
                !String::from_utf8_lossy(&bytes).contains(&device.client_secret),
                "{}",
                entry.path().display()
            );
        }
    }
}

#[test]
fn plain_http_beyond_loopback_is_refused() {
    for arguments in
        [&["--listen", "0.0.0.0:0"][..], &["--listen", "127.0.0.1:0", "--issuer", "http://id.example"]]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Program::Issuer.command();
        command.arg("serve").arg("--data-dir").arg(dir.path().join("data")).args(arguments);
        let refused = run(command);
        assert_eq!(refused.code, Some(2), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("--allow-insecure-http"), "{}", refused.stderr);
    }
}
