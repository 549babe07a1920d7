use axum::body::Body;
use fleetbadge_validator::revocations::RevocationState;
use fleetbadge_validator::test_support::TestKey;
use fleetbadge_validator::verify::Verifier;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::enrolments::NewEnrolment;
use crate::groups::PolicyChange;
use crate::test_support::{Answer, ISSUER, TestIssuer, TestProof, token_request};

/// A device as it is out there: it has a key and knows its name.
struct EnrolledDevice<'a> {
    issuer: &'a TestIssuer,
    key: TestKey,
    url: String,
}

impl<'a> EnrolledDevice<'a> {
    /// Enrols a device under this name.
    async fn enrol(issuer: &'a TestIssuer, name: &str, approval: bool) -> Self {
        let app = issuer.app();
        let new = NewEnrolment {
            group: "default".into(),
            name_pattern: name.into(),
            uses: 1,
            expires_in_s: 60,
            approval,
        };
        let created = app.enrolments.create(new, app.now()).await.unwrap();
        let endpoint = format!("{ISSUER}/oauth2/register");
        let device = Self { issuer, key: TestKey::generate(), url: endpoint };
        let body = device.jwks(&[&device.key]);
        let answer = device.ask(Method::POST, created.token.expose(), Some(&device.key), &body).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        let url = answer.json()["registration_client_uri"].as_str().unwrap().to_owned();
        Self { url, ..device }
    }

    fn name(&self) -> &str {
        self.url.rsplit_once('/').unwrap().1
    }

    fn jwks(&self, keys: &[&TestKey]) -> Value {
        let keys: Vec<_> = keys.iter().map(|key| key.public().to_jwk()).collect();
        json!({"jwks": {"keys": keys}})
    }

    /// Asks for a token with an assertion that `key` signs.
    async fn token_with(&self, key: &TestKey, more: &str) -> Answer {
        let now = self.issuer.app().now();
        let header = json!({"alg": "ES256", "typ": "client-authentication+jwt", "kid": key.kid()});
        let claims = json!({"iss": self.name(), "sub": self.name(), "aud": ISSUER, "exp": now.plus(60),
                            "iat": now, "jti": TestKey::generate().kid()});
        let assertion = key.token_of(header.to_string(), claims.to_string());
        let body = format!(
            "grant_type=client_credentials&client_assertion={assertion}&client_assertion_type=\
             urn:ietf:params:oauth:client-assertion-type:jwt-bearer{more}"
        );
        self.issuer.public(token_request(body).into()).await
    }

    async fn token(&self, more: &str) -> Answer {
        self.token_with(&self.key, more).await
    }

