use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::test_support::{Answer, NOW, TestIssuer};

async fn post(issuer: &TestIssuer, path: &str, body: Value) -> Answer {
    issuer.admin(Method::POST, path, Some(body)).await
}

/// The problem's status, code and field.
fn problem(answer: &Answer) -> (u16, String, Option<String>) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let body = answer.json();
    assert_eq!(body["status"], answer.status.as_u16());
    let code = body["type"].as_str().unwrap().strip_prefix("urn:fleetbadge:problem:").unwrap().to_owned();
    (answer.status.as_u16(), code, body["field"].as_str().map(Into::into))
}

#[tokio::test]
async fn the_life_of_a_device() {
    let issuer = TestIssuer::new().await;
    let added =
        post(&issuer, "/admin/v1/devices", json!({"name": "pump-1", "mqtt_client_ids": ["c1"]})).await;
    assert_eq!(added.status, StatusCode::CREATED);
    let mut body = added.json();
    let secret = body["client_secret"].take().as_str().unwrap().to_owned();
    assert_eq!(
        body,
        json!({"client_id": "pump-1", "client_secret": null, "mqtt_client_ids": ["c1"], "group": "default",
               "token_endpoint": "https://id.example/oauth2/token"})
    );
    let shown = issuer.admin(Method::GET, "/admin/v1/devices/pump-1", None).await;
    let secret_id = shown.json()["secrets"][0]["id"].clone();
    let mut device = json!({
        "client_id": "pump-1", "mqtt_client_ids": ["c1"], "group": "default", "status": "enabled",
        "created_at": NOW, "attributes": {},
        "secrets": [{"id": secret_id, "imported": false, "created_at": NOW, "expires_at": null}]
    });
    assert_eq!(shown.json(), device);
    device["secrets"][0]["last_used_at"] = json!(NOW);
    let mut device = |status: &str| {
        device["status"] = status.into();
        device.clone()
    };
    assert_eq!(issuer.token("pump-1", &secret, "").await.status, StatusCode::OK);
    let disabled = issuer.admin(Method::POST, "/admin/v1/devices/pump-1/disable", None).await;
    assert_eq!(disabled.json(), device("disabled"));
    assert_eq!(issuer.token("pump-1", &secret, "").await.status, StatusCode::UNAUTHORIZED);
    let enabled = issuer.admin(Method::POST, "/admin/v1/devices/pump-1/enable", None).await;
    assert_eq!(enabled.json(), device("enabled"));
    // Tokens of this second are taken back already.
    assert_eq!(issuer.token("pump-1", &secret, "").await.status, StatusCode::SERVICE_UNAVAILABLE);
    issuer.clock.advance(1);
    assert_eq!(issuer.token("pump-1", &secret, "").await.status, StatusCode::OK);
    let removed = issuer.admin(Method::DELETE, "/admin/v1/devices/pump-1", None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    for (method, action) in
        [(Method::GET, ""), (Method::DELETE, ""), (Method::POST, "/enable"), (Method::POST, "/disable")]
    {
        let answer = issuer.admin(method, &format!("/admin/v1/devices/pump-1{action}"), None).await;
        assert_eq!(problem(&answer), (404, "not-found".into(), None));
    }
}

#[tokio::test]
async fn devices_come_in_pages() {
    let issuer = TestIssuer::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        issuer.add(name, &[]).await;
    }
    let page = async |query: &str| {
        let page = issuer.admin(Method::GET, &format!("/admin/v1/devices{query}"), None).await.json();
        let names: String =
            page["devices"].as_array().unwrap().iter().map(|d| d["client_id"].as_str().unwrap()).collect();
        (names, page["next_after"].as_str().map(str::to_owned))
    };
    assert_eq!(page("").await, ("abcde".into(), None));
    assert_eq!(page("?limit=2").await, ("ab".into(), Some("b".into())));
    assert_eq!(page("?limit=2&after=b").await, ("cd".into(), Some("d".into())));
    assert_eq!(page("?limit=2&after=d").await, ("e".into(), None));
    assert_eq!(page("?limit=5").await, ("abcde".into(), None));
    for query in ["?limit=x", "?limit=-1", "?offset=2"] {
        let answer = issuer.admin(Method::GET, &format!("/admin/v1/devices{query}"), None).await;
        assert_eq!(problem(&answer), (422, "invalid".into(), None), "{query}");
    }
}

