//! `policy …`.

use crate::place::Place;

#[test]
fn what_a_device_may_and_why() {
    let place = Place::new();
    let _server = place.serve(&[]);
    place.json(&["broker", "add", "site-1", "--audience", "mqtt", "--profile", "emqx"]);
    place.json(&["group", "set", "pumps", "--publish", "up/${device}/#", "--audience", "mqtt"]);
    place.json(&["device", "add", "pump-1", "--group", "pumps"]);
    let yes = place.json(&["policy", "explain", "pump-1", "--publish", "up/pump-1/x"]);
    assert_eq!((&yes["allowed"], &yes["token"]["profile"]), (&true.into(), &"emqx".into()));
    let no = place.run(&["policy", "explain", "pump-1", "--publish", "up/pump-2/x"]);
    // An answer, not an error: said once.
    assert_eq!((no.status.code(), &no.stderr[..]), (Some(1), &b""[..]));
    let said = String::from_utf8(no.stdout).unwrap();
    assert!(
        said.starts_with("denied: no publish rule allows it; nearest is up/pump-1/#: at level 2"),
        "{said}"
    );
    assert!(said.contains("up/${device}/# → up/pump-1/#"), "{said}");
    let (code, said) = place.refused(&["policy", "explain", "pump-1", "--publish", "a/#"]);
    assert!(code == 1 && said.contains("publish: \"a/#\" has a wildcard"), "{said}");
    let help = place.text(&["policy", "explain", "--help"]);
    assert!(help.contains("0 allowed, 1 denied"), "{help}");
}
