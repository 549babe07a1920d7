//! What a broker learns of a token, and what nobody else does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::test_support::TestKey;
use http::{Method, StatusCode, header};
use jsonwebtoken::signature::Signer as _;
use serde_json::{Value, json};

use super::*;
use crate::brokers::NewBroker;
use crate::endpoints::body::MAX_BODY_LENGTH;
use crate::store::DeviceStatus;
use crate::test_support::{Answer, ISSUER, NOW, TestIssuer, basic};

const INACTIVE: &[u8] = br#"{"active":false}"#;
const FORM: &str = "application/x-www-form-urlencoded";

/// The brokers `north` (audience `mqtt`) and `south`, the device `pump`.
struct Fleet {
    issuer: TestIssuer,
    north: String,
    south: String,
    secret: String,
}

impl Fleet {
    async fn new() -> Self {
        let issuer = TestIssuer::new().await;
        let north = add_broker(&issuer, "north", "mqtt").await;
        let south = add_broker(&issuer, "south", "south").await;
        let secret = issuer.add("pump", &[]).await;
        Self { issuer, north, south, secret }
    }

    async fn token(&self) -> String {
        let answer = self.issuer.token("pump", &self.secret, "").await;
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn introspect(&self, authorization: Option<&str>, body: &str) -> Answer {
        let mut request = Request::post("/oauth2/introspect").header(header::CONTENT_TYPE, FORM);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let answer = self.issuer.public(request.body(body.to_owned().into()).unwrap()).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer
    }

    async fn north(&self, token: &str) -> Answer {
        let answer = self.introspect(Some(&basic("north", &self.north)), &format!("token={token}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
        answer
    }

    async fn assert_inactive(&self, token: &str, case: &str) {
        assert_eq!(self.north(token).await.body, INACTIVE, "{case}");
    }

    /// What the issuer's own key signs.
    fn signed(&self, header: &Value, claims: &Value) -> String {
        let app = self.issuer.app();
        let keys = app.keys.current();
        let key = keys.ring.active(Algorithm::ES256, NOW).unwrap();
        let mut header = header.clone();
        header["kid"] = key.kid().into();
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(&header), encode(claims));
        let signature = key.try_sign(text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn signed_token(&self, claims: &Value) -> String {
        self.signed(&json!({"alg": "ES256", "typ": "at+jwt"}), claims)
    }
}

async fn add_broker(issuer: &TestIssuer, name: &str, audience: &str) -> String {
    let app = issuer.app();
    let new = NewBroker { name: name.into(), audience: audience.into(), ..NewBroker::default() };
    app.brokers.add(new, &app.groups, &app.devices, NOW).await.unwrap().secret.expose().to_owned()
}

/// The claims of a token in the profile `fleetbadge`.
fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "pump", "aud": "mqtt", "exp": NOW.0 + 60, "iat": NOW, "nbf": NOW, "jti": "t1",
        "client_id": "pump", "scope": "mqtt.connect", "mqtt_client_id": "pump",
        "acl": {"pub": ["a/#"], "sub": []}, "groups": ["default"], "cnf": {"x5t#S256": "x"}
    })
}

/// With one claim set or, by `null`, removed.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    let object = claims.as_object_mut().unwrap();
    object.remove(claim);
    if !value.is_null() {
        object.insert(claim.into(), value);
    }
    claims
}

#[tokio::test]
async fn the_broker_learns_what_the_token_says() {
    let fleet = Fleet::new().await;
    let token = fleet.token().await;
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let mut expected: Value = serde_json::from_slice(&payload).unwrap();
    for (name, value) in
        [("active", json!(true)), ("username", json!("pump")), ("token_type", json!("Bearer"))]
    {
        expected[name] = value;
    }
    assert_eq!(fleet.north(&token).await.json(), expected);
    assert_eq!(
        (&expected["client_id"], &expected["acl"]["pub"]),
        (&json!("pump"), &json!(["devices/pump/#"]))
    );
    // By the other method, with a hint that is wrong and something unknown.
    let body = format!(
        "token={token}&token_type_hint=refresh_token&x=y&client_id=north&client_secret={}",
        fleet.north
    );
    assert_eq!(fleet.introspect(None, &body).await.json(), expected);
    let bound = fleet.north(&fleet.signed_token(&claims())).await.json();
    assert_eq!(bound["cnf"], json!({"x5t#S256": "x"}));
}