#[tokio::test]
async fn problems_name_the_field() {
    let issuer = TestIssuer::new().await;
    issuer.add("taken", &[]).await;
    let add = async |body: Value| problem(&post(&issuer, "/admin/v1/devices", body).await);
    let invalid = |field: &str| (422, "invalid".to_owned(), Some(field.to_owned()));
    assert_eq!(add(json!({"name": "a/b"})).await, invalid("name"));
    assert_eq!(add(json!({"name": "a", "mqtt_client_ids": ["#"]})).await, invalid("mqtt_client_ids"));
    assert_eq!(add(json!({"name": "a", "mqtt_client_ids": ["x", "x"]})).await, invalid("mqtt_client_ids"));
    assert_eq!(add(json!({"name": "a", "group": "nowhere"})).await, invalid("group"));
    let taken = |field: &str| (409, "name-taken".to_owned(), Some(field.to_owned()));
    assert_eq!(add(json!({"name": "taken"})).await, taken("name"));
    assert_eq!(add(json!({"name": "a", "mqtt_client_ids": ["TAKEN"]})).await, taken("mqtt_client_ids"));
    assert_eq!(add(json!({"name": "a", "attributes": {"hall": ""}})).await, invalid("attributes"));
    assert_eq!(add(json!({"name": "a", "colour": "red"})).await, (422, "invalid".into(), None));
    let set =
        async |body: Value| problem(&issuer.admin(Method::PATCH, "/admin/v1/groups/pumps", Some(body)).await);
    assert_eq!(set(json!({"publish": ["a/${x}"]})).await, invalid("publish"));
    assert_eq!(set(json!({"subscribe": ["a/#/b"]})).await, invalid("subscribe"));
    assert_eq!(set(json!({"scope": "x"})).await, invalid("scope"));
    assert_eq!(set(json!({"scope": "mqtt.publish"})).await, invalid("scope"));
    assert_eq!(set(json!({"audiences": [""]})).await, invalid("audiences"));
    assert_eq!(set(json!({"audiences": []})).await, invalid("audiences"));
    assert_eq!(set(json!({"audiences": ["a", "a"]})).await, invalid("audiences"));
    let window = json!({"refresh_window": {"from_percent": 80, "to_percent": 50}});
    assert_eq!(set(window).await, invalid("refresh_window"));
    assert_eq!(set(json!({"device_password_grant": true})).await, invalid("device_password_grant"));
    assert_eq!(set(json!({"token_lifetime_s": 0})).await, invalid("token_lifetime_s"));
    let many: Vec<String> = (0..60).map(|n| format!("devices/${{clientid}}/{n}")).collect();
    assert_eq!(set(json!({"publish": many})).await, invalid("publish"));
    let answer = issuer.admin(Method::GET, "/admin/v1/groups/pumps", None).await;
    assert_eq!(problem(&answer), (404, "not-found".into(), None));
    let answer = issuer.admin(Method::GET, "/admin/v1/nothing", None).await;
    assert_eq!(problem(&answer), (404, "not-found".into(), None));
    let answer = issuer.admin(Method::PUT, "/admin/v1/keys", None).await;
    assert_eq!(problem(&answer), (405, "method-not-allowed".into(), None));
}

#[tokio::test]
async fn a_group_keeps_what_is_not_named() {
    let issuer = TestIssuer::new().await;
    let set =
        async |body: Value| issuer.admin(Method::PATCH, "/admin/v1/groups/pumps", Some(body)).await.json();
    let made = set(json!({"publish": ["a"]})).await;
    let expected = json!({
        "name": "pumps", "publish": ["a"], "subscribe": [], "audiences": ["mqtt"], "token_lifetime_s": 900,
        "refresh_window": {"from_percent": 50, "to_percent": 80}, "static_passwords": false,
        "device_password_grant": false,
        "scope": "mqtt.connect mqtt.publish mqtt.subscribe", "created_at": NOW, "updated_at": NOW
    });
    assert_eq!(made, expected);
    issuer.clock.advance(5);
    let changed = set(json!({"token_lifetime_s": 60, "subscribe": ["b/#"]})).await;
    let mut expected = expected;
    expected["token_lifetime_s"] = 60.into();
    expected["subscribe"] = json!(["b/#"]);
    expected["updated_at"] = (NOW.0 + 5).into();
    assert_eq!(changed, expected);
    let all = issuer.admin(Method::GET, "/admin/v1/groups", None).await.json();
    assert_eq!(all[0]["publish"], json!(["devices/${clientid}/#"]));
    assert_eq!(all[1], expected);
}

