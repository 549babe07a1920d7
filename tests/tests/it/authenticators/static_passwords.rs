//! Static passwords, which the plugin exchanges for tokens.

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::wire::Received;

use super::*;

on_every_mosquitto!(a_static_password_opens_mosquitto_2_1_and_an_older_one_does_not_start,);

/// A broker that exchanges passwords at `token_url`, to be started.
fn exchanging(issuer: &Issuer, token_url: Option<&str>, version: MosquittoVersion) -> MosquittoBuilder {
    let builder = authenticated_by("fleet old hand_on", version);
    let credentials = builder.dir().write("broker.json", broker_at(issuer).to_string().as_bytes());
    let state = builder.dir().subdir("state");
    let builder = following(builder, "fleet", issuer, &credentials)
        .plugin_opt("state_dir", &state.to_string_lossy())
        .plugin_opt("old.kind", "static_password")
        .plugin_opt("old.issuer", issuer.identifier())
        .plugin_opt("old.credentials_file", &credentials.to_string_lossy());
    match token_url {
        Some(url) => builder.plugin_opt("old.token_url", url),
        None => builder,
    }
}

/// An issuer with the device `pump-1`, and the device's static password.
fn issuer_with_password() -> (Issuer, String) {
    let issuer = Issuer::start();
    assert_eq!(issuer.command(&["group", "set", "default", "--static-passwords"]).code, Some(0));
    let _device = issuer.add_device("pump-1");
    let password =
        issuer.json(&["device", "password", "set", "pump-1"])["password"].as_str().unwrap().to_owned();
    (issuer, password)
}

/// As good as any to a stranger.
const WRONG: &str = "fbp_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

/// Lets in somebody else, until when the broker knows the issuer's keys.
fn settle(issuer: &Issuer, broker: &Mosquitto) -> Wire {
    let token = issuer.token(&issuer.add_device("settler"));
    admitted_in_time(broker, &with_token("settler", &token))
}

fn a_static_password_opens_mosquitto_2_1_and_an_older_one_does_not_start(version: MosquittoVersion) {
    let (mut issuer, password) = issuer_with_password();
    let builder = exchanging(&issuer, None, version);
    if version != MosquittoVersion::V2_1 {
        let ended = builder.fails_to_start();
        assert_ne!(ended.code, Some(0));
        let reason = "plugin_opt_old.kind is static_password, which needs Mosquitto 2.1";
        assert!(ended.stderr.contains(reason), "{}", ended.stderr);
        return;
    }
    let mut broker = builder.start();
    let _settler = settle(&issuer, &broker);
    for protocol in Protocol::ALL {
        let pump = with_password("pump-1", "pump-1", &password);
        let mut device = Wire::open(protocol, broker.port());
        assert_eq!(device.connect(&pump), Some(0), "{}", broker.log());
        assert_eq!(device.subscribe("devices/pump-1/#", 0), Some(0));
        assert!(device.subscribe("devices/pump-2/#", 0).unwrap() >= 0x80);
        assert_eq!(device.publish("devices/pump-1/x", b"21"), Some(0));
        assert_eq!(device.packet(), Some(message("devices/pump-1/x", b"21")));
        let refused = Some(protocol.not_authorized());
        let mut stranger = Wire::open(protocol, broker.port());
        assert_eq!(stranger.connect(&with_password("pump-1", "pump-1", WRONG)), refused);
        let mut stranger = Wire::open(protocol, broker.port());
        assert_eq!(stranger.connect(&with_password("pump-2", "pump-1", &password)), refused);
        assert_eq!(device.packet_within(Duration::from_millis(100)), Received::Nothing, "undisturbed");
        broker.signal_hup();
        assert_eq!(device.publish("devices/pump-1/x", b"22"), Some(0), "{}", broker.log());
    }

    // What was queued is there for the one that has waited.
    let kept = Connect { keep_session: true, ..with_password("pump-1", "pump-1", &password) };
    let mut device = admitted(&broker, &kept);
    assert_eq!(device.subscribe("devices/pump-1/#", 1), Some(1));
    assert_eq!(issuer.command(&["device", "disable", "pump-1"]).code, Some(0));
    assert!(device.ended_within(Duration::from_secs(2)), "{}", broker.log());
    assert_eq!(connect(&broker, &kept).1, Some(0x87), "a memory is no way in");
    assert_eq!(issuer.command(&["device", "enable", "pump-1"]).code, Some(0));
    let deadline = Deadline::after(PATIENCE);
    let mut device = loop {
        let (wire, code) = connect(&broker, &kept);
        if code == Some(0) {
            break wire;
        }
        assert!(deadline.left().is_some(), "{}", broker.log());
        thread::sleep(Duration::from_secs(2));
    };
    assert_eq!(device.publish("devices/pump-1/x", b"23"), Some(0));

    // From memory, while the issuer is away.
    issuer.stop();
    drop(device);
    let _device = admitted(&broker, &kept);
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("fbp_") && !ended.stderr.contains("eyJ"), "a secret in the log");
}

#[test]
#[cfg_attr(no_mosquitto_2_1, ignore = "SKIPPED, no Mosquitto 2.1 here: see tests/install")]
fn an_issuer_that_is_silent_holds_up_nobody() {
    let (issuer, password) = issuer_with_password();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/oauth2/token", silent.local_addr().unwrap());
    let mut broker = exchanging(&issuer, Some(&url), MosquittoVersion::V2_1).start();
    let mut settler = settle(&issuer, &broker);
    let mut pump = Wire::open(Protocol::V5, broker.port());
    let (sender, answers) = mpsc::channel();
    thread::spawn(move || sender.send(pump.connect(&with_password("pump-1", "pump-1", &password))));
    for _ in 0..20 {
        assert_eq!(settler.publish("devices/settler/x", b"1"), Some(NO_SUBSCRIBERS));
    }
    assert!(answers.try_recv().is_err(), "others go on meanwhile");
    assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), Some(0x87));
    broker.wait_for_log("(exchange_failed)");
    assert_eq!(broker.stop().code, Some(0));
}

/// Somebody with the right password leaves while it is exchanged, and a
/// stranger waits in its place.
#[test]
#[cfg_attr(no_mosquitto_2_1, ignore = "SKIPPED, no Mosquitto 2.1 here: see tests/install")]
fn an_answer_is_nobody_elses() {
    let (issuer, password) = issuer_with_password();
    let broker = exchanging(&issuer, None, MosquittoVersion::V2_1).start();
    let _settler = settle(&issuer, &broker);
    for _ in 0..3 {
        let mut device = Wire::open(Protocol::V5, broker.port());
        device.send_connect(&with_password("pump-1", "pump-1", &password));
        drop(device);
        let answer = connect(&broker, &with_password("pump-1", "pump-1", WRONG)).1;
        // Or it was dropped, as one waited still.
        assert!(matches!(answer, Some(0x87) | None), "{answer:?}");
    }
    let deadline = Deadline::after(PATIENCE);
    while connect(&broker, &with_password("pump-1", "pump-1", &password)).1 != Some(0) {
        assert!(deadline.left().is_some(), "{}", broker.log());
        thread::sleep(Duration::from_secs(1));
    }
}
