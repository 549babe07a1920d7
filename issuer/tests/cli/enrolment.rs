//! `enrolment …`, and `device approve` after it.

use fleetbadge_validator::test_support::TestKey;
use serde_json::json;

use crate::place::{ISSUER, Place};

#[test]
fn a_device_enrols_and_is_approved() {
    let place = Place::new();
    let server = place.serve(&[]);
    let create = |more: &[&str]| {
        let terms = ["enrolment", "create", "--group", "default", "--name-pattern", "pump-*", "--uses", "1"];
        place.json(&[&terms, more].concat())
    };
    let made = create(&["--expires", "24h", "--approval"]);
    let token = made["enrolment_token"].as_str().unwrap();
    assert_eq!(made["registration_endpoint"], format!("{ISSUER}/oauth2/register"));
    assert_eq!(made["expires_at"].as_u64().unwrap() - made["created_at"].as_u64().unwrap(), 86_400);

    let key = TestKey::generate();
    let (status, device) = server.register(token, &key, "pump-7");
    assert_eq!((status, &device["client_id"], &device["status"]), (201, &"pump-7".into(), &"pending".into()));
    let (status, error) = server.register(token, &TestKey::generate(), "pump-8");
    assert_eq!((status, &error["error"]), (401, &"invalid_token".into()));
    let pending = || place.json_lines(&["device", "list", "--status", "pending"]);
    assert_eq!(pending()[0]["client_id"], "pump-7");
    let approved = place.text(&["device", "approve", "pump-7"]);
    assert_eq!(approved, "Device pump-7 is enabled: it gets tokens from now on.\n");
    assert!(pending().is_empty());
    let (code, said) = place.refused(&["device", "approve", "pump-7"]);
    assert_eq!((code, said.contains("pump-7 is enabled; only a pending one")), (1, true), "{said}");

    let listed = place.json(&["enrolment", "list"]);
    assert_eq!((&listed["id"], &listed["uses_left"]), (&made["id"], &0.into()));
    let id = made["id"].as_str().unwrap();
    let table = place.text(&["enrolment", "list"]);
    assert!(table.starts_with("ID        GROUP    NAME_PATTERN  USES_LEFT  ENDS "), "{table}");
    assert!(
        table.lines().nth(1).unwrap().starts_with(&format!("{id}  default  pump-*        0 of 1 ")),
        "{table}"
    );
    assert_eq!(place.json(&["enrolment", "remove", id]), json!({"id": id, "removed": true}));
    assert_eq!(place.refused(&["enrolment", "remove", id]).0, 1);
    for expires in ["24", "1w", "400d", "0s"] {
        let terms = ["enrolment", "create", "--group", "default", "--name-pattern", "x", "--uses", "1"];
        let (code, said) = place.refused(&[&terms[..], &["--expires", expires]].concat());
        assert!(matches!(code, 1 | 2), "{expires}: {said}");
    }

    // Neither token is anywhere but with whoever made it.
    let canaries = [token.to_owned(), create(&["--expires", "1h"])["enrolment_token"].to_string()];
    assert!(server.stop("-TERM").success());
    let log = place.read_log();
    assert!(log.contains("device enrolled"), "{log}");
    place.assert_keeps_none_of(&canaries.each_ref().map(|token| token.trim_matches('"')));
}
