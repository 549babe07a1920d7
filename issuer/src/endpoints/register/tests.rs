//! Registration, rule by rule, each with the attack that it stops.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_validator::test_support::TestKey;
use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::enrolments::NewEnrolment;
use crate::test_support::{Answer, ISSUER, NOW, TestIssuer, TestProof};

mod proofs;
mod retry;
mod tokens;

const URL: &str = "https://id.example/oauth2/register";

/// An issuer with an enrolment for `pump-*` into the group `default`.
async fn with_enrolment(uses: u32) -> (TestIssuer, String) {
    let issuer = TestIssuer::new().await;
    let token = create(&issuer, "pump-*", uses, false).await;
    (issuer, token)
}

async fn create(issuer: &TestIssuer, name_pattern: &str, uses: u32, approval: bool) -> String {
    let app = issuer.app();
    let new = NewEnrolment {
        group: "default".into(),
        name_pattern: name_pattern.into(),
        uses,
        expires_in_s: 3_600,
        approval,
    };
    app.enrolments.create(new, app.now()).await.unwrap().token.expose().to_owned()
}

pub(super) fn request(
    method: Method,
    url: &str,
    token: &str,
    proof: Option<&str>,
    body: &Value,
) -> Request<Body> {
    let path = url.strip_prefix(ISSUER).unwrap();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json");
    let request = match proof {
        Some(proof) => request.header(DPOP, proof),
        None => request,
    };
    request.body(Body::from(body.to_string())).unwrap()
}

pub(super) fn jwks(keys: &[&TestKey]) -> Value {
    let keys: Vec<_> = keys.iter().map(|key| key.public().to_jwk()).collect();
    json!({ "jwks": { "keys": keys } })
}

async fn post(issuer: &TestIssuer, token: &str, proof: Option<&str>, body: &Value) -> Answer {
    let answer = issuer.public(request(Method::POST, URL, token, proof, body)).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("pragma"), Some("no-cache"));
    answer
}

/// Registers a key, everything in order; `wish` is the `client_name`.
pub(super) async fn register(issuer: &TestIssuer, token: &str, key: &TestKey, wish: Option<&str>) -> Answer {
    let mut body = jwks(&[key]);
    if let Some(wish) = wish {
        body["client_name"] = json!(wish);
    }
    post(issuer, token, Some(&TestProof::new("POST", URL, token).sign(key)), &body).await
}

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.error())
}

fn invalid(code: &str) -> (u16, String) {
    (400, code.into())
}

async fn devices(issuer: &TestIssuer) -> Vec<String> {
    let query = crate::store::DeviceQuery { limit: 100, ..crate::store::DeviceQuery::default() };
    issuer.app().devices.page(query).await.unwrap().iter().map(|device| device.name.to_string()).collect()
}

#[tokio::test]
async fn a_device_becomes_a_client_of_the_group() {
    let (issuer, token) = with_enrolment(2).await;
    let key = TestKey::generate();
    let answer = register(&issuer, &token, &key, Some("pump-1")).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.json(),
        json!({
            "client_id": "pump-1", "client_id_issued_at": NOW, "jwks": {"keys": [key.public().to_jwk()]},
            "token_endpoint_auth_method": "private_key_jwt", "grant_types": ["client_credentials"],
            "registration_client_uri": "https://id.example/oauth2/register/pump-1", "issuer": ISSUER,
            "token_endpoint": "https://id.example/oauth2/token", "mqtt_client_ids": ["pump-1"],
            "group": "default", "status": "enabled"
        })
    );
    let device = issuer.app().devices.get("pump-1").await.unwrap();
    assert!(device.credentials.secrets.is_empty());
    assert_eq!(device.credentials.keys[0].id.as_str(), key.kid());
}

