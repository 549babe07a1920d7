use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};

use super::*;
use crate::profile::Profile;
use crate::test_support::{NOW, TestIssuer, basic};

const BROKER: &str = "/admin/v1/brokers/site-1";
const SECRETS: &str = "/admin/v1/brokers/site-1/secrets";

#[tokio::test]
async fn the_life_of_a_brokers_secret() {
    let issuer = TestIssuer::new().await;
    let first = issuer.add_broker("site-1", "mqtt", Profile::Fleetbadge).await;
    let ask = async |secret: &str| {
        let request = Request::post("/oauth2/introspect")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::AUTHORIZATION, basic("site-1", secret))
            .body(Body::from("token=x"));
        issuer.public(request.unwrap()).await.status
    };
    let post = async |path: &str, body: Value| issuer.admin(Method::POST, path, Some(body)).await;
    let list = async || issuer.admin(Method::GET, SECRETS, None).await.json();

    let added = post(SECRETS, json!({"expires_in_s": 60})).await;
    assert_eq!(added.status, StatusCode::CREATED);
    let mut added = added.json();
    let second = added["client_secret"].take().as_str().unwrap().to_owned();
    let id = added["secret_id"].clone();
    assert_eq!(
        added,
        json!({"client_id": "site-1", "client_secret": null, "audience": "mqtt",
               "resource": "urn:fleetbadge:broker:site-1", "profile": "fleetbadge",
               "secret_id": id, "expires_at": NOW.0 + 60})
    );
    assert_eq!((ask(&first).await, ask(&second).await), (StatusCode::OK, StatusCode::OK));
    issuer.clock.advance(1);
    let rotated = post(&format!("{BROKER}/rotate-secret"), json!({"overlap_s": 30})).await.json();
    assert_eq!((&rotated["expires_at"], &rotated["others_end_at"]), (&Value::Null, &json!(NOW.0 + 31)));

    let listed = list().await;
    let of = |member: &str| {
        listed.as_array().unwrap().iter().map(|secret| secret[member].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("expires_at"), [json!(NOW.0 + 31), json!(NOW.0 + 31), Value::Null]);
    assert_eq!(of("last_used_at"), [json!(NOW), json!(NOW), Value::Null]);
    assert_eq!(of("imported"), [false, false, false]);
    assert_eq!(issuer.admin(Method::GET, BROKER, None).await.json()["secrets"], listed);

    for (n, id) in of("id").iter().enumerate() {
        let path = format!("{SECRETS}/{}", id.as_str().unwrap());
        let removed = issuer.admin(Method::DELETE, &path, None).await.json();
        assert_eq!(
            removed,
            json!({"client_id": "site-1", "secret_id": id, "removed": true, "has_credentials": n < 2})
        );
        assert_eq!(issuer.admin(Method::DELETE, &path, None).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(list().await, json!([]));
    let last = rotated["client_secret"].as_str().unwrap();
    assert_eq!(ask(last).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_refused_names_the_field_and_repeats_no_secret() {
    let issuer = TestIssuer::new().await;
    issuer.add_broker("site-1", "mqtt", Profile::Fleetbadge).await;
    issuer.add("pump-1", &[]).await;
    for (path, body, status, field, text) in [
        (SECRETS, json!({"expires_in_s": 0}), 422, Some("expires_in_s"), "not between 1 and"),
        // Nobody chooses the secret of a broker.
        (SECRETS, json!({"secret": "a secret that people chose"}), 422, None, "unknown field `secret`"),
        ("/admin/v1/brokers/site-1/rotate-secret", json!({}), 422, None, "missing field `overlap_s`"),
        ("/admin/v1/brokers/pump-1/secrets", json!({}), 404, None, "there is no broker \"pump-1\""),
        ("/admin/v1/devices/site-1/secrets", json!({}), 404, None, "there is no device \"site-1\""),
    ] {
        let answer = issuer.admin(Method::POST, path, Some(body)).await;
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), body["field"].as_str()), (status, field), "{body}");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.contains(text) && !detail.contains("people chose"), "{detail}");
    }
    let shown = issuer.admin(Method::GET, BROKER, None).await.json();
    assert_eq!(shown["secrets"].as_array().unwrap().len(), 1);
}
