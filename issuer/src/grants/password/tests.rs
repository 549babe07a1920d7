//! Who gets a token for a static password, and who does not.

use std::net::IpAddr;

use axum::body::Body;
use fleetbadge_validator::access::Action;
use fleetbadge_validator::revocations::RevocationState;
use fleetbadge_validator::verify::Verifier;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::brokers::NewBroker;
use crate::groups::PolicyChange;
use crate::store::{DeviceRecord, DeviceStatus};
use crate::test_support::{Answer, ISSUER, NOW, TestIssuer, basic, token_request};

/// A fleet: the brokers `north` (audience `mqtt`) and `south`, the device
/// `pump` with a secret and a static password, both accepted.
struct Fleet {
    issuer: TestIssuer,
    north: String,
    south: String,
    secret: String,
    password: String,
}

impl Fleet {
    async fn new() -> Self {
        let issuer = TestIssuer::new().await;
        let north = add_broker(&issuer, "north", "mqtt").await;
        let south = add_broker(&issuer, "south", "south").await;
        opt_in(&issuer, true, false).await;
        let secret = issuer.add("pump", &["pump", "pump-b"]).await;
        let password = set_password(&issuer, "pump", json!({})).await;
        Self { issuer, north, south, secret, password }
    }

    /// What the broker `north` is answered when it passes on this.
    async fn north(&self, device: &str, password: &str, more: &str) -> Answer {
        let body = format!("grant_type=password&username={device}&password={password}{more}");
        let request = token_request(body).header(header::AUTHORIZATION, basic("north", &self.north));
        self.issuer.public(request.into()).await
    }

    /// What the device is answered when it asks by itself.
    async fn itself(&self, device: &str, password: &str, address: Option<&str>) -> Answer {
        let body = format!("grant_type=password&client_id={device}&username={device}&password={password}");
        let mut request: Request<Body> = token_request(body).into();
        let address: Option<IpAddr> = address.map(|address| address.parse().unwrap());
        request.extensions_mut().insert(Peer { address, ..Peer::default() });
        self.issuer.public(request).await
    }
}

async fn add_broker(issuer: &TestIssuer, name: &str, audience: &str) -> String {
    let app = issuer.app();
    let new = NewBroker { name: name.into(), audience: audience.into(), ..NewBroker::default() };
    app.brokers.add(new, &app.groups, &app.devices, NOW).await.unwrap().secret.expose().to_owned()
}

async fn opt_in(issuer: &TestIssuer, static_passwords: bool, device_password_grant: bool) {
    let change = PolicyChange {
        static_passwords: Some(static_passwords),
        device_password_grant: Some(device_password_grant),
        ..PolicyChange::default()
    };
    issuer.set_group(change).await;
}

async fn set_password(issuer: &TestIssuer, device: &str, body: Value) -> String {
    let answer = issuer.admin(Method::PUT, &format!("/admin/v1/devices/{device}/password"), Some(body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
    assert_eq!(answer.json()["username"], device);
    answer.json()["password"].as_str().unwrap().to_owned()
}

/// Everything that somebody can see of an answer.
fn seen(answer: &Answer) -> (u16, HeaderMap, String) {
    (answer.status.as_u16(), answer.headers.clone(), String::from_utf8(answer.body.clone()).unwrap())
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.error())
}

fn is(status: u16, error: &str) -> (u16, String) {
    (status, error.into())
}

#[tokio::test]
async fn a_broker_exchanges_a_password_for_a_token_of_its_own_audience() {
    let fleet = Fleet::new().await;
    let answer = fleet.north("pump", &fleet.password, "&client_address=192.0.2.7").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.json()["mqtt_client_id"], "pump");
    let token = fleet.issuer.verify(&answer, "pump").unwrap();
    assert_eq!(token.subject(), "pump");
    assert!(token.allows(Action::Publish, "devices/pump/x", NOW).is_ok());
    assert!(token.allows(Action::Publish, "devices/other/x", NOW).is_err());
    // Less, if asked for; as another of its MQTT clients.
    let more = "&scope=mqtt.connect&mqtt_client_id=pump-b&resource=urn:fleetbadge:broker:north";
    let answer = fleet.north("pump", &fleet.password, more).await;
    assert_eq!(
        (&answer.json()["scope"], &answer.json()["mqtt_client_id"]),
        (&json!("mqtt.connect"), &json!("pump-b"))
    );
    assert!(fleet.issuer.verify(&answer, "pump-b").is_ok());
}

