//! `key …`.

use crate::place::Place;

#[test]
fn signing_keys_are_listed_and_rotated() {
    let place = Place::new();
    let server = place.serve(&[]);
    let device = place.json(&["device", "add", "pump-1"]);
    let key = place.json(&["key", "list"]);
    assert_eq!((&key["alg"], &key["state"]), (&"ES256".into(), &"active".into()));
    assert!(place.text(&["key", "list"]).contains("; the next is announced 20"));
    let table = place.text(&["key", "rotate"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("KID  ")
            && lines[0].contains("  ALGORITHM  STATE      SCHEDULE")
            && lines[0].ends_with("  HELD BY"),
        "{table}"
    );
    assert!(lines[1].contains("  ES256      active     signs until 20"), "{table}");
    assert!(lines[2].contains("  ES256      announced  signs from 20"), "{table}");
    let (code, said) = place.refused(&["key", "rotate"]);
    let expected = "fleetbadge-issuer: the next ES256 key is announced already and signs from 20";
    assert_eq!((code, said.starts_with(expected)), (1, true), "{said}");
    assert!(place.run(&["key", "rotate", "--now", "--algorithm", "ES256"]).status.success());
    let (code, said) = place.refused(&["key", "rotate", "--algorithm", "RS256"]);
    assert_eq!((code, said.contains("there is no RS256 key")), (1, true), "{said}");
    let (code, said) = place.refused(&["key", "rotate", "--algorithm", "HS256"]);
    assert_eq!((code, said.contains("[possible values: ES256, RS256, EdDSA]")), (2, true), "{said}");
    assert_eq!(server.token(&device).0, 200);
}

#[test]
fn a_revocation_says_what_it_costs_and_wants_to_be_meant() {
    let place = Place::new();
    let server = place.serve(&[]);
    let device = place.json(&["device", "add", "pump-1"]);
    let kid = place.json(&["key", "list"])["kid"].as_str().unwrap().to_owned();
    let (code, said) = place.refused(&["key", "revoke", &kid]);
    assert_eq!((code, said.contains("is good for nothing") && said.contains("--yes")), (2, true), "{said}");
    assert_eq!(place.json(&["key", "list"])["kid"], kid.as_str());
    let (code, said) = place.refused(&["key", "revoke", "--yes", "-nothing"]);
    assert_eq!((code, said.contains("there is no signing key \"-nothing\"")), (1, true), "{said}");
    assert_ne!(place.json(&["key", "revoke", "--yes", &kid])["kid"], kid.as_str());
    assert_eq!(server.token(&device).0, 200);
    assert!(place.read_log().contains("signing key revoked"));
}
