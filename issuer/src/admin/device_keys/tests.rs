use fleetbadge_validator::test_support::{TestKey, jwks};
use http::Method;
use serde_json::json;

use crate::test_support::{Answer, NOW, TestIssuer};

use super::*;

const KEYS: &str = "/admin/v1/devices/pump-1/keys";

async fn post(issuer: &TestIssuer, path: &str, body: Value) -> Answer {
    issuer.admin(Method::POST, path, Some(body)).await
}

fn set(keys: &[&TestKey]) -> Value {
    serde_json::from_str(&jwks(keys)).unwrap()
}

/// The problem's status, code and field.
fn problem(answer: &Answer) -> (u16, String, Option<String>) {
    let body = answer.json();
    let code = body["type"].as_str().unwrap().trim_start_matches("urn:fleetbadge:problem:").to_owned();
    (answer.status.as_u16(), code, body["field"].as_str().map(Into::into))
}

#[tokio::test]
async fn a_device_with_keys_has_a_secret_only_if_it_is_asked_for() {
    let issuer = TestIssuer::new().await;
    let (key, other) = (TestKey::generate(), TestKey::generate());
    let add = async |name: &str, more: Value| {
        let mut body = more;
        body["name"] = name.into();
        post(&issuer, "/admin/v1/devices", body).await
    };
    let added = add("pump-1", json!({"jwks": set(&[&key])})).await;
    assert_eq!(added.status, StatusCode::CREATED);
    assert_eq!(added.json().get("client_secret"), None);
    let shown = issuer.admin(Method::GET, "/admin/v1/devices/pump-1", None).await.json();
    let document = json!({"thumbprint": key.kid(), "kid": key.kid(), "alg": "ES256", "created_at": NOW});
    assert_eq!((&shown["keys"], &shown["secrets"]), (&json!([document]), &json!([])));

    let added = add("pump-2", json!({"jwks": set(&[&other]), "make_secret": true})).await.json();
    assert_eq!(issuer.token("pump-2", added["client_secret"].as_str().unwrap(), "").await.status, 200);
    let shown = issuer.admin(Method::GET, "/admin/v1/devices/pump-2", None).await.json();
    assert_eq!(shown["keys"][0]["thumbprint"], other.kid());
    let added = add("pump-3", json!({"make_secret": false})).await;
    assert_eq!((added.status, added.json().get("client_secret")), (StatusCode::CREATED, None));

    // Nothing is half-written: neither name is taken.
    let taken = add("pump-4", json!({"jwks": set(&[&TestKey::generate(), &key])})).await;
    assert_eq!(problem(&taken), (409, "key-taken".into(), None));
    let detail = taken.json()["detail"].to_string();
    assert!(detail.contains(&key.kid()) && detail.contains("pump-1"), "{detail}");
    let invalid = add("pump-4", json!({"jwks": {"keys": []}})).await;
    assert_eq!(problem(&invalid), (422, "invalid".into(), Some("jwks".into())));
    assert_eq!(add("pump-4", json!({})).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn the_life_of_a_key() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump-1", &[]).await;
    let (first, second) = (TestKey::generate(), TestKey::generate());
    assert_eq!(issuer.admin(Method::GET, KEYS, None).await.json(), json!([]));
    assert_eq!(post(&issuer, KEYS, json!({"jwks": set(&[&first])})).await.status, StatusCode::CREATED);
    issuer.clock.advance(5);
    let added = post(&issuer, KEYS, json!({"jwks": set(&[&second])})).await.json();
    let listed = issuer.admin(Method::GET, KEYS, None).await.json();
    assert_eq!(added, listed);
    assert_eq!(listed[0]["thumbprint"], first.kid());
    assert_eq!(
        (&listed[1]["thumbprint"], &listed[1]["created_at"]),
        (&second.kid().into(), &(NOW.0 + 5).into())
    );

    // A use shows, in the list and with the device.
    let claims = json!({"iss": "pump-1", "sub": "pump-1", "aud": crate::test_support::ISSUER,
                        "exp": NOW.0 + 60, "jti": "1"});
    let assertion = second.token_of(json!({"alg": "ES256"}).to_string(), claims.to_string());
    let body = format!(
        "grant_type=client_credentials&client_assertion={assertion}&client_assertion_type=\
         urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    assert_eq!(issuer.public(crate::test_support::token_request(body).into()).await.status, StatusCode::OK);
    let listed = issuer.admin(Method::GET, KEYS, None).await.json();
    assert_eq!(listed[0].get("last_used_at"), None);
    assert_eq!(listed[1]["last_used_at"], NOW.0 + 5);
    let shown = issuer.admin(Method::GET, "/admin/v1/devices/pump-1", None).await.json();
    assert_eq!(shown["keys"], listed);

    let path = format!("{KEYS}/{}", first.kid());
    let removed = issuer.admin(Method::DELETE, &path, None).await.json();
    let expected =
        json!({"client_id": "pump-1", "thumbprint": first.kid(), "removed": true, "has_credentials": true});
    assert_eq!(removed, expected);
    assert_eq!(problem(&issuer.admin(Method::DELETE, &path, None).await), (404, "not-found".into(), None));
    // It may be another device's now, which is then told of its last one.
    issuer
        .admin(Method::POST, "/admin/v1/devices", Some(json!({"name": "pump-2", "jwks": set(&[&first])})))
        .await;
    let path = format!("/admin/v1/devices/pump-2/keys/{}", first.kid());
    let removed = issuer.admin(Method::DELETE, &path, None).await.json();
    assert_eq!(removed["has_credentials"], false);
    for (method, path, body) in [
        (Method::GET, "/admin/v1/devices/nobody/keys".to_owned(), None),
        (Method::POST, "/admin/v1/devices/nobody/keys".into(), Some(json!({"jwks": set(&[&first])}))),
        (Method::DELETE, format!("/admin/v1/devices/nobody/keys/{}", first.kid()), None),
    ] {
        assert_eq!(problem(&issuer.admin(method, &path, body).await), (404, "not-found".into(), None));
    }
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump-1", &[]).await;
    issuer.add("pump-2", &[]).await;
    let (own, others) = (TestKey::generate(), TestKey::generate());
    post(&issuer, KEYS, json!({"jwks": set(&[&own])})).await;
    post(&issuer, "/admin/v1/devices/pump-2/keys", json!({"jwks": set(&[&others])})).await;
    let before = issuer.admin(Method::GET, KEYS, None).await.body;
    let mut private = set(&[&TestKey::generate()]);
    private["keys"][0]["d"] = "canary".into();
    let many: Vec<TestKey> = (0..8).map(|_| TestKey::generate()).collect();
    let many: Vec<&TestKey> = many.iter().collect();
    let invalid = |reason| (422, "invalid", Some("jwks"), reason);
    for (jwks, (status, code, field, reason)) in [
        (private, invalid("member d")),
        (json!("canary"), invalid("JWK Set")),
        (json!(null), invalid("JWK Set")),
        (set(&[&TestKey::generate(), &own]), invalid("already")),
        (set(&many), invalid("more than 8")),
        (set(&[&TestKey::generate(), &others]), (409, "key-taken", None, "pump-2")),
    ] {
        let answer = post(&issuer, KEYS, json!({ "jwks": jwks })).await;
        assert_eq!(problem(&answer), (status, code.into(), field.map(Into::into)), "{jwks}");
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains(reason) && !detail.contains("canary"), "{detail}");
        assert_eq!(issuer.admin(Method::GET, KEYS, None).await.body, before);
    }
    let answer = post(&issuer, KEYS, json!({})).await;
    assert_eq!(problem(&answer), (422, "invalid".into(), None));
}
