//! `broker …`.

use crate::place::Place;

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
    assert_eq!(list.lines().count(), 2, "{list}");

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
