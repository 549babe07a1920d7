//! `device key …`.

use std::io::Write as _;
use std::process::Stdio;

use fleetbadge_validator::test_support::TestKey;
use fleetbadge_validator::time::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::place::{ISSUER, Place};

#[test]
fn a_device_proves_itself_with_its_keys() {
    let place = Place::new();
    let server = place.serve(&[]);
    let (first, second) = (TestKey::generate(), TestKey::generate());
    let ask = |key: &TestKey, jti: &str| {
        let now = SystemClock.now().0;
        let claims =
            json!({"iss": "pump-1", "sub": "pump-1", "aud": ISSUER, "exp": now + 60, "jti": jti}).to_string();
        let assertion = key.token_of(json!({"alg": "ES256", "kid": key.kid()}).to_string(), claims);
        server.form(&format!(
            "grant_type=client_credentials&client_assertion={assertion}&client_assertion_type=\
             urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        ))
    };

    let added = place.json(&["device", "add", "pump-1", "--jwks", &place.file("first.json", &first.jwks())]);
    assert_eq!((&added["client_id"], added.get("client_secret")), (&"pump-1".into(), None));
    assert_eq!(ask(&first, "1").0, 200);
    assert_eq!(ask(&first, "1"), (401, ask(&second, "1").1));

    let mut add = place.command(&["device", "key", "add", "pump-1", "--jwks", "-", "--json"]);
    let mut add = add.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    add.stdin.take().unwrap().write_all(second.jwks().as_bytes()).unwrap();
    let listed = String::from_utf8(add.wait_with_output().unwrap().stdout).unwrap();
    let kids: Vec<String> = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["thumbprint"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kids, [first.kid(), second.kid()]);
    assert_eq!(ask(&second, "2").0, 200);
    let shown = place.text(&["device", "show", "pump-1"]);
    assert!(
        shown.contains(&format!("{}  ES256  added", first.kid())) && shown.contains("last used 2"),
        "{shown}"
    );

    let removed = place.json(&["device", "key", "remove", "pump-1", &first.kid()]);
    assert_eq!((&removed["removed"], &removed["has_credentials"]), (&json!(true), &json!(true)));
    assert_eq!(ask(&first, "3").0, 401);
    assert_eq!(ask(&second, "3").0, 200);

    // A private key goes no further than the command that reads it.
    let mut private: Value = serde_json::from_str(&TestKey::generate().jwks()).unwrap();
    private["keys"][0]["d"] = "fb-canary".into();
    for (text, code, reason) in [
        (private.to_string(), 2, "key 1: has the private or symmetric member d"),
        ("-----BEGIN PRIVATE KEY-----\nfb-canary".into(), 2, "is not JSON"),
        ("\"fb-canary\"".into(), 2, "is not a JWK Set"),
        (second.jwks(), 1, "belongs to device pump-1"),
    ] {
        let path = place.file("other.json", &text);
        let (found, said) = place.refused(&["device", "add", "pump-2", "--jwks", &path]);
        assert_eq!((found, said.contains(reason), said.contains("fb-canary")), (code, true, false), "{said}");
    }
    assert_eq!(place.refused(&["device", "show", "pump-2"]).0, 1);
    let path = place.file("other.json", &TestKey::generate().jwks());
    let both = place.json(&["device", "add", "pump-2", "--jwks", &path, "--secret"]);
    assert_eq!(server.token(&both).0, 200);

    assert!(server.stop("-TERM").success());
    assert!(!place.read_log().contains("fb-canary"));
}
