//! A device that did not hear that it is in asks again.

use super::*;
use crate::devices::DeviceChange;

async fn uses_left(issuer: &TestIssuer) -> u32 {
    issuer.app().enrolments.all().await.unwrap()[0].uses_left
}

/// What whoever has nothing but a token that nobody made is told.
async fn unknown(issuer: &TestIssuer) -> (u16, Vec<u8>) {
    let answer = register(issuer, "fbe_unknown", &TestKey::generate(), None).await;
    assert_eq!(refusal(&answer), (401, "invalid_token".into()));
    (answer.status.as_u16(), answer.body)
}

#[tokio::test]
async fn a_lost_answer_is_given_again_and_takes_no_other_use() {
    for (wish, uses) in [(None, 1), (None, 2), (Some("pump-1"), 1), (Some("pump-1"), 2)] {
        let (issuer, token) = with_enrolment(uses).await;
        let key = TestKey::generate();
        let lost = register(&issuer, &token, &key, wish).await;
        assert_eq!(lost.status, StatusCode::CREATED);
        issuer.clock.advance(5);
        for wish in [wish, None, Some("pump-2"), Some("valve-1")] {
            let mut body = jwks(&[&key]);
            body["client_name"] = json!(wish.unwrap_or("pump-1"));
            let proof = TestProof::new("POST", URL, &token).with("iat", NOW.0 + 5).sign(&key);
            let again = post(&issuer, &token, Some(&proof), &body).await;
            assert_eq!((again.status, again.json()), (StatusCode::CREATED, lost.json()), "{wish:?}");
        }
        assert_eq!((devices(&issuer).await.len(), uses_left(&issuer).await), (1, uses - 1));
        // Who comes later finds the uses that are left.
        let other = register(&issuer, &token, &TestKey::generate(), None).await;
        assert_eq!(other.status == StatusCode::CREATED, uses == 2);
    }
}

#[tokio::test]
async fn a_device_that_asks_twice_at_once_is_one() {
    let (issuer, token) = with_enrolment(9).await;
    let (issuer, key) = (Arc::new(issuer), Arc::new(TestKey::generate()));
    let tries: Vec<_> = (0..6)
        .map(|_| {
            let (issuer, token, key) = (Arc::clone(&issuer), token.clone(), Arc::clone(&key));
            tokio::spawn(async move { register(&issuer, &token, &key, None).await.json() })
        })
        .collect();
    let mut names = Vec::new();
    for one in tries {
        names.push(one.await.unwrap()["client_id"].clone());
    }
    names.dedup();
    assert_eq!((json!(names), uses_left(&issuer).await), (json!(devices(&issuer).await), 8));
}

#[tokio::test]
async fn it_is_told_how_it_is_now() {
    let issuer = TestIssuer::new().await;
    let token = create(&issuer, "pump-*", 1, true).await;
    let key = TestKey::generate();
    let status = async || register(&issuer, &token, &key, Some("pump-1")).await.json()["status"].clone();
    assert_eq!(status().await, "pending");
    assert_eq!(status().await, "pending", "asking again approves nobody");
    let app = issuer.app();
    app.devices.approve("pump-1").await.unwrap();
    assert_eq!(status().await, "enabled");
    app.devices.set_status("pump-1", DeviceStatus::Disabled).await.unwrap();
    assert_eq!(status().await, "disabled", "nor enables anybody");
    let ids = DeviceChange { mqtt_client_ids: Some(vec!["p1".into()]), ..DeviceChange::default() };
    app.devices.set("pump-1", ids).await.unwrap();
    let answer = register(&issuer, &token, &key, None).await.json();
    assert_eq!((&answer["client_id"], &answer["mqtt_client_ids"]), (&json!("pump-1"), &json!(["p1"])));
    let shown = issuer.admin(Method::GET, "/admin/v1/devices/pump-1", None).await.json();
    assert_eq!(shown["enrolled_by"], json!(app.enrolments.all().await.unwrap()[0].id));
}