/// CVE-2026-58425: a client introspected the tokens of others.
#[tokio::test]
async fn never_across_audiences() {
    let fleet = Fleet::new().await;
    let token = fleet.token().await;
    let south = basic("south", &fleet.south);
    let other = fleet.introspect(Some(&south), &format!("token={token}")).await;
    let invented = fleet.introspect(Some(&south), "token=x").await;
    assert_eq!((other.status, other.body.as_slice()), (StatusCode::OK, INACTIVE));
    assert_eq!((other.headers, other.body), (invented.headers, invented.body));
    for aud in [json!("MQTT"), json!("mqtt "), json!("mqt"), json!(["south"]), json!([])] {
        fleet.assert_inactive(&fleet.signed_token(&with("aud", aud.clone())), &aud.to_string()).await;
    }
    let both = fleet.north(&fleet.signed_token(&with("aud", json!(["south", "mqtt"])))).await.json();
    assert_eq!((&both["active"], &both["aud"]), (&json!(true), &json!(["south", "mqtt"])));
}

#[tokio::test]
async fn a_token_is_active_in_its_time_alone() {
    let fleet = Fleet::new().await;
    let token = fleet.signed_token(&with("nbf", (NOW.0 + 10).into()));
    fleet.assert_inactive(&token, "before nbf").await;
    fleet.issuer.clock.advance(10);
    assert_eq!(fleet.north(&token).await.json()["active"], true);
    fleet.issuer.clock.advance(49);
    assert_eq!(fleet.north(&token).await.json()["active"], true);
    fleet.issuer.clock.advance(1);
    fleet.assert_inactive(&token, "at exp").await;
}

#[tokio::test]
async fn a_token_dies_with_the_rights_of_its_device() {
    let fleet = Fleet::new().await;
    let app = fleet.issuer.app();
    let token = fleet.token().await;
    for status in [DeviceStatus::Enabled, DeviceStatus::Disabled, DeviceStatus::Pending] {
        app.devices.set_status("pump", status).await.unwrap();
        let is_active = status == DeviceStatus::Enabled;
        assert_eq!(fleet.north(&token).await.json()["active"], is_active, "{status}");
    }
    app.devices.approve("pump").await.unwrap();
    app.node.catch_up(&app).await.unwrap();
    fleet.assert_inactive(&token, "of a device that was shut out since").await;
    fleet.issuer.clock.advance(1);
    let token = fleet.token().await;
    assert_eq!(fleet.north(&token).await.json()["active"], true);
    app.devices.remove("pump").await.unwrap();
    fleet.assert_inactive(&token, "removed").await;
}

/// A node that has not heard of the others would call good what they have taken
/// back.
#[tokio::test]
async fn a_node_that_is_not_current_calls_nothing_good() {
    let fleet = Fleet::new().await;
    let (app, token) = (fleet.issuer.app(), fleet.token().await);
    app.store.reach_clock(app.now().plus(100)).await.unwrap();
    app.node.catch_up(&app).await.unwrap();
    let authorization = basic("north", &fleet.north);
    let answer = fleet.introspect(Some(&authorization), &format!("token={token}")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (answer.error().as_str(), answer.header("retry-after")),
        ("temporarily_unavailable", Some("1"))
    );
}