#[tokio::test]
async fn keys_are_listed_with_their_states() {
    let issuer = TestIssuer::new().await;
    let rotate = async |now: bool| post(&issuer, "/admin/v1/keys/rotate", json!({ "now": now })).await;
    let states = |answer: &Answer| {
        let keys = answer.json();
        let states = keys.as_array().unwrap().iter().map(|k| k["state"].as_str().unwrap().to_owned());
        states.collect::<Vec<_>>()
    };
    assert_eq!(states(&rotate(false).await), ["active", "announced"]);
    assert_eq!(problem(&rotate(false).await), (409, "rotation-refused".into(), None));
    let listed = async || issuer.admin(Method::GET, "/admin/v1/keys", None).await;
    let key = listed().await.json()[1].clone();
    let may_come_earlier = &key["next_change_may_come_earlier"];
    assert_eq!((&key["next_change_at"], may_come_earlier), (&json!(NOW.plus(86_400)), &json!(true)));
    issuer.clock.advance(600);
    issuer.app().tick().await;
    let key = listed().await.json()[1].clone();
    let may_come_earlier = &key["next_change_may_come_earlier"];
    assert_eq!((&key["next_change_at"], may_come_earlier), (&json!(NOW.plus(605)), &json!(false)));
    issuer.clock.advance(5);
    let listed = listed().await;
    assert_eq!(states(&listed), ["retired", "active"]);
    assert_eq!(listed.json()[1]["successor_announced_at"], json!(NOW.plus(605 + 30 * 86_400)));
    assert_eq!(states(&rotate(true).await), ["retired", "retired", "active"]);
    assert!(!String::from_utf8(listed.body).unwrap().contains("\"d\""));
}

#[tokio::test]
async fn the_life_of_a_secret() {
    let issuer = TestIssuer::new().await;
    let first = issuer.add("pump-1", &[]).await;
    const SECRETS: &str = "/admin/v1/devices/pump-1/secrets";
    let added = post(&issuer, SECRETS, json!({"expires_in_s": 60})).await;
    assert_eq!(added.status, StatusCode::CREATED);
    let mut body = added.json();
    let secret = body["client_secret"].take().as_str().unwrap().to_owned();
    let id = body["secret_id"].as_str().unwrap().to_owned();
    assert_eq!(
        body,
        json!({"client_id": "pump-1", "client_secret": null, "secret_id": id, "expires_at": NOW.0 + 60,
               "token_endpoint": "https://id.example/oauth2/token"})
    );
    assert_eq!(issuer.token("pump-1", &secret, "").await.status, StatusCode::OK);
    let imported = post(&issuer, SECRETS, json!({"secret": "a secret that people chose"})).await;
    assert_eq!(imported.status, StatusCode::CREATED);
    assert_eq!(
        (&imported.json()["client_secret"], &imported.json()["expires_at"]),
        (&Value::Null, &Value::Null)
    );

    let list = async || issuer.admin(Method::GET, SECRETS, None).await.json();
    let of_list = |list: &Value, member: &str| {
        list.as_array().unwrap().iter().map(|secret| secret[member].clone()).collect::<Vec<_>>()
    };
    let listed = list().await;
    assert_eq!(of_list(&listed, "imported"), [false, false, true]);
    assert_eq!(of_list(&listed, "expires_at"), [Value::Null, json!(NOW.0 + 60), Value::Null]);
    assert_eq!(of_list(&listed, "last_used_at"), [Value::Null, json!(NOW), Value::Null]);
    let shown = issuer.admin(Method::GET, "/admin/v1/devices/pump-1", None).await.json();
    assert_eq!(shown["secrets"], listed);

    issuer.clock.advance(1);
    let rotated = post(&issuer, "/admin/v1/devices/pump-1/rotate-secret", json!({"overlap_s": 30})).await;
    assert_eq!(rotated.status, StatusCode::CREATED);
    let rotated = rotated.json();
    assert_eq!((&rotated["expires_at"], &rotated["others_end_at"]), (&Value::Null, &json!(NOW.0 + 31)));
    let ends = of_list(&list().await, "expires_at");
    assert_eq!(ends, [json!(NOW.0 + 31), json!(NOW.0 + 31), json!(NOW.0 + 31), Value::Null]);
    for secret in [first.as_str(), "a secret that people chose", rotated["client_secret"].as_str().unwrap()] {
        assert_eq!(issuer.token("pump-1", secret, "").await.status, StatusCode::OK);
    }

    let ids = of_list(&list().await, "id");
    for (n, id) in ids.iter().enumerate() {
        let path = format!("{SECRETS}/{}", id.as_str().unwrap());
        let removed = issuer.admin(Method::DELETE, &path, None).await.json();
        let is_last = n + 1 == ids.len();
        assert_eq!(
            removed,
            json!({"client_id": "pump-1", "secret_id": id, "removed": true, "has_credentials": !is_last})
        );
        let again = issuer.admin(Method::DELETE, &path, None).await;
        assert_eq!(problem(&again), (404, "not-found".into(), None));
    }
    assert_eq!(list().await, json!([]));
    // There is nothing that could end.
    let rotated = post(&issuer, "/admin/v1/devices/pump-1/rotate-secret", json!({"overlap_s": 30})).await;
    assert_eq!((rotated.status, rotated.json().get("others_end_at")), (StatusCode::CREATED, None));
}

