//! The plugin as a library: what it exports, its thread, its files.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fleetbadge_tests::badges::{ISSUER, guarded_by};
use fleetbadge_tests::broker::MosquittoVersion;
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::process::run;
use fleetbadge_tests::programs::mosquitto_plugin;
use fleetbadge_tests::wire::Protocol;

use super::connack;

on_every_mosquitto!(fetch_that_hangs_does_not_hold_up_the_exit, keys_on_disk_are_written_by_the_broker_alone,);

fn fetch_that_hangs_does_not_hold_up_the_exit(version: MosquittoVersion) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks", silent.local_addr().unwrap());
    let (sender, fetches) = mpsc::channel();
    thread::spawn(move || sender.send(silent.accept()));
    let mut broker = guarded_by(ISSUER, &url, version).start();
    let _held = fetches.recv_timeout(PATIENCE).expect("a fetch").unwrap();
    // Until its loop turns, Mosquitto may miss a signal.
    assert_eq!(connack(Protocol::V5, broker.port(), "pump-1", "x"), Some(0x87));

    let soon = Deadline::after(Duration::from_secs(2));
    let ended = broker.stop();
    assert!(soon.left().is_some(), "ended within 2 s");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

fn keys_on_disk_are_written_by_the_broker_alone(version: MosquittoVersion) {
    let issuer = Issuer::start();
    let broker = guarded_by(&issuer.url(), &issuer.jwks_url(), version).start();
    let state = broker.dir().path().join("state");
    let keys = || {
        let mut files = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap());
        files.find(|file| file.file_name().to_string_lossy().starts_with("jwks-"))
    };
    let deadline = Deadline::after(PATIENCE);
    while keys().is_none() {
        assert!(deadline.left().is_some(), "no keys on disk:\n{}", broker.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(keys().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);

    for open in [0o720, 0o702] {
        let broker = guarded_by(&issuer.url(), &issuer.jwks_url(), version);
        let state = broker.dir().path().join("state");
        fs::set_permissions(&state, fs::Permissions::from_mode(open)).unwrap();
        let ended = broker.fails_to_start();
        assert_ne!(ended.code, Some(0));
        let reason = format!("has mode {open:04o}: others may write it");
        let named = |line: &str| line.contains("plugin_opt_state_dir") && line.contains(&reason);
        assert!(ended.stderr.lines().any(named), "{}", ended.stderr);
    }
}

/// Mosquitto 2.0 makes what a plugin exports visible to all others, and a
/// broker's function that is missing would stop the start.
#[test]
fn exports_its_entry_points_and_imports_nothing_of_the_broker() {
    let symbols = |kind: &str| -> Vec<String> {
        let mut nm = Command::new("nm");
        nm.args(["--dynamic", "--format=just-symbols", kind]).arg(mosquitto_plugin());
        let listed = run(nm);
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        listed.stdout.lines().map(str::to_owned).collect()
    };
    let exported = symbols("--defined-only");
    assert_eq!(exported, ["mosquitto_plugin_cleanup", "mosquitto_plugin_init", "mosquitto_plugin_version"]);
    let imported = symbols("--undefined-only");
    assert!(imported.iter().any(|symbol| symbol.starts_with("dlsym")), "{imported:?}");
    assert!(!imported.iter().any(|symbol| symbol.starts_with("mosquitto")), "{imported:?}");
}
