//! The rules of RFC 6749 for the token endpoint, in the order of its sections.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fleetbadge_validator::access::Action;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use super::*;
use crate::config::Options;
use crate::endpoints::body::MAX_BODY_LENGTH;
use crate::groups::PolicyChange;
use crate::store::DeviceStatus;
use crate::test_support::{Answer, TestIssuer, basic, token_request};

mod requests;

const GRANT: &str = "grant_type=client_credentials";

/// An issuer with the device `pump-1`, and its secret.
async fn with_pump() -> (TestIssuer, String) {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump-1", &["pump-1", "pump-1-b"]).await;
    (issuer, secret)
}

/// Every answer is JSON that nobody keeps.
fn assert_shape(answer: &Answer) {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("pragma"), Some("no-cache"));
    if let Some(description) = answer.json().get("error_description") {
        let allowed = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
        assert!(description.as_str().unwrap().chars().all(allowed), "{description}");
    }
}

async fn refused(issuer: &TestIssuer, request: impl Into<Request<Body>>) -> (u16, String) {
    let answer = issuer.public(request.into()).await;
    assert_shape(&answer);
    (answer.status.as_u16(), answer.error())
}

fn invalid_request() -> (u16, String) {
    (400, "invalid_request".into())
}

fn invalid_client() -> (u16, String) {
    (401, "invalid_client".into())
}

#[tokio::test]
async fn a_token_by_either_method() {
    let (issuer, secret) = with_pump().await;
    let by_basic = issuer.token("pump-1", &secret, "").await;
    let post = format!("{GRANT}&client_id=pump-1&client_secret={secret}");
    let by_post = issuer.public(token_request(post).into()).await;
    for answer in [by_basic, by_post] {
        assert_shape(&answer);
        assert_eq!(answer.status, StatusCode::OK);
        let mut body = answer.json();
        let token = issuer.verify(&answer, "pump-1").unwrap();
        assert_eq!(token.subject(), "pump-1");
        assert!(token.allows(Action::Publish, "devices/pump-1/x", issuer.app().now()).is_ok());
        assert!(token.allows(Action::Publish, "devices/pump-2/x", issuer.app().now()).is_err());
        body.as_object_mut().unwrap().remove("access_token");
        // Up to a tenth shorter than the group says, so that a fleet does not
        // renew in step.
        let lifetime_s = body["expires_in"].as_u64().unwrap();
        assert!((810..=900).contains(&lifetime_s), "{lifetime_s}");
        assert_eq!(
            body,
            json!({"token_type": "Bearer", "expires_in": lifetime_s, "mqtt_client_id": "pump-1",
                   "refresh_from_s": lifetime_s / 2, "refresh_to_s": lifetime_s * 8 / 10,
                   "scope": "mqtt.connect mqtt.publish mqtt.subscribe"})
        );
    }
}

