//! `device …`, but for its credentials.

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
