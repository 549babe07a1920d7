//! Every finding, made by one change of the printed configuration.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Parser;
use fleetbadge_mosquitto_options::option_table::{self, OPTIONS};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// A folder with everything that the printed configuration names.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.set_mode(".", 0o700);
        for (name, content) in [
            ("libfleetbadge_mosquitto.so", ""),
            ("other.so", ""),
            ("server.pem", ""),
            ("server.key", ""),
            ("fleetbadge.json", r#"{"client_id":"hall-1","client_secret":"not-a-real-one"}"#),
        ] {
            machine.write(name, content);
        }
        for name in ["state", "data"] {
            fs::create_dir(machine.path(name)).unwrap();
            machine.set_mode(name, 0o700);
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        self.set_mode(name, 0o600);
        path
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The printed configuration, for this machine, run by a user that it does
    /// not have: who may read what is tested elsewhere.
    fn printed(&self, version: &str, more: &[&str]) -> String {
        let files = [
            ("--plugin", "libfleetbadge_mosquitto.so"),
            ("--certfile", "server.pem"),
            ("--keyfile", "server.key"),
            ("--credentials-file", "fleetbadge.json"),
            ("--state-dir", "state"),
            ("--persistence-location", "data"),
        ];
        let files = files.map(|(flag, name)| [flag.to_owned(), self.path(name).display().to_string()]);
        let mut line = vec!["config".to_owned(), "--mosquitto".into(), version.into()];
        line.extend(files.into_iter().flatten());
        line.extend(more.iter().map(|word| (*word).to_owned()));
        let Line { arguments } = Line::parse_from(line);
        arguments.print.configuration(arguments.mosquitto) + "user fleetbadge-no-such-user\n"
    }

    fn lint(&self, version: Version, configuration: &str) -> Vec<Finding> {
        let configuration = configuration.replace("DIR", &self.0.path().display().to_string());
        lint(&self.write("mosquitto.conf", &configuration), version).unwrap()
    }
}

fn name(version: Version) -> &'static str {
    match version {
        Version::V2_0 => "2.0",
        Version::V2_1 => "2.1",
    }
}

#[test]
fn what_is_printed_has_no_finding() {
    let machine = Machine::new();
    machine.write("client-ca.pem", "");
    let client_ca = machine.path("client-ca.pem").display().to_string();
    for version in [Version::V2_0, Version::V2_1] {
        for more in [
            &[][..],
            &["--websockets-port", "8884", "--address", "10.0.0.1"],
            &["--client-ca", &client_ca, "--jwks-url", "https://keys.example/jwks"],
        ] {
            let text = machine.printed(name(version), more);
            assert_eq!(machine.lint(version, &text), [], "{text}");
        }
    }
}

#[test]
fn every_option_of_the_plugin_is_printed_with_its_meaning_and_default() {
    let text = Machine::new().printed("2.0", &[]);
    for option in OPTIONS {
        let lines = text.lines().filter(|line| {
            line.trim_start_matches('#').starts_with(&format!("plugin_opt_{} ", option.written()))
        });
        assert_eq!(lines.count(), 1, "{}", option.name);
    }
    assert!(text.contains(
        "# By how many seconds the clocks may differ, at most 300. (default: 5)\n#plugin_opt_skew_s 5"
    ));
    assert!(text.lines().all(|line| line.len() <= 110), "lines of bearable length");
}

