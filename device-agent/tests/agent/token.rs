//! The program `fleetbadge-agent token` against an issuer in this process.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::parts::{Device, Issuer, refusal, token};

#[track_caller]
fn prints(output: &Output, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{expected}\n"), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

/// Ends with `code`, prints nothing on stdout, and says `reason` without the secret.
#[track_caller]
fn fails(output: &Output, code: i32, reason: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(reason), "{stderr}");
    assert!(!stderr.contains("s3cr") && !stderr.contains("t0ken"), "{stderr}");
    assert!(output.stdout.is_empty());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn asks_as_rfc_6749_says() {
    let issuer = Issuer::start().await;
    let arguments = ["--scope", "mqtt.connect mqtt.publish", "--mqtt-client-id", "pump-1-b"];
    prints(&Device::of(&issuer).token(&arguments).await, "t0ken-1");

    let (authorization, body) = issuer.requests().remove(0);
    // pump-1:s3cr%3Aet: both parts are form-urlencoded before they meet (§2.3.1).
    assert_eq!(authorization, "Basic cHVtcC0xOnMzY3IlM0FldA==");
    let body: Vec<_> = body.split('&').collect();
    assert_eq!(body.len(), 3);
    for field in
        ["grant_type=client_credentials", "scope=mqtt.connect+mqtt.publish", "mqtt_client_id=pump-1-b"]
    {
        assert!(body.contains(&field), "{body:?}");
    }
}

#[tokio::test]
async fn a_kept_token_serves_until_its_refresh_point() {
    let issuer = Issuer::start().await;
    let device = Device::of(&issuer);
    prints(&device.token(&[]).await, "t0ken-1");
    assert_eq!(mode(&device.kept_token()), 0o600);
    assert_eq!(mode(device.kept_token().parent().unwrap()), 0o700);
    issuer.answers(token("t0ken-2", 900));

    device.age_kept_token(440);
    prints(&device.token(&[]).await, "t0ken-1");
    assert_eq!(issuer.requests().len(), 1);

    device.age_kept_token(290);
    prints(&device.token(&[]).await, "t0ken-2");
    assert_eq!(issuer.requests().len(), 2);
    assert_eq!(mode(&device.kept_token()), 0o600);
}

#[tokio::test]
async fn other_requests_do_not_share_a_token() {
    let issuer = Issuer::start().await;
    let device = Device::of(&issuer);
    prints(&device.token(&[]).await, "t0ken-1");
    issuer.answers(token("t0ken-2", 900));
    prints(&device.token(&["--scope", "mqtt.connect"]).await, "t0ken-2");
    prints(&device.token(&["--mqtt-client-id", "pump-1-b"]).await, "t0ken-2");
    prints(&device.token(&[]).await, "t0ken-1");
    assert_eq!(issuer.requests().len(), 3);
}

#[tokio::test]
async fn json_says_what_goes_with_the_token() {
    let issuer = Issuer::start().await;
    let device = Device::of(&issuer);
    device.token(&[]).await;
    device.age_kept_token(100);
    let output = device.token(&["--json"]).await;
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["access_token"], "t0ken-1");
    assert_eq!(object["mqtt_client_id"], "pump-1-mqtt");
    assert_eq!(object["scope"], "mqtt.connect");
    assert!((780..=800).contains(&object["expires_in"].as_u64().unwrap()), "{object}");
}

#[tokio::test]
async fn in_an_outage_the_kept_token_serves_while_it_lasts() {
    let issuer = Issuer::start().await;
    let device = Device::of(&issuer);
    prints(&device.token(&[]).await, "t0ken-1");
    issuer.answers((StatusCode::BAD_GATEWAY, Vec::new(), String::new()));
    device.age_kept_token(800);
    let output = device.token(&[]).await;
    prints(&output, "t0ken-1");
    assert!(String::from_utf8_lossy(&output.stderr).contains("used while it lasts"));
    device.age_kept_token(100);
    fails(&device.token(&[]).await, 3, "502 Bad Gateway");
}

#[tokio::test]
async fn nobody_there_is_an_exit_code_of_its_own() {
    let issuer = Issuer::start().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let device = Device { issuer: address, ..Device::of(&issuer) };
    fails(&device.token(&[]).await, 3, "cannot be reached");
}