/// A public key is no secret, and a token is on every device of the fleet:
/// both together are nobody yet.
#[tokio::test]
async fn without_the_key_nobody_is_told_anything() {
    let (issuer, used_up) = with_enrolment(1).await;
    let (key, thief) = (TestKey::generate(), TestKey::generate());
    let body = jwks(&[&key]);
    let overheard = TestProof::new("POST", URL, &used_up).sign(&key);
    assert_eq!(post(&issuer, &used_up, Some(&overheard), &body).await.status, StatusCode::CREATED);
    let lasting = create(&issuer, "pump-*", 2, false).await;
    assert_eq!(register(&issuer, &lasting, &TestKey::generate(), None).await.status, StatusCode::CREATED);

    let proof = |token: &str| TestProof::new("POST", URL, token);
    let unknown = unknown(&issuer).await;
    for token in [&used_up, &lasting] {
        let forged = {
            let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.public().to_jwk()});
            thief.token_of(header.to_string(), proof(token).claims.to_string())
        };
        let for_another = proof("fbe_other").sign(&key);
        for stolen in
            [None, Some(&forged), Some(&proof(token).sign(&thief)), Some(&for_another), Some(&overheard)]
        {
            let answer = post(&issuer, token, stolen.map(String::as_str), &body).await;
            if *token == used_up {
                assert_eq!((answer.status.as_u16(), answer.body), unknown);
            } else {
                assert_eq!(refusal(&answer), invalid("invalid_dpop_proof"));
            }
        }
    }
    // Neither does what else is wrong tell that the token was good once.
    for wrong in [json!(null), json!({}), json!({"jwks": {"keys": []}}), json!({"jwks_uri": "https://a"})] {
        let answer = post(&issuer, &used_up, Some(&proof(&used_up).sign(&thief)), &wrong).await;
        assert_eq!((answer.status.as_u16(), answer.body), unknown, "{wrong}");
    }
    let mut form = request(Method::POST, URL, &used_up, None, &body);
    form.headers_mut().insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
    let answer = issuer.public(form).await;
    assert_eq!((answer.status.as_u16(), answer.body), unknown);
}

#[tokio::test]
async fn only_the_same_token_with_the_same_key_is_the_same_request() {
    let (issuer, token) = with_enrolment(1).await;
    let (key, later) = (TestKey::generate(), TestKey::generate());
    register(&issuer, &token, &key, Some("pump-1")).await;
    let unknown = unknown(&issuer).await;
    let refused = async |token: &str, key: &TestKey| {
        let answer = register(&issuer, token, key, Some("pump-1")).await;
        (answer.status.as_u16(), answer.body)
    };
    assert_eq!(refused(&token, &TestKey::generate()).await, unknown, "another key");
    // Another token of the same group, for the same names.
    let other_token = create(&issuer, "pump-*", 2, false).await;
    let answer = register(&issuer, &other_token, &key, Some("pump-2")).await;
    assert_eq!(refusal(&answer), invalid("invalid_client_metadata"));
    // A key that the device has, but did not enrol with.
    let app = issuer.app();
    let jwks = json!({"keys": [later.public().to_jwk()]});
    let keys = crate::device_keys::DeviceKey::read_set(&jwks).unwrap();
    app.devices.add_keys("pump-1", &keys, NOW).await.unwrap();
    assert_eq!(refused(&token, &later).await, unknown, "a later key");
    // A key that was taken from the device, since somebody else had it.
    app.devices.remove_key("pump-1", &key.kid()).await.unwrap();
    assert_eq!(refused(&token, &key).await, unknown, "a key that was removed");
    // What is of another device by now.
    let keys = crate::device_keys::DeviceKey::read_set(&json!({"keys": [key.public().to_jwk()]})).unwrap();
    issuer.add("pump-9", &[]).await;
    app.devices.add_keys("pump-9", &keys, NOW).await.unwrap();
    assert_eq!(refused(&token, &key).await, unknown, "another device's key");
}

#[tokio::test]
async fn a_token_that_ended_or_was_removed_tells_nothing_again() {
    let (issuer, token) = with_enrolment(2).await;
    let key = TestKey::generate();
    register(&issuer, &token, &key, None).await;
    let ended = create(&issuer, "valve-*", 1, false).await;
    let other = TestKey::generate();
    register(&issuer, &ended, &other, None).await;
    let app = issuer.app();
    let id = app.enrolments.all().await.unwrap().iter().find(|one| one.uses_left == 1).unwrap().id.clone();
    app.enrolments.remove(id.as_str()).await.unwrap();
    assert_eq!(refusal(&register(&issuer, &token, &key, None).await), (401, "invalid_token".into()));
    issuer.clock.advance(3_600);
    let proof = TestProof::new("POST", URL, &ended).with("iat", app.now().0).sign(&other);
    let answer = post(&issuer, &ended, Some(&proof), &jwks(&[&other])).await;
    assert_eq!(refusal(&answer), (401, "invalid_token".into()));
}

#[tokio::test]
async fn a_device_that_was_removed_does_not_come_back_by_asking_again() {
    let (issuer, token) = with_enrolment(1).await;
    let key = TestKey::generate();
    register(&issuer, &token, &key, Some("pump-1")).await;
    issuer.app().devices.remove("pump-1").await.unwrap();
    let answer = register(&issuer, &token, &key, Some("pump-1")).await;
    assert_eq!(refusal(&answer), (401, "invalid_token".into()));
    assert!(devices(&issuer).await.is_empty());
}