#[tokio::test]
async fn section_2_3_one_method_only() {
    let (issuer, secret) = with_pump().await;
    let own = basic("pump-1", &secret);
    let with = |body: String| token_request(body).header(header::AUTHORIZATION, &own);
    let in_body = format!("{GRANT}&client_secret={secret}");
    assert_eq!(refused(&issuer, with(format!("{in_body}&client_id=pump-1"))).await, invalid_request());
    assert_eq!(refused(&issuer, with(in_body)).await, invalid_request());
    assert_eq!(refused(&issuer, with(format!("{GRANT}&client_assertion=x"))).await, invalid_request());
    let twice = with(GRANT.into()).header(header::AUTHORIZATION, &own);
    assert_eq!(refused(&issuer, twice).await, invalid_request());
    assert_eq!(refused(&issuer, with(format!("{GRANT}&client_id=pump-2"))).await, invalid_request());
    // Naming the same client again is no second method.
    let answer = issuer.public(with(format!("{GRANT}&client_id=pump-1&client_secret=")).into()).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn section_2_3_1_basic_credentials_are_form_urlencoded() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("a:b~c", &[]).await;
    assert_eq!(issuer.token("a:b~c", &secret, "").await.status, StatusCode::OK);
    // A colon that is not encoded ends the name.
    let raw = format!("Basic {}", base64(&format!("a:b~c:{secret}")));
    let request = token_request(GRANT).header(header::AUTHORIZATION, raw);
    assert_eq!(refused(&issuer, request).await, invalid_client());
    for (name, secret) in [("p%+ump", "x y"), ("größe", "x"), ("", ""), ("a\nb", "x"), ("a", "\u{0}")] {
        let request = token_request(GRANT).header(header::AUTHORIZATION, basic(name, secret));
        assert_eq!(refused(&issuer, request).await, invalid_client(), "{name}");
    }
    for malformed in ["%zz:x", "a:%", "a:%ff", "no colon"] {
        let header = format!("Basic {}", base64(malformed));
        let request = token_request(GRANT).header(header::AUTHORIZATION, header);
        assert_eq!(refused(&issuer, request).await, invalid_request(), "{malformed}");
    }
    for malformed in ["Basic", "Basic !", "Basic YTpi=="] {
        let request = token_request(GRANT).header(header::AUTHORIZATION, malformed);
        assert_eq!(refused(&issuer, request).await, invalid_request(), "{malformed}");
    }
}

