//! The configuration that is printed works, and what the lint says that a
//! broker does with one is what it does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use fleetbadge_tests::authority::Authority;
use fleetbadge_tests::badges::Badges;
use fleetbadge_tests::broker::{BrokerDir, Mosquitto, MosquittoBuilder, MosquittoVersion};
use fleetbadge_tests::device::mosquitto_pub;
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::on_every_mosquitto;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::ports;
use fleetbadge_tests::process::{Finished, run};
use fleetbadge_tests::programs::{Program, mosquitto_plugin};
use fleetbadge_tests::wire::{Connect, Protocol, Wire};
use serde_json::Value;

on_every_mosquitto!(
    printed_configuration_has_no_finding_and_lets_a_device_in,
    what_the_lint_refuses_the_broker_refuses_and_nothing_else,
    what_the_lint_says_of_open_doors_is_so,
);

fn name(version: MosquittoVersion) -> &'static str {
    match version {
        MosquittoVersion::V2_0_11 | MosquittoVersion::V2_0_21 => "2.0",
        MosquittoVersion::V2_1 => "2.1",
    }
}

fn config(version: MosquittoVersion, arguments: &[&str]) -> Finished {
    let mut command = Program::Validator.command();
    command.args(["config", "mosquitto", "--mosquitto", name(version)]).args(arguments);
    run(command)
}

fn lint(version: MosquittoVersion, file: &Path) -> Value {
    let found = config(version, &["--json", "--lint", &file.to_string_lossy()]);
    serde_json::from_str(&found.stdout).unwrap_or_else(|error| panic!("{error}: {found:?}"))
}

/// A broker that root starts becomes user `mosquitto`; the others stay who
/// they are, and a configuration must say so.
fn user_line() -> String {
    let mut id = Command::new("id");
    id.arg("-un");
    match run(id).stdout.trim() {
        "root" => String::new(),
        name => format!("user {name}\n"),
    }
}

fn plugin_in(dir: &BrokerDir) -> String {
    let plugin = fs::read(mosquitto_plugin()).unwrap();
    dir.write("libfleetbadge_mosquitto.so", &plugin).to_string_lossy().into_owned()
}

fn printed_configuration_has_no_finding_and_lets_a_device_in(version: MosquittoVersion) {
    let (issuer, authority) = (Issuer::start(), Authority::new());
    let added = issuer.json(&["broker", "add", "hall", "--audience", "mqtt", "--profile", "fleetbadge"]);
    let broker = Mosquitto::builder(version);
    let port = ports::free();
    let copy = |name: &str, content: &[u8]| broker.dir().write(name, content).to_string_lossy().into_owned();
    let text = config(
        version,
        &[
            "--issuer",
            issuer.identifier(),
            "--jwks-url",
            &issuer.jwks_url(),
            "--plugin",
            &plugin_in(broker.dir()),
            "--credentials-file",
            &copy("broker.json", added.to_string().as_bytes()),
            "--certfile",
            &copy("server.pem", &fs::read(authority.certificate()).unwrap()),
            "--keyfile",
            &copy("server.key", &fs::read(authority.key()).unwrap()),
            "--state-dir",
            &broker.dir().subdir("state").to_string_lossy(),
            "--persistence-location",
            &broker.dir().subdir("data").to_string_lossy(),
            "--address",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ],
    );
    assert_eq!(text.code, Some(0), "{}", text.stderr);
    // Where the test looks for it.
    let text = text.stdout.replace("log_dest syslog", "log_dest stderr") + &user_line();
    let file = broker.dir().write("printed.conf", text.as_bytes());
    let found = config(version, &["--strict", "--lint", &file.to_string_lossy()]);
    assert_eq!((found.code, found.stdout.trim()), (Some(0), "nothing found"), "{text}");

    let mut broker = broker.configuration(&text).start();
    let device = issuer.add_device("pump-1");
    let publish = |username: &str| {
        let mut publish = mosquitto_pub(port);
        publish.args([
            "-h",
            "localhost",
            "--cafile",
            &authority.certificate_of_authority().to_string_lossy(),
        ]);
        publish.args([
            "-i",
            &device.client_id,
            "-u",
            username,
            "-t",
            "devices/pump-1/x",
            "-m",
            "1",
            "-q",
            "1",
        ]);
        run(publish)
    };
    // The broker is there before the keys and revocations are.
    let deadline = Deadline::after(PATIENCE);
    loop {
        let published = publish(&issuer.token(&device));
        if published.code == Some(0) {
            break;
        }
        assert!(deadline.left().is_some(), "{}\n{}", published.stderr, broker.log());
        thread::sleep(Duration::from_millis(100));
    }
    assert_ne!(publish("pump-1").code, Some(0), "a name is no token");
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("eyJ"), "a token in the log");
}

