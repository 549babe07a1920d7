use fleetbadge_validator::jws::Jws;
use fleetbadge_validator::test_support::TestKey;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::*;
use crate::device_keys::DeviceKey;
use crate::store::DeviceStatus;
use crate::test_support::{Answer, ISSUER, NOW, TestIssuer, basic, token_request};

mod signatures;

const GRANT: &str = "grant_type=client_credentials";

/// An issuer with the device pump-1, which has this key and a secret.
async fn with_pump() -> (TestIssuer, TestKey) {
    let issuer = TestIssuer::new().await;
    let key = TestKey::generate();
    add(&issuer, "pump-1", &key).await;
    (issuer, key)
}

async fn add(issuer: &TestIssuer, name: &str, key: &TestKey) {
    issuer.add(name, &[]).await;
    let keys = DeviceKey::read_set(&json!({"keys": [key.public().to_jwk()]})).unwrap();
    issuer.app().devices.add_keys(name, &keys, NOW).await.unwrap();
}

/// The claims of a good assertion, with a `jti` of its own.
fn claims(jti: &str) -> Value {
    json!({"iss": "pump-1", "sub": "pump-1", "aud": ISSUER, "iat": NOW, "exp": NOW.0 + 60, "jti": jti})
}

fn header(key: &TestKey) -> Value {
    json!({"alg": "ES256", "typ": "client-authentication+jwt", "kid": key.kid()})
}

async fn present(issuer: &TestIssuer, assertion: &str, more: &str) -> Answer {
    let body = format!("{GRANT}&client_assertion_type={ASSERTION_TYPE}&client_assertion={assertion}{more}");
    issuer.public(token_request(body).into()).await
}

async fn ask(issuer: &TestIssuer, key: &TestKey, header: &Value, claims: &Value) -> StatusCode {
    present(issuer, &key.token_of(header.to_string(), claims.to_string()), "").await.status
}

const REFUSED: StatusCode = StatusCode::UNAUTHORIZED;

#[tokio::test]
async fn a_device_with_its_key_gets_its_token() {
    let (issuer, key) = with_pump().await;
    let good = key.token_of(header(&key).to_string(), claims("1").to_string());
    let answer = present(&issuer, &good, "&client_id=pump-1").await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.json());
    assert_eq!(issuer.verify(&answer, "pump-1").unwrap().subject(), "pump-1");
    // What libraries write, and what they leave out.
    for (jti, header) in [
        ("2", json!({"alg": "ES256", "typ": "JWT"})),
        ("3", json!({"alg": "ES256"})),
        ("4", json!({"alg": "ES256", "typ": "application/Client-Authentication+JWT"})),
    ] {
        assert_eq!(ask(&issuer, &key, &header, &claims(jti)).await, StatusCode::OK, "{header}");
    }
    let mut in_array = claims("5");
    in_array["aud"] = json!([ISSUER]);
    assert_eq!(ask(&issuer, &key, &header(&key), &in_array).await, StatusCode::OK);
}

#[tokio::test]
async fn the_audience_is_the_issuer_alone() {
    let (issuer, key) = with_pump().await;
    let endpoint = format!("{ISSUER}/oauth2/token");
    for aud in [
        json!(endpoint),
        json!([ISSUER, endpoint]),
        json!([ISSUER, ISSUER]),
        json!([]),
        json!(format!("{ISSUER}/")),
        json!("mqtt"),
        json!(null),
        json!([[ISSUER]]),
        json!({}),
    ] {
        let mut other = claims("1");
        other["aud"] = aud;
        assert_eq!(ask(&issuer, &key, &header(&key), &other).await, REFUSED, "{other}");
    }
}

#[tokio::test]
async fn an_assertion_is_good_once_over_restarts_too() {
    let (issuer, key) = with_pump().await;
    let good = key.token_of(header(&key).to_string(), claims("1").to_string());
    assert_eq!(present(&issuer, &good, "").await.status, StatusCode::OK);
    assert_eq!(present(&issuer, &good, "").await.status, REFUSED);
    // The same `jti` in another assertion, and after a restart.
    let mut again = claims("1");
    again["exp"] = json!(NOW.0 + 61);
    assert_eq!(ask(&issuer, &key, &header(&key), &again).await, REFUSED);
    let issuer = issuer.restart().await;
    assert_eq!(present(&issuer, &good, "").await.status, REFUSED);
    assert_eq!(ask(&issuer, &key, &header(&key), &claims("2")).await, StatusCode::OK);
    // One is let in of many at the same time.
    let twice = key.token_of(header(&key).to_string(), claims("3").to_string());
    let (a, b, c) = tokio::join!(
        present(&issuer, &twice, ""),
        present(&issuer, &twice, ""),
        present(&issuer, &twice, "")
    );
    let let_in = [a, b, c].iter().filter(|answer| answer.status == StatusCode::OK).count();
    assert_eq!(let_in, 1);
}