#[tokio::test]
async fn tokens_of_native_profiles_are_read_too() {
    let fleet = Fleet::new().await;
    let few =
        json!({"iss": ISSUER, "sub": "pump", "aud": "mqtt", "exp": NOW.0 + 60, "scope": "mqtt.write:a/b"});
    let token = fleet.signed(&json!({"alg": "ES256", "typ": "JWT"}), &few);
    assert_eq!(
        fleet.north(&token).await.json(),
        json!({"active": true, "iss": ISSUER, "sub": "pump", "client_id": "pump", "username": "pump",
               "aud": "mqtt", "exp": NOW.0 + 60, "scope": "mqtt.write:a/b", "token_type": "Bearer"})
    );
    // An array as acl is what some brokers read.
    let array = fleet.signed_token(&with("acl", json!([{"permission": "deny"}])));
    assert_eq!(fleet.north(&array).await.json()["acl"], json!([{"permission": "deny"}]));
}

/// What is signed by somebody, but is no token of this issuer.
#[tokio::test]
async fn everything_else_is_inactive() {
    let fleet = Fleet::new().await;
    let token = fleet.token().await;
    let [head, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
    let kid = fleet.issuer.app().keys.current().key_set.key_ids().next().unwrap().to_owned();
    let strange = TestKey::generate();
    let header = |header: Value| fleet.signed(&header, &claims());
    let no_signature =
        URL_SAFE_NO_PAD.encode(json!({"alg": "none", "typ": "at+jwt", "kid": kid}).to_string());
    let forged = json!({"alg": "ES256", "typ": "at+jwt", "kid": kid}).to_string();
    let brings_key = json!({"alg": "ES256", "typ": "at+jwt", "jwk": strange.public().to_jwk()});
    for (case, token) in [
        ("a word", "x".to_owned()),
        ("dots", "..".into()),
        ("too long", "x".repeat(9_000)),
        ("a secret", fleet.secret.clone()),
        ("cut", format!("{head}.{payload}.")),
        ("one character more", format!("{token}A")),
        ("other claims", format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims().to_string()))),
        ("alg none", format!("{no_signature}.{payload}.")),
        ("another's key under our kid", strange.token_of(&forged, claims().to_string())),
        ("another's key", strange.token(&claims())),
        ("a key that comes along", strange.token_of(brings_key.to_string(), claims().to_string())),
        (
            "our key and jwk",
            header(json!({"alg": "ES256", "typ": "at+jwt", "jwk": strange.public().to_jwk()})),
        ),
        ("alg of another key", header(json!({"alg": "RS256", "typ": "at+jwt"}))),
        ("HS256", header(json!({"alg": "HS256", "typ": "at+jwt"}))),
        ("a client assertion", header(json!({"alg": "ES256", "typ": "client-authentication+jwt"}))),
        ("a DPoP proof", header(json!({"alg": "ES256", "typ": "dpop+jwt"}))),
        ("no typ", header(json!({"alg": "ES256"}))),
        ("crit", header(json!({"alg": "ES256", "typ": "at+jwt", "crit": ["exp"]}))),
    ] {
        fleet.assert_inactive(&token, case).await;
    }
    assert_eq!(fleet.north(&token).await.json()["active"], true);
}

/// CVE-2026-25537: a wrongly typed claim was taken for an absent one.
#[tokio::test]
async fn claims_are_strict() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.north(&fleet.signed_token(&claims())).await.json()["active"], true);
    for required in ["iss", "sub", "aud", "exp"] {
        fleet.assert_inactive(&fleet.signed_token(&with(required, Value::Null)), required).await;
    }
    let later = NOW.0 + 60;
    for (claim, value) in [
        ("iss", json!("https://id.example/")),
        ("iss", json!([ISSUER])),
        ("sub", json!(1)),
        ("client_id", json!(["pump"])),
        ("client_id", json!("nobody")),
        ("exp", json!(later.to_string())),
        ("exp", json!(1e300)),
        ("exp", json!(-1)),
        ("nbf", json!(NOW.0.to_string())),
        ("nbf", json!(NOW.0 + 1)),
        ("iat", json!([])),
        ("jti", json!(7)),
        ("scope", json!(["mqtt.connect"])),
        ("aud", json!(["mqtt", 1])),
        ("aud", json!({"mqtt": 1})),
        ("mqtt_client_id", json!(false)),
        ("groups", json!("default")),
    ] {
        let case = format!("{claim}: {value}");
        fleet.assert_inactive(&fleet.signed_token(&with(claim, value)), &case).await;
    }
    let mut nulls = claims();
    nulls["nbf"] = Value::Null;
    fleet.assert_inactive(&fleet.signed_token(&nulls), "nbf: null").await;
}

