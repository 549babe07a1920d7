//! The plugin and the real issuer together: what an operator does there ends
//! sessions here, however much else is taken back at the time.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_tests::badges::guarded_by;
use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::process::run;
use fleetbadge_tests::wire::{Connect, Protocol, Received, Wire};

on_every_mosquitto!(
    what_an_operator_takes_back_ends_sessions_and_the_fleet_goes_on,
    a_flood_of_revocations_holds_up_none,
);

const SECOND: Duration = Duration::from_secs(1);

/// A broker that knows the issuer by its name and its own credentials alone.
fn broker(issuer: &Issuer, version: MosquittoVersion) -> Mosquitto {
    let added = issuer.json(&["broker", "add", "hall", "--audience", "mqtt", "--profile", "fleetbadge"]);
    let broker = guarded_by(issuer.identifier(), &issuer.jwks_url(), version);
    let credentials = broker.dir().write("broker.json", added.to_string().as_bytes());
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o600)).unwrap();
    broker.plugin_opt("credentials_file", &credentials.to_string_lossy()).start()
}

/// Lets the device in, as soon as the broker knows the issuer's keys and
/// revocations.
fn let_in(issuer: &Issuer, broker: &Mosquitto, device: &Device, patience: Duration) -> Wire {
    let deadline = Deadline::after(patience);
    loop {
        // Shut out for a moment after something was taken back: 503.
        let answer = issuer.request_token(device, &[]);
        if answer.status == 200 {
            let token = answer.json()["access_token"].as_str().unwrap().to_owned();
            let mut wire = Wire::open(Protocol::V5, broker.port());
            let client_id = &*device.client_id;
            if wire.connect(&Connect { client_id, username: Some(&token), ..Connect::default() }) == Some(0) {
                return wire;
            }
        }
        assert!(deadline.left().is_some(), "not let in within {patience:?}:\n{}", broker.log());
        thread::sleep(Duration::from_millis(50));
    }
}

fn succeed(issuer: &Issuer, arguments: &[&str]) {
    let finished = issuer.command(arguments);
    assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
}

fn what_an_operator_takes_back_ends_sessions_and_the_fleet_goes_on(version: MosquittoVersion) {
    let issuer = Issuer::start();
    let broker = broker(&issuer, version);
    let (pump, valve) = (issuer.add_device("pump-1"), issuer.add_device("valve-1"));
    let mut live = let_in(&issuer, &broker, &pump, PATIENCE);
    let mut other = let_in(&issuer, &broker, &valve, PATIENCE);

    let deadline = Deadline::after(PATIENCE);
    let held = || issuer.command(&["key", "list"]).stdout.contains("hall: 1 of 1 instances");
    while !held() {
        assert!(deadline.left().is_some(), "{}", issuer.command(&["key", "list"]).stdout);
        thread::sleep(Duration::from_millis(50));
    }

    succeed(&issuer, &["device", "disable", "pump-1"]);
    assert!(live.ended_within(SECOND), "{}", broker.log());
    assert_eq!(other.packet_within(Duration::from_millis(50)), Received::Nothing, "others stay");

    let keys = issuer.json_lines(&["key", "list"]);
    let active = keys.iter().find(|key| key["state"] == "active").unwrap()["kid"].as_str().unwrap();
    succeed(&issuer, &["key", "revoke", active, "--yes"]);
    assert!(other.ended_within(SECOND), "{}", broker.log());
    // Sooner than the cool-down of unknown keys would let it.
    drop(let_in(&issuer, &broker, &valve, Duration::from_secs(5)));
}

fn a_flood_of_revocations_holds_up_none(version: MosquittoVersion) {
    let issuer = Issuer::start();
    let broker = broker(&issuer, version);
    let (pump, valve) = (issuer.add_device("pump-1"), issuer.add_device("valve-1"));
    let mut live = let_in(&issuer, &broker, &pump, PATIENCE);
    let mut other = let_in(&issuer, &broker, &valve, PATIENCE);
    take_back_tokens(&issuer, 1_000);
    succeed(&issuer, &["device", "disable", "pump-1"]);
    assert!(live.ended_within(SECOND), "{}", broker.log());
    assert_eq!(other.packet_within(Duration::from_millis(50)), Received::Nothing, "others stay");
}

/// One after the other, over one connection.
fn take_back_tokens(issuer: &Issuer, count: u128) {
    let socket = issuer.data_dir().join("admin.sock");
    let mut config = String::new();
    for n in 0..count {
        let jti = URL_SAFE_NO_PAD.encode(n.to_be_bytes());
        write!(
            config,
            "url = \"http://localhost/admin/v1/revocations\"\nunix-socket = \"{}\"\nsilent\nfail\n\
             output = /dev/null\njson = \"{{\\\"jti\\\":\\\"{jti}\\\"}}\"\nnext\n",
            socket.display()
        )
        .unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, config.trim_end_matches("next\n")).unwrap();
    let mut curl = Command::new("curl");
    curl.arg("--config").arg(file.path());
    let finished = run(curl);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}