#[tokio::test]
async fn a_broker_gets_no_token_for_another() {
    let fleet = Fleet::new().await;
    for resource in ["urn:fleetbadge:broker:south", "urn:nobody"] {
        let answer = fleet.north("pump", &fleet.password, &format!("&resource={resource}")).await;
        assert_eq!(refused(&answer), is(400, "invalid_target"), "{resource}");
    }
    // The first audience of the group is not what counts.
    let audiences = Some(vec!["south".into(), "mqtt".into()]);
    fleet.issuer.set_group(PolicyChange { audiences, ..PolicyChange::default() }).await;
    let answer = fleet.north("pump", &fleet.password, "").await;
    assert!(fleet.issuer.verify(&answer, "pump").is_ok());
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let keys = fleet.issuer.issuer.key_source().current();
    let denied = Verifier::new(ISSUER, "south")
        .verify(&token, "pump", &keys, &RevocationState::NotFollowed, NOW)
        .unwrap_err();
    assert_eq!(denied.code(), "audience_differs");
}

/// Whoever can ask must not learn which devices there are, which have
/// passwords, or whether a password of another broker's device is right.
#[tokio::test]
async fn every_reason_not_to_take_a_password_looks_the_same() {
    let fleet = Fleet::new().await;
    let app = fleet.issuer.app();
    let expected = seen(&fleet.north("pump", "fbp_wrong", "").await);
    assert_eq!(
        (expected.0, expected.2.as_str()),
        (400, r#"{"error":"invalid_grant","error_description":"the user name or the password is wrong"}"#)
    );
    let ask = async |case: &str, device: &str, password: &str| {
        #[expect(clippy::disallowed_methods, reason = "measures")]
        let asked = std::time::Instant::now();
        let answer = fleet.north(device, password, &format!("&client_address=2001:db8:{case}::1")).await;
        assert!(asked.elapsed() >= std::time::Duration::from_millis(10), "{case}");
        assert_eq!(seen(&answer), expected, "{case}");
    };
    ask("1", "unknown", &fleet.password).await;
    ask("2", "pump%2F1", &fleet.password).await;
    ask("3", "PUMP", &fleet.password).await;
    ask("4", "pump-b", &fleet.password).await;
    ask("5", "north", &fleet.north).await;
    ask("6", "pump", fleet.password.strip_suffix(|_| true).unwrap()).await;
    // Those that have no password, or another device's.
    fleet.issuer.add("valve", &[]).await;
    ask("7", "valve", &fleet.password).await;
    // Disabled, waiting for approval, ended, opted out, at the wrong broker.
    app.devices.set_status("pump", DeviceStatus::Disabled).await.unwrap();
    ask("8", "pump", &fleet.password).await;
    app.devices.set_status("pump", DeviceStatus::Pending).await.unwrap();
    ask("9", "pump", &fleet.password).await;
    app.devices.approve("pump").await.unwrap();
    opt_in(&fleet.issuer, false, false).await;
    ask("a", "pump", &fleet.password).await;
    opt_in(&fleet.issuer, true, false).await;
    let audiences = Some(vec!["south".into()]);
    fleet.issuer.set_group(PolicyChange { audiences, ..PolicyChange::default() }).await;
    ask("b", "pump", &fleet.password).await;
    let audiences = Some(vec!["mqtt".into()]);
    fleet.issuer.set_group(PolicyChange { audiences, ..PolicyChange::default() }).await;
    // Tokens of the second in which it was shut out are taken back.
    assert_eq!(fleet.north("pump", &fleet.password, "").await.status, StatusCode::SERVICE_UNAVAILABLE);
    fleet.issuer.clock.advance(1);
    assert_eq!(fleet.north("pump", &fleet.password, "").await.status, StatusCode::OK);
    app.devices.remove("pump").await.unwrap();
    ask("c", "pump", &fleet.password).await;
}

#[tokio::test]
async fn a_password_ends_when_it_was_said_to_and_setting_replaces_it() {
    let fleet = Fleet::new().await;
    let short = set_password(&fleet.issuer, "pump", json!({"expires_in_s": 60})).await;
    assert_eq!(refused(&fleet.north("pump", &fleet.password, "").await), is(400, "invalid_grant"));
    fleet.issuer.clock.advance(59);
    assert_eq!(fleet.north("pump", &short, "").await.status, StatusCode::OK);
    fleet.issuer.clock.advance(1);
    assert_eq!(refused(&fleet.north("pump", &short, "").await), is(400, "invalid_grant"));
    let again = set_password(&fleet.issuer, "pump", json!({})).await;
    assert_eq!(fleet.north("pump", &again, "").await.status, StatusCode::OK);
    let removed = fleet.issuer.admin(Method::DELETE, "/admin/v1/devices/pump/password", None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(refused(&fleet.north("pump", &again, "").await), is(400, "invalid_grant"));
}

/// A password that leaks from an MQTT client opens nothing but MQTT.
#[tokio::test]
async fn a_password_is_never_a_secret_and_a_secret_never_a_password() {
    let fleet = Fleet::new().await;
    let by_basic = fleet.issuer.token("pump", &fleet.password, "").await;
    let body = format!("grant_type=client_credentials&client_id=pump&client_secret={}", fleet.password);
    let by_post = fleet.issuer.public(token_request(body).into()).await;
    let body =
        format!("grant_type=client_credentials&client_id=pump&username=pump&password={}", fleet.password);
    let as_password = fleet.issuer.public(token_request(body).into()).await;
    for answer in [by_basic, by_post, as_password] {
        assert_eq!(refused(&answer), is(401, "invalid_client"));
    }
    assert_eq!(fleet.issuer.token("pump", &fleet.secret, "").await.status, StatusCode::OK);
    assert_eq!(refused(&fleet.north("pump", &fleet.secret, "").await), is(400, "invalid_grant"));
    opt_in(&fleet.issuer, true, true).await;
    assert_eq!(refused(&fleet.itself("pump", &fleet.secret, None).await), is(401, "invalid_client"));
}

/// Somebody who can write rows copies the hash of the password over that of
/// the secret, to become the device at the token endpoint, or back.
#[tokio::test]
async fn a_copied_hash_is_worth_nothing() {
    let fleet = Fleet::new().await;
    let swap = |device: &mut DeviceRecord| {
        let secret = &mut device.credentials.secrets[0].verifier;
        let password = &mut device.credentials.password.as_mut().unwrap().hash;
        let crate::credentials::SecretVerifier::Made(hash) = secret else { unreachable!() };
        std::mem::swap(hash, password);
        Ok(())
    };
    fleet.issuer.app().devices.change("pump", swap).await.unwrap();
    assert_eq!(refused(&fleet.issuer.token("pump", &fleet.password, "").await), is(401, "invalid_client"));
    assert_eq!(refused(&fleet.north("pump", &fleet.secret, "").await), is(400, "invalid_grant"));
}

#[tokio::test]
async fn only_a_broker_that_has_proven_who_it_is_may_exchange() {
    let fleet = Fleet::new().await;
    let body = format!("grant_type=password&username=pump&password={}", fleet.password);
    let ask = async |more: &str, authorization: Option<String>| {
        let mut request = token_request(format!("{body}{more}"));
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        refused(&fleet.issuer.public(request.into()).await)
    };
    let invalid_client = is(401, "invalid_client");
    assert_eq!(ask("", None).await, invalid_client);
    assert_eq!(ask("&client_id=north", None).await, invalid_client);
    assert_eq!(ask("", Some(basic("north", &fleet.south))).await, invalid_client);
    assert_eq!(ask("", Some(basic("north", &fleet.password))).await, invalid_client);
    assert_eq!(ask("&client_id=pump", Some("Bearer x".into())).await, invalid_client);
    // A device that poses as a broker, for its own password or another's.
    let device = Some(basic("pump", &fleet.secret));
    assert_eq!(ask("", device).await, is(400, "unauthorized_client"));
    let valve = fleet.issuer.add("valve", &[]).await;
    assert_eq!(ask("", Some(basic("valve", &valve))).await, is(400, "unauthorized_client"));
}

#[tokio::test]
async fn a_malformed_parameter_is_named() {
    let fleet = Fleet::new().await;
    let own = basic("north", &fleet.north);
    for (body, name) in [
        ("", "username"),
        ("&username=pump", "password"),
        ("&username=&password=x", "username"),
        ("&username=pump&password=", "password"),
        ("&username=pump&password=x&client_address=pump.example", "client_address"),
        ("&username=pump&password=x&client_address=192.0.2.1:1883", "client_address"),
    ] {
        let request = token_request(format!("grant_type=password{body}")).header(header::AUTHORIZATION, &own);
        let answer = fleet.issuer.public(request.into()).await;
        assert_eq!(refused(&answer), is(400, "invalid_request"), "{body}");
        let description = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(description.starts_with(name), "{body}: {description}");
    }
    let with = async |more: &str| refused(&fleet.north("pump", &fleet.password, more).await);
    assert_eq!(with("&mqtt_client_id=valve").await, is(400, "invalid_request"));
    assert_eq!(with("&scope=admin").await, is(400, "invalid_scope"));
}

/// A stranger tries passwords for a device from the device's own address: he
/// is slowed down, and the device never is.
#[tokio::test]
async fn a_flood_of_wrong_passwords_never_locks_the_right_one_out() {
    let fleet = Fleet::new().await;
    let from = "&client_address=192.0.2.7";
    for _ in 0..10 {
        let answer = fleet.north("pump", "fbp_wrong", from).await;
        assert_eq!(refused(&answer), is(400, "invalid_grant"));
    }
    for _ in 0..3 {
        let answer = fleet.north("pump", "fbp_wrong", from).await;
        assert_eq!(refused(&answer), is(429, "slow_down"));
        assert_eq!(answer.header("retry-after"), Some("6"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(fleet.north("pump", &fleet.password, from).await.status, StatusCode::OK);
    }
    // Others are not slowed down with him: another address, another broker.
    let elsewhere = fleet.north("pump", "fbp_wrong", "&client_address=192.0.2.8").await;
    assert_eq!(refused(&elsewhere), is(400, "invalid_grant"));
    let body = "grant_type=password&username=pump&password=fbp_wrong&client_address=192.0.2.7";
    let request = token_request(body).header(header::AUTHORIZATION, basic("south", &fleet.south));
    assert_eq!(refused(&fleet.issuer.public(request.into()).await), is(400, "invalid_grant"));
    fleet.issuer.clock.advance(6);
    assert_eq!(refused(&fleet.north("pump", "fbp_wrong", from).await), is(400, "invalid_grant"));
    assert_eq!(refused(&fleet.north("pump", "fbp_wrong", from).await), is(429, "slow_down"));
}

/// The limit must not tell what the refusals do not.
#[tokio::test]
async fn unknown_and_disabled_devices_are_slowed_down_alike() {
    let fleet = Fleet::new().await;
    fleet.issuer.app().devices.set_status("pump", DeviceStatus::Disabled).await.unwrap();
    let mut seen_of = Vec::new();
    for (device, password) in
        [("pump", fleet.password.as_str()), ("unknown", "fbp_wrong"), ("pump", "fbp_wrong")]
    {
        let from = format!("&client_address=192.0.2.{}", seen_of.len());
        let mut answers = Vec::new();
        for _ in 0..11 {
            answers.push(seen(&fleet.north(device, password, &from).await));
        }
        assert_eq!(answers.last().unwrap().0, 429);
        seen_of.push(answers);
    }
    assert_eq!(seen_of[0], seen_of[1]);
    assert_eq!(seen_of[0], seen_of[2]);
}

#[tokio::test]
async fn a_device_may_exchange_its_own_only_where_its_group_has_opted_in() {
    let fleet = Fleet::new().await;
    let unknown = seen(&fleet.itself("unknown", &fleet.password, None).await);
    assert_eq!(unknown.0, 401);
    assert!(unknown.2.contains("invalid_client"));
    assert_eq!(seen(&fleet.itself("pump", &fleet.password, None).await), unknown);
    opt_in(&fleet.issuer, true, true).await;
    assert_eq!(seen(&fleet.itself("pump", "fbp_wrong", None).await), unknown);
    assert_eq!(seen(&fleet.itself("unknown", "fbp_wrong", None).await), unknown);
    let answer = fleet.itself("pump", &fleet.password, None).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(fleet.issuer.verify(&answer, "pump").is_ok());
    // The user name of another is not its own, whatever the password.
    let body = format!("grant_type=password&client_id=valve&username=pump&password={}", fleet.password);
    assert_eq!(seen(&fleet.issuer.public(token_request(body).into()).await), unknown);
    fleet.issuer.app().devices.set_status("pump", DeviceStatus::Disabled).await.unwrap();
    assert_eq!(seen(&fleet.itself("pump", &fleet.password, None).await), unknown);
}

#[tokio::test]
async fn a_device_that_exchanges_its_own_is_limited_by_its_address() {
    let fleet = Fleet::new().await;
    opt_in(&fleet.issuer, true, true).await;
    let from = Some("192.0.2.7");
    for _ in 0..10 {
        assert_eq!(refused(&fleet.itself("pump", "fbp_wrong", from).await), is(401, "invalid_client"));
    }
    assert_eq!(refused(&fleet.itself("pump", "fbp_wrong", from).await), is(429, "slow_down"));
    assert_eq!(fleet.itself("pump", &fleet.password, from).await.status, StatusCode::OK);
    let elsewhere = fleet.itself("pump", "fbp_wrong", Some("192.0.2.8")).await;
    assert_eq!(refused(&elsewhere), is(401, "invalid_client"));
}

#[tokio::test]
async fn a_password_needs_the_groups_consent_and_is_shown_with_its_times() {
    let fleet = Fleet::new().await;
    let path = "/admin/v1/devices/pump/password";
    let show = async || fleet.issuer.admin(Method::GET, "/admin/v1/devices/pump", None).await;
    let set = async |body: Value| fleet.issuer.admin(Method::PUT, path, Some(body)).await;
    let answer = set(json!({"expires_in_s": 60})).await.json();
    let id = answer["id"].clone();
    let expected =
        |used: Value| json!({"id": id, "created_at": NOW, "expires_at": NOW.0 + 60, "last_used_at": used});
    assert_eq!(show().await.json()["password"], expected(Value::Null));
    fleet.issuer.clock.advance(5);
    fleet.north("pump", answer["password"].as_str().unwrap(), "").await;
    assert_eq!(show().await.json()["password"], expected((NOW.0 + 5).into()));
    fleet.issuer.clock.advance(5);
    // Only what was good counts as a use.
    fleet.north("pump", "fbp_wrong", "").await;
    assert_eq!(show().await.json()["password"], expected((NOW.0 + 5).into()));
    for lifetime_s in [0, 3_650 * 86_400 + 1] {
        let refused = set(json!({"expires_in_s": lifetime_s})).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["field"]), (422, &json!("expires_in_s")));
    }
    opt_in(&fleet.issuer, false, false).await;
    let refused = set(json!({})).await.json();
    assert_eq!(refused["field"], "static_passwords");
    assert_eq!(
        refused["detail"],
        "static_passwords: group default, which device pump is in, has none; allow them with: \
         fleetbadge-issuer group set default --static-passwords"
    );
    // The one that it has stays as it was, and can be removed.
    assert_eq!(show().await.json()["password"]["id"], id);
    let remove = async || fleet.issuer.admin(Method::DELETE, path, None).await.status;
    assert_eq!((remove().await, remove().await), (StatusCode::NO_CONTENT, StatusCode::NOT_FOUND));
    assert_eq!(show().await.json().get("password"), None);
}
