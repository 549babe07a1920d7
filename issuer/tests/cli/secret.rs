//! Client secrets: `device secret …`, `device rotate-secret`, and where they
//! never are.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::place::{ISSUER, Place, Server};

#[test]
fn secrets_are_in_no_log_and_no_file() {
    let place = Place::new();
    let server = place.serve(&["--log-format", "json"]);
    let device = place.json(&["device", "add", "pump-1"]);
    let (_, answer) = server.token(&device);
    let mut wrong = device.clone();
    wrong["client_secret"] = "fbs_canary-wrong".into();
    assert_eq!(server.token(&wrong).0, 401);
    let metrics = Server::get(&server.ops, "/metrics");
    assert!(server.stop("-TERM").success());

    assert!(place.read_log().contains("device added"));
    let canaries = [
        device["client_secret"].as_str().unwrap(),
        answer["access_token"].as_str().unwrap(),
        "fbs_canary-wrong",
    ];
    let encoded = canaries.map(|canary| STANDARD.encode(format!("pump-1:{canary}")));
    let root_key = fs::read_to_string(place.data_dir().join("root.key")).unwrap();
    let root_key = root_key.split_once(':').unwrap().1.trim();
    let all = [&canaries[..], &encoded.each_ref().map(String::as_str), &[root_key]].concat();
    place.assert_keeps_none_of(&all);
    assert!(!all.iter().any(|canary| metrics.contains(canary)), "{metrics}");
}

#[test]
fn secrets_come_and_go_and_the_last_use_outlives_the_server() {
    let place = Place::new();
    let server = place.serve(&[]);
    let device = place.json(&["device", "add", "pump-1"]);
    place.json(&["device", "add", "pump-2"]);
    let rotated = place.json(&["device", "rotate-secret", "pump-1", "--overlap", "24h"]);
    for secret in [&device, &rotated] {
        assert_eq!(server.token(secret).0, 200);
    }
    let added = place.json(&["device", "secret", "add", "pump-1", "--expires", "30d"]);
    assert_eq!(added["token_endpoint"], format!("{ISSUER}/oauth2/token"));
    for wrong in [&["--expires", "30"][..], &["--expires", "-1d"], &["--import", "/nowhere"]] {
        let (code, said) = place.refused(&[&["device", "secret", "add", "pump-1"], wrong].concat());
        assert_eq!(code, 2, "{said}");
    }
    assert_eq!(place.refused(&["device", "rotate-secret", "pump-1"]).0, 2);
    let rotate = ["device", "rotate-secret", "pump-2", "--overlap", "1h"];
    for (arguments, last_line) in
        [(&["device", "secret", "add", "pump-2"][..], "The secret is shown"), (&rotate, "The other secrets")]
    {
        let said = place.text(arguments);
        assert!(said.ends_with(".\n") && said.lines().last().unwrap().starts_with(last_line), "{said}");
    }

    // Ended at once: what the last second has seen is written at the end.
    assert!(server.stop("-TERM").success());
    let server = place.serve(&[]);
    let secrets = place.text(&["device", "secret", "list", "pump-1"]);
    let rows: Vec<Vec<&str>> = secrets.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "KIND", "CREATED", "ENDS", "LAST_USED"]);
    for (row, (ends, used)) in rows[1..].iter().zip([("20", "20"), ("never", "20"), ("20", "never")]) {
        assert!(row[1] == "made" && row[3].starts_with(ends) && row[4].starts_with(used), "{secrets}");
    }
    let shown = place.text(&["device", "show", "pump-1"]);
    let [id, _, created, _, used] = rows[2][..] else { panic!("{secrets}") };
    assert!(shown.contains(&format!("{id}  made {created}  no end  last used {used}\n")), "{shown}");

    for (row, is_last) in rows[1..].iter().zip([false, false, true]) {
        let said = place.text(&["device", "secret", "remove", "pump-1", row[0]]);
        assert_eq!(said.contains("It was the last credential"), is_last, "{said}");
    }
    assert_eq!(server.token(&rotated).0, 401);
    assert_eq!(place.refused(&["device", "secret", "remove", "pump-1", "0"]).0, 1);
}
