//! Who is connected to which broker, and what was denied there: at the issuer
//! within seconds, on the spot in a file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use fleetbadge_tests::badges::guarded_by;
use fleetbadge_tests::broker::{Mosquitto, MosquittoBuilder, MosquittoVersion};
use fleetbadge_tests::device::curl;
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::wire::{Connect, Protocol, Wire};
use serde_json::{Value, json};

on_every_mosquitto!(
    operators_see_who_is_connected_and_what_was_denied,
    a_status_file_that_cannot_be_written_stops_the_start,
);

const BROKER: [&str; 7] = ["broker", "add", "hall", "--audience", "mqtt", "--profile", "fleetbadge"];

fn guarded(issuer: &Issuer, credentials: &Value, version: MosquittoVersion) -> MosquittoBuilder {
    let broker = guarded_by(issuer.identifier(), &issuer.jwks_url(), version);
    let file = broker.dir().write("broker.json", credentials.to_string().as_bytes());
    broker.plugin_opt("credentials_file", &file.to_string_lossy())
}

fn connect(broker: &Mosquitto, client_id: &str, token: &str) -> (Wire, Option<u8>) {
    let mut wire = Wire::open(Protocol::V5, broker.port());
    let code = wire.connect(&Connect { client_id, username: Some(token), ..Connect::default() });
    (wire, code)
}

/// Lets a device in, as soon as the broker knows the issuer's keys and
/// revocations.
fn let_in(issuer: &Issuer, broker: &Mosquitto, device: &Device) -> Wire {
    let (token, deadline) = (issuer.token(device), Deadline::after(PATIENCE));
    loop {
        let (wire, code) = connect(broker, &device.client_id, &token);
        if code == Some(0) {
            return wire;
        }
        assert!(deadline.left().is_some(), "never let in:\n{}", broker.log());
        thread::sleep(Duration::from_millis(100));
    }
}

fn eventually(issuer: &Issuer, what: &str, is_so: impl Fn() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(15));
    while !is_so() {
        let status = issuer.command(&["broker", "status"]);
        assert!(deadline.left().is_some(), "{what} within 15 s:\n{}\n{}", status.stdout, issuer.log());
        thread::sleep(Duration::from_millis(200));
    }
}

fn instance(issuer: &Issuer) -> Value {
    issuer.json(&["broker", "status", "hall"])["instances"][0].clone()
}

fn online(issuer: &Issuer, device: &str) -> Value {
    issuer.json(&["device", "show", device])["online"].clone()
}

fn operators_see_who_is_connected_and_what_was_denied(version: MosquittoVersion) {
    let mut issuer = Issuer::start();
    let credentials = issuer.json(&BROKER);
    let other = issuer.json(&["broker", "add", "yard", "--audience", "mqtt", "--profile", "fleetbadge"]);
    let (pump, valve) = (issuer.add_device("pump-1"), issuer.add_device("valve-1"));
    let builder = guarded(&issuer, &credentials, version);
    let status_file = builder.dir().subdir("run").join("status.json");
    let mut broker = builder.plugin_opt("status_file", &status_file.to_string_lossy()).start();
    let nobody = issuer.command(&["device", "show", "pump-1"]);
    assert!(nobody.stdout.contains("online           no broker says so\n"), "{}", nobody.stdout);

    let _pump = let_in(&issuer, &broker, &pump);
    let valve_wire = let_in(&issuer, &broker, &valve);
    for _ in 0..3 {
        assert_eq!(connect(&broker, "pump-2", &issuer.token(&pump)).1, Some(0x87));
    }
    eventually(&issuer, "both are seen and the denials counted", || {
        let seen = instance(&issuer);
        seen["sessions_online"] == 2 && seen["counters"]["denied"]["client_id_differs"] == 3
    });
    let seen = instance(&issuer);
    assert_eq!((&seen["silent"], &seen["counters"]["let_in"]), (&json!(false), &json!(2)));
    let of_pump = online(&issuer, "pump-1")[0].clone();
    assert_eq!((&of_pump["broker"], &of_pump["client_id"]), (&json!("hall"), &json!("pump-1")));
    assert!(of_pump["until"].as_u64().unwrap() > of_pump["since"].as_u64().unwrap() + 60);
    let shown = issuer.command(&["device", "show", "pump-1"]).stdout;
    assert!(shown.contains("online           hall as pump-1, since 20"), "{shown}");
    let status = issuer.command(&["broker", "status"]).stdout;
    for said in [
        "broker       hall\n\ninstance     ",
        "software     fleetbadge-mosquitto/",
        "heard of     at 20",
        "online       2\n",
        "let in       2 since 20",
        " client_id_differs\n",
        "broker       yard\nnothing was heard of it within a day\n",
    ] {
        assert!(status.contains(said), "{said}: {status}");
    }
    let listed = issuer.command(&["broker", "sessions", "hall"]).stdout;
    let clients: Vec<_> = listed.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(clients, ["CLIENT_ID", "pump-1", "valve-1"], "{listed}");

    // On the spot, without a name in it.
    let read = || fs::read_to_string(&status_file).unwrap();
    eventually(&issuer, "the file says it", || {
        let file: Value = serde_json::from_str(&read()).unwrap();
        file["sessions_online"] == 2 && file["counters"]["denied"]["client_id_differs"] == 3
    });
    assert_eq!(fs::metadata(&status_file).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(!read().contains("pump") && !read().contains("eyJ"));

    // One parts, while another broker says that all have.
    drop(valve_wire);
    let forged = json!({
        "version": 1, "instance": seen["instance"], "software": "x/1", "kids": [], "broker": "hall",
        "sessions": {"epoch": 1, "part": 0, "online": [], "gone": ["pump-1"]},
    });
    let user =
        format!("{}:{}", other["client_id"].as_str().unwrap(), other["client_secret"].as_str().unwrap());
    let (url, body) = (format!("{}/oauth2/reports", issuer.url()), forged.to_string());
    let answer = curl(["--user", &user, "--header", "Content-Type: application/json", "--data", &body, &url]);
    assert_eq!((answer.status, &answer.json()["sessions"]), (200, &json!("kept")));
    eventually(&issuer, "it has parted", || instance(&issuer)["sessions_online"] == 1);
    assert_eq!(
        (online(&issuer, "valve-1"), online(&issuer, "pump-1")[0]["client_id"].clone()),
        (Value::Null, json!("pump-1"))
    );

    // An issuer that comes back knows it still, and hears what it missed.
    issuer.kill();
    assert_eq!(connect(&broker, "valve-1", "none").1, Some(0x87));
    issuer.restart();
    assert_eq!(online(&issuer, "pump-1")[0]["broker"], "hall");
    let back = let_in(&issuer, &broker, &valve);
    eventually(&issuer, "it goes on", || instance(&issuer)["sessions_online"] == 2);
    drop(back);

    // A broker that starts anew has nobody.
    broker.stop();
    assert!(!status_file.exists());
    broker.start();
    eventually(&issuer, "nobody is left", || {
        let seen = instance(&issuer);
        seen["sessions_online"] == 0 && seen["counters"]["let_in"] == 0
    });
    assert!(!broker.log().contains("eyJ"));
}

fn a_status_file_that_cannot_be_written_stops_the_start(version: MosquittoVersion) {
    let issuer = Issuer::start();
    let builder = guarded_by(issuer.identifier(), &issuer.jwks_url(), version);
    let ended = builder.plugin_opt("status_file", "/nowhere/status.json").fails_to_start();
    assert!(ended.stderr.contains("plugin_opt_status_file: /nowhere/status.json: "), "{}", ended.stderr);
}
