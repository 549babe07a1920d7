//! An issuer in a folder of its own, asked without a network.

use std::sync::Arc;

use aws_lc_rs::digest;
use axum::Router;
use axum::body::{Body, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fleetbadge_validator::denied::Denied;
use fleetbadge_validator::revocations::RevocationState;
use fleetbadge_validator::test_support::TestKey;
use fleetbadge_validator::time::{ManualClock, UnixSeconds};
use fleetbadge_validator::verify::{VerifiedToken, Verifier};
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::app::App;
use crate::brokers::NewBroker;
use crate::config::{Config, Options};
use crate::devices::NewDevice;
use crate::groups::PolicyChange;
use crate::profile::Profile;
use crate::{Issuer, router};

pub(crate) const ISSUER: &str = "https://id.example";
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

pub(crate) struct TestIssuer {
    pub(crate) issuer: Issuer,
    pub(crate) clock: ManualClock,
    folder: tempfile::TempDir,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The `error` of an OAuth error.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl TestIssuer {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        Self::at(NOW, options).await
    }

    pub(crate) async fn at(now: UnixSeconds, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(now);
        let own = Options {
            data_dir: Some(folder.path().join("data")),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            issuer: Some(ISSUER.into()),
            ..Options::default()
        };
        let config = options.over(own).resolve().unwrap();
        let issuer = Issuer::open(config, Arc::new(clock.clone())).await.unwrap();
        Self { issuer, clock, folder }
    }

    /// Ends the issuer and starts it again in the same folder.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { issuer, clock, folder } = self;
        let mut config = issuer.config().clone();
        change(&mut config);
        drop(issuer);
        let issuer = Issuer::open(config, Arc::new(clock.clone())).await.unwrap();
        Self { issuer, clock, folder }
    }

    /// The database, beside the issuer.
    pub(crate) async fn database(&self) -> sqlx::SqlitePool {
        let path = self.folder.path().join("data/issuer.sqlite3");
        sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(path))
            .await
            .unwrap()
    }

    /// From now on nobody hears what others change.
    pub(crate) async fn break_log_of_changes(&self) {
        let rename = sqlx::query("ALTER TABLE changes RENAME TO unheard");
        rename.execute(&self.database().await).await.unwrap();
    }

    /// Adds so many devices that are like one that is there.
    pub(crate) async fn fill_group(&self, like: &str, count: i64) {
        let copy = sqlx::query(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1) \
             INSERT INTO devices (name, group_name, status, revision, document, created_at) \
             SELECT ?2 || '-' || n, group_name, status, revision, document, created_at \
             FROM devices, numbers WHERE name = ?2",
        );
        copy.bind(count).bind(like).execute(&self.database().await).await.unwrap();
    }

    /// How many devices there are.
    pub(crate) async fn count_devices(&self) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM devices");
        count.fetch_one(&self.database().await).await.unwrap()
    }

    /// Ends the issuer, and leaves its folder.
    pub(crate) fn end(self) -> tempfile::TempDir {
        let Self { issuer, clock: _, folder } = self;
        drop(issuer);
        folder
    }

    pub(crate) fn app(&self) -> Arc<App> {
        Arc::clone(&self.issuer.app)
    }

    /// Adds a device and returns its secret.
    pub(crate) async fn add(&self, name: &str, mqtt_client_ids: &[&str]) -> String {
        let new = NewDevice {
            name: name.into(),
            group: None,
            mqtt_client_ids: mqtt_client_ids.iter().map(|id| (*id).into()).collect(),
            ..NewDevice::default()
        };
        self.issuer.add_device(new).await.unwrap().secret.expose().to_owned()
    }

    /// Adds a broker and returns its secret.
    pub(crate) async fn add_broker(&self, name: &str, audience: &str, profile: Profile) -> String {
        let new = NewBroker {
            name: name.into(),
            audience: audience.into(),
            accept_unbound_publishers: profile.leaves_publishers_unbound(),
            profile,
            ..NewBroker::default()
        };
        let app = self.app();
        let added = app.brokers.add(new, &app.groups, &app.devices, NOW).await.unwrap();
        added.secret.expose().to_owned()
    }

    /// Changes the policy of the group `default`.
    pub(crate) async fn set_group(&self, change: PolicyChange) {
        self.app().groups.set("default", change, NOW).await.unwrap();
    }

    pub(crate) async fn public(&self, request: Request<Body>) -> Answer {
        ask(router::public(self.app()), request).await
    }

    pub(crate) async fn ops(&self, path: &str) -> Answer {
        ask(router::ops(self.app()), Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = match body {
            Some(body) => {
                request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string()))
            }
            None => request.body(Body::empty()),
        };
        ask(router::admin(self.app()), request.unwrap()).await
    }

    /// Asks for a token with `client_secret_basic`.
    pub(crate) async fn token(&self, name: &str, secret: &str, more: &str) -> Answer {
        let body = format!("grant_type=client_credentials{more}");
        self.public(token_request(body).header(header::AUTHORIZATION, basic(name, secret)).into()).await
    }

    /// What a broker with audience `mqtt` says.
    pub(crate) fn verify(&self, answer: &Answer, client_id: &str) -> Result<VerifiedToken, Denied> {
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        let keys = self.issuer.key_source().current();
        Verifier::new(ISSUER, "mqtt").verify(
            &token,
            client_id,
            &keys,
            &RevocationState::NotFollowed,
            self.app().now(),
        )
    }
}

/// A request to the token endpoint that can still be spoilt.
pub(crate) struct TokenRequest(http::request::Builder, String);

pub(crate) fn token_request(body: impl Into<String>) -> TokenRequest {
    let request =
        Request::post("/oauth2/token").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    TokenRequest(request, body.into())
}

impl TokenRequest {
    pub(crate) fn header(self, name: header::HeaderName, value: impl AsRef<str>) -> Self {
        Self(self.0.header(name, value.as_ref()), self.1)
    }
}

impl From<TokenRequest> for Request<Body> {
    fn from(TokenRequest(request, body): TokenRequest) -> Self {
        request.body(body.into()).unwrap()
    }
}

/// A proof of possession for a request (RFC 9449), of which something can be
/// spoilt.
#[derive(Clone)]
pub(crate) struct TestProof {
    pub(crate) claims: Value,
}

impl TestProof {
    pub(crate) fn new(method: &str, url: &str, token: &str) -> Self {
        let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()));
        let jti = TestKey::generate().kid();
        Self { claims: json!({"jti": jti, "htm": method, "htu": url, "iat": NOW, "ath": hash}) }
    }

    pub(crate) fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.claims[claim] = value.into();
        self
    }

    pub(crate) fn sign(&self, key: &TestKey) -> String {
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.public().to_jwk()});
        key.token_of(header.to_string(), self.claims.to_string())
    }
}

/// RFC 6749 §2.3.1.
pub(crate) fn basic(name: &str, secret: &str) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encode(name), encode(secret))))
}

pub(crate) async fn ask(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    // A feed has no end.
    let is_feed = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    let body = if is_feed { Body::empty() } else { body };
    let body = to_bytes(body, usize::MAX).await.unwrap().into();
    Answer { status: parts.status, headers: parts.headers, body }
}