#[tokio::test]
async fn a_stranger_uses_up_nothing() {
    let (issuer, key) = with_pump().await;
    let stranger = TestKey::generate();
    for header in [header(&stranger), header(&key), json!({"alg": "ES256"})] {
        assert_eq!(ask(&issuer, &stranger, &header, &claims("1")).await, REFUSED);
    }
    assert_eq!(ask(&issuer, &key, &header(&key), &claims("1")).await, StatusCode::OK);
}

#[tokio::test]
async fn a_life_is_bounded_and_a_clock_may_drift_a_little() {
    let (issuer, key) = with_pump().await;
    let from_to = |jti: &str, iat: u64, exp: u64| {
        let mut claims = claims(jti);
        claims["iat"] = json!(iat);
        claims["nbf"] = json!(iat);
        claims["exp"] = json!(exp);
        claims
    };
    let now = NOW.0;
    for (jti, iat, exp, status) in [
        ("1", now - 60, now - SKEW_S + 1, StatusCode::OK),
        ("2", now - 60, now - SKEW_S, REFUSED),
        ("3", now + 1, now + 60, StatusCode::OK),
        ("4", now + SKEW_S, now + 60, StatusCode::OK),
        ("5", now + SKEW_S + 1, now + 60, REFUSED),
        ("6", now, now + MAX_LIFETIME_S + SKEW_S, StatusCode::OK),
        ("7", now, now + MAX_LIFETIME_S + SKEW_S + 1, REFUSED),
        ("8", now, u64::MAX, REFUSED),
    ] {
        assert_eq!(ask(&issuer, &key, &header(&key), &from_to(jti, iat, exp)).await, status, "{jti}");
    }
    for claim in ["iat", "nbf"] {
        let mut early = claims("9");
        early[claim] = json!(now + SKEW_S + 1);
        assert_eq!(ask(&issuer, &key, &header(&key), &early).await, REFUSED, "{claim}");
    }
    // For as long as it would be accepted, it is remembered.
    issuer.clock.advance(30 + 59);
    issuer.app().tick().await;
    assert_eq!(ask(&issuer, &key, &header(&key), &from_to("3", now + 1, now + 60)).await, REFUSED);
    // And longer, for a request that found it good just before its end; not
    // for ever.
    let use_again = async || {
        let (app, kind) = (issuer.app(), StatementKind::ClientAssertion);
        app.tick().await;
        app.used_jtis.use_once(kind, "pump-1", "3", NOW).await
    };
    issuer.clock.advance(60);
    assert!(matches!(use_again().await, Err(JtiRefused::Replayed)));
    issuer.clock.advance(600);
    // A clock that jumps ahead makes nobody forget.
    assert!(matches!(use_again().await, Err(JtiRefused::Replayed)));
    issuer.app().used_jtis.forget_ended(issuer.app().now()).await.unwrap();
    assert!(use_again().await.is_ok());
}

#[tokio::test]
async fn every_claim_has_its_type() {
    let (issuer, key) = with_pump().await;
    let others = [json!(null), json!(true), json!(-1), json!(1.5), json!("1"), json!([]), json!({})];
    for claim in ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"] {
        for other in &others {
            if claim == "jti" && *other == json!("1") {
                continue;
            }
            let mut wrong = claims("1");
            wrong[claim] = other.clone();
            assert_eq!(ask(&issuer, &key, &header(&key), &wrong).await, REFUSED, "{wrong}");
        }
    }
    for claim in ["iss", "sub", "aud", "exp", "jti"] {
        let mut without = claims("1");
        without.as_object_mut().unwrap().remove(claim);
        assert_eq!(ask(&issuer, &key, &header(&key), &without).await, REFUSED, "{claim}");
    }
    for jti in [String::new(), "x".repeat(MAX_JTI_LENGTH + 1)] {
        assert_eq!(ask(&issuer, &key, &header(&key), &claims(&jti)).await, REFUSED);
    }
    let twice = claims("1").to_string().replacen('{', &format!("{{\"exp\":{},", NOW.0 + 60), 1);
    let doubled = key.token_of(header(&key).to_string(), twice);
    assert_eq!(present(&issuer, &doubled, "").await.status, REFUSED);
    assert_eq!(ask(&issuer, &key, &header(&key), &claims("1")).await, StatusCode::OK);
}

