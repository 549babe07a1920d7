use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::groups::PolicyChange;
use crate::profile::Profile;
use crate::store::DeviceStatus;
use crate::test_support::{NOW, TestIssuer};

const PATH: &str = "/admin/v1/devices/pump-1/explain";

async fn issuer() -> TestIssuer {
    let issuer = TestIssuer::new().await;
    let new = json!({"name": "pump-1", "mqtt_client_ids": ["c1", "c2"], "attributes": {"site": "north"}});
    assert_eq!(issuer.admin(Method::POST, "/admin/v1/devices", Some(new)).await.status, 201);
    set(
        &issuer,
        &["up/${clientid}/#", "sites/${attr.site}/+", "lines/${attr.line}/${attr.row}"],
        &["#", "news/+"],
    )
    .await;
    issuer
}

async fn set(issuer: &TestIssuer, publish: &[&str], subscribe: &[&str]) {
    let owned = |filters: &[&str]| Some(filters.iter().map(|filter| (*filter).to_owned()).collect());
    let change =
        PolicyChange { publish: owned(publish), subscribe: owned(subscribe), ..PolicyChange::default() };
    issuer.set_group(change).await;
}

async fn ask(issuer: &TestIssuer, query: &[(&str, &str)]) -> Value {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let answer = issuer.admin(Method::GET, &format!("{PATH}?{query}"), None).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// The answer, and why.
async fn answer(issuer: &TestIssuer, query: &[(&str, &str)]) -> (bool, String) {
    let answer = ask(issuer, query).await;
    (answer["allowed"].as_bool().unwrap(), answer["reason"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn everything_that_counts_is_told() {
    let issuer = issuer().await;
    let rule = |field: &str, rule: &str, filter: Option<&str>, missing: &[&str], matched: bool| {
        json!({"field": field, "rule": rule, "filter": filter, "missing_attributes": missing,
               "matched": matched})
    };
    assert_eq!(
        ask(&issuer, &[("publish", "sites/north/x")]).await,
        json!({
            "device": "pump-1", "status": "enabled", "group": "default", "allowed": true,
            "reason": "the publish rule sites/${attr.site}/+ covers sites/north/x",
            "token": {"audience": "mqtt", "profile": "fleetbadge", "algorithm": "ES256",
                      "scope": "mqtt.connect mqtt.publish mqtt.subscribe", "mqtt_client_id": "c1"},
            "rules": [
                rule("publish", "up/${clientid}/#", Some("up/c1/#"), &[], false),
                rule("publish", "sites/${attr.site}/+", Some("sites/north/+"), &[], true),
                rule("publish", "lines/${attr.line}/${attr.row}", None, &["line", "row"], false),
                rule("subscribe", "#", Some("#"), &[], false),
                rule("subscribe", "news/+", Some("news/+"), &[], false),
            ],
        })
    );
}

#[tokio::test]
async fn the_reason_is_in_plain_words() {
    let issuer = issuer().await;
    for (query, allowed, reason) in [
        (&[][..], true, "it gets a token for audience mqtt as c1"),
        (&[("mqtt_client_id", "c2")], true, "it gets a token for audience mqtt as c2"),
        (
            &[("mqtt_client_id", "c2"), ("publish", "up/c2")],
            true,
            "the publish rule up/${clientid}/# covers up/c2",
        ),
        (
            &[("mqtt_client_id", "c3")],
            false,
            "there is no such token: mqtt_client_id is not registered for this device",
        ),
        (&[("resource", "urn:x:y")], false, "there is no such token: resource names no registered broker"),
        (&[("subscribe", "news/today")], true, "the subscribe rule # covers news/today"),
        (&[("subscribe", "$share/workers/news/+")], true, "the subscribe rule # covers news/+"),
        (
            &[("subscribe", "$SYS/uptime")],
            false,
            "a wildcard in front never reaches topics that begin with '$': #",
        ),
        (&[("publish", "news/1")], false, "no publish rule allows it; # would, but that is a subscribe rule"),
    ] {
        assert_eq!(answer(&issuer, query).await, (allowed, reason.to_owned()), "{query:?}");
    }
    set(&issuer, &["up/${clientid}", "up/+/x/y"], &["a/+", "b/c"]).await;
    for (query, reason) in [
        (
            ("publish", "up/c2/x/z"),
            "no publish rule allows it; nearest is up/+/x/y: at level 4 it has \"y\", not \"z\"",
        ),
        (("publish", "up/c1/x"), "it goes on with \"y\" at level 4, where up/c1/x ends"),
        (("subscribe", "a/#"), "nearest is a/+: at level 2 it has \"+\", and \"#\" would be more than that"),
        (("subscribe", "b/+"), "nearest is b/c: at level 2 it has \"c\", and \"+\" would be more than that"),
        (("subscribe", "b/c/d"), "nearest is b/c: it ends where b/c/d goes on with \"d\" at level 3"),
    ] {
        let (allowed, found) = answer(&issuer, &[query]).await;
        assert!(!allowed && found.contains(reason), "{query:?}: {found}");
    }
    set(&issuer, &["lines/${attr.line}"], &[]).await;
    assert_eq!(
        answer(&issuer, &[("publish", "x")]).await.1,
        "every publish rule needs an attribute that the device does not have: line"
    );
    assert_eq!(answer(&issuer, &[("subscribe", "x")]).await.1, "the group has no subscribe rules");
}

#[tokio::test]
async fn device_scope_and_broker_may_stand_in_the_way() {
    let issuer = issuer().await;
    let question = [("publish", "up/c1/x")];
    issuer.set_group(PolicyChange { scope: Some("mqtt.connect".into()), ..PolicyChange::default() }).await;
    assert_eq!(
        answer(&issuer, &question).await,
        (false, "the scope of group default lacks mqtt.publish".into())
    );
    issuer.admin(Method::POST, "/admin/v1/devices/pump-1/disable", None).await;
    assert_eq!(
        answer(&issuer, &question).await,
        (false, "the device is disabled; enable it with: fleetbadge-issuer device enable pump-1".into())
    );
    issuer.app().devices.set_status("pump-1", DeviceStatus::Pending).await.unwrap();
    let waits = "the device enrolled and waits for approval: fleetbadge-issuer device approve pump-1";
    assert_eq!(answer(&issuer, &question).await, (false, waits.into()));
    issuer.admin(Method::POST, "/admin/v1/devices/pump-1/approve", None).await;
    set(&issuer, &[], &[]).await;
    issuer.add_broker("grid", "grid.example", Profile::AzureEventGrid).await;
    issuer.add_broker("hive", "hive", Profile::Hivemq).await;
    let audiences = ["grid.example", "hive"].map(str::to_owned).into();
    issuer.set_group(PolicyChange { audiences: Some(audiences), ..PolicyChange::default() }).await;
    let asked = ask(&issuer, &question).await;
    assert_eq!(
        asked["reason"],
        "tokens for audience grid.example (azure-event-grid) say nothing about topics; whether it may publish is set \
         at the broker"
    );
    assert_eq!(asked["token"]["algorithm"], "RS256");
    let (allowed, reason) = answer(&issuer, &[("resource", "urn:fleetbadge:broker:hive")]).await;
    assert!(!allowed && reason.contains("can only bind a token to the device's name, not to c1"), "{reason}");
    assert!(reason.contains("the device's first MQTT client ID must be pump-1"), "{reason}");
}

#[tokio::test]
async fn what_a_broker_makes_of_a_topic_counts() {
    let issuer = issuer().await;
    set(&issuer, &["up/#"], &[]).await;
    for profile in [Profile::Rmqtt, Profile::Rabbitmq { vhost: "/".into() }] {
        issuer.add_broker(profile.as_str(), profile.as_str(), profile).await;
    }
    let audiences = ["rmqtt", "rabbitmq"].map(str::to_owned).into();
    issuer.set_group(PolicyChange { audiences: Some(audiences), ..PolicyChange::default() }).await;
    for (broker, topic, allowed, reason) in [
        ("rmqtt", "up/x", true, "the publish rule up/# covers up/x"),
        ("rmqtt", "up/$x", false, "rmqtt lets no wildcard stand for a level that begins with '$'"),
        ("rabbitmq", "up/$x", true, "the publish rule up/# covers up/$x"),
        ("rabbitmq", "up.x", false, "RabbitMQ takes '.' in a topic for '/'; ask about the topic with '/'"),
    ] {
        let resource = format!("urn:fleetbadge:broker:{broker}");
        let found = answer(&issuer, &[("publish", topic), ("resource", &resource)]).await;
        assert_eq!(found, (allowed, reason.to_owned()), "{broker} {topic}");
    }
}

#[tokio::test]
async fn what_is_no_topic_names_its_field() {
    let issuer = issuer().await;
    for (query, field, text) in [
        ("publish=a/%2B", "publish", "publish: \"a/+\" has a wildcard, which a topic name must not have"),
        ("publish=", "publish", "publish: \"\" is empty"),
        ("subscribe=a/%23/b", "subscribe", "subscribe: \"a/#/b\" has a wildcard that is not a whole level"),
        ("subscribe=$share/x", "subscribe", "$share/NAME/FILTER"),
        ("publish=a&subscribe=a", "subscribe", "ask about one at a time"),
    ] {
        let answer = issuer.admin(Method::GET, &format!("{PATH}?{query}"), None).await;
        assert_eq!((answer.status.as_u16(), answer.json()["field"].as_str()), (422, Some(field)), "{query}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(text), "{}", answer.json());
    }
    let nobody = issuer.admin(Method::GET, "/admin/v1/devices/nobody/explain", None).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
}

/// An explanation that says otherwise than the token endpoint is worse than
/// none.
#[tokio::test]
async fn the_token_endpoint_says_the_same() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump-1", &["c1", "c2"]).await;
    set(&issuer, &["up/${clientid}/#"], &["down/+"]).await;
    for client_id in ["c1", "c2", "c3"] {
        let token = issuer.token("pump-1", &secret, &format!("&mqtt_client_id={client_id}")).await;
        for (field, action, topic) in [
            ("publish", fleetbadge_validator::access::Action::Publish, "up/c1/x"),
            ("publish", fleetbadge_validator::access::Action::Publish, "down/x"),
            ("subscribe", fleetbadge_validator::access::Action::Subscribe, "down/+"),
            ("subscribe", fleetbadge_validator::access::Action::Subscribe, "down/#"),
        ] {
            let may = token.status == StatusCode::OK
                && issuer.verify(&token, client_id).unwrap().allows(action, topic, NOW).is_ok();
            let (explained, reason) = answer(&issuer, &[(field, topic), ("mqtt_client_id", client_id)]).await;
            assert_eq!(explained, may, "{client_id} {field} {topic}: {reason}");
        }
    }
}