#[tokio::test]
async fn section_2_3_1_the_scheme_has_no_case() {
    let (issuer, secret) = with_pump().await;
    let header = basic("pump-1", &secret).replace("Basic", "bASIC");
    let answer = issuer.public(token_request(GRANT).header(header::AUTHORIZATION, header).into()).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn section_2_3_1_no_credentials_in_the_url() {
    let (issuer, secret) = with_pump().await;
    for query in [format!("client_id=pump-1&client_secret={secret}"), GRANT.into(), "x".into()] {
        let mut request: Request<Body> =
            token_request(GRANT).header(header::AUTHORIZATION, basic("pump-1", &secret)).into();
        *request.uri_mut() = format!("/oauth2/token?{query}").parse().unwrap();
        assert_eq!(refused(&issuer, request).await, invalid_request(), "{query}");
    }
}

#[tokio::test]
async fn section_2_3_1_whoever_is_not_let_in_cannot_tell_why() {
    let (issuer, secret) = with_pump().await;
    let disabled = issuer.add("pump-2", &[]).await;
    issuer.app().devices.set_status("pump-2", DeviceStatus::Disabled).await.unwrap();
    let with = |header: &str| token_request(GRANT).header(header::AUTHORIZATION, header);
    let assertion =
        "client_assertion=x&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let requests = [
        ("wrong secret", with(&basic("pump-1", "fbs_wrong"))),
        ("the secret of another device", with(&basic("pump-1", &disabled))),
        ("one character less", with(&basic("pump-1", secret.strip_suffix(|_| true).unwrap()))),
        ("empty secret", with(&basic("pump-1", ""))),
        ("unknown device", with(&basic("pump-3", &secret))),
        ("other case", with(&basic("PUMP-1", &secret))),
        ("disabled", with(&basic("pump-2", &disabled))),
        ("no name that can be", with(&basic("pump/1", &secret))),
        ("an MQTT client ID", with(&basic("pump-1-b", &secret))),
        ("another scheme", with("Bearer x")),
        ("nothing", token_request(GRANT)),
        ("no secret", token_request(format!("{GRANT}&client_id=pump-1"))),
        ("no name", token_request(format!("{GRANT}&client_secret={secret}"))),
        ("an assertion", token_request(format!("{GRANT}&client_id=pump-1&{assertion}"))),
        ("in the body", token_request(format!("{GRANT}&client_id=pump-1&client_secret=x"))),
    ];
    for (case, request) in requests {
        #[expect(clippy::disallowed_methods, reason = "measures")]
        let asked = Instant::now();
        let answer = issuer.public(request.into()).await;
        assert_shape(&answer);
        assert!(asked.elapsed() >= Duration::from_millis(10), "{case}: {:?}", asked.elapsed());
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{case}");
        assert_eq!(
            String::from_utf8(answer.body).unwrap(),
            r#"{"error":"invalid_client","error_description":"client authentication failed"}"#,
            "{case}"
        );
        let mut headers: Vec<(&str, &str)> =
            answer.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        headers.sort_unstable();
        assert_eq!(
            headers,
            [
                ("cache-control", "no-store"),
                ("content-length", "77"),
                ("content-type", "application/json"),
                ("pragma", "no-cache"),
                ("www-authenticate", "Basic realm=\"fleetbadge\", charset=\"UTF-8\""),
            ],
            "{case}"
        );
    }
    // Enabled again, it is let in, whatever was remembered of it.
    issuer.app().devices.set_status("pump-2", DeviceStatus::Enabled).await.unwrap();
    issuer.clock.advance(1);
    assert_eq!(issuer.token("pump-2", &disabled, "").await.status, StatusCode::OK);
    issuer.app().devices.remove("pump-2").await.unwrap();
    assert_eq!(issuer.token("pump-2", &disabled, "").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn section_3_3_scope_narrows() {
    let (issuer, secret) = with_pump().await;
    let answer = issuer.token("pump-1", &secret, "&scope=mqtt.publish+mqtt.connect").await;
    assert_eq!(answer.json()["scope"], "mqtt.connect mqtt.publish");
    let token = issuer.verify(&answer, "pump-1").unwrap();
    let now = issuer.app().now();
    assert!(token.allows(Action::Publish, "devices/pump-1/x", now).is_ok());
    assert!(token.allows(Action::Subscribe, "devices/pump-1/x", now).is_err());
    assert_eq!(token.signed().subscribe_filters().count(), 0);
    // Without mqtt.connect no broker lets it in.
    let answer = issuer.token("pump-1", &secret, "&scope=mqtt.publish").await;
    assert_eq!(issuer.verify(&answer, "pump-1").unwrap_err().code(), "scope_missing");

    issuer.set_group(PolicyChange { scope: Some("mqtt.connect".into()), ..PolicyChange::default() }).await;
    assert_eq!(issuer.token("pump-1", &secret, "").await.json()["scope"], "mqtt.connect");
    for scope in [
        "mqtt.publish",
        "mqtt.connect+mqtt.publish",
        "admin",
        "MQTT.CONNECT",
        "mqtt.connect++x",
        "+",
        "%22",
        "%5C",
        "%C3%A4",
    ] {
        let answer = issuer.token("pump-1", &secret, &format!("&scope={scope}")).await;
        assert_shape(&answer);
        assert_eq!((answer.status.as_u16(), answer.error()), (400, "invalid_scope".into()), "{scope}");
    }
}

#[tokio::test]
async fn section_4_4_the_grant_type() {
    let (issuer, secret) = with_pump().await;
    let ask = async |body: &str| {
        let request = token_request(body).header(header::AUTHORIZATION, basic("pump-1", &secret));
        refused(&issuer, request).await
    };
    assert_eq!(ask("").await, invalid_request());
    assert_eq!(ask("grant_type=").await, invalid_request());
    for other in ["refresh_token", "PASSWORD", "CLIENT_CREDENTIALS", "client_credentials+"] {
        let expected = (400, "unsupported_grant_type".into());
        assert_eq!(ask(&format!("grant_type={other}")).await, expected, "{other}");
    }
    // Who has not proven who it is learns nothing else.
    assert_eq!(refused(&issuer, token_request("grant_type=password")).await, invalid_client());
}

#[tokio::test]
async fn the_mqtt_client_id_is_one_of_the_registered() {
    let (issuer, secret) = with_pump().await;
    let answer = issuer.token("pump-1", &secret, "&mqtt_client_id=pump-1-b").await;
    assert_eq!(answer.json()["mqtt_client_id"], "pump-1-b");
    let token = issuer.verify(&answer, "pump-1-b").unwrap();
    assert_eq!(token.subject(), "pump-1");
    assert!(token.allows(Action::Subscribe, "devices/pump-1-b/#", issuer.app().now()).is_ok());
    assert_eq!(issuer.verify(&answer, "pump-1").unwrap_err().code(), "client_id_differs");
    for other in ["pump-2", "PUMP-1", "pump-1%00", "%23", "pump-1+"] {
        let answer = issuer.token("pump-1", &secret, &format!("&mqtt_client_id={other}")).await;
        assert_eq!((answer.status.as_u16(), answer.error()), invalid_request(), "{other}");
    }
}

#[tokio::test]
async fn a_changed_group_is_in_the_next_token() {
    let (issuer, secret) = with_pump().await;
    issuer
        .set_group(PolicyChange {
            publish: Some(vec!["${group}/${device}/up".into()]),
            subscribe: Some(vec![]),
            audiences: Some(vec!["mqtt".into()]),
            token_lifetime_s: Some(60),
            ..PolicyChange::default()
        })
        .await;
    let answer = issuer.token("pump-1", &secret, "").await;
    let lifetime_s = answer.json()["expires_in"].as_u64().unwrap();
    assert!((54..=60).contains(&lifetime_s));
    let token = issuer.verify(&answer, "pump-1").unwrap();
    assert_eq!(
        token.signed().publish_filters().map(|f| f.to_string()).collect::<Vec<_>>(),
        ["default/pump-1/up"]
    );
    issuer.clock.advance(65);
    assert_eq!(issuer.verify(&answer, "pump-1").unwrap_err().code(), "expired");
}

#[tokio::test]
async fn old_tokens_stay_good_over_a_rotation() {
    let (issuer, secret) = with_pump().await;
    let app = issuer.app();
    let before = issuer.token("pump-1", &secret, "").await;
    app.keys.rotate(None, false, app.now()).await.unwrap();
    issuer.clock.advance(600);
    app.tick().await;
    // Nobody reports: what is announced for long enough signs.
    issuer.clock.advance(5);
    let after = issuer.token("pump-1", &secret, "").await;
    let (before, after) =
        (issuer.verify(&before, "pump-1").unwrap(), issuer.verify(&after, "pump-1").unwrap());
    assert_ne!(before.signed().key_id(), after.signed().key_id());
    assert_ne!(before.signed().token_id(), after.signed().token_id());
}

#[tokio::test]
async fn a_clock_before_the_first_key_issues_nothing() {
    let (issuer, secret) = with_pump().await;
    issuer.clock.set(crate::test_support::NOW.minus(1));
    let answer = issuer.token("pump-1", &secret, "").await;
    assert_shape(&answer);
    assert_eq!((answer.status.as_u16(), answer.error()), (503, "temporarily_unavailable".into()));
    assert_eq!(issuer.ops("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn requests_are_counted_by_result() {
    let (issuer, secret) = with_pump().await;
    issuer.token("pump-1", &secret, "").await;
    issuer.token("pump-1", &secret, "").await;
    issuer.token("pump-1", "x", "").await;
    issuer.token("pump-1", &secret, "&scope=x").await;
    issuer.app().tick().await;
    let metrics = String::from_utf8(issuer.ops("/metrics").await.body).unwrap();
    for line in [
        "fleetbadge_token_requests_total{result=\"issued\"} 2",
        "fleetbadge_token_requests_total{result=\"invalid_client\"} 1",
        "fleetbadge_token_requests_total{result=\"invalid_scope\"} 1",
        "fleetbadge_token_requests_total{result=\"server_error\"} 0",
        "fleetbadge_token_request_duration_seconds_count 4",
        "fleetbadge_device_cache_misses_total 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