#[tokio::test]
async fn no_header_changes_what_is_checked() {
    let (issuer, key) = with_pump().await;
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256", "kid": key.kid()}),
        json!({"alg": "RS256", "kid": key.kid()}),
        json!({"alg": "ES256", "typ": "at+jwt"}),
        json!({"alg": "ES256", "typ": "dpop+jwt"}),
        json!({"alg": "ES256", "typ": ""}),
        json!({"alg": "ES256", "typ": null}),
        json!({"alg": "ES256", "jwk": key.public().to_jwk()}),
        json!({"alg": "ES256", "crit": []}),
        json!({"alg": "ES256", "kid": "../../dev/null"}),
        json!({"alg": "ES256", "kid": "' OR 1=1--"}),
        json!({"alg": "ES256", "kid": ""}),
    ] {
        assert_eq!(ask(&issuer, &key, &header, &claims("1")).await, REFUSED, "{header}");
    }
    let huge = key.token_of(header(&key).to_string(), format!("{}{}", claims("1"), " ".repeat(8_000)));
    assert_eq!(present(&issuer, &huge, "").await.status, REFUSED);
}

#[tokio::test]
async fn a_key_speaks_for_its_own_device() {
    let (issuer, key) = with_pump().await;
    let other = TestKey::generate();
    add(&issuer, "pump-2", &other).await;
    // pump-2's key for pump-1, and one name as issuer with another as subject.
    assert_eq!(ask(&issuer, &other, &json!({"alg": "ES256"}), &claims("1")).await, REFUSED);
    let mut mixed = claims("1");
    mixed["iss"] = json!("pump-2");
    assert_eq!(ask(&issuer, &other, &json!({"alg": "ES256"}), &mixed).await, REFUSED);
    let good = key.token_of(header(&key).to_string(), claims("1").to_string());
    assert_eq!(present(&issuer, &good, "&client_id=pump-2").await.status, REFUSED);
    issuer.app().devices.set_status("pump-1", DeviceStatus::Disabled).await.unwrap();
    assert_eq!(present(&issuer, &good, "").await.status, REFUSED);
    issuer.app().devices.set_status("pump-1", DeviceStatus::Pending).await.unwrap();
    assert_eq!(present(&issuer, &good, "").await.status, REFUSED);
    issuer.app().devices.approve("pump-1").await.unwrap();
    issuer.clock.advance(1);
    // None of these used it up. A key that was taken away is none.
    assert_eq!(present(&issuer, &good, "").await.status, StatusCode::OK);
    issuer.app().devices.remove_key("pump-1", &key.kid()).await.unwrap();
    assert_eq!(ask(&issuer, &key, &header(&key), &claims("2")).await, REFUSED);
}