/// The lines that each of the following begins with; `PORT` and `DIR` are
/// replaced.
const BASE: &str = "log_dest stderr\nlistener PORT 127.0.0.1\nplugin DIR/libfleetbadge_mosquitto.so\n\
                    plugin_opt_issuer https://id.example\nplugin_opt_audience mqtt\n\
                    plugin_opt_jwks_file DIR/jwks.json\n";

/// Lines behind [`BASE`], or, with `^`, before it.
const CORPUS: &[&str] = &[
    "",
    "allow_anonymous 0 # what follows is not read",
    " allow_anonymous  false ",
    "allow_anonymous false\r\n\r\nmax_connections 5\r",
    "   ",
    "allow_anonymous true\nallow_anonymous false",
    "max_connections 07",
    "include_dir DIR/conf.d",
    "^max_connections -1\nmax_qos 2",
    "^per_listener_settings true",
    "^per_listener_settings true\nper_listener_settings false",
    "plugin_opt_skew_s 300",
    "plugin_opt_state_dir DIR/state\nplugin_opt_credentials_file DIR/broker.json",
    "user mosquitto",
    "certfile DIR/server.pem\nkeyfile DIR/server.key\ntls_version tlsv1.1",
    "connection a\naddress 127.0.0.1:1\ntopic x",
    // Refused by one or all.
    "  # a comment",
    "allow_anonymous\tfalse",
    "allow_anonymus false",
    "allow_anonymous",
    "allow_anonymous yes",
    "allow_anonymous true\t",
    "per_listener_settings true",
    "global_plugin DIR/nowhere.so",
    "listener_allow_anonymous false",
    "listener 0",
    "listener 99999",
    "listener",
    "protocol http",
    "log_type everything",
    "log_dest journal",
    "socket_domain ipv5",
    "max_qos 3",
    "max_packet_size 19",
    "max_connections many",
    "sys_interval -1",
    "persistent_client_expiration 5",
    "enable_proxy_protocol 3",
    "user mosquitto\nuser mosquitto",
    "persistence_location DIR\npersistence_location DIR",
    "include_dir DIR/nowhere",
    "^plugin_opt_issuer x",
    "^mount_point x/",
    "^tls_version tlsv1.2",
    "^per_listener_settings true\nacl_file DIR/jwks.json",
    "^auth_plugin_deny_special_chars true",
    "topic x",
    "connection a\naddress 127.0.0.1:1",
    "connection a\ntopic x",
    "plugin_use badge",
    "plugin DIR/nowhere.so",
    "certfile DIR/server.pem\nkeyfile DIR/nowhere.key",
    "certfile DIR/server.pem\nkeyfile DIR/server.key\ntls_version tlsv1",
    "plugin_opt_isuer x",
    "plugin_opt_audience mqtt",
    "plugin_opt_skew_s 301",
    "plugin_opt_skew_s 5 # seconds",
    "plugin_opt_skew_s",
    "plugin_opt_state_dir DIR/nowhere\nplugin_opt_credentials_file DIR/broker.json",
    "plugin_opt_state_dir DIR/open\nplugin_opt_credentials_file DIR/broker.json",
    "plugin_opt_state_dir DIR/state\nplugin_opt_credentials_file DIR/readable.json",
    "plugin_opt_state_dir DIR/state\nplugin_opt_credentials_file DIR/jwks.json",
    "plugin_opt_state_dir DIR/state\nplugin_opt_jwks_url https://id.example/jwks",
    "plugin DIR/libfleetbadge_mosquitto.so\nplugin_opt_issuer https://id.example\nplugin_opt_audience mqtt\n\
     plugin_opt_jwks_file DIR/jwks.json",
    "plugin DIR/libfleetbadge_mosquitto.so  \nplugin_opt_issuer https://id.example",
];

/// What a broker says of by reading its configuration alone.
const READING: [&str; 8] = [
    "bridge_incomplete",
    "include_dir_nested",
    "per_listener_settings_late",
    "plugin_unknown",
    "setting_misplaced",
    "setting_twice",
    "setting_unknown",
    "value_missing",
];