#[tokio::test]
async fn problems_of_secrets_name_the_field_and_repeat_no_secret() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump-1", &[]).await;
    let refused = async |action: &str, body: Value| {
        let answer = post(&issuer, &format!("/admin/v1/devices/pump-1/{action}"), body).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("4711"));
        problem(&answer)
    };
    let invalid = |field: Option<&str>| (422, "invalid".to_owned(), field.map(ToOwned::to_owned));
    assert_eq!(refused("secrets", json!({"expires_in_s": 0})).await, invalid(Some("expires_in_s")));
    assert_eq!(refused("secrets", json!({"secret": "short 4711"})).await, invalid(Some("secret")));
    assert_eq!(refused("secrets", json!({"secret": 4711})).await, invalid(None));
    assert_eq!(refused("secrets", json!({"secret": null})).await, invalid(None));
    assert_eq!(refused("secrets", json!({"colour": 4711})).await, invalid(None));
    assert_eq!(refused("rotate-secret", json!({})).await, invalid(None));
    assert_eq!(refused("rotate-secret", json!({"overlap_s": u64::MAX})).await, invalid(Some("overlap_s")));
    let unknown = [
        ("secrets", json!({})),
        ("secrets", json!({"secret": "a secret that people chose"})),
        ("rotate-secret", json!({"overlap_s": 0})),
    ];
    for (action, body) in unknown {
        let answer = post(&issuer, &format!("/admin/v1/devices/pump-9/{action}"), body).await;
        assert_eq!(problem(&answer), (404, "not-found".into(), None));
    }
}

#[tokio::test]
async fn a_device_keeps_what_is_not_named() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump-1", &["a"]).await;
    let set = async |body: Value| issuer.admin(Method::PATCH, "/admin/v1/devices/pump-1", Some(body)).await;
    issuer.admin(Method::PATCH, "/admin/v1/groups/pumps", Some(json!({}))).await;
    let changed = set(json!({"group": "pumps", "attributes": {"hall": "7", "line": "2"}})).await.json();
    assert_eq!((&changed["group"], &changed["mqtt_client_ids"]), (&json!("pumps"), &json!(["a"])));
    let changed = set(json!({"mqtt_client_ids": ["b", "a"], "attributes": {"line": null}})).await.json();
    assert_eq!(changed["mqtt_client_ids"], json!(["b", "a"]));
    assert_eq!((&changed["group"], &changed["attributes"]), (&json!("pumps"), &json!({"hall": "7"})));
    let invalid = |field: Option<&str>| (422, "invalid".to_owned(), field.map(ToOwned::to_owned));
    assert_eq!(problem(&set(json!({"group": "nowhere"})).await), invalid(Some("group")));
    assert_eq!(problem(&set(json!({"attributes": {"a": "#"}})).await), invalid(Some("attributes")));
    assert_eq!(problem(&set(json!({"status": "enabled"})).await), invalid(None));
    let answer =
        issuer.admin(Method::PATCH, "/admin/v1/devices/pump-9", Some(json!({"group": "pumps"}))).await;
    assert_eq!(problem(&answer), (404, "not-found".into(), None));
}