#[tokio::test]
async fn every_refusal_is_the_same() {
    let (issuer, key) = with_pump().await;
    let good = key.token_of(header(&key).to_string(), claims("1").to_string());
    assert_eq!(present(&issuer, &good, "").await.status, StatusCode::OK);
    let mut unknown = claims("1");
    (unknown["iss"], unknown["sub"]) = (json!("nobody"), json!("nobody"));
    let unknown = key.token_of(header(&key).to_string(), unknown.to_string());
    let stranger = TestKey::generate().token_of(header(&key).to_string(), claims("9").to_string());
    let mut bodies = Vec::new();
    for assertion in ["x", "a.b.c", &good, &unknown, &stranger] {
        let answer = present(&issuer, assertion, "").await;
        assert_eq!(answer.status, REFUSED, "{assertion}");
        bodies.push((answer.header("www-authenticate").map(str::to_owned), answer.body));
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
}

#[tokio::test]
async fn one_method_and_its_type() {
    let (issuer, key) = with_pump().await;
    let good = key.token_of(header(&key).to_string(), claims("1").to_string());
    let bad = StatusCode::BAD_REQUEST;
    assert_eq!(present(&issuer, &good, "&client_secret=x").await.status, bad);
    let body = format!("{GRANT}&client_assertion_type={ASSERTION_TYPE}&client_assertion={good}");
    let both = token_request(body).header(header::AUTHORIZATION, basic("pump-1", "x"));
    assert_eq!(issuer.public(both.into()).await.status, bad);
    for body in [
        format!("{GRANT}&client_assertion={good}"),
        format!("{GRANT}&client_assertion={good}&client_assertion_type=x"),
        format!("{GRANT}&client_assertion_type={ASSERTION_TYPE}"),
    ] {
        assert_eq!(issuer.public(token_request(body).into()).await.status, bad);
    }
    assert_eq!(present(&issuer, &good, "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_use_of_a_key_is_noted() {
    let (issuer, key) = with_pump().await;
    assert_eq!(ask(&issuer, &key, &header(&key), &claims("1")).await, StatusCode::OK);
    let uses = issuer.app().credential_uses.of_client("pump-1").await.unwrap();
    assert_eq!(uses.get(&CredentialId::from_text(&key.kid())), Some(&NOW));
}

#[test]
fn a_kid_may_be_the_devices_own() {
    let key = TestKey::generate();
    let jwk = fleetbadge_validator::jwk::Jwk { kid: Some("mine".into()), ..key.public().to_jwk() };
    let record = KeyRecord { id: CredentialId::from_text(&key.kid()), jwk, created_at: NOW };
    let text = key.token_of(json!({"alg": "ES256", "kid": "mine"}).to_string(), claims("1").to_string());
    let parsed = ParsedKeys::new();
    assert!(Jws::read(&text).unwrap().claims::<Claims>(&parsed.get(&record).unwrap()).is_ok());
    let other = KeyRecord { id: CredentialId::from_text("another"), ..record };
    assert!(parsed.get(&other).is_none(), "a record whose key is not what its thumbprint says");
}

#[tokio::test]
async fn another_kind_of_statement_is_none() {
    let (issuer, key) = with_pump().await;
    let good = key.token_of(header(&key).to_string(), claims("1").to_string());
    let token = present(&issuer, &good, "").await.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(present(&issuer, &token, "").await.status, REFUSED);
    // What the device may sign for others says nothing here.
    for typ in ["at+jwt", "application/at+jwt", "dpop+jwt", "JWT+x", "client-authentication", "jose", ""] {
        let header = json!({"alg": "ES256", "typ": typ});
        assert_eq!(ask(&issuer, &key, &header, &claims("2")).await, REFUSED, "{typ}");
    }
    let nested = key.token_of(json!({"alg": "ES256", "cty": "JWT"}).to_string(), &good);
    for other in
        [nested, format!("{good}.."), format!("{good}.{good}"), ".".repeat(60_000), "e".repeat(60_000)]
    {
        assert_eq!(present(&issuer, &other, "").await.status, REFUSED);
    }
    assert_eq!(present(&issuer, &"e".repeat(70_000), "").await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(ask(&issuer, &key, &header(&key), &claims("2")).await, StatusCode::OK);
}

#[tokio::test]
async fn a_jti_is_the_devices_own() {
    let (issuer, key) = with_pump().await;
    let other = TestKey::generate();
    add(&issuer, "pump-2", &other).await;
    let long = "x".repeat(MAX_JTI_LENGTH);
    for jti in ["1", &long, "../1", "' OR 1=1--"] {
        assert_eq!(ask(&issuer, &key, &header(&key), &claims(jti)).await, StatusCode::OK);
        let mut others = claims(jti);
        (others["iss"], others["sub"]) = (json!("pump-2"), json!("pump-2"));
        assert_eq!(ask(&issuer, &other, &header(&other), &others).await, StatusCode::OK);
        assert_eq!(ask(&issuer, &other, &header(&other), &others).await, REFUSED);
    }
}

#[tokio::test]
async fn without_its_memory_no_assertion_counts() {
    let (issuer, key) = with_pump().await;
    assert_eq!(ask(&issuer, &key, &header(&key), &claims("1")).await, StatusCode::OK);
    let path = issuer.issuer.config().data_dir.join("issuer.sqlite3");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    sqlx::query("ALTER TABLE used_jtis RENAME TO gone").execute(&pool).await.unwrap();
    let good = key.token_of(header(&key).to_string(), claims("2").to_string());
    let answer = present(&issuer, &good, "").await;
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable".into());
    assert_eq!((answer.status, answer.error()), unavailable);
    assert_eq!(answer.header("retry-after"), Some("1"));
    // A stranger does not learn that.
    let stranger = TestKey::generate();
    assert_eq!(ask(&issuer, &stranger, &header(&key), &claims("3")).await, REFUSED);
    // What could not be remembered was not used.
    sqlx::query("ALTER TABLE gone RENAME TO used_jtis").execute(&pool).await.unwrap();
    assert_eq!(present(&issuer, &good, "").await.status, StatusCode::OK);
    assert_eq!(present(&issuer, &good, "").await.status, REFUSED);
}

#[tokio::test]
async fn the_metadata_offer_it() {
    let issuer = TestIssuer::new().await;
    let path = "/.well-known/oauth-authorization-server";
    let metadata =
        issuer.public(http::Request::get(path).body(axum::body::Body::empty()).unwrap()).await.json();
    let methods = metadata["token_endpoint_auth_methods_supported"].as_array().unwrap();
    assert!(methods.contains(&json!("private_key_jwt")), "{metadata}");
    let algorithms = &metadata["token_endpoint_auth_signing_alg_values_supported"];
    assert_eq!(*algorithms, json!(["ES256", "RS256", "EdDSA"]));
}
