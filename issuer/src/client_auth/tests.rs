//! What a refusal costs, whoever asks: a look into the store shows in the time,
//! as soon as somebody keeps the store busy.

use fleetbadge_validator::test_support::TestKey;
use http::StatusCode;
use serde_json::json;

use crate::device_keys::DeviceKey;
use crate::profile::Profile;
use crate::store::DeviceStatus;
use crate::test_support::{ISSUER, NOW, TestIssuer, token_request};

/// `pump-1` is known and in memory, `pump-2` too and disabled, `pump-3` is in
/// the store alone; `mqtt-1` is a broker, and nobody is `pump-9`.
async fn with_pumps() -> TestIssuer {
    let issuer = TestIssuer::new().await;
    for name in ["pump-1", "pump-2", "pump-3"] {
        issuer.add(name, &[]).await;
    }
    issuer.add_broker("mqtt-1", "mqtt", Profile::Fleetbadge).await;
    let devices = &issuer.app().devices;
    devices.set_status("pump-2", DeviceStatus::Disabled).await.unwrap();
    for name in ["pump-1", "pump-2"] {
        devices.find(name).await.unwrap();
    }
    issuer
}

async fn lookups_of_a_refusal(issuer: &TestIssuer, body: String) -> usize {
    let app = issuer.app();
    let before = app.devices.lookups();
    let answer = issuer.public(token_request(body.clone()).into()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{body}");
    app.devices.lookups() - before
}

#[tokio::test]
async fn a_no_costs_one_look_into_the_store_whoever_asks() {
    let issuer = with_pumps().await;
    let names = ["pump-3", "pump-1", "pump-2", "pump-9", "mqtt-1"];
    for name in names {
        for secret in ["fbs_x", "chosen by somebody"] {
            let body = format!("grant_type=client_credentials&client_id={name}&client_secret={secret}");
            assert_eq!(lookups_of_a_refusal(&issuer, body).await, 1, "{name}, {secret}");
        }
        let body = format!("grant_type=password&client_id={name}&username={name}&password=fbp_x");
        assert_eq!(lookups_of_a_refusal(&issuer, body).await, 1, "{name}, password");
    }
    let key = TestKey::generate();
    for (name, jti) in names.into_iter().zip('a'..) {
        let claims = json!({"iss": name, "sub": name, "aud": ISSUER, "exp": NOW.0 + 60, "jti": jti});
        let assertion = key.token_of(r#"{"alg":"ES256"}"#, claims.to_string());
        let body = format!(
            "grant_type=client_credentials&client_assertion={assertion}\
             &client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        );
        assert_eq!(lookups_of_a_refusal(&issuer, body).await, 1, "{name}, assertion");
    }
}

/// Who has the right to a token costs none.
#[tokio::test]
async fn a_yes_costs_none() {
    let issuer = with_pumps().await;
    let app = issuer.app();
    let key = TestKey::generate();
    let keys = DeviceKey::read_set(&json!({"keys": [key.public().to_jwk()]})).unwrap();
    app.devices.add_keys("pump-1", &keys, NOW).await.unwrap();
    let secret = app.devices.add_secret("pump-1", None, NOW).await.unwrap().secret;
    // The node hears of its own changes, too, and forgets the device once more.
    app.node.catch_up(&app).await.unwrap();
    assert_eq!(issuer.token("pump-1", secret.expose(), "").await.status, StatusCode::OK);
    let before = app.devices.lookups();
    assert_eq!(issuer.token("pump-1", secret.expose(), "").await.status, StatusCode::OK);
    assert_eq!(app.devices.lookups(), before);
}