    /// Asks the registration endpoint, with a proof of `proven`.
    async fn ask(&self, method: Method, token: &str, proven: Option<&TestKey>, body: &Value) -> Answer {
        let mut request = Request::builder()
            .method(&method)
            .uri(&self.url)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        if let Some(key) = proven {
            let proof = TestProof::new(method.as_str(), &self.url, token);
            request = request.header("dpop", proof.with("iat", self.issuer.app().now().0).sign(key));
        }
        self.issuer.public(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

fn access_token(answer: &Answer) -> String {
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn from_an_enrolment_to_a_new_key() {
    let issuer = TestIssuer::new().await;
    let device = EnrolledDevice::enrol(&issuer, "pump-1", false).await;
    let mqtt = device.token("").await;
    assert_eq!(issuer.verify(&mqtt, "pump-1").unwrap().subject(), "pump-1");

    let answer = device.token("&scope=device.self").await;
    let own = access_token(&answer);
    let mut body = answer.json();
    body.as_object_mut().unwrap().remove("access_token");
    assert_eq!(body, json!({"token_type": "Bearer", "expires_in": 60, "scope": "device.self"}));
    assert_eq!(device.ask(Method::GET, &own, None, &json!(null)).await.json()["client_id"], "pump-1");

    let new = TestKey::generate();
    let replaced = device.ask(Method::PUT, &own, Some(&new), &device.jwks(&[&new])).await;
    assert_eq!(replaced.status, StatusCode::OK);
    assert_eq!(replaced.json()["jwks"], device.jwks(&[&new])["jwks"]);
    assert_eq!(device.token_with(&new, "").await.status, StatusCode::OK);
    assert_eq!(device.token("").await.error(), "invalid_client");
    assert_eq!(device.ask(Method::GET, &own, None, &json!(null)).await.error(), "invalid_token");
}

#[tokio::test]
async fn no_token_does_for_another() {
    let issuer = TestIssuer::new().await;
    let device = EnrolledDevice::enrol(&issuer, "pump-1", false).await;
    let own = access_token(&device.token("&scope=device.self").await);
    let keys = issuer.issuer.key_source().current();
    for audience in ["mqtt", ISSUER] {
        let denied = Verifier::new(ISSUER, audience).verify(
            &own,
            "pump-1",
            &keys,
            &RevocationState::NotFollowed,
            issuer.app().now(),
        );
        assert_eq!(denied.unwrap_err().code(), "claims_malformed");
    }
    let mqtt = access_token(&device.token("").await);
    assert_eq!(device.ask(Method::GET, &mqtt, None, &json!(null)).await.error(), "invalid_token");
    let new = TestKey::generate();
    let refused = device.ask(Method::PUT, &mqtt, Some(&new), &device.jwks(&[&new])).await;
    assert_eq!(refused.error(), "invalid_token");
}

#[tokio::test]
async fn whatever_brokers_the_group_has_a_device_manages_its_keys() {
    let issuer = TestIssuer::new().await;
    let device = EnrolledDevice::enrol(&issuer, "pump-1", false).await;
    let other = PolicyChange {
        audiences: Some(vec!["other".into()]),
        scope: Some("mqtt.connect".into()),
        ..PolicyChange::default()
    };
    issuer.set_group(other).await;
    let own = access_token(&device.token("&scope=device.self").await);
    assert_eq!(device.ask(Method::GET, &own, None, &json!(null)).await.status, StatusCode::OK);
    for (more, code) in [
        ("&scope=device.self+mqtt.connect", "invalid_scope"),
        ("&scope=device.self&resource=urn:x", "invalid_target"),
    ] {
        assert_eq!(device.token(more).await.error(), code);
    }
}

#[tokio::test]
async fn a_device_that_waits_for_approval_gets_no_token_of_any_kind() {
    let issuer = TestIssuer::new().await;
    let device = EnrolledDevice::enrol(&issuer, "pump-1", true).await;
    for more in ["", "&scope=device.self"] {
        assert_eq!(device.token(more).await.error(), "invalid_client", "{more}");
    }
    issuer.app().devices.approve("pump-1").await.unwrap();
    for more in ["", "&scope=device.self"] {
        assert_eq!(device.token(more).await.status, StatusCode::OK, "{more}");
    }
}

/// Whoever has a secret that leaks could otherwise put in a key, which stays
/// when the secret goes.
#[tokio::test]
async fn a_secret_gets_no_token_to_manage_keys() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump-1", &[]).await;
    let answer = issuer.token("pump-1", &secret, "&scope=device.self").await;
    assert_eq!((answer.status.as_u16(), answer.error()), (400, "unauthorized_client".into()));
}

#[tokio::test]
async fn one_token_is_not_for_brokers_and_the_issuer() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump-1", &[]).await;
    for (more, code) in [
        ("&scope=device.self+mqtt.connect", "invalid_scope"),
        ("&scope=mqtt.connect+device.self", "invalid_scope"),
        ("&scope=device.self+device.self", "invalid_scope"),
        ("&scope=device.self+", "invalid_scope"),
        ("&scope=device.self+x", "invalid_scope"),
        ("&scope=DEVICE.SELF", "invalid_scope"),
        ("&scope=device.selfish", "invalid_scope"),
        ("&scope=device.self&resource=urn:fleetbadge:broker:b", "invalid_target"),
        ("&scope=device.self&mqtt_client_id=pump-1", "invalid_request"),
    ] {
        let answer = issuer.token("pump-1", &secret, more).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, code.into()), "{more}");
    }
}