/// With a token of scope `device.self` a device manages its keys at the
/// issuer. No broker can have its audience.
#[tokio::test]
async fn tokens_for_the_issuer_itself_are_no_brokers() {
    let fleet = Fleet::new().await;
    let mut claims = with("aud", json!(ISSUER));
    claims["scope"] = "device.self".into();
    fleet.assert_inactive(&fleet.signed_token(&claims), "of the issuer").await;
}

#[tokio::test]
async fn only_registered_brokers_may_ask() {
    let fleet = Fleet::new().await;
    let body = format!("token={}", fleet.token().await);
    let ask = async |authorization: Option<String>| {
        let answer = fleet.introspect(authorization.as_deref(), &body).await;
        (answer.status.as_u16(), answer.error())
    };
    let invalid_client = (401, "invalid_client".to_owned());
    assert_eq!(ask(None).await, invalid_client);
    assert_eq!(ask(Some("Bearer x".into())).await, invalid_client);
    assert_eq!(ask(Some(basic("north", &fleet.south))).await, invalid_client);
    assert_eq!(ask(Some(basic("pump", &fleet.north))).await, invalid_client);
    // A device, about its own token.
    assert_eq!(ask(Some(basic("pump", &fleet.secret))).await, (403, "unauthorized_client".into()));
    fleet.issuer.app().brokers.remove("north", &fleet.issuer.app().groups).await.unwrap();
    assert_eq!(ask(Some(basic("north", &fleet.north))).await, invalid_client);
}

#[tokio::test]
async fn requests_are_read_as_strictly_as_at_the_token_endpoint() {
    let fleet = Fleet::new().await;
    let own = basic("north", &fleet.north);
    let invalid_request = (400, "invalid_request".to_owned());
    for body in ["", "token=", "token_type_hint=x", "token=x&token=x", "token=%zz"] {
        let answer = fleet.introspect(Some(&own), body).await;
        assert_eq!((answer.status.as_u16(), answer.error()), invalid_request, "{body}");
    }
    let large = format!("token={}", "x".repeat(MAX_BODY_LENGTH));
    assert_eq!(fleet.introspect(Some(&own), &large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let ask = async |method: Method, uri: &str, kind: &str| {
        let request = Request::builder().method(method).uri(uri).header(header::CONTENT_TYPE, kind);
        let request = request.header(header::AUTHORIZATION, &own).body("token=x".into()).unwrap();
        fleet.issuer.public(request).await.status.as_u16()
    };
    assert_eq!(ask(Method::POST, "/oauth2/introspect", FORM).await, 200);
    assert_eq!(ask(Method::POST, "/oauth2/introspect?token=x", FORM).await, 400);
    assert_eq!(ask(Method::POST, "/oauth2/introspect", "application/json").await, 400);
    assert_eq!(ask(Method::GET, "/oauth2/introspect", FORM).await, 405);
}

#[tokio::test]
async fn the_metadata_tell_where_and_how() {
    let fleet = Fleet::new().await;
    let request = Request::get("/.well-known/oauth-authorization-server").body(Body::empty()).unwrap();
    let metadata = fleet.issuer.public(request).await.json();
    assert_eq!(metadata["introspection_endpoint"], "https://id.example/oauth2/introspect");
    assert_eq!(
        metadata["introspection_endpoint_auth_methods_supported"],
        json!(["client_secret_basic", "client_secret_post"])
    );
    assert_eq!(metadata["grant_types_supported"], json!(["client_credentials", "password"]));
}
