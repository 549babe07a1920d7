use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Request, StatusCode, header};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::brokers::NewBroker;
use crate::groups::PolicyChange;
use crate::profile::Profile;
use crate::test_support::{Answer, NOW, TestIssuer, basic, token_request};

fn certificate_of(name: &str) -> Arc<[u8]> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW.0.cast_signed() - 100).unwrap();
    params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW.0.cast_signed() + 100).unwrap();
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().as_ref().into()
}

/// A device that is known by `CN=pump`, its secret beside it.
async fn issuer(bound: bool) -> (TestIssuer, String) {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump", &[]).await;
    let set = set(
        &issuer,
        json!({"tls_client_auth_subject_dn": "CN=pump",
                                  "tls_client_certificate_bound_access_tokens": bound}),
    );
    assert_eq!(set.await.status, StatusCode::OK);
    (issuer, secret)
}

async fn set(issuer: &TestIssuer, body: Value) -> Answer {
    issuer.admin(Method::PUT, "/admin/v1/devices/pump/certificate", Some(body)).await
}

async fn ask(issuer: &TestIssuer, certificate: Option<&Arc<[u8]>>, more: &str) -> Answer {
    ask_as(issuer, certificate, None, more).await
}

async fn ask_as(
    issuer: &TestIssuer,
    certificate: Option<&Arc<[u8]>>,
    authorization: Option<String>,
    more: &str,
) -> Answer {
    let mut request = token_request(format!("grant_type=client_credentials{more}"));
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let mut request: Request<Body> = request.into();
    request.extensions_mut().insert(Peer { address: None, certificate: certificate.cloned() });
    issuer.public(request).await
}

fn confirmation(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()["cnf"].clone()
}

fn thumbprint(certificate: &[u8]) -> Value {
    json!({ "x5t#S256": URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate)) })
}

#[tokio::test]
async fn the_certificate_of_the_device_is_enough() {
    let (issuer, _) = issuer(false).await;
    let answer = ask(&issuer, Some(&certificate_of("pump")), "&client_id=pump").await;
    assert_eq!(confirmation(&answer), Value::Null);
    assert!(issuer.verify(&answer, "pump").is_ok());
}

#[tokio::test]
async fn its_last_use_is_shown_and_not_that_of_a_former_one() {
    let (issuer, _) = issuer(false).await;
    let shown = async || {
        issuer.admin(Method::GET, "/admin/v1/devices/pump", None).await.json()["certificate"].clone()
    };
    assert_eq!(shown().await.get("last_used_at"), None);
    issuer.clock.advance(5);
    assert_eq!(ask(&issuer, Some(&certificate_of("pump")), "&client_id=pump").await.status, StatusCode::OK);
    assert_eq!(shown().await["last_used_at"], NOW.0 + 5);
    issuer.clock.advance(1);
    set(&issuer, json!({"tls_client_auth_san_dns": "pump.example"})).await;
    assert_eq!(shown().await.get("last_used_at"), None);
}

/// Nobody learns which devices there are, nor what they are known by.
#[tokio::test]
async fn whatever_is_wrong_the_answer_is_the_same() {
    let (issuer, secret) = issuer(false).await;
    issuer.add("secret-only", &[]).await;
    let (pump, other) = (certificate_of("pump"), certificate_of("other"));
    let wrong_secret = ask_as(&issuer, None, Some(basic("pump", "fbs_wrong")), "").await;
    assert_eq!(wrong_secret.status, StatusCode::UNAUTHORIZED);
    let garbage: Arc<[u8]> = b"no certificate".as_slice().into();
    for (certificate, more) in [
        (Some(&other), "&client_id=pump"),
        (None, "&client_id=pump"),
        (Some(&garbage), "&client_id=pump"),
        (Some(&pump), ""),
        (Some(&pump), "&client_id=unknown"),
        (Some(&pump), "&client_id=secret-only"),
        (Some(&pump), "&client_id=PUMP"),
    ] {
        let answer = ask(&issuer, certificate, more).await;
        assert_eq!((answer.status, &answer.body), (wrong_secret.status, &wrong_secret.body), "{more}");
    }
    // A certificate does not help a wrong secret, and is no second method.
    let answer = ask_as(&issuer, Some(&pump), Some(basic("pump", "fbs_wrong")), "").await;
    assert_eq!(answer.body, wrong_secret.body);
    let answer = ask_as(&issuer, Some(&other), Some(basic("pump", &secret)), "").await;
    assert_eq!(confirmation(&answer), Value::Null);
    let answer = ask_as(&issuer, Some(&pump), Some("Bearer x".into()), "&client_id=pump").await;
    assert_eq!(answer.body, wrong_secret.body);
    issuer.admin(Method::POST, "/admin/v1/devices/pump/disable", None).await;
    assert_eq!(ask(&issuer, Some(&pump), "&client_id=pump").await.body, wrong_secret.body);
}