#[tokio::test]
async fn a_name_is_assigned_where_none_is_wished() {
    let (issuer, token) = with_enrolment(3).await;
    let mut names = Vec::new();
    for _ in 0..3 {
        let answer = register(&issuer, &token, &TestKey::generate(), None).await;
        names.push(answer.json()["client_id"].as_str().unwrap().to_owned());
    }
    for name in &names {
        let assigned = name.strip_prefix("pump-").unwrap();
        assert_eq!(assigned.len(), 12);
        assert!(assigned.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')), "{name}");
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
    let one = create(&issuer, "valve", 1, false).await;
    let answer = register(&issuer, &one, &TestKey::generate(), None).await;
    assert_eq!(answer.json()["client_id"], "valve");
}

/// The kid of the device is the one that it signs assertions with.
#[tokio::test]
async fn the_kid_of_the_device_is_kept() {
    let (issuer, token) = with_enrolment(1).await;
    let key = TestKey::generate();
    let mut body = jwks(&[&key]);
    body["jwks"]["keys"][0]["kid"] = json!("tpm-1");
    let answer = post(&issuer, &token, Some(&TestProof::new("POST", URL, &token).sign(&key)), &body).await;
    assert_eq!(answer.json()["jwks"]["keys"][0]["kid"], "tpm-1");
}

#[tokio::test]
async fn names_are_those_that_the_enrolment_allows_and_never_used_twice() {
    let (issuer, token) = with_enrolment(9).await;
    issuer.add("pump-taken", &["pump-as-client"]).await;
    issuer.add("pump-removed", &[]).await;
    issuer.app().devices.remove("pump-removed").await.unwrap();
    for name in [
        "valve-1",
        "pump-",
        "pump",
        "PUMP-1",
        "pump-1/x",
        "pump-#",
        "pump-ä",
        "",
        "pump-taken",
        "pump-Taken",
        "pump-as-client",
        "pump-removed",
    ] {
        let answer = register(&issuer, &token, &TestKey::generate(), Some(name)).await;
        assert_eq!(refusal(&answer), invalid("invalid_client_metadata"), "{name}");
        let why = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(why.starts_with("client_name: "), "{name}: {why}");
    }
    // None of them took a use.
    assert_eq!(issuer.app().enrolments.all().await.unwrap()[0].uses_left, 9);
    let one = create(&issuer, "pump-taken", 1, false).await;
    let answer = register(&issuer, &one, &TestKey::generate(), None).await;
    assert_eq!(refusal(&answer), invalid("invalid_client_metadata"));
}

#[tokio::test]
async fn keys_that_cannot_be_a_devices_are_refused() {
    let (issuer, token) = with_enrolment(9).await;
    let (key, other) = (TestKey::generate(), TestKey::generate());
    let others_token = create(&issuer, "pump-*", 1, false).await;
    register(&issuer, &others_token, &other, Some("pump-1")).await;
    let refused = async |body: &Value, signer: &TestKey| {
        let proof = TestProof::new("POST", URL, &token).sign(signer);
        let answer = post(&issuer, &token, Some(&proof), body).await;
        assert_eq!(refusal(&answer), invalid("invalid_client_metadata"), "{body}");
        answer.json()["error_description"].as_str().unwrap().to_owned()
    };
    // Another device's key; whose is nobody's business.
    let why = refused(&jwks(&[&other]), &other).await;
    assert_eq!(why, "jwks: the key is registered already; make a new one");
    let mut private = jwks(&[&key]);
    private["jwks"]["keys"][0]["d"] = json!("AQAB");
    assert!(refused(&private, &key).await.contains("private or symmetric"));
    let test_keys: Value = serde_json::from_str(include_str!("../../../../keys/test-jwks.json")).unwrap();
    assert!(refused(&json!({"jwks": test_keys}), &key).await.contains("is a test key"));
    let short = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB"});
    assert!(refused(&json!({"jwks": {"keys": [short]}}), &key).await.contains("1024 bits"));
    assert!(refused(&jwks(&[&key, &other]), &key).await.contains("has 2 keys; at most 1"));
    assert_eq!(devices(&issuer).await, ["pump-1"]);
}

#[tokio::test]
async fn a_body_is_json_and_bounded() {
    let (issuer, token) = with_enrolment(1).await;
    let key = TestKey::generate();
    let asked = |kind: &str, body: Body| {
        let mut asked = request(Method::POST, URL, &token, None, &json!({}));
        asked.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        *asked.body_mut() = body;
        asked
    };
    let good = jwks(&[&key]).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"] {
        let answer = issuer.public(asked(kind, Body::from(good.clone()))).await;
        assert_eq!(refusal(&answer), invalid("invalid_request"), "{kind}");
    }
    let too_long = Body::from(" ".repeat(body::MAX_BODY_LENGTH + 1));
    let answer = issuer.public(asked("application/json", too_long)).await;
    assert_eq!(refusal(&answer), (413, "invalid_request".into()));
    let mut compressed = asked("application/json", Body::from(good));
    compressed.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
    assert_eq!(refusal(&issuer.public(compressed).await), invalid("invalid_request"));
    for body in ["", "[]", "null", "{", "{\"jwks\":{\"keys\":[]}} x", "\u{feff}{}"] {
        let answer = issuer.public(asked("application/json", Body::from(body))).await;
        assert_eq!(refusal(&answer), invalid("invalid_client_metadata"), "{body}");
    }
}

#[tokio::test]
async fn a_device_that_waits_for_approval_is_nobody_yet() {
    let issuer = TestIssuer::new().await;
    let token = create(&issuer, "pump-*", 2, true).await;
    let answer = register(&issuer, &token, &TestKey::generate(), Some("pump-1")).await;
    assert_eq!((answer.status, &answer.json()["status"]), (StatusCode::CREATED, &json!("pending")));
    let approve = async || issuer.admin(Method::POST, "/admin/v1/devices/pump-1/approve", None).await;
    let listed = issuer.admin(Method::GET, "/admin/v1/devices?status=pending", None).await.json();
    assert_eq!(listed["devices"][0]["client_id"], "pump-1");
    // Not by the way, with a script that enables whatever does not work.
    let enabled = issuer.admin(Method::POST, "/admin/v1/devices/pump-1/enable", None).await;
    assert_eq!(enabled.status, StatusCode::CONFLICT);
    let problem = enabled.json();
    assert_eq!(problem["type"], "urn:fleetbadge:problem:pending");
    assert!(problem["detail"].as_str().unwrap().ends_with("fleetbadge-issuer device approve pump-1"));
    assert_eq!(issuer.app().devices.get("pump-1").await.unwrap().status, DeviceStatus::Pending);
    assert_eq!(approve().await.json()["status"], "enabled");
    let again = approve().await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert_eq!(again.json()["detail"], "device pump-1 is enabled; only a pending one can be approved");
}

/// Neither the token nor a key's private half is in anything that is kept.
#[tokio::test]
async fn the_store_has_only_the_hash_of_a_token() {
    let (issuer, token) = with_enrolment(1).await;
    assert!(token.starts_with("fbe_"));
    let kept = format!("{:?}", issuer.app().enrolments.all().await.unwrap());
    assert!(!kept.contains(&token));
    let printed = format!("{:?}", EnrolmentToken::presented(token));
    assert_eq!(printed, "EnrolmentToken(ClientSecret(…))");
}

#[tokio::test]
async fn an_issuer_with_a_path_registers_below_it() {
    let options = crate::config::Options {
        issuer: Some("https://id.example/tenant/".into()),
        ..crate::config::Options::default()
    };
    let issuer = TestIssuer::with(options).await;
    let metadata = request(
        Method::GET,
        &format!("{ISSUER}/tenant/.well-known/openid-configuration"),
        "",
        None,
        &json!(null),
    );
    let metadata = issuer.public(metadata).await.json();
    let url = metadata["registration_endpoint"].as_str().unwrap();
    assert_eq!(url, "https://id.example/tenant/oauth2/register");
    assert_eq!(metadata["dpop_signing_alg_values_supported"], json!(["ES256", "RS256", "EdDSA"]));
    let token = create(&issuer, "pump-*", 1, false).await;
    let key = TestKey::generate();
    let ask = async |htu: &str| {
        let proof = TestProof::new("POST", htu, &token).sign(&key);
        issuer.public(request(Method::POST, url, &token, Some(&proof), &jwks(&[&key]))).await
    };
    assert_eq!(refusal(&ask(URL).await), invalid("invalid_dpop_proof"));
    assert_eq!(ask(url).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_body_comes_in_time() {
    use http_body_util::{BodyExt as _, Full};

    let options = crate::config::Options { request_timeout_s: Some(1), ..crate::config::Options::default() };
    let issuer = TestIssuer::with(options).await;
    let token = create(&issuer, "pump-*", 1, false).await;
    let mut asked = request(Method::POST, URL, &token, None, &json!({}));
    *asked.body_mut() = Body::new(Full::<bytes::Bytes>::from("{").with_trailers(std::future::pending()));
    assert_eq!(refusal(&issuer.public(asked).await), (408, "invalid_request".into()));
}
