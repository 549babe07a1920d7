use std::time::Duration;

use fleetbadge_validator::revocations::RevocationState;
use fleetbadge_validator::verify::VerifiedToken;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::brokers::NewBroker;
use crate::groups::PolicyChange;
use crate::test_support::{Answer, ISSUER, TestIssuer};

/// An issuer whose broker `hall` wants RS256, with a device that may have
/// tokens for it and for an ordinary one.
async fn with_rs256_broker() -> (TestIssuer, String) {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump-1", &[]).await;
    add_broker(&issuer, "hall", Algorithm::RS256).await;
    issuer
        .set_group(PolicyChange {
            audiences: Some(vec!["mqtt".into(), "hall".into()]),
            ..PolicyChange::default()
        })
        .await;
    (issuer, secret)
}

async fn add_broker(issuer: &TestIssuer, name: &str, algorithm: Algorithm) {
    let app = issuer.app();
    let new = NewBroker {
        name: name.into(),
        audience: name.into(),
        algorithm: Some(algorithm),
        ..NewBroker::default()
    };
    app.brokers.add(new, &app.groups, &app.devices, app.now()).await.unwrap();
}

async fn token_for_hall(issuer: &TestIssuer, secret: &str) -> Answer {
    issuer.token("pump-1", secret, "&resource=urn:fleetbadge:broker:hall").await
}

/// Lets seconds pass until every key is there that a broker wants.
async fn wait_for_keys(issuer: &TestIssuer) {
    let app = issuer.app();
    let ticking = async {
        while !app.algorithms_without_key().is_empty() {
            app.tick().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        app.tick().await;
    };
    tokio::time::timeout(Duration::from_secs(60), ticking).await.unwrap();
}

fn verify(issuer: &TestIssuer, answer: &Answer, audience: &str) -> VerifiedToken {
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let keys = issuer.issuer.key_source().current();
    let verifier = fleetbadge_validator::verify::Verifier::new(ISSUER, audience);
    verifier.verify(&token, "pump-1", &keys, &RevocationState::NotFollowed, issuer.app().now()).unwrap()
}

fn algorithm_of(issuer: &TestIssuer, token: &VerifiedToken) -> Algorithm {
    issuer.app().keys.current().key_set.get(token.signed().key_id()).unwrap().algorithm()
}

#[tokio::test]
async fn until_the_first_rsa_key_is_made_its_broker_waits_and_the_others_do_not() {
    let (issuer, secret) = with_rs256_broker().await;
    let ready = || async {
        let answer = issuer.ops("/readyz").await;
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    let metric = || async {
        let metrics = String::from_utf8(issuer.ops("/metrics").await.body).unwrap();
        metrics
            .lines()
            .find(|l| l.starts_with("fleetbadge_signing_key_missing{alg=\"RS256\"}"))
            .unwrap()
            .to_owned()
    };
    let refused = token_for_hall(&issuer, &secret).await;
    assert_eq!((refused.status.as_u16(), refused.error()), (503, "temporarily_unavailable".into()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(ready().await, (StatusCode::OK, "ok\nno RS256 key signs yet\n".into()));
    // Whoever has another broker notices nothing.
    assert_eq!(
        algorithm_of(&issuer, &verify(&issuer, &issuer.token("pump-1", &secret, "").await, "mqtt")),
        Algorithm::ES256
    );
    issuer.app().tick().await;
    assert!(metric().await.ends_with(" 1"));

    wait_for_keys(&issuer).await;
    let token = verify(&issuer, &token_for_hall(&issuer, &secret).await, "hall");
    assert_eq!(algorithm_of(&issuer, &token), Algorithm::RS256);
    assert_eq!(ready().await, (StatusCode::OK, "ok\n".into()));
    assert!(metric().await.ends_with(" 0"));
}

#[tokio::test]
async fn tokens_of_all_algorithms_are_good_side_by_side_and_over_a_rotation_of_one() {
    let (issuer, secret) = with_rs256_broker().await;
    wait_for_keys(&issuer).await;
    let app = issuer.app();
    let (es, rs) = (issuer.token("pump-1", &secret, "").await, token_for_hall(&issuer, &secret).await);
    let kid =
        |answer: &Answer, audience: &str| verify(&issuer, answer, audience).signed().key_id().to_owned();
    let (es_kid, rs_kid) = (kid(&es, "mqtt"), kid(&rs, "hall"));

    let rotated =
        issuer.admin(Method::POST, "/admin/v1/keys/rotate", Some(json!({"algorithm": "RS256"}))).await;
    let states: Vec<(String, String)> = rotated
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["alg"].as_str().unwrap().into(), key["state"].as_str().unwrap().into()))
        .collect();
    let count = |alg: &str, state: &str| states.iter().filter(|s| **s == (alg.into(), state.into())).count();
    assert_eq!((states.len(), count("ES256", "active"), count("RS256", "active")), (3, 1, 1));
    assert_eq!(count("RS256", "announced"), 1);

    issuer.clock.advance(600);
    // Not by a tick: the clock has jumped.
    app.keys.turn(app.now()).await.unwrap();
    // Nobody reports: what is announced for long enough signs.
    issuer.clock.advance(5);
    let (es_after, rs_after) =
        (issuer.token("pump-1", &secret, "").await, token_for_hall(&issuer, &secret).await);
    assert_eq!(kid(&es_after, "mqtt"), es_kid);
    assert_ne!(kid(&rs_after, "hall"), rs_kid);
    // What the old key signed stays good.
    assert_eq!((kid(&es, "mqtt"), kid(&rs, "hall")), (es_kid, rs_kid));
}

/// The attack of CVE-2015-9235 and its kin: the header asks for another
/// algorithm than the key is for.
#[tokio::test]
async fn a_token_may_not_choose_its_algorithm() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let (issuer, secret) = with_rs256_broker().await;
    add_broker(&issuer, "lab", Algorithm::EdDSA).await;
    wait_for_keys(&issuer).await;
    let answer = issuer.token("pump-1", &secret, "").await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let (_, rest) = token.split_once('.').unwrap();
    let keys = issuer.issuer.key_source().current();
    let verifier = fleetbadge_validator::verify::Verifier::new(ISSUER, "mqtt");
    let app = issuer.app();
    let ring = app.keys.current();
    for key in ring.ring.keys() {
        for algorithm in Algorithm::ALL {
            let (alg, kid) = (algorithm.as_str(), key.key.kid());
            let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}"}}"#);
            let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
            let denied = verifier
                .verify(&forged, "pump-1", &keys, &RevocationState::NotFollowed, app.now())
                .err()
                .map(|denied| denied.code());
            let expected = match (key.key.algorithm(), algorithm) {
                // The header of the token itself.
                (Algorithm::ES256, Algorithm::ES256) => None,
                (own, asked) if own == asked => Some("signature_invalid"),
                _ => Some("key_for_other_algorithm"),
            };
            assert_eq!(denied, expected, "{:?} key, alg {algorithm:?}", key.key.algorithm());
        }
    }
}