/// A resumed session and a kept connection outlive the certificate.
#[tokio::test]
async fn a_certificate_out_of_its_dates_is_none() {
    let (issuer, _) = issuer(false).await;
    let pump = certificate_of("pump");
    issuer.clock.advance(100);
    assert_eq!(ask(&issuer, Some(&pump), "&client_id=pump").await.status, StatusCode::OK);
    issuer.clock.advance(1);
    assert_eq!(ask(&issuer, Some(&pump), "&client_id=pump").await.error(), "invalid_client");
    issuer.clock.set(UnixSeconds(NOW.0 - 101));
    assert_eq!(ask(&issuer, Some(&pump), "&client_id=pump").await.error(), "invalid_client");
}

#[tokio::test]
async fn bound_tokens_name_the_certificate_and_there_are_no_others() {
    let (issuer, secret) = issuer(true).await;
    let (pump, other) = (certificate_of("pump"), certificate_of("other"));
    let answer = ask(&issuer, Some(&pump), "&client_id=pump").await;
    assert_eq!(confirmation(&answer), thumbprint(&pump));
    assert_eq!(issuer.verify(&answer, "pump").unwrap_err().code(), "certificate_missing");
    let with_secret =
        async |certificate| ask_as(&issuer, certificate, Some(basic("pump", &secret)), "").await;
    assert_eq!(confirmation(&with_secret(Some(&pump)).await), thumbprint(&pump));
    // Neither without a certificate nor bound to somebody else's.
    assert_eq!(with_secret(None).await.error(), "invalid_request");
    assert_eq!(with_secret(Some(&other)).await.error(), "invalid_request");
    issuer.clock.advance(101);
    assert_eq!(with_secret(Some(&pump)).await.error(), "invalid_request");
}

/// To a broker that does not look at `cnf` it would be a bearer token.
#[tokio::test]
async fn no_bound_token_for_a_broker_that_cannot_check_it() {
    let (issuer, _) = issuer(true).await;
    let app = issuer.app();
    let new = NewBroker {
        name: "hall".into(),
        audience: "emqx".into(),
        profile: Profile::Emqx,
        ..NewBroker::default()
    };
    app.brokers.add(new, &app.groups, &app.devices, NOW).await.unwrap();
    let audiences = Some(vec!["mqtt".into(), "emqx".into()]);
    issuer.set_group(PolicyChange { audiences, ..PolicyChange::default() }).await;
    let pump = certificate_of("pump");
    let resource = "&client_id=pump&resource=urn:fleetbadge:broker:hall";
    assert_eq!(ask(&issuer, Some(&pump), resource).await.error(), "invalid_target");
    assert_eq!(confirmation(&ask(&issuer, Some(&pump), "&client_id=pump").await), thumbprint(&pump));
}

#[tokio::test]
async fn a_change_of_the_registered_name_is_in_force_at_once() {
    let (issuer, _) = issuer(false).await;
    let pump = certificate_of("pump");
    assert_eq!(ask(&issuer, Some(&pump), "&client_id=pump").await.status, StatusCode::OK);
    let answer = set(&issuer, json!({"tls_client_auth_san_dns": "pump.example"})).await;
    assert_eq!(
        answer.json()["certificate"],
        json!({"tls_client_auth_san_dns": "pump.example", "tls_client_certificate_bound_access_tokens": false,
               "created_at": NOW})
    );
    assert_eq!(ask(&issuer, Some(&pump), "&client_id=pump").await.error(), "invalid_client");
    let delete = async || issuer.admin(Method::DELETE, "/admin/v1/devices/pump/certificate", None).await;
    assert_eq!(delete().await.status, StatusCode::NO_CONTENT);
    assert_eq!(delete().await.status, StatusCode::NOT_FOUND);
    let shown = issuer.admin(Method::GET, "/admin/v1/devices/pump", None).await;
    assert!(shown.json().get("certificate").is_none());
}

#[tokio::test]
async fn exactly_one_name_that_a_certificate_can_have() {
    let (issuer, _) = issuer(false).await;
    for (body, field) in [
        (json!({}), Value::Null),
        (json!({"tls_client_auth_san_dns": "a", "tls_client_auth_subject_dn": "CN=a"}), Value::Null),
        (json!({"tls_client_auth_subject_dn": "pump"}), json!("tls_client_auth_subject_dn")),
        (json!({"tls_client_auth_san_dns": "*.example"}), json!("tls_client_auth_san_dns")),
        (json!({"tls_client_auth_san_ip": "1.2.3"}), Value::Null),
        (json!({"subject_dn": "CN=pump"}), Value::Null),
    ] {
        let answer = set(&issuer, body.clone()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(answer.json()["field"], field, "{body}");
    }
    let answer = issuer.admin(Method::GET, "/admin/v1/devices/pump", None).await;
    assert_eq!(answer.json()["certificate"]["tls_client_auth_subject_dn"], "CN=pump");
}
