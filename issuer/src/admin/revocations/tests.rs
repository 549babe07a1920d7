use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::devices::NewDevice;
use crate::test_support::{Answer, NOW, TestIssuer};

const PATH: &str = "/admin/v1/revocations";
/// The longest life of a token and the greatest skew.
const KEPT_S: u64 = 86_400 + 300;

async fn add(issuer: &TestIssuer, what: Value) -> Answer {
    issuer.admin(Method::POST, PATH, Some(what)).await
}

async fn listed(issuer: &TestIssuer) -> Vec<Value> {
    let page = issuer.admin(Method::GET, PATH, None).await.json();
    assert!(page.get("next_after").is_none());
    page["revocations"].as_array().unwrap().clone()
}

async fn token(issuer: &TestIssuer, secret: &str) -> String {
    issuer.token("pump", secret, "").await.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_kind_says_what_it_takes_back_and_until_when() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump", &[]).await;
    let token = token(&issuer, &secret).await;
    let claims = issuer.verify(&issuer.token("pump", &secret, "").await, "pump").unwrap();
    let (before, expires_at) = (NOW.plus(1), NOW.plus(1 + KEPT_S));
    let expected = [
        (json!({"device": "pump"}), json!({"device": "pump", "before": before, "expires_at": expires_at})),
        (
            json!({"group": "default"}),
            json!({"group": "default", "before": before, "expires_at": expires_at}),
        ),
        (
            json!({"jti": claims.signed().token_id()}),
            json!({"jti": claims.signed().token_id(), "expires_at": expires_at}),
        ),
        (json!({"all": true}), json!({"all": true, "before": before, "expires_at": expires_at})),
    ];
    for (asked, expected) in &expected {
        let answer = add(&issuer, asked.clone()).await;
        assert_eq!((answer.status, &answer.json()), (StatusCode::CREATED, expected));
    }
    let by_token = add(&issuer, json!({"token": format!(" {token}\n")})).await.json();
    assert!(by_token["jti"].is_string() && by_token["expires_at"].as_u64().unwrap() <= NOW.0 + 900 + 300);
    let mut all: Vec<_> = expected.into_iter().map(|(_, entry)| entry).collect();
    all.push(by_token);
    assert_eq!(listed(&issuer).await, all);
    // The same once more takes the place.
    issuer.clock.advance(5);
    add(&issuer, json!({"device": "pump"})).await;
    let again = listed(&issuer).await;
    assert_eq!((again.len(), &again[4]["before"]), (5, &json!(NOW.plus(6))));
}

#[tokio::test]
async fn a_device_of_the_past_can_be_named_and_nothing_that_never_was() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump", &["other-id"]).await;
    issuer.add_broker("site", "mqtt", crate::profile::Profile::Fleetbadge).await;
    issuer.admin(Method::DELETE, "/admin/v1/devices/pump", None).await;
    assert_eq!(add(&issuer, json!({"device": "pump"})).await.status, StatusCode::CREATED);
    let own = listed(&issuer).await.len();
    for (what, status, says) in [
        (json!({"device": "pomp"}), 404, "there is no device \"pomp\", and was none"),
        (json!({"device": "other-id"}), 404, "there is no device"),
        (json!({"device": "site"}), 404, "there is no device"),
        (json!({"device": ""}), 404, "there is no device"),
        (json!({"group": "nobody"}), 404, "there is no group \"nobody\""),
        (json!({"jti": "short"}), 422, "22 characters"),
        (json!({"token": "secret-word"}), 422, "token: it is malformed"),
        (json!({}), 422, "exactly one of"),
        (json!({"all": false}), 422, "exactly one of"),
        (json!({"device": "pump", "group": "default"}), 422, "exactly one of"),
        (json!({"device": "pump", "all": true}), 422, "exactly one of"),
        (json!({"kid": "x"}), 422, "unknown field"),
    ] {
        let answer = add(&issuer, what.clone()).await;
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(answer.status.as_u16(), status, "{what}: {detail}");
        assert!(detail.contains(says) && !detail.contains("secret-word"), "{detail}");
    }
    assert_eq!(listed(&issuer).await.len(), own);
}

#[tokio::test]
async fn no_token_of_the_named_is_issued_before_its_time() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump", &[]).await;
    let app = issuer.app();
    for what in [json!({"device": "pump"}), json!({"group": "default"}), json!({"all": true})] {
        let old = token(&issuer, &secret).await;
        assert_eq!(add(&issuer, what.clone()).await.status, StatusCode::CREATED);
        let refused = issuer.token("pump", &secret, "").await;
        assert_eq!(
            (refused.status.as_u16(), refused.error()),
            (503, "temporarily_unavailable".into()),
            "{what}"
        );
        assert_eq!(refused.header("retry-after"), Some("1"));
        issuer.clock.advance(1);
        let answer = issuer.token("pump", &secret, "").await;
        let new = issuer.verify(&answer, "pump").unwrap();
        assert_eq!(app.revocations.current().find_signed(new.signed()), None, "{what}");
        let old = crate::endpoints::issued_token::IssuedToken::read(&app, &old).unwrap();
        assert!(old.revoked_by(&app).is_some(), "{what}");
    }
}

/// What no node may do: a token that was there, or came about at the same time,
/// survives that its device was disabled and enabled at once.
#[tokio::test]
async fn disabled_and_enabled_at_once_nothing_older_survives() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump", &[]).await;
    let app = issuer.app();
    let old = token(&issuer, &secret).await;
    for status in ["disable", "enable"] {
        let path = format!("/admin/v1/devices/pump/{status}");
        assert_eq!(issuer.admin(Method::POST, &path, None).await.status, StatusCode::OK);
    }
    let refused = issuer.token("pump", &secret, "").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, Some("1")));
    let old = crate::endpoints::issued_token::IssuedToken::read(&app, &old).unwrap();
    assert!(old.revoked_by(&app).is_some());
    issuer.clock.advance(1);
    assert_eq!(issuer.token("pump", &secret, "").await.status, StatusCode::OK);
    assert!(old.revoked_by(&app).is_some());
}

#[tokio::test]
async fn revoking_a_group_of_100_000_is_one_entry() {
    const COUNT: i64 = 100_000;
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let secret = issuer.add("pump", &[]).await;
    issuer.fill_group("pump", COUNT).await;
    assert_eq!(issuer.count_devices().await, COUNT + 1);
    let last = app.store.changes(0).await.unwrap().last;
    add(&issuer, json!({"group": "default"})).await;
    assert_eq!(listed(&issuer).await.len(), 1);
    assert_eq!(app.store.changes(0).await.unwrap().last, last + 1, "one change");
    assert_eq!(issuer.token("pump", &secret, "").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let new = NewDevice { name: "valve".into(), ..NewDevice::default() };
    let valve = app.devices.add(new, NOW).await.unwrap().secret;
    assert_eq!(issuer.token("valve", valve.expose(), "").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(issuer.token("pump-77777", "fbs_x", "").await.status, StatusCode::UNAUTHORIZED);
    issuer.clock.advance(1);
    assert_eq!(issuer.token("valve", valve.expose(), "").await.status, StatusCode::OK);
}