/// What is done to the printed configuration.
#[derive(Clone, Copy)]
enum Change {
    /// Lines at its end; the last listener is still the one they belong to.
    End(&'static str),
    /// Lines before everything else.
    Start(&'static str),
    /// Without the lines that begin so.
    Without(&'static str),
    /// One text for another.
    Instead(&'static str, &'static str),
}

use Change::{End, Instead, Start, Without};

const ONE: Version = Version::V2_0;
const TWO: Version = Version::V2_1;

/// From one issuer to an authenticator for it, and one for static passwords.
const LIST: [Change; 3] = [
    Instead(
        "plugin_opt_issuer https://id.example",
        "plugin_opt_authenticators fleet old\nplugin_opt_fleet.issuer https://id.example\n\
         plugin_opt_old.kind static_password\nplugin_opt_old.issuer https://id.example\n\
         plugin_opt_old.credentials_file DIR/fleetbadge.json",
    ),
    Instead("plugin_opt_jwks_url", "plugin_opt_fleet.jwks_url"),
    Instead("plugin_opt_credentials_file", "plugin_opt_fleet.credentials_file"),
];

/// The changes, and the codes of what is found then.
#[rustfmt::skip] // a table
const CASES: &[(Version, &[Change], &[&str])] = &[
    // Who gets in.
    (ONE, &[Without("plugin")], &["listener_unguarded", "no_plugin"]),
    (ONE, &[Without("plugin"), Instead("allow_anonymous false", "allow_anonymous true")],
     &["anonymous_allowed", "listener_unguarded", "no_plugin"]),
    (ONE, &[Instead("allow_anonymous false", "allow_anonymous true")], &["anonymous_allowed"]),
    (ONE, &[Instead("allow_anonymous false", "allow_anonymous 1 # for now")], &["anonymous_allowed"]),
    (ONE, &[End("password_file DIR/server.pem")], &["without_effect"]),
    (ONE, &[End("acl_file DIR/server.pem")], &["without_effect"]),
    (ONE, &[End("plugin DIR/other.so")], &["plugin_after"]),
    (ONE, &[Start("plugin DIR/other.so")], &["plugin_before"]),
    (TWO, &[Start("auth_plugin DIR/other.so")], &["plugin_before"]),
    (ONE, &[End("plugin DIR/libfleetbadge_mosquitto.so\nplugin_opt_issuer https://id.example\nauth_opt_audience mqtt\n\
                 plugin_opt_jwks_url https://id.example/jwks\nplugin_opt_state_dir DIR/state\nplugin_opt_credentials_file DIR/fleetbadge.json")],
     &["plugin_twice"]),
    (TWO, &[End("plugin DIR/libfleetbadge_mosquitto.so\nplugin_opt_issuer https://id.example\nplugin_opt_audience mqtt\n\
                 plugin_opt_jwks_url https://id.example/jwks\nplugin_opt_state_dir DIR/state\nplugin_opt_credentials_file DIR/fleetbadge.json")],
     &["plugin_twice"]),
    // A plugin before the first listener is one of the default listener under per_listener_settings.
    (ONE, &[Start("per_listener_settings true"), Without("allow_zero")],
     &["default_listener", "no_clock", "no_tls", "connections_unlimited", "listener_unguarded"]),
    (TWO, &[Start("per_listener_settings true"), Without("allow_")], &[]),
    (ONE, &[End("per_listener_settings true")], &["per_listener_settings_late"]),
    (ONE, &[Start("max_connections 10")], &["default_listener", "no_tls"]),
    (ONE, &[Start("max_connections -1\nmax_qos 2\nprotocol mqtt\nrequire_certificate false")], &[]),
    (TWO, &[Start("max_qos 2")], &["connections_unlimited", "default_listener", "no_tls"]),
    (TWO, &[Instead("global_plugin", "plugin_load badge")], &["listener_unguarded", "plugin_unused"]),
    (TWO, &[Instead("global_plugin", "plugin_load badge"), End("plugin_use badge")], &[]),
    (TWO, &[Instead("global_plugin", "plugin_load badge"), End("plugin_use badge\nlistener 1 127.0.0.1\nmax_connections 1\nlistener_allow_anonymous true")],
     &["anonymous_allowed", "listener_unguarded"]),
    (TWO, &[End("plugin_use badge")], &["plugin_unknown"]),
    (TWO, &[End("listener_allow_anonymous true")], &["anonymous_allowed"]),
    (ONE, &[Without("listener"), Without("certfile"), Without("keyfile"), Without("tls_version"), Without("max_connections")], &["no_listener"]),
    (ONE, &[End("use_username_as_clientid true")], &["username_as_clientid"]),
    (ONE, &[End("use_username_as_clientid false")], &[]),
    (ONE, &[End("use_identity_as_username true")], &["certificate_as_username"]),
    (ONE, &[End("use_subject_as_username true")], &["certificate_as_username"]),
    (ONE, &[End("mount_point hall/")], &["mount_point"]),

    // On the way.
    (ONE, &[Without("certfile"), Without("keyfile")], &["no_tls"]),
    (ONE, &[Without("certfile"), Without("keyfile"), End("protocol websockets")], &["no_tls"]),
    (ONE, &[Without("certfile"), Without("keyfile"), Instead("listener 8883", "listener 1883 127.0.0.1")], &[]),
    (ONE, &[Without("certfile"), Without("keyfile"), Instead("listener 8883", "listener 0 /run/mosquitto/socket")], &[]),
    (ONE, &[Without("certfile"), Without("keyfile"), Instead("listener 8883", "listener 1883 ::1")], &[]),
    (ONE, &[Without("keyfile")], &["no_tls", "tls_incomplete"]),
    (ONE, &[Without("certfile"), Without("keyfile"), End("psk_hint hall")], &["psk"]),
    (ONE, &[Instead("tlsv1.2", "tlsv1.1")], &["tls_version_old"]),
    (ONE, &[Instead("tlsv1.2", "tlsv1")], &["value_malformed"]),
    (ONE, &[End("cafile DIR/server.pem")], &["certificate_not_required"]),
    (ONE, &[Without("certfile"), Without("keyfile"), Instead("listener 8883", "listener 1883 127.0.0.1"), End("require_certificate true")], &["without_effect"]),
    (TWO, &[End("disable_client_cert_date_checks true")], &["certificate_dates"]),
    (TWO, &[End("enable_proxy_protocol 1")], &["proxy_protocol"]),
    (ONE, &[End("protocol websockets\nhttp_dir DIR/data")], &["http_dir"]),

    // The plugin.
    (ONE, &[Instead("plugin_opt_issuer", "plugin_opt_isuer")], &["plugin_option"]),
    (ONE, &[Without("plugin_opt_audience")], &["plugin_option"]),
    (ONE, &[Instead("#plugin_opt_skew_s 5", "plugin_opt_skew_s 5 s")], &["plugin_option"]),
    (ONE, &[Instead("#plugin_opt_skew_s 5", "plugin_opt_skew_s 61")], &["skew_large"]),
    (ONE, &[Instead("#plugin_opt_skew_s 5", "plugin_opt_skew_s 60")], &[]),
    (ONE, &[Instead("#plugin_opt_max_staleness_s 86400", "plugin_opt_max_staleness_s 86401")], &["staleness_long"]),
    (ONE, &[Instead("#plugin_opt_max_lifetime_s 86400", "plugin_opt_max_lifetime_s 604800")], &["lifetime_long"]),
    (ONE, &[Instead("audience mqtt", "audience mqtt ")], &["option_blank"]),
    (ONE, &[Without("plugin_opt_credentials_file")], &["revocations_not_followed"]),
    (ONE, &[Instead("fleetbadge.json", "server.key")], &["file_unusable"]),
    (ONE, &[Instead("state\n", "nowhere\n")], &["file_unusable"]),
    (ONE, &[Instead("state\n", "server.pem\n")], &["file_unusable"]),
    (ONE, &[Instead("plugin_opt_jwks_url https://id.example/oauth2/jwks", "plugin_opt_jwks_file DIR/server.pem")], &["file_unusable"]),
    (ONE, &[Instead("#plugin_opt_ca_file /etc/mosquitto/issuer-ca.pem", "plugin_opt_ca_file DIR/nowhere.pem")], &["file_unusable"]),
    (TWO, &LIST, &[]),
    (ONE, &LIST, &["exchange_needs_2_1"]),
    (ONE, &[LIST[0], LIST[1], LIST[2], Instead("plugin_opt_old.kind", "plugin_opt_old.enabled false\nplugin_opt_old.kind")], &[]),
    (TWO, &[LIST[0], LIST[1], LIST[2], Instead("fleet old", "fleet old\thand_on\nplugin_opt_hand_on.enabled false"), End("password_file DIR/server.pem")],
     &["without_effect"]),
    (TWO, &[LIST[0], LIST[2]], &["plugin_option"]),
    (TWO, &[LIST[0], LIST[1], LIST[2], Instead("fleet.issuer https:", "fleet.issuer http:")], &["insecure_http", "plugin_option"]),
    (TWO, &[LIST[0], LIST[1], LIST[2], Instead("fleet old", "fleet old hand_on"), End("password_file DIR/server.pem")], &[]),
    (ONE, &[Instead("plugin_opt_jwks_url https:", "plugin_opt_jwks_url http:")], &["insecure_http"]),
    (ONE, &[Instead("plugin_opt_issuer https:", "plugin_opt_issuer http:")], &["insecure_http"]),
    (ONE, &[Instead("https://id.example", "http://127.0.0.1:8080")], &[]),
    (ONE, &[Instead("#plugin_opt_allow_insecure_http false", "plugin_opt_allow_insecure_http true")], &["insecure_http_allowed"]),
    (ONE, &[Instead("libfleetbadge", "libfleetbadges")], &["file_missing"]),
    (TWO, &[Instead("mosquitto.so", "mosquitto.so  ")], &["file_missing"]),
    (ONE, &[Instead("mosquitto.so", "mosquitto.so  ")], &[]),
    (ONE, &[Instead("server.pem", "server-2.pem")], &["file_missing"]),

    // The broker.
    (ONE, &[Instead("max_packet_size 262144", "max_packet_size 10239")], &["packet_too_small"]),
    (ONE, &[Instead("max_packet_size 262144", "max_packet_size 19")], &["value_malformed"]),
    (ONE, &[Without("max_connections")], &["connections_unlimited"]),
    (ONE, &[Instead("max_connections 100000", "max_connections -1")], &["connections_unlimited"]),
    (ONE, &[Instead("max_keepalive 1800", "max_keepalive 0")], &["keepalive_unlimited"]),
    (ONE, &[Instead("max_queued_messages 1000", "max_queued_messages 0")], &["queue_unlimited"]),
    (ONE, &[Without("persistent_client_expiration")], &["sessions_never_end"]),
    (ONE, &[Instead("expiration 14d", "expiration 14")], &["value_malformed", "sessions_never_end"]),
    (ONE, &[End("queue_qos0_messages true")], &["queues_qos_0"]),
    (ONE, &[Instead("check_retain_source true", "check_retain_source false")], &["retain_source_unchecked"]),
    (ONE, &[Instead("clientid false", "clientid true")], &["empty_client_id"]),
    (ONE, &[End("auto_id_prefix auto-")], &["empty_client_id"]),
    (ONE, &[End("clientid_prefixes pump-")], &["clientid_prefixes"]),
    (ONE, &[End("clientid_prefixes pump/")], &["clientid_prefixes"]),
    (ONE, &[Instead("user fleetbadge-no-such-user", "user root")], &["runs_as_root"]),
    (ONE, &[End("log_dest topic")], &["log_to_topic"]),
    (ONE, &[End("log_dest none")], &["no_log"]),
    (ONE, &[End("log_type all")], &["log_verbose"]),
    (ONE, &[End("log_type subscribe\nlog_type websockets")], &["log_verbose"]),
    (ONE, &[End("connection_messages false")], &["connections_not_logged"]),
    (TWO, &[End("enable_control_api true")], &["control_api"]),

    // Bridges.
    (ONE, &[End("connection hall\naddress other.example\ntopic x/# out\nbridge_cafile DIR/server.pem")], &[]),
    (ONE, &[End("connection hall")], &["bridge_incomplete"]),
    (ONE, &[End("connection hall\naddress 127.0.0.1\ntopic # both 1 \"\" \"\"")], &["bridge_everything"]),
    (ONE, &[End("connection hall\naddress 127.0.0.1\ntopic # in 1 hall/ \"\"")], &[]),
    (ONE, &[End("connection hall\naddress other.example:1883\ntopic x\nremote_username a")], &["bridge_no_tls"]),
    (ONE, &[End("connection hall\naddress 127.0.0.1:1883\ntopic x\nremote_username a\nremote_password b")], &[]),
    (ONE, &[End("connection hall\naddress 127.0.0.1:1883\ntopic x\nbridge_insecure true")], &["bridge_insecure"]),

    // What the broker does not start with.
    (ONE, &[End("  # a comment")], &["setting_unknown"]),
    (ONE, &[End("allow_anonymous\tfalse")], &["setting_unknown"]),
    (ONE, &[End("allow_anonymus false")], &["setting_unknown"]),
    (ONE, &[End("global_plugin DIR/other.so")], &["setting_unknown"]),
    (ONE, &[End("allow_anonymous")], &["value_missing"]),
    (ONE, &[End("allow_anonymous yes")], &["value_malformed"]),
    (ONE, &[End("max_connections many")], &[]),
    (TWO, &[End("max_connections many")], &["value_malformed"]),
    (ONE, &[End("listener 99999")], &["value_malformed"]),
    (ONE, &[End("listener 0")], &["value_malformed"]),
    (ONE, &[End("protocol http_api")], &["value_malformed"]),
    (ONE, &[End("log_dest journal")], &["value_malformed"]),
    (ONE, &[Start("plugin_opt_issuer x")], &["setting_misplaced"]),
    (ONE, &[End("bridge_cafile x")], &["setting_misplaced"]),
    (ONE, &[Start("mount_point x")], &["setting_misplaced"]),
    (TWO, &[Start("tls_version tlsv1.2")], &["setting_misplaced"]),
    (TWO, &[Start("per_listener_settings true\nacl_file x"), Without("allow_")], &["setting_misplaced"]),
    (ONE, &[End("user fleetbadge-no-such-user")], &["setting_twice"]),
    (TWO, &[End("user fleetbadge-no-such-user")], &[]),
    (ONE, &[End("certfile DIR/server.pem")], &["setting_twice"]),
    (ONE, &[End("include_dir DIR/nowhere")], &["file_unreadable"]),
];

fn changed(text: &str, changes: &[Change]) -> String {
    let mut text = text.to_owned();
    for change in changes {
        text = match change {
            End(lines) => format!("{text}{lines}\n"),
            Start(lines) => format!("{lines}\n{text}"),
            Without(start) => {
                text.lines().filter(|line| !line.starts_with(start)).map(|line| format!("{line}\n")).collect()
            }
            Instead(old, new) => {
                assert!(text.contains(old), "{old}");
                text.replace(old, new)
            }
        };
    }
    text
}

fn codes(findings: &[Finding]) -> BTreeSet<&'static str> {
    findings.iter().map(|found| found.code).collect()
}

#[test]
fn every_change_has_its_finding_and_no_other() {
    let machine = Machine::new();
    for (version, changes, expected) in CASES {
        let text = changed(&machine.printed(name(*version), &[]), changes);
        let findings = machine.lint(*version, &text);
        assert_eq!(codes(&findings), expected.iter().copied().collect(), "{text}\n{findings:#?}");
    }
}

#[test]
fn every_code_has_a_case() {
    let sources = [
        include_str!("model/reader.rs"),
        include_str!("rules/bridges.rs"),
        include_str!("rules/broker.rs"),
        include_str!("rules/doors.rs"),
        include_str!("rules/files.rs"),
        include_str!("rules/plugin.rs"),
        include_str!("rules/wire.rs"),
    ];
    let tested: BTreeSet<&str> = CASES.iter().flat_map(|(_, _, codes)| *codes).copied().collect();
    // In the tests below.
    let elsewhere = [
        "configuration_writable",
        "database_readable",
        "database_writable",
        "plugin_writable",
        "secret_readable",
        "state_readable",
        "include_dir_nested",
    ];
    for line in sources.iter().flat_map(|source| source.lines()) {
        let Some(code) = line.trim().strip_prefix('"').and_then(|line| line.strip_suffix("\",")) else {
            continue;
        };
        if option_table::find(code).is_some() || settings::find(code).is_some() {
            continue;
        }
        if code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit()) {
            assert!(tested.contains(code) || elsewhere.contains(&code), "no case for {code}");
        }
    }
}

#[test]
fn permissions_are_looked_at() {
    let machine = Machine::new();
    machine.write("mosquitto.db", "");
    let expect = |text: &str, name: &str, mode: u32, expected: &[&str]| {
        let before = fs::metadata(machine.path(name)).unwrap().permissions();
        machine.set_mode(name, mode);
        let configuration = machine.path("mosquitto.conf");
        if name != "mosquitto.conf" {
            machine.write("mosquitto.conf", text);
        }
        let findings = lint(&configuration, Version::V2_0).unwrap();
        assert_eq!(codes(&findings), expected.iter().copied().collect(), "{name} {mode:o} {findings:#?}");
        fs::set_permissions(machine.path(name), before).unwrap();
    };
    let text = machine.printed("2.0", &[]);
    machine.write("mosquitto.conf", &text);
    expect(&text, "mosquitto.conf", 0o644, &[]);
    expect(&text, "mosquitto.conf", 0o646, &["configuration_writable"]);
    expect(&text, "libfleetbadge_mosquitto.so", 0o757, &["plugin_writable"]);
    expect(&text, "libfleetbadge_mosquitto.so", 0o755, &[]);
    expect(&text, "fleetbadge.json", 0o640, &[]);
    expect(&text, "fleetbadge.json", 0o644, &["file_unusable"]);
    expect(&text, "state", 0o720, &["file_unusable"]);
    expect(&text, "state", 0o755, &["state_readable"]);
    expect(&text, "data", 0o755, &[]);
    expect(&text, "data", 0o757, &["database_writable"]);
    // What lies in a folder that is closed to others cannot be read by them.
    expect(&text, "server.key", 0o644, &[]);
    machine.set_mode(".", 0o755);
    expect(&text, "server.key", 0o644, &["secret_readable"]);
    fs::write(machine.path("data/mosquitto.db"), "").unwrap();
    machine.set_mode("data/mosquitto.db", 0o644);
    expect(&text, "data", 0o755, &["database_readable"]);
    expect(&text, "data", 0o700, &[]);
    let bridge = text + "connection hall\naddress 127.0.0.1\ntopic x\nremote_username a\nremote_password b\n";
    machine.write("mosquitto.conf", &bridge);
    expect(&bridge, "mosquitto.conf", 0o644, &["secret_readable"]);
    expect(&bridge, "mosquitto.conf", 0o640, &[]);
}

#[test]
fn included_files_are_read_in_the_order_of_mosquitto_and_named() {
    let machine = Machine::new();
    fs::create_dir(machine.path("conf.d")).unwrap();
    machine.set_mode("conf.d", 0o755);
    for name in ["b.conf", "A.conf", "a.conf", "B.conf", "00.conf", ".conf", "c.txt"] {
        machine.write(&format!("conf.d/{name}"), &format!("unknown_{name} 1\n"));
    }
    let text = machine.printed("2.0", &[]) + "include_dir DIR/conf.d\n";
    let findings = machine.lint(Version::V2_0, &text);
    let names: Vec<_> = findings.iter().map(|found| found.place.file.file_name().unwrap()).collect();
    assert_eq!(names, ["00.conf", "A.conf", "a.conf", "B.conf", "b.conf"]);
    assert!(findings.iter().all(|found| found.place.line == Some(1) && found.code == "setting_unknown"));

    // Each file begins anew: what stands before the line that includes it is
    // not what its settings belong to.
    for name in ["b.conf", "A.conf", "a.conf", "B.conf"] {
        fs::remove_file(machine.path(&format!("conf.d/{name}"))).unwrap();
    }
    for (content, expected) in [
        ("plugin_opt_skew_s 5\n", "setting_misplaced"),
        ("include_dir /etc\n", "include_dir_nested"),
        ("max_connections 5\n", "default_listener"),
    ] {
        machine.write("conf.d/00.conf", content);
        assert!(codes(&machine.lint(Version::V2_0, &text)).contains(expected), "{content}");
    }
}

#[test]
fn a_finding_names_file_line_and_way_out() {
    let machine = Machine::new();
    let text = machine.printed("2.0", &[]).replace("audience mqtt", "audience mqtt\nplugin_opt_skew_s 301");
    let line = text.lines().position(|line| line == "plugin_opt_skew_s 301").unwrap() + 1;
    let findings = machine.lint(Version::V2_0, &text);
    let found = findings.iter().find(|found| found.code == "plugin_option").unwrap();
    let path = machine.path("mosquitto.conf");
    assert_eq!(
        found.to_string(),
        format!(
            "{}:{line}: error plugin_option: plugin_opt_skew_s is \"301\"; it must be seconds, at most 300; the \
             broker does not start until that is mended",
            path.display()
        )
    );
    let json = serde_json::to_value(found).unwrap();
    assert_eq!((&json["file"], &json["line"]), (&path.to_str().unwrap().into(), &line.into()));
    assert_eq!((&json["severity"], &json["code"]), (&"error".into(), &"plugin_option".into()));
}

#[test]
fn a_file_that_is_not_there_is_no_configuration() {
    assert!(lint(Path::new("/nowhere/mosquitto.conf"), Version::V2_0).is_err());
}
