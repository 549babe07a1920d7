//! `revocation …`.

use crate::place::Place;

#[test]
fn tokens_are_taken_back_and_it_is_said_what_happens() {
    let place = Place::new();
    assert_eq!(place.refused(&["revocation", "list"]).0, 3);
    let server = place.serve(&[]);
    let device = place.json(&["device", "add", "pump-1"]);
    let token = server.token(&device).1["access_token"].as_str().unwrap().to_owned();

    let said = place.text(&["revocation", "add", "--device", "pump-1"]);
    assert!(said.starts_with("Tokens of device pump-1 issued before 20"), "{said}");
    assert!(said.contains("Z are taken back; new ones are issued from then on.\nKept until 20"), "{said}");
    let said =
        place.text(&["revocation", "add", "--token-file", &place.file("token", &format!("{token}\n"))]);
    assert!(said.starts_with("Token ") && said.contains(" is taken back. Kept until 20"), "{said}");
    assert!(!said.contains(&token) && !said.contains(token.rsplit('.').next().unwrap()), "{said}");
    let group = place.json(&["revocation", "add", "--group", "default"]);
    assert!(group["before"].is_u64() && group["expires_at"].is_u64(), "{group}");
    let jti = place.json(&["revocation", "add", "--jti", "AAAAAAAAAAAAAAAAAAAAAA"]);
    assert!(jti.get("before").is_none(), "{jti}");
    let all = place.json(&["revocation", "add", "--all", "--yes"]);
    assert_eq!(all["all"], true);

    let listed = place.json_lines(&["revocation", "list"]);
    assert_eq!(listed.len(), 5);
    assert_eq!((&listed[2], &listed[3], &listed[4]), (&group, &jti, &all));
    let table = place.text(&["revocation", "list"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("WHAT  ") && lines[0].contains("  ISSUED_BEFORE  "), "{table}");
    assert!(lines[1].starts_with("device pump-1  ") && lines[4].contains("  any time  "), "{table}");

    // What cannot be.
    for (arguments, code, says) in [
        (&["--device", "pomp-1"][..], 1, "there is no device \"pomp-1\", and was none"),
        (&["--group", "x"], 1, "there is no group \"x\""),
        (&["--jti", "x"], 1, "is no jti of this issuer's tokens"),
        (&["--token-file", &place.file("word", "secret-word")], 1, "token: it is malformed"),
        (&["--token-file", "/nowhere"], 2, "/nowhere"),
        (&["--all"], 2, "say --yes"),
        (&["--device", "pump-1", "--group", "default"], 2, "cannot be used with"),
        (&[], 2, "required"),
    ] {
        let (found, said) = place.refused(&[&["revocation", "add"], arguments].concat());
        assert_eq!((found, said.contains(says)), (code, true), "{arguments:?}: {said}");
        assert!(!said.contains("secret-word"), "{said}");
    }
    // A device of the past.
    let removed = place.text(&["device", "remove", "pump-1"]);
    assert!(removed.contains("Tokens it has are taken back."), "{removed}");
    assert_eq!(place.json(&["revocation", "add", "--device", "pump-1"])["device"], "pump-1");
    server.stop("-TERM");
    place.assert_keeps_none_of(&[&token, "secret-word"]);
}