#[tokio::test]
async fn a_broker_that_was_added_before_a_restart_gets_its_key_after_it() {
    let (issuer, secret) = with_rs256_broker().await;
    // Begun, and not waited for.
    issuer.app().tick().await;
    let issuer = issuer.restart().await;
    assert_eq!(token_for_hall(&issuer, &secret).await.status, StatusCode::SERVICE_UNAVAILABLE);
    wait_for_keys(&issuer).await;
    let token = verify(&issuer, &token_for_hall(&issuer, &secret).await, "hall");
    let issuer = issuer.restart().await;
    assert_eq!(issuer.app().algorithms_without_key(), []);
    assert_eq!(algorithm_of(&issuer, &token), Algorithm::RS256);
}

#[tokio::test]
async fn what_cannot_be_rotated_is_told() {
    let issuer = TestIssuer::new().await;
    let path = "/admin/v1/keys/rotate";
    let refused = issuer.admin(Method::POST, path, Some(json!({"algorithm": "RS256"}))).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("there is no RS256 key"), "{detail}");
    let refused = issuer.admin(Method::POST, path, Some(json!({"algorithm": "HS256"}))).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_first_key_that_is_being_made_is_not_rotated() {
    let (issuer, _) = with_rs256_broker().await;
    let rotate = async |body| issuer.admin(Method::POST, "/admin/v1/keys/rotate", Some(body)).await;
    for algorithm in ["RS256", "EdDSA"] {
        let refused = rotate(json!({ "algorithm": algorithm })).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        let is_wanted = algorithm == "RS256";
        assert_eq!(detail.contains("is still being made; try again in a moment"), is_wanted, "{detail}");
        assert_eq!(detail.contains("there is no EdDSA key"), !is_wanted, "{detail}");
    }
    // The others are, and the answer shows that there is none of it yet.
    let rotated = rotate(json!({ "now": true })).await;
    assert_eq!(rotated.status, StatusCode::OK);
    let algs: Vec<Value> = rotated.json().as_array().unwrap().iter().map(|key| key["alg"].clone()).collect();
    assert_eq!(algs, ["ES256", "ES256"]);
}
