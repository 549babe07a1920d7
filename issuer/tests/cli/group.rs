//! `group …`.

use serde_json::json;

use crate::place::Place;

#[test]
fn what_is_not_named_of_a_group_stays() {
    let place = Place::new();
    let server = place.serve(&[]);
    let rules = ["--publish", "up/${device}", "up/all", "--subscribe", "down/${device}/#"];
    let more = ["--token-lifetime-s", "60", "--scope", "mqtt.connect", "mqtt.publish"];
    let set = [&["group", "set", "pumps"][..], &rules, &more, &["--audience", "hall-1"]].concat();
    let group = place.json(&set);
    assert_eq!(group["publish"], json!(["up/${device}", "up/all"]));
    assert_eq!(group["scope"], "mqtt.connect mqtt.publish");
    let group = place.json(&["group", "set", "pumps", "--publish"]);
    assert_eq!(group["publish"], json!([]));
    assert_eq!(group["token_lifetime_s"], 60);
    let device = place.json(&["device", "add", "p", "--group", "pumps"]);
    // Lives are jittered downwards by up to a tenth.
    let lifetime_s = server.token(&device).1["expires_in"].as_u64().unwrap();
    assert!((54..=60).contains(&lifetime_s), "{lifetime_s}");
}

#[test]
fn audiences_refresh_window_and_consents() {
    let place = Place::new();
    let _server = place.serve(&[]);
    let consents = ["--static-passwords", "--device-password-grant"];
    let more = ["--audience", "mqtt", "eu", "--refresh-window", "40-60"];
    let group = place.json(&[&["group", "set", "pumps"][..], &more, &consents].concat());
    assert_eq!(group["audiences"], json!(["mqtt", "eu"]));
    assert_eq!(group["refresh_window"], json!({"from_percent": 40, "to_percent": 60}));
    assert_eq!((&group["static_passwords"], &group["device_password_grant"]), (&true.into(), &true.into()));
    let shown = place.text(&["group", "show", "pumps"]);
    assert!(shown.contains("refresh window         40-60 %\n"), "{shown}");
    let listed = place.text(&["group", "list"]);
    assert_eq!(
        listed,
        "GROUP    AUDIENCES  TOKEN_LIFETIME_S  PUBLISH                SUBSCRIBE\n\
         default  mqtt       900               devices/${clientid}/#  devices/${clientid}/#\n\
         pumps    mqtt eu    900               nothing                nothing\n"
    );
    assert_eq!(place.refused(&["group", "set", "pumps", "--refresh-window", "50"]).0, 2);
    let (code, said) = place.refused(&["group", "set", "pumps", "--refresh-window", "80-50"]);
    assert!(code == 1 && said.contains("refresh_window: 80 to 50 percent"), "{said}");
}

#[test]
fn an_audience_that_no_broker_has_is_told() {
    let place = Place::new();
    let _server = place.serve(&[]);
    place.json(&["broker", "add", "site-1", "--audience", "eu", "--profile", "emqx"]);
    let set = place.run(&["group", "set", "pumps", "--audience", "eu", "nope"]);
    let said = String::from_utf8(set.stderr).unwrap();
    assert_eq!(
        said,
        "note: no broker has the audience nope yet: tokens for it are written for the profile fleetbadge\n"
    );
    assert!(set.status.success());
    // Who does not name audiences, or reads JSON, is told nothing.
    for more in [&["--publish", "up"][..], &["--audience", "nope", "--json"]] {
        let set = place.run(&[&["group", "set", "pumps"], more].concat());
        assert_eq!((set.status.success(), &set.stderr[..]), (true, &b""[..]));
    }
    // A new group may start with nothing, and one that is there may stay as it is.
    for _ in 0..2 {
        place.json(&["group", "set", "empty"]);
    }
}
