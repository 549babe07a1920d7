//! A device manages its own keys, and nobody else does.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::test_support::TestKey;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::tests::{jwks, register, request};
use super::*;
use crate::enrolments::NewEnrolment;
use crate::mint::TokenId;
use crate::self_token::SelfContent;
use crate::test_support::{Answer, TestIssuer, TestProof};

const URL: &str = "https://id.example/oauth2/register/pump-1";

/// An issuer with the device `pump-1`, and its key.
async fn with_pump() -> (TestIssuer, TestKey) {
    let issuer = TestIssuer::new().await;
    let key = TestKey::generate();
    enrol(&issuer, "pump-1", &key).await;
    (issuer, key)
}

async fn enrol(issuer: &TestIssuer, name: &str, key: &TestKey) {
    let app = issuer.app();
    let new = NewEnrolment {
        group: "default".into(),
        name_pattern: name.into(),
        uses: 1,
        expires_in_s: 60,
        approval: false,
    };
    let created = app.enrolments.create(new, app.now()).await.unwrap();
    let answer = register(issuer, created.token.expose(), key, None).await;
    assert_eq!(answer.status, StatusCode::CREATED);
}

/// A token of `device`, which asked for it with `key`.
fn token(issuer: &TestIssuer, device: &str, key: &TestKey) -> String {
    let app = issuer.app();
    let content = SelfContent {
        issuer: app.issuer.as_str(),
        device: &device.parse().unwrap(),
        client_key: &key.kid(),
        token_id: TokenId::generate(&*app.random).unwrap(),
        now: app.now(),
    };
    let keys = app.keys.current();
    self_token::mint(content, keys.ring.active(Algorithm::ES256, app.now()).unwrap()).unwrap()
}

async fn get(issuer: &TestIssuer, url: &str, token: &str) -> Answer {
    issuer.public(request(Method::GET, url, token, None, &json!(null))).await
}

async fn put(issuer: &TestIssuer, token: &str, new: Option<&TestKey>, body: &Value) -> Answer {
    let proof = new.map(|key| TestProof::new("PUT", URL, token).sign(key));
    issuer.public(request(Method::PUT, URL, token, proof.as_deref(), body)).await
}

async fn keys(issuer: &TestIssuer) -> Vec<String> {
    let device = issuer.app().devices.get("pump-1").await.unwrap();
    device.credentials.keys.iter().map(|key| key.id.to_string()).collect()
}

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.error())
}

fn invalid_token() -> (u16, String) {
    (401, "invalid_token".into())
}

#[tokio::test]
async fn a_device_sees_itself_as_it_registered() {
    let (issuer, key) = with_pump().await;
    let answer = get(&issuer, URL, &token(&issuer, "pump-1", &key)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.json()["client_id"], "pump-1");
    assert_eq!(answer.json()["jwks"], jwks(&[&key])["jwks"]);
}

#[tokio::test]
async fn a_key_is_replaced_in_two_steps_or_one() {
    let (issuer, first) = with_pump().await;
    let [second, third] = [(); 2].map(|()| TestKey::generate());
    let own = token(&issuer, "pump-1", &first);
    let mut both = jwks(&[&first, &second]);
    both["client_id"] = json!("pump-1");
    let answer = put(&issuer, &own, Some(&second), &both).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["jwks"], both["jwks"]);
    assert_eq!(keys(&issuer).await, [first.kid(), second.kid()]);
    // Said again because the answer was lost: nothing is new.
    assert_eq!(put(&issuer, &own, Some(&second), &both).await.status, StatusCode::OK);
    assert_eq!(put(&issuer, &own, None, &both).await.status, StatusCode::OK);
    // The first one goes; the second one can do it.
    let own = token(&issuer, "pump-1", &second);
    assert_eq!(put(&issuer, &own, None, &jwks(&[&second])).await.status, StatusCode::OK);
    assert_eq!(keys(&issuer).await, [second.kid()]);
    // All at once: a new key for the old one.
    assert_eq!(put(&issuer, &own, Some(&third), &jwks(&[&third])).await.status, StatusCode::OK);
    assert_eq!(keys(&issuer).await, [third.kid()]);
}

