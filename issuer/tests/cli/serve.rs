//! `serve`: from an empty folder, over restarts, and when it does not start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::place::{ISSUER, Place, Server, mode};

#[test]
fn from_an_empty_folder_to_a_token_and_over_restarts() {
    let place = Place::new();
    let server = place.serve(&[]);
    assert!(
        server.said.contains(&format!(
            "fleetbadge-issuer device add pump-1 --data-dir {}",
            place.data_dir().display()
        ))
    );
    assert_eq!(mode(&place.data_dir()), 0o700);
    for entry in fs::read_dir(place.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }

    let device = place.json(&["device", "add", "pump-1", "--mqtt-client-id", "c1", "c2"]);
    assert_eq!(device["mqtt_client_ids"], serde_json::json!(["c1", "c2"]));
    assert_eq!(device["group"], "default");
    let (status, token) = server.token(&device);
    assert_eq!((status, &token["mqtt_client_id"]), (200, &"c1".into()));
    let keys = |server: &Server| {
        Server::get(&server.address, "/oauth2/jwks").split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let published = keys(&server);

    // An orderly end, and one that leaves its socket behind.
    assert!(server.stop("-TERM").success());
    assert!(!place.data_dir().join("admin.sock").exists());
    let server = place.serve(&[]);
    assert_eq!(keys(&server), published);
    server.stop("-KILL");
    assert!(place.data_dir().join("admin.sock").exists());
    let server = place.serve(&[]);
    assert_eq!(server.token(&device).0, 200);
    // A hang-up asks for changed files, not for the end.
    let id = server.process.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    assert_eq!(server.token(&device).0, 200);
    assert!(server.stop("-INT").success());
}

#[test]
fn a_server_that_cannot_be_safe_does_not_start() {
    let place = Place::new();
    let refused =
        |arguments: &[&str]| place.refused(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat());
    assert_eq!(refused(&[]).0, 2);
    let (code, said) = refused(&["--issuer", "http://id.example"]);
    assert_eq!((code, said.contains("issuer: ")), (2, true), "{said}");
    let (code, said) = place.refused(&["serve", "--listen", "0.0.0.0:0", "--issuer", "https://id.example"]);
    assert_eq!((code, said.contains("--allow-insecure-http")), (2, true), "{said}");
    let proxied =
        ["serve", "--listen", "0.0.0.0:0", "--issuer", "https://id.example", "--allow-insecure-http"];
    let (code, said) = place.refused(&proxied);
    assert_eq!((code, said.contains("--trusted-proxy")), (2, true), "{said}");
    let (code, said) = place.refused(&[&proxied[..], &["--trusted-proxy", "10.0.0.1/8"]].concat());
    assert_eq!((code, said.contains("write 10.0.0.0/8")), (2, true), "{said}");
    assert!(!place.data_dir().exists());

    for (option, wrong) in [("--listen", "localhost:8080"), ("--listen", "8080"), ("--ops-listen", ":1")] {
        let (code, said) = place.refused(&["serve", option, wrong]);
        let expected = format!(
            "'{wrong}' for '{option} <IP:PORT>': is not an IP address and port, such as 127.0.0.1:8080"
        );
        assert_eq!((code, said.contains(&expected)), (2, true), "{said}");
    }
    let file = place.file("file", "");
    let (code, said) = refused(&["--issuer", ISSUER, "--data-dir", &file]);
    assert_eq!((code, said.contains(&format!("data_dir: {file}: is no folder"))), (2, true), "{said}");

    let server = place.serve(&[]);
    let other = Place::new();
    let (code, said) = other.refused(&["serve", "--listen", &server.address]);
    let expected = format!("listen: {}: Address already in use", server.address);
    assert_eq!((code, said.contains(&expected)), (4, true), "{said}");
    assert!(said.ends_with("or give another port\n"), "{said}");
    let (code, said) = refused(&["--issuer", ISSUER]);
    assert_eq!((code, said.contains("another fleetbadge-issuer")), (4, true), "{said}");
    drop(server);
    fs::set_permissions(place.data_dir().join("root.key"), Permissions::from_mode(0o644)).unwrap();
    let (code, said) = refused(&["--issuer", ISSUER]);
    assert_eq!((code, said.contains("chmod 600")), (2, true), "{said}");
    fs::remove_file(place.data_dir().join("root.key")).unwrap();
    let (code, said) = refused(&["--issuer", ISSUER]);
    assert_eq!((code, said.contains("put it there")), (2, true), "{said}");
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let place = Place::new();
    let file = place.file("issuer.toml", "listen = '127.0.0.1:1001'\nskew_s = 1\njwks_max_age_s = 100\n");
    let output = place
        .command(&["serve", "--print-config", "--config", &file, "--skew-s", "3"])
        .env("FLEETBADGE_SKEW_S", "2")
        .env("FLEETBADGE_JWKS_MAX_AGE_S", "200")
        .env("FLEETBADGE_ALLOW_INSECURE_HTTP", "true")
        .output()
        .unwrap();
    let config = String::from_utf8(output.stdout).unwrap();
    for line in [
        "skew_s = 3",
        "jwks_max_age_s = 200",
        "listen = \"127.0.0.1:1001\"",
        "issuer = \"http://127.0.0.1:1001\"",
        "key_announce_s = 400",
        "allow_insecure_http = true",
        "max_token_lifetime_s = 86400",
    ] {
        assert!(config.lines().any(|l| l == line), "{line} is not in\n{config}");
    }
    let file = place.file("issuer.toml", "skew = 1\n");
    let (code, said) = place.refused(&["serve", "--config", &file]);
    assert_eq!((code, said.contains("unknown field `skew`")), (2, true), "{said}");
}

#[test]
fn slow_clients_are_cut_off_and_probes_are_answered() {
    let place = Place::new();
    let server = place.serve(&["--request-timeout-s", "1"]);
    // Neither silence nor half a request holds a connection.
    for beginning in ["", "GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\n"] {
        let answer = Server::ask(&server.address, beginning);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    let half_a_body = "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                       Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nx";
    assert!(Server::ask(&server.address, half_a_body).starts_with("HTTP/1.1 408"));
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(Server::get(&server.ops, path).starts_with("HTTP/1.1 200"), "{path}");
        assert!(Server::get(&server.address, path).starts_with("HTTP/1.1 404"), "{path}");
    }
}

#[test]
fn an_issuer_stays_what_it_is_until_somebody_says_otherwise() {
    let place = Place::new();
    place.serve(&[]).stop("-TERM");
    let other = "http://127.0.0.1:2";
    let serve = ["serve", "--listen", "127.0.0.1:0", "--issuer", other];
    let (code, said) = place.refused(&serve);
    assert_eq!(
        (code, said.contains(&format!("is that of {ISSUER}, and this node is to be {other}"))),
        (2, true),
        "{said}"
    );
    let (code, said) = place.refused(&["change-terms"]);
    assert_eq!((code, said.contains("give --issuer")), (2, true), "{said}");
    let changed = place.json(&["change-terms", "--issuer", other]);
    assert_eq!(changed, serde_json::json!({"issuer": other, "propagation_bound_s": 5}));
    let (code, said) = place.refused(&["serve", "--listen", "127.0.0.1:0", "--issuer", ISSUER]);
    assert_eq!((code, said.contains(&format!("is that of {other}"))), (2, true), "{said}");
    let help = place.text(&["change-terms", "--help"]);
    assert!(help.contains("--propagation-bound-s") && !help.contains("--listen"), "{help}");
    let empty = Place::new();
    fs::create_dir(empty.data_dir()).unwrap();
    let (code, said) = empty.refused(&["change-terms", "--issuer", other]);
    assert_eq!((code, said.contains("no database in this data directory")), (2, true), "{said}");
}

#[test]
fn a_misspelt_variable_is_no_silent_one() {
    let place = Place::new();
    let mut command = place.command(&["serve", "--listen", "127.0.0.1:0", "--issuer", ISSUER]);
    let output = command.env("FLEETBADGE_DATABSE", "postgres://u@h/n").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("FLEETBADGE_DATABSE in the environment means nothing; FLEETBADGE_DATABASE does"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(!place.data_dir().exists());
}

#[test]
fn a_password_that_all_can_read_is_told_of_and_in_a_file_refused() {
    let place = Place::new();
    let database = "postgres://u:secret@127.0.0.1:1/n";
    let listen = ["serve", "--print-config", "--listen", "127.0.0.1:1"];
    let told = |more: &[&str]| {
        let output = place.run(&[&listen[..], more].concat());
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("secret"), "{said}");
        said.contains("every user of this machine can read the database's password")
    };
    assert!(told(&["--database", database]) && told(&[&format!("--database={database}")]));
    assert!(!told(&["--database", "postgres://u@127.0.0.1:1/n"]));
    let file = place.file("issuer.toml", &format!("database = '{database}'\n"));
    for (mode, is_told) in [(0o644, true), (0o600, false)] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let output = place.run(&[&listen[..], &["--config", &file]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.success(), said.contains("chmod 600")), (!is_told, is_told), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}
