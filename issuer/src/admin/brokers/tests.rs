use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::groups::PolicyChange;
use crate::test_support::{Answer, ISSUER, NOW, TestIssuer};

const PATH: &str = "/admin/v1/brokers";

async fn add(issuer: &TestIssuer, body: Value) -> Answer {
    issuer.admin(Method::POST, PATH, Some(body)).await
}

/// What is refused: the status, the field and the text.
async fn refused(issuer: &TestIssuer, body: Value) -> (u16, Option<String>, String) {
    let before = issuer.app().brokers.all().len();
    let answer = add(issuer, body).await;
    assert_eq!(issuer.app().brokers.all().len(), before);
    let body = answer.json();
    let field = body["field"].as_str().map(Into::into);
    (answer.status.as_u16(), field, body["detail"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_life_of_a_broker() {
    let issuer = TestIssuer::new().await;
    let added = add(&issuer, json!({"name": "site-1", "audience": "mqtt", "profile": "emqx"})).await;
    assert_eq!(added.status, StatusCode::CREATED);
    let mut body = added.json();
    let secret = body["client_secret"].take();
    assert!(secret.as_str().unwrap().len() >= 43, "256 bits");
    // Nothing else may be in it: other programs read it as it is.
    assert_eq!(
        body,
        json!({"client_id": "site-1", "client_secret": null, "audience": "mqtt",
               "resource": "urn:fleetbadge:broker:site-1", "profile": "emqx"})
    );
    let shown = issuer.admin(Method::GET, &format!("{PATH}/site-1"), None).await.json();
    let secret_id = shown["secrets"][0]["id"].clone();
    assert_eq!(
        shown,
        json!({"client_id": "site-1", "audience": "mqtt", "resource": "urn:fleetbadge:broker:site-1",
               "profile": "emqx", "algorithm": "ES256", "created_at": NOW,
               "secrets": [{"id": secret_id, "created_at": NOW, "expires_at": null, "imported": false}]})
    );
    assert_eq!(issuer.admin(Method::GET, PATH, None).await.json(), json!([shown]));
    let removed = issuer.admin(Method::DELETE, &format!("{PATH}/site-1"), None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    for method in [Method::GET, Method::DELETE] {
        let answer = issuer.admin(method, &format!("{PATH}/site-1"), None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json()["detail"], "there is no broker \"site-1\"");
    }
    let again = refused(&issuer, json!({"name": "Site-1", "audience": "x", "profile": "emqx"})).await;
    assert_eq!((again.0, again.1.as_deref()), (409, Some("name")));
    assert!(again.2.contains("there was a device or broker site-1"), "{}", again.2);
}

#[tokio::test]
async fn each_refusal_names_its_field() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump-1", &["c1"]).await;
    issuer.add_broker("site-1", "eu", Profile::Emqx).await;
    let new = |change: Value| {
        let mut body = json!({"name": "new", "audience": "new", "profile": "fleetbadge"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    for (change, status, field, text) in [
        (json!({"name": "a/b"}), 422, Some("name"), "name: \"a/b\""),
        (json!({"audience": "a b"}), 422, Some("audience"), "audience: \"a b\" is not 1 to 255 visible"),
        (json!({"audience": ""}), 422, Some("audience"), "audience: \"\" is not 1 to 255 visible"),
        (
            json!({"profile": "mosquitto"}),
            422,
            Some("profile"),
            "there is no \"mosquitto\"; there are fleetbadge",
        ),
        (json!({"vhost": "/"}), 422, Some("vhost"), "is for profile rabbitmq, not for fleetbadge"),
        (
            json!({"accept_unbound_publishers": true}),
            422,
            Some("accept_unbound_publishers"),
            "is for profile rabbitmq, not for fleetbadge",
        ),
        (json!({"resource": "site"}), 422, Some("resource"), "\"site\" is not an absolute URI"),
        (json!({"resource": "https://a#b"}), 422, Some("resource"), "without a fragment"),
        (json!({"resource": "urn:fleetbadge:broker:site-1"}), 409, None, "belongs to another broker"),
        (json!({"audience": "eu"}), 422, Some("audience"), "also that of broker site-1, with profile emqx"),
        (
            json!({"audience": "eu", "profile": "emqx", "algorithm": "RS256"}),
            422,
            Some("audience"),
            "algorithm ES256; brokers of one audience read the same tokens",
        ),
        (json!({"name": "pump-1"}), 409, Some("name"), "name: there is a device or broker pump-1 already"),
        (
            json!({"name": "c1"}),
            409,
            Some("name"),
            "c1 belongs to pump-1; client IDs and names are one namespace",
        ),
        (json!({"name": "SITE-1"}), 409, Some("name"), "differs from site-1 by case alone"),
        (json!({"algorithm": "HS256"}), 422, None, "HS256"),
        (json!({"secret": "x"}), 422, None, "unknown field `secret`"),
    ] {
        let (found, found_field, detail) = refused(&issuer, new(change.clone())).await;
        assert_eq!((found, found_field.as_deref()), (status, field), "{change}: {detail}");
        assert!(detail.contains(text), "{change}: {detail}");
    }
}

/// Such a broker would be sent the tokens with which devices manage their keys,
/// and could tell by introspection which of them are good.
#[tokio::test]
async fn no_broker_and_no_group_has_the_issuer_as_its_audience() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let refused_group = async |audiences: Value| {
        let answer = issuer.admin(Method::PATCH, "/admin/v1/groups/pumps", Some(audiences)).await.json();
        (answer["status"].clone(), answer["field"].clone(), answer["detail"].as_str().unwrap().to_owned())
    };
    let why = format!("{ISSUER:?} is this issuer, for which devices have tokens to manage their keys with");
    for audiences in [json!([ISSUER]), json!(["mqtt", ISSUER])] {
        let refused = refused_group(json!({ "audiences": audiences })).await;
        assert_eq!(refused, (json!(422), json!("audiences"), format!("audiences: {why}")));
    }
    assert!(app.groups.find("pumps").is_none());
    for profile in ["fleetbadge", "emqx", "hivemq"] {
        let (status, field, detail) =
            refused(&issuer, json!({"name": "new", "audience": ISSUER, "profile": profile})).await;
        assert_eq!((status, field.as_deref()), (422, Some("audience")));
        assert_eq!(detail, format!("audience: {why}"));
    }
    assert!(app.brokers.all().is_empty());
}

#[tokio::test]
async fn brokers_may_share_an_audience_if_they_read_the_same_tokens() {
    let issuer = TestIssuer::new().await;
    for name in ["site-1", "site-2"] {
        let body = json!({"name": name, "audience": "mqtt", "profile": "emqx", "algorithm": "ES256"});
        assert_eq!(add(&issuer, body).await.status, StatusCode::CREATED);
    }
    let secret = issuer.add("pump-1", &[]).await;
    for name in ["site-1", "site-2"] {
        let token = issuer.token("pump-1", &secret, &format!("&resource=urn:fleetbadge:broker:{name}")).await;
        assert!(issuer.verify(&token, "pump-1").is_ok());
    }
    issuer.app().brokers.remove("site-1", &issuer.app().groups).await.unwrap();
    assert_eq!(issuer.app().brokers.target("mqtt").profile.as_str(), "emqx");
    issuer.app().brokers.remove("site-2", &issuer.app().groups).await.unwrap();
    assert_eq!(issuer.app().brokers.target("mqtt").profile.as_str(), "fleetbadge");
}

#[tokio::test]
async fn a_token_is_for_the_broker_that_the_resource_names() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump-1", &[]).await;
    issuer.add_broker("eu", "mqtt-eu", Profile::Fleetbadge).await;
    issuer.add_broker("us", "mqtt-us", Profile::Fleetbadge).await;
    issuer
        .set_group(PolicyChange {
            audiences: Some(vec!["mqtt".into(), "mqtt-eu".into()]),
            ..PolicyChange::default()
        })
        .await;
    let ask = async |more: &str| issuer.token("pump-1", &secret, more).await;
    assert!(issuer.verify(&ask("").await, "pump-1").is_ok());
    let for_eu = ask("&resource=urn:fleetbadge:broker:eu").await;
    assert_eq!(issuer.verify(&for_eu, "pump-1").unwrap_err().code(), "audience_differs");
    for (more, text) in [
        ("&resource=urn:fleetbadge:broker:nobody", "resource names no registered broker"),
        ("&resource=urn:fleetbadge:broker:EU", "resource names no registered broker"),
        ("&resource=mqtt-eu", "resource names no registered broker"),
        ("&resource=urn:fleetbadge:broker:us", "the device's group may have no tokens for this resource"),
    ] {
        let answer = ask(more).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "invalid_target"), "{more}");
        assert_eq!(answer.json()["error_description"], text, "{more}");
    }
}

/// The header and the claims of the token in an answer.
fn token_of(answer: &Answer) -> (Value, Value) {
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let part = |n| {
        let part = token.split('.').nth(n).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    (part(0), part(1))
}

fn rules(publish: &[&str], subscribe: &[&str]) -> PolicyChange {
    let owned = |filters: &[&str]| Some(filters.iter().map(|filter| (*filter).to_owned()).collect());
    PolicyChange { publish: owned(publish), subscribe: owned(subscribe), ..PolicyChange::default() }
}

fn audience(audience: &str) -> PolicyChange {
    PolicyChange { audiences: Some(vec![audience.into()]), ..PolicyChange::default() }
}

#[tokio::test]
async fn rabbitmq_wants_its_risk_accepted() {
    let issuer = TestIssuer::new().await;
    let mut body = json!({"name": "rabbit", "audience": "rabbit", "profile": "rabbitmq"});
    let (status, field, detail) = refused(&issuer, body.clone()).await;
    assert_eq!((status, field.as_deref()), (422, Some("accept_unbound_publishers")));
    assert!(detail.contains("who only publishes may connect as any client ID"), "{detail}");
    assert!(detail.contains("--accept-unbound-publishers"), "{detail}");
    body["accept_unbound_publishers"] = true.into();
    body["vhost"] = "fleet".into();
    assert_eq!(add(&issuer, body).await.json()["profile"], "rabbitmq");
    let shown = issuer.admin(Method::GET, &format!("{PATH}/rabbit"), None).await.json();
    assert_eq!((shown["profile"].as_str(), shown["vhost"].as_str()), (Some("rabbitmq"), Some("fleet")));
}

#[tokio::test]
async fn a_broker_that_cannot_express_a_groups_rules_is_refused() {
    let issuer = TestIssuer::new().await;
    issuer.set_group(rules(&["up/+"], &["down/+/x"])).await;
    let of = |profile: &str| {
        json!({"name": "new", "audience": "mqtt", "profile": profile,
               "accept_unbound_publishers": profile == "rabbitmq"})
    };
    for (profile, text) in [
        (
            "rabbitmq",
            "publish: \"up/+\" cannot be had for audience \"mqtt\" (rabbitmq): RabbitMQ cannot express",
        ),
        ("rmqtt", "publish: \"up/+\" cannot be had for audience \"mqtt\" (rmqtt)"),
        ("hivemq", "(hivemq): HiveMQ takes no topics from a token"),
        ("azure-event-grid", "(azure-event-grid): Azure Event Grid takes no topics"),
    ] {
        let (status, field, detail) = refused(&issuer, of(profile)).await;
        assert_eq!((status, field.as_deref()), (422, Some("audience")), "{detail}");
        assert!(detail.contains("group default has it") && detail.contains(text), "{detail}");
    }
    assert_eq!(add(&issuer, of("emqx")).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_rule_that_a_broker_cannot_express_is_refused() {
    let issuer = TestIssuer::new().await;
    issuer.add_broker("emqx", "mqtt", Profile::Emqx).await;
    let before = issuer.app().groups.get("default").unwrap();
    let body = json!({"publish": ["fine"], "subscribe": ["down/+"]});
    let answer = issuer.admin(Method::PATCH, "/admin/v1/groups/default", Some(body)).await;
    assert_eq!((answer.status.as_u16(), answer.json()["field"].as_str()), (422, Some("subscribe")));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.starts_with("subscribe: \"down/+\" cannot be had for audience \"mqtt\" (emqx): "),
        "{detail}"
    );
    assert_eq!(issuer.app().groups.get("default").unwrap(), before, "nothing is half-written");
}

/// Each alone is fine; whoever comes second must hear of the first.
#[tokio::test]
async fn a_rule_and_the_broker_that_cannot_express_it_never_come_together() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    for n in 0..10 {
        let (name, rule) = (format!("emqx-{n}"), format!("a-{n}/+"));
        app.groups.set(&name, audience(&name), NOW).await.unwrap();
        let new = NewBroker {
            name: name.clone(),
            audience: name.clone(),
            profile: Profile::Emqx,
            ..NewBroker::default()
        };
        let (broker, group) = tokio::join!(
            app.brokers.add(new, &app.groups, &app.devices, NOW),
            app.groups.set(&name, rules(&[], &[&rule]), NOW),
        );
        assert!(broker.is_ok() != group.is_ok(), "{n}: {broker:?} {group:?}");
    }
}

#[tokio::test]
async fn a_native_broker_gets_what_it_reads_or_nothing() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump-1", &[]).await;
    issuer.set_group(rules(&[], &[])).await;
    let rabbitmq = Profile::Rabbitmq { vhost: "/".into() };
    for profile in [rabbitmq, Profile::Emqx, Profile::Rmqtt, Profile::Hivemq] {
        let name = profile.as_str();
        issuer.add_broker(name, name, profile.clone()).await;
        issuer.set_group(audience(name)).await;
        // As if the device had come to this name in the moment before.
        let mut device = issuer.app().devices.get("pump-1").await.unwrap();
        device.mqtt_client_ids = ["pump-1", "c.1"].iter().map(|id| id.parse().unwrap()).collect();
        issuer.app().store.update_device(&device, None).await.unwrap();
        let answer = issuer.token("pump-1", &secret, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{name}");
        let (header, claims) = token_of(&answer);
        assert_eq!(
            (header["typ"].as_str(), header["alg"].as_str()),
            (Some("at+jwt"), Some("ES256")),
            "{name}"
        );
        assert_eq!((claims["aud"].as_str(), claims["sub"].as_str()), (Some(name), Some("pump-1")));
        let scope = claims["scope"].as_str().unwrap();
        assert!(scope.starts_with("mqtt.connect mqtt.publish mqtt.subscribe"), "{name}: {scope}");
        // What the client is told is what OAuth granted, not how it is written.
        assert_eq!(answer.json()["scope"], "mqtt.connect mqtt.publish mqtt.subscribe");
        let narrowed = issuer.token("pump-1", &secret, "&scope=mqtt.publish").await;
        assert_eq!((narrowed.status.as_u16(), narrowed.error().as_str()), (400, "invalid_scope"), "{name}");
        let other = issuer.token("pump-1", &secret, "&mqtt_client_id=c.1").await;
        let misread = matches!(profile, Profile::Rabbitmq { .. } | Profile::Hivemq);
        assert_eq!(other.status == StatusCode::BAD_REQUEST, misread, "{name}");
        if misread {
            assert_eq!(other.error(), "invalid_target");
            let why = other.json()["error_description"].as_str().unwrap().to_owned();
            assert!(why.contains("c.1") && why.contains(name), "{why}");
        }
    }
}

#[tokio::test]
async fn event_grid_takes_rs256_alone() {
    let issuer = TestIssuer::new().await;
    issuer.set_group(rules(&[], &[])).await;
    let body =
        json!({"name": "grid", "audience": "mqtt", "profile": "azure-event-grid", "algorithm": "ES256"});
    let (status, field, detail) = refused(&issuer, body).await;
    assert_eq!((status, field.as_deref()), (422, Some("algorithm")));
    assert_eq!(detail, "algorithm: ES256 is not for profile azure-event-grid; possible are RS256");
    let body = json!({"name": "grid", "audience": "mqtt", "profile": "azure-event-grid"});
    assert_eq!(add(&issuer, body).await.status, StatusCode::CREATED);
    let shown = issuer.admin(Method::GET, &format!("{PATH}/grid"), None).await.json();
    assert_eq!(shown["algorithm"], "RS256");
}