/// Whoever stole a key has no minute left after its removal.
#[tokio::test]
async fn a_token_dies_with_the_key_that_it_was_asked_for_with() {
    let (issuer, stolen) = with_pump().await;
    let [fresh, thiefs] = [(); 2].map(|()| TestKey::generate());
    let (owner, thief) = (token(&issuer, "pump-1", &stolen), token(&issuer, "pump-1", &stolen));
    assert_eq!(put(&issuer, &owner, Some(&fresh), &jwks(&[&fresh])).await.status, StatusCode::OK);
    let answer = put(&issuer, &thief, Some(&thiefs), &jwks(&[&thiefs])).await;
    assert_eq!(refusal(&answer), invalid_token());
    assert_eq!(refusal(&get(&issuer, URL, &thief).await), invalid_token());
    assert_eq!(keys(&issuer).await, [fresh.kid()]);
}

#[tokio::test]
async fn a_new_key_is_proven_by_itself_for_this_request() {
    let (issuer, key) = with_pump().await;
    let (new, other) = (TestKey::generate(), TestKey::generate());
    let own = token(&issuer, "pump-1", &key);
    let both = jwks(&[&key, &new]);
    let refused = async |proof: Option<String>| {
        let answer = issuer.public(request(Method::PUT, URL, &own, proof.as_deref(), &both)).await;
        assert_eq!(refusal(&answer), (400, "invalid_dpop_proof".into()));
    };
    let proof = || TestProof::new("PUT", URL, &own);
    refused(None).await;
    // The key that is there already proves nothing for the new one.
    refused(Some(proof().sign(&key))).await;
    refused(Some(proof().sign(&other))).await;
    refused(Some(proof().with("htm", "POST").sign(&new))).await;
    refused(Some(proof().with("htu", "https://id.example/oauth2/register").sign(&new))).await;
    refused(Some(proof().with("htu", "https://id.example/oauth2/register/pump-2").sign(&new))).await;
    refused(Some(TestProof::new("PUT", URL, &token(&issuer, "pump-1", &key)).sign(&new))).await;
    refused(Some(proof().with("iat", issuer.app().now().0 - 300).sign(&new))).await;
    let overheard = proof().sign(&new);
    let wrong_client = json!({"jwks": both["jwks"], "client_id": "pump-2"});
    let answer = issuer.public(request(Method::PUT, URL, &own, Some(&overheard), &wrong_client)).await;
    assert_eq!(refusal(&answer), (400, "invalid_client_metadata".into()));
    // Not looked at yet, so not used up.
    let answer = issuer.public(request(Method::PUT, URL, &own, Some(&overheard), &both)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(put(&issuer, &own, None, &jwks(&[&key])).await.status, StatusCode::OK);
    refused(Some(overheard)).await;
    assert_eq!(keys(&issuer).await, [key.kid()]);
}

#[tokio::test]
async fn sets_of_keys_that_cannot_be_are_refused_whole() {
    let (issuer, key) = with_pump().await;
    let others = TestKey::generate();
    enrol(&issuer, "pump-2", &others).await;
    let own = token(&issuer, "pump-1", &key);
    let many: Vec<_> = (0..9).map(|_| TestKey::generate()).collect();
    let many: Vec<&TestKey> = many.iter().collect();
    let mut private = jwks(&[&key, &others]);
    private["jwks"]["keys"][1]["d"] = json!("AQ");
    for (body, signer) in [
        (json!({}), None),
        (jwks(&[]), None),
        (jwks(&many), Some(many[0])),
        (jwks(&[&key, many[0], many[1]]), Some(many[0])),
        (jwks(&[&key, &others]), Some(&others)),
        (jwks(&[&key, &key]), None),
        (private, Some(&others)),
        (json!({"jwks_uri": "https://x"}), None),
    ] {
        let answer = put(&issuer, &own, signer, &body).await;
        assert_eq!(refusal(&answer), (400, "invalid_client_metadata".into()), "{body}");
        assert_eq!(keys(&issuer).await, [key.kid()]);
    }
}

#[tokio::test]
async fn only_a_device_that_is_there_and_enabled_manages_itself_alone() {
    let (issuer, key) = with_pump().await;
    let other = TestKey::generate();
    enrol(&issuer, "pump-2", &other).await;
    let refused = async |token: &str| {
        assert_eq!(refusal(&get(&issuer, URL, token).await), invalid_token());
        assert_eq!(refusal(&put(&issuer, token, None, &jwks(&[&key])).await), invalid_token());
    };
    refused(&token(&issuer, "pump-2", &other)).await;
    refused(&token(&issuer, "pump-1", &other)).await;
    refused(&token(&issuer, "pump-3", &key)).await;
    refused("x").await;
    // An MQTT token is for brokers.
    let secret = issuer.add("valve-1", &[]).await;
    let answer = issuer.token("valve-1", &secret, "").await.json();
    let url = "https://id.example/oauth2/register/valve-1";
    let mqtt = answer["access_token"].as_str().unwrap();
    assert_eq!(refusal(&get(&issuer, url, mqtt).await), invalid_token());

    let own = token(&issuer, "pump-1", &key);
    assert_eq!(get(&issuer, URL, &own).await.status, StatusCode::OK);
    issuer.clock.advance(60);
    refused(&own).await;
    let own = token(&issuer, "pump-1", &key);
    issuer.app().devices.set_status("pump-1", DeviceStatus::Disabled).await.unwrap();
    refused(&own).await;
    issuer.app().devices.remove("pump-1").await.unwrap();
    refused(&own).await;
}

#[tokio::test]
async fn the_token_is_in_the_header_and_nowhere_else() {
    let (issuer, key) = with_pump().await;
    let own = token(&issuer, "pump-1", &key);
    let mut asked = request(Method::GET, URL, &own, None, &json!(null));
    asked.headers_mut().remove("authorization");
    assert_eq!(issuer.public(asked).await.header("www-authenticate"), Some("Bearer realm=\"fleetbadge\""));
    let answer = get(&issuer, &format!("{URL}?access_token={own}"), &own).await;
    assert_eq!(refusal(&answer), (400, "invalid_request".into()));
    for method in [Method::POST, Method::DELETE, Method::PATCH] {
        let answer = issuer.public(request(method, URL, &own, None, &json!({}))).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
}

/// A key that is gone from the database must be gone from memory, too, even if
/// whoever asked for it has hung up.
#[tokio::test]
async fn a_change_goes_on_when_the_device_hangs_up() {
    let (issuer, key) = with_pump().await;
    let new = TestKey::generate();
    let own = token(&issuer, "pump-1", &key);
    // In memory, as it was.
    assert_eq!(get(&issuer, URL, &own).await.status, StatusCode::OK);
    let body = jwks(&[&new]);
    tokio::select! {
        biased;
        _ = put(&issuer, &own, Some(&new), &body) => panic!("it is answered before it was cut off"),
        () = tokio::task::yield_now() => {}
    }
    let is_gone = async {
        while issuer.app().devices.find("pump-1").await.unwrap().unwrap().credentials.keys[0].id.as_str()
            != new.kid()
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), is_gone).await.unwrap();
}

/// Whoever stole such a token must not use its minute after the device was
/// shut out and let in again.
#[tokio::test]
async fn a_token_dies_when_its_device_is_shut_out() {
    let (issuer, key) = with_pump().await;
    for shut_out in [
        vec![("devices/pump-1/disable", json!(null)), ("devices/pump-1/enable", json!(null))],
        vec![("revocations", json!({"device": "pump-1"}))],
        vec![("revocations", json!({"group": "default"}))],
        vec![("revocations", json!({"all": true}))],
    ] {
        let before = token(&issuer, "pump-1", &key);
        assert_eq!(get(&issuer, URL, &before).await.status, StatusCode::OK);
        for (path, body) in shut_out {
            let answer = issuer.admin(Method::POST, &format!("/admin/v1/{path}"), Some(body)).await;
            assert!(answer.status.is_success(), "{path}");
        }
        assert_eq!(refusal(&get(&issuer, URL, &before).await), invalid_token());
        let new = TestKey::generate();
        let body = jwks(&[&key, &new]);
        assert_eq!(refusal(&put(&issuer, &before, Some(&new), &body).await), invalid_token());
        issuer.clock.advance(1);
        assert_eq!(refusal(&get(&issuer, URL, &before).await), invalid_token());
        let after = token(&issuer, "pump-1", &key);
        assert_eq!(get(&issuer, URL, &after).await.status, StatusCode::OK);
    }
}
