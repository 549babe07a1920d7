//! `broker …`.

use crate::place::{Place, Server};

#[test]
fn the_life_of_a_broker_and_what_is_refused() {
    let place = Place::new();
    let server = place.serve(&[]);
    let broker = place.json(&["broker", "add", "site-1", "--audience", "mqtt", "--profile", "emqx"]);
    let members: Vec<&String> = broker.as_object().unwrap().keys().collect();
    assert_eq!(members, ["audience", "client_id", "client_secret", "profile", "resource"]);
    let said = place.text(&["broker", "add", "site-2", "--audience", "eu", "--profile", "fleetbadge"]);
    assert!(said.contains("audience       eu\n") && said.contains("umask 077"), "{said}");
    let shown = place.text(&["broker", "show", "site-1"]);
    assert!(shown.contains("algorithm  ES256") && !shown.contains(broker["client_secret"].as_str().unwrap()));
    let list = place.text(&["broker", "list"]);
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["CLIENT_ID", "AUDIENCE", "PROFILE", "ALGORITHM", "RESOURCE"]);
    assert_eq!(rows[2], ["site-2", "eu", "fleetbadge", "ES256", "urn:fleetbadge:broker:site-2"]);
    assert_eq!(rows.len(), 3, "{list}");

    let rabbit = ["broker", "add", "rabbit", "--audience", "r", "--profile", "rabbitmq"];
    let (code, said) = place.refused(&rabbit);
    assert!(code == 1 && said.contains("say --accept-unbound-publishers"), "{said}");
    place.json(&[&rabbit[..], &["--vhost", "fleet", "--accept-unbound-publishers"]].concat());
    assert_eq!(place.json(&["broker", "show", "rabbit"])["vhost"], "fleet");
    assert_eq!(place.refused(&["broker", "add", "x", "--audience", "a", "--profile", "nginx"]).0, 2);
    let hs256 = ["broker", "add", "x", "--audience", "a", "--profile", "emqx", "--algorithm", "HS256"];
    assert_eq!(place.refused(&hs256).0, 2);

    assert!(place.run(&["broker", "remove", "site-1"]).status.success());
    let (code, said) = place.refused(&["broker", "show", "site-1"]);
    assert!(code == 1 && said.contains("there is no broker \"site-1\""), "{said}");
    assert!(server.stop("-TERM").success());
    assert!(!place.read_log().contains(broker["client_secret"].as_str().unwrap()));
}

#[test]
fn the_secret_of_a_broker_is_rotated_and_the_last_use_outlives_the_server() {
    const MEMBERS: [&str; 5] = ["audience", "client_id", "client_secret", "profile", "resource"];
    let place = Place::new();
    let server = place.serve(&[]);
    let first = place.json(&["broker", "add", "site-1", "--audience", "mqtt", "--profile", "emqx"]);
    let rotated = place.json(&["broker", "rotate-secret", "site-1", "--overlap", "24h"]);
    let added = place.json(&["broker", "secret", "add", "site-1", "--expires", "30d"]);
    for secret in [&rotated, &added] {
        // The credentials file, as `broker add` prints it: all but the secret is the same.
        assert!(secret.as_object().unwrap().keys().eq(MEMBERS), "{secret}");
        let mut former = first.clone();
        former["client_secret"] = secret["client_secret"].clone();
        assert_eq!(former, *secret);
        assert_ne!(first, *secret);
    }
    let ask = |server: &Server, secret| server.form_of(secret, "/oauth2/introspect", "token=x").0;
    assert_eq!((ask(&server, &first), ask(&server, &rotated)), (200, 200));

    // Ended at once: what the last second has seen is written at the end.
    assert!(server.stop("-TERM").success());
    let server = place.serve(&[]);
    let secrets = place.text(&["broker", "secret", "list", "site-1"]);
    let rows: Vec<Vec<&str>> =
        secrets.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    for (row, (ends, used)) in rows.iter().zip([("20", "20"), ("never", "20"), ("20", "never")]) {
        assert!(row[1] == "made" && row[3].starts_with(ends) && row[4].starts_with(used), "{secrets}");
    }
    let shown = place.text(&["broker", "show", "site-1"]);
    assert!(shown.contains(&format!("{}  made {}  ends ", rows[2][0], rows[2][2])), "{shown}");
    let listed = place.json_lines(&["broker", "secret", "list", "site-1"]);
    assert_eq!(listed, *place.json(&["broker", "show", "site-1"])["secrets"].as_array().unwrap());
    assert!(listed[0]["last_used_at"].is_u64() && listed[2].get("last_used_at").is_none(), "{listed:?}");

    // For people there is text.
    let rotate = ["broker", "rotate-secret", "site-1", "--overlap", "0s"];
    for arguments in [&["broker", "secret", "add", "site-1"][..], &rotate] {
        let said = place.text(arguments);
        assert!(said.contains(" for broker site-1, without an end.") && said.contains("fbs_"), "{said}");
    }
    assert_eq!((ask(&server, &first), ask(&server, &rotated)), (401, 401));
    let listed = place.json(&["broker", "secret", "list", "site-1"]);
    let said = place.text(&["broker", "secret", "remove", "site-1", listed["id"].as_str().unwrap()]);
    assert!(said.contains("the broker can neither ask about tokens nor exchange passwords"), "{said}");

    for (wrong, expected) in [
        (&["secret", "add", "site-1", "--import", "x"][..], 2),
        (&["secret", "add", "site-1", "--expires", "30"], 2),
        (&["rotate-secret", "site-1"], 2),
        (&["secret", "remove", "site-1", "0"], 1),
        (&["rotate-secret", "site-2", "--overlap", "1h"], 1),
        (&["secret", "list", "site-2"], 1),
    ] {
        let (code, said) = place.refused(&[&["broker"], wrong].concat());
        assert_eq!(code, expected, "{said}");
    }
    assert!(server.stop("-TERM").success());
    place.assert_keeps_none_of(&[&first, &rotated, &added].map(|of| of["client_secret"].as_str().unwrap()));
}