/// A broker with the files that [`CORPUS`] names.
fn furnished(version: MosquittoVersion) -> MosquittoBuilder {
    let broker = Mosquitto::builder(version);
    let (dir, badges, authority) = (broker.dir(), Badges::new(), Authority::new());
    plugin_in(dir);
    dir.write("jwks.json", badges.jwks().as_bytes());
    dir.write("server.pem", &fs::read(authority.certificate()).unwrap());
    dir.write("server.key", &fs::read(authority.key()).unwrap());
    for (name, mode) in [("broker.json", 0o600), ("readable.json", 0o604)] {
        let path = dir.write(name, br#"{"client_id":"hall","client_secret":"no-such-secret"}"#);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, mode) in [("state", 0o700), ("open", 0o702), ("conf.d", 0o700)] {
        fs::set_permissions(dir.subdir(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    dir.write("conf.d/one.conf", b"# a comment\n\nmax_keepalive 60\n");
    broker
}

fn written(broker: &MosquittoBuilder, change: &str, port: u16) -> String {
    let text = match change.strip_prefix('^') {
        Some(before) => format!("{before}\n{BASE}"),
        None => format!("{BASE}{change}\n"),
    };
    let text = if change.contains("user ") { text } else { text + &user_line() };
    let dir = broker.dir().path().to_string_lossy();
    text.replace("PORT", &port.to_string()).replace("DIR", &dir)
}

fn what_the_lint_refuses_the_broker_refuses_and_nothing_else(version: MosquittoVersion) {
    let mut refusals = 0;
    for change in CORPUS {
        let broker = furnished(version);
        let text = written(&broker, change, ports::free());
        let file = broker.dir().write("linted.conf", text.as_bytes());
        let findings = lint(version, &file)["findings"].as_array().unwrap().clone();
        let refuses = |found: &&Value| {
            let said = format!("{} {}", found["text"], found["way_out"]);
            said.contains("the broker does not start")
        };
        let refusal = findings.iter().find(refuses);
        if version == MosquittoVersion::V2_1 {
            let code = refusal.and_then(|found| found["code"].as_str()).unwrap_or_default();
            let is_malformed = code == "value_malformed" && !text.contains("tls_version tlsv1\n");
            let by_reading =
                READING.contains(&code) || is_malformed || change.contains("include_dir DIR/nowhere");
            let tested = broker.tests_configuration(&text);
            assert_eq!(tested.code == Some(0), !by_reading, "{tested:?}");
        }
        let broker = broker.configuration(&text);
        match refusal {
            Some(_) => {
                assert_ne!(broker.fails_to_start().code, Some(0));
                refusals += 1;
            }
            None => drop(broker.start()),
        }
    }
    assert!(refusals > 30, "{refusals}");
}

/// Who gets in, and what the lint says of it.
fn what_the_lint_says_of_open_doors_is_so(version: MosquittoVersion) {
    for (change, code, is_open) in [
        ("listener OTHER 127.0.0.1", None, false),
        ("allow_anonymous true", Some("anonymous_allowed"), false),
        ("password_file DIR/passwords", Some("without_effect"), false),
        ("^per_listener_settings true", None, false),
        ("^per_listener_settings true\n$listener OTHER 127.0.0.1", Some("listener_unguarded"), false),
        (
            "^per_listener_settings true\n$listener OTHER 127.0.0.1\nallow_anonymous true",
            Some("listener_unguarded"),
            true,
        ),
        (
            "^per_listener_settings true\n$listener OTHER 127.0.0.1\npassword_file DIR/passwords",
            Some("listener_unguarded"),
            true,
        ),
    ] {
        let broker = furnished(version);
        broker.dir().write("passwords", PASSWORDS.as_bytes());
        let (port, other) = (ports::free(), ports::free());
        let (before, after) = change.split_once('$').unwrap_or((change, ""));
        let text = written(&broker, before, port) + after + "\n";
        let passwords = broker.dir().path().join("passwords").to_string_lossy().into_owned();
        let text = text.replace("OTHER", &other.to_string()).replace("DIR/passwords", &passwords);
        let file = broker.dir().write("linted.conf", text.as_bytes());
        let report = lint(version, &file);
        let findings = report["findings"].as_array().unwrap();
        let says = |code: &str| findings.iter().any(|found| found["code"] == code);
        assert_eq!(says("listener_unguarded"), code == Some("listener_unguarded"), "{change}: {report}");
        if let Some(code) = code {
            assert!(says(code), "{change}: {report}");
        }

        let door = if change.contains("OTHER") { other } else { port };
        let broker = broker.configuration(&text).start();
        let strangers = [(None, None::<&str>), (Some("alice"), Some("secret"))];
        let gets_in = strangers.iter().any(|(username, password)| {
            let mut wire = Wire::open(Protocol::V5, door);
            wire.connect(&Connect {
                client_id: "stranger",
                username: *username,
                password: password.map(str::as_bytes),
                ..Connect::default()
            }) == Some(0)
        });
        assert_eq!(gets_in, is_open, "{change}:\n{}", broker.log());
    }
}

/// `alice` with `secret`, as `mosquitto_passwd -b` writes it.
const PASSWORDS: &str = "alice:$7$101$HuNbHKDCHB4uGRcC$HEixm8pPHqxUe9ASNnO2wSIJ1k3zAiErhUNWEkJ6TVPaq7nLHjOGA/OZuMIZM8it9WN4Mgmi1GSE4DAUyJh8wg==\n";