#[tokio::test]
async fn a_refused_device_gets_no_kept_token() {
    let issuer = Issuer::start().await;
    let device = Device::of(&issuer);
    prints(&device.token(&[]).await, "t0ken-1");
    device.age_kept_token(800);
    issuer.answers(refusal(StatusCode::UNAUTHORIZED, "invalid_client"));
    fails(&device.token(&[]).await, 1, "invalid_client (because)");
    issuer.answers(refusal(StatusCode::BAD_REQUEST, "invalid_scope"));
    fails(&device.token(&[]).await, 1, "invalid_scope (because)");
}

#[tokio::test]
async fn a_busy_issuer_says_when_to_come_again() {
    let issuer = Issuer::start().await;
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        issuer.answers((status, vec![("retry-after", "17".into())], "{}".into()));
        fails(&Device::of(&issuer).token(&[]).await, 3, "come again in 17 s");
    }
}

#[tokio::test]
async fn answers_that_are_no_token_are_refused() {
    let issuer = Issuer::start().await;
    let object = |value: Value| (StatusCode::OK, Vec::new(), value.to_string());
    let moved = (
        StatusCode::TEMPORARY_REDIRECT,
        vec![("location", format!("{}/elsewhere", issuer.url))],
        String::new(),
    );
    for (answer, reason) in [
        (object(json!({"access_token": "t0ken", "token_type": "Bearer"})), "no expires_in"),
        (object(json!({"access_token": "t0ken", "token_type": "Bearer", "expires_in": 0})), "no expires_in"),
        (object(json!({"access_token": "t0ken", "token_type": "DPoP", "expires_in": 9})), "not Bearer"),
        (
            object(json!({"access_token": "", "token_type": "Bearer", "expires_in": 9})),
            "access_token is empty",
        ),
        (object(json!({"access_token": ["t0ken"], "token_type": "Bearer"})), "not a token response"),
        ((StatusCode::OK, Vec::new(), " ".repeat(70_000)), "more than 65536 bytes"),
        (moved, "307 Temporary Redirect"),
        (
            (StatusCode::BAD_REQUEST, vec![("content-type", "text/html".into())], "<html>".into()),
            "400 Bad Request",
        ),
    ] {
        issuer.answers(answer);
        fails(&Device::of(&issuer).token(&[]).await, 3, reason);
    }
}

#[tokio::test]
async fn metadata_must_be_those_of_the_issuer_asked() {
    let issuer = Issuer::start().await;
    issuer.states("issuer", &format!("{}/", issuer.url));
    fails(&Device::of(&issuer).token(&[]).await, 3, "set `issuer` to what it states");
    assert!(issuer.requests().is_empty());
}

#[tokio::test]
async fn the_token_endpoint_must_be_as_protected_as_the_issuer() {
    let issuer = Issuer::start().await;
    issuer.states("token_endpoint", "http://id.example/oauth2/token");
    fails(&Device::of(&issuer).token(&[]).await, 3, "--allow-insecure-http");
    assert!(issuer.requests().is_empty());
}

#[tokio::test]
async fn a_secret_that_others_can_read_is_not_sent() {
    let issuer = Issuer::start().await;
    let device = Device::of(&issuer);
    fs::set_permissions(device.home.path().join("secret"), Permissions::from_mode(0o640)).unwrap();
    fails(&device.token(&[]).await, 2, "chmod 600");
    assert_eq!(issuer.told.lock().unwrap().metadata_reads, 0);
}

#[tokio::test]
async fn flags_win_over_variables_and_those_over_the_file() {
    let issuer = Issuer::start().await;
    let device = Device::of(&issuer);
    let file = device.home.path().join("agent.toml");
    fs::write(
        &file,
        "client_id = 'of-the-file'\nscope = 'of-the-file'\nlog_level = 'error'\n[mqtt]\nqos = 2\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let print = ["token", "--config", file, "--scope", "of-the-flag", "--print-config"];
    let output = device.run(&print).await;
    let config: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    assert_eq!(config["client_id"].as_str(), Some("pump-1"));
    assert_eq!(config["scope"].as_str(), Some("of-the-flag"));
    assert_eq!(config["log_level"].as_str(), Some("error"));
    assert_eq!(config["mqtt"]["qos"].as_integer(), Some(2));
    assert_eq!(config["mqtt"]["keep_alive_s"].as_integer(), Some(60));

    fs::write(file, "isuer = 'x'\n").unwrap();
    fails(&device.token(&["--config", file]).await, 2, "unknown field `isuer`");
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_written_costs_only_the_cache() {
    let issuer = Issuer::start().await;
    let output = Device::of(&issuer).token(&["--state-dir", "/proc/nowhere"]).await;
    prints(&output, "t0ken-1");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be kept"));
}
