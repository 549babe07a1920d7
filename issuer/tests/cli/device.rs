//! `device …`, but for its credentials.

use fleetbadge_validator::test_support::TestKey;
use serde_json::{Value, json};

use crate::place::{ISSUER, Place};

#[test]
fn the_life_of_a_device_and_what_is_refused() {
    let place = Place::new();
    let (code, said) = place.refused(&["device", "list"]);
    assert_eq!(code, 3);
    assert!(said.contains("start it with: fleetbadge-issuer serve"), "{said}");

    let _server = place.serve(&[]);
    for name in ["b", "a", "c"] {
        place.json(&["device", "add", name]);
    }
    let listed = place.json_lines(&["device", "list"]);
    let names: Vec<&Value> = listed.iter().map(|device| &device["client_id"]).collect();
    assert_eq!(names, ["a", "b", "c"]);

    assert_eq!(place.json(&["device", "disable", "a"])["status"], "disabled");
    assert_eq!(place.json(&["device", "show", "a"])["status"], "disabled");
    assert_eq!(place.json(&["device", "enable", "a"])["status"], "enabled");
    assert_eq!(place.json(&["device", "remove", "a"])["removed"], true);
    let (code, said) = place.refused(&["device", "add", "a"]);
    assert_eq!((code, said.contains("never used again")), (1, true), "{said}");
    assert_eq!(place.refused(&["device", "show", "a"]).0, 1);
    assert_eq!(place.refused(&["device", "show", "../groups"]).0, 1);
    let (code, said) = place.refused(&["device", "add", "x/y"]);
    assert_eq!((code, said.starts_with("fleetbadge-issuer: name: ")), (1, true), "{said}");

    // Usage.
    assert_eq!(place.refused(&["device", "add"]).0, 2);
    assert_eq!(place.refused(&["device", "ad", "x"]).0, 2);
    // For people there is text, with the way on.
    let added = place.text(&["device", "add", "d"]);
    assert!(
        added.contains(&format!("curl -u 'd:SECRET' -d grant_type=client_credentials {ISSUER}/oauth2/token")),
        "{added}"
    );
}

/// RFC 6749 §2.3.1: what is pasted has to work, whatever the name.
#[test]
fn the_printed_request_names_the_device_as_the_server_reads_it() {
    let place = Place::new();
    let server = place.serve(&[]);
    let added = place.text(&["device", "add", "a:b~c"]);
    let user = added.split_once("curl -u '").unwrap().1.split_once(":SECRET'").unwrap().0;
    assert_eq!(user, "a%3Ab%7Ec");
    let secret = added.split_whitespace().find(|word| word.starts_with("fbs_")).unwrap();
    assert_eq!(server.token(&json!({"client_id": user, "client_secret": secret})).0, 200);
}

#[test]
fn a_device_without_a_secret() {
    let place = Place::new();
    let _server = place.serve(&[]);
    let added = place.json(&["device", "add", "a", "--no-secret"]);
    assert_eq!(added.get("client_secret"), None);
    assert_eq!(place.json(&["device", "show", "a"])["secrets"], json!([]));
    let said = place.text(&["device", "add", "b", "--no-secret"]);
    assert!(said.contains("nothing to prove itself with") && !said.contains("private_key_jwt"), "{said}");
    let rotated = place.text(&["device", "rotate-secret", "b", "--overlap", "1h"]);
    assert!(rotated.ends_with("The secret is shown this once.\n"), "{rotated}");
    let key = place.file("key.json", &TestKey::generate().jwks());
    assert_eq!(place.refused(&["device", "add", "c", "--jwks", &key, "--secret", "--no-secret"]).0, 2);
    place.json(&["device", "add", "c", "--jwks", &key, "--no-secret"]);
}

#[test]
fn nothing_that_was_typed_is_swallowed() {
    let place = Place::new();
    let _server = place.serve(&[]);
    place.json(&["device", "add", "a", "--attribute", "site=x"]);
    for (arguments, expected, text) in [
        (
            &["device", "add", "b", "--attribute", "s=1", "--attribute", "s=2"][..],
            2,
            "attribute s is named twice",
        ),
        (&["device", "set", "a", "--attribute", "s=1", "s=1"], 2, "attribute s is named twice"),
        (
            &["device", "set", "a", "--attribute", "site=y", "--no-attribute", "site"],
            2,
            "site is named twice",
        ),
        (&["device", "set", "a", "--no-attribute", "site", "site"], 2, "site is named twice"),
        (&["device", "set", "a"], 2, "--no-attribute"),
        (&["device", "list", "--group", "nope"], 1, "there is no group \"nope\""),
    ] {
        let (code, said) = place.refused(arguments);
        assert!(code == expected && said.contains(text), "{arguments:?}: {said}");
    }
    assert_eq!(place.json(&["device", "show", "a"])["attributes"], json!({"site": "x"}));
    assert_eq!(place.refused(&["device", "show", "b"]).0, 1);
}

#[test]
fn what_is_set_of_a_device_and_which_are_listed() {
    let place = Place::new();
    let _server = place.serve(&[]);
    place.json(&["group", "set", "pumps", "--publish", "halls/${attr.hall}/${device}"]);
    place.json(&["device", "add", "pump-1", "--attribute", "hall=7"]);
    place.json(&["device", "add", "pump-2"]);
    let set =
        ["device", "set", "pump-1", "--group", "pumps", "--attribute", "line=2", "--no-attribute", "hall"];
    assert_eq!(place.json(&set)["attributes"], json!({"line": "2"}));
    let listed = place.text(&["device", "list", "--group", "pumps", "--status", "enabled"]);
    assert_eq!(listed, "CLIENT_ID  GROUP  STATUS   MQTT_CLIENT_IDS\npump-1     pumps  enabled  pump-1\n");
    assert_eq!(place.text(&["device", "list", "--status", "disabled"]), "");
}
