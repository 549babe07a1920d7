//! `device password …`.

use crate::place::Place;

#[test]
fn static_passwords_from_consent_to_removal() {
    let place = Place::new();
    let server = place.serve(&[]);
    place.json(&["device", "add", "pump-1"]);
    let (code, said) = place.refused(&["device", "password", "set", "pump-1"]);
    assert_eq!(code, 1);
    let way_out = said.trim_end().split_once("fleetbadge-issuer group set ").unwrap().1;
    assert_eq!(way_out, "default --static-passwords");
    assert_eq!(place.json(&["group", "set", "default", "--static-passwords"])["static_passwords"], true);

    let set = place.json(&["device", "password", "set", "pump-1", "--expires", "30d"]);
    let password = set["password"].as_str().unwrap();
    assert!(password.starts_with("fbp_"));
    assert_eq!(set["username"], "pump-1");
    let lifetime_s = set["expires_at"].as_u64().unwrap() - set["created_at"].as_u64().unwrap();
    assert_eq!(lifetime_s, 30 * 86_400);
    assert_eq!(place.refused(&["device", "password", "set", "pump-1", "--expires", "soon"]).0, 2);
    let (code, said) = place.refused(&["device", "password", "set", "pump-1", "--expires", "0s"]);
    assert_eq!((code, said.contains("expires_in_s: 0")), (1, true), "{said}");

    // The device's own exchange is a second consent.
    let body = format!("grant_type=password&client_id=pump-1&username=pump-1&password={password}");
    let (status, answer) = server.form(&body);
    assert_eq!((status, &answer["error"]), (401, &"invalid_client".into()));
    place.json(&["group", "set", "default", "--device-password-grant"]);
    let (status, answer) = server.form(&body);
    assert_eq!((status, &answer["mqtt_client_id"]), (200, &"pump-1".into()));
    assert_eq!(server.form(&body.replace("fbp_", "fbp_canary")).0, 401);
    let shown = place.text(&["device", "show", "pump-1"]);
    assert!(shown.contains("last used 2"), "{shown}");
    place.json(&["group", "set", "default", "--device-password-grant=false"]);
    assert_eq!(server.form(&body).0, 401);

    // For people there is text; the password in it replaces the other.
    place.json(&["group", "set", "default", "--device-password-grant"]);
    let text = place.text(&["device", "password", "set", "pump-1"]);
    assert!(text.contains("user name  pump-1"), "{text}");
    let second = text.split_whitespace().find(|word| word.starts_with("fbp_")).unwrap();
    assert_eq!(server.form(&body).0, 401);
    assert_eq!(server.form(&body.replace(password, second)).0, 200);
    assert_eq!(place.json(&["device", "password", "remove", "pump-1"])["removed"], true);
    assert_eq!(server.form(&body.replace(password, second)).0, 401);
    assert_eq!(place.refused(&["device", "password", "remove", "pump-1"]).0, 1);

    assert!(server.stop("-TERM").success());
    let log = place.read_log();
    assert!(log.contains("static password set"), "{log}");
    place.assert_keeps_none_of(&[password, second, "fbp_canary"]);
}
