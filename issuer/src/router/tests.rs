//! Every route, and who may call it.

use std::collections::BTreeSet;

use axum::body::Body;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::test_support::TestKey;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::groups::PolicyChange;
use crate::mint::TokenId;
use crate::profile::Profile;
use crate::self_token::{self, SelfContent};
use crate::test_support::{ISSUER, TestIssuer, TestProof, basic};

/// Who asks. The first five can reach the public listener alone; they are
/// told apart by what they prove to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// Without credentials.
    Nobody,
    /// `pump`, with its secret.
    Device,
    /// `site`, with its secret.
    Broker,
    /// With an enrolment token.
    Newcomer,
    /// `pump`, with a token for managing itself.
    Itself,
    /// Whoever reaches the ops listener.
    Probe,
    /// The server's own user or root, who reach the admin socket.
    Operator,
}

const CALLERS: [Caller; 7] = [
    Caller::Nobody,
    Caller::Device,
    Caller::Broker,
    Caller::Newcomer,
    Caller::Itself,
    Caller::Probe,
    Caller::Operator,
];

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It was done.
    Done,
    /// 404: the listener has no such route.
    Absent,
    /// 401: whoever asks has not proven to be anybody who may.
    Unknown,
    /// 400 or 403 `unauthorized_client`: they have, and may not.
    Forbidden,
    /// 409: they may, but it is not the time.
    Conflict,
    /// 404: they may, but there is no such thing.
    Nothing,
}

use Outcome::{Absent, Conflict, Done, Forbidden, Nothing, Unknown};

/// What goes with a request.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Empty,
    Form(&'static str),
    Json(&'static str),
    /// A public key that no device has yet, and a proof for it.
    NewKey,
    /// The public key of `pump`.
    OwnKey,
}

use Sent::{Empty, Form, Json, NewKey, OwnKey};

struct Row(Method, &'static str, Sent, [Outcome; 7]);

const EVERYBODY: [Outcome; 7] = [Done, Done, Done, Done, Done, Absent, Absent];
const PROBES: [Outcome; 7] = [Absent, Absent, Absent, Absent, Absent, Done, Absent];

/// For operators alone, with what comes of it.
const fn operator(outcome: Outcome) -> [Outcome; 7] {
    [Absent, Absent, Absent, Absent, Absent, Absent, outcome]
}

const OPERATOR: [Outcome; 7] = operator(Done);

/// Each route against who may call it, in the order in which they are asked.
/// What operators do is done to the device `valve` and the broker `depot`.
#[rustfmt::skip]
const ROUTES: &[Row] = &[
    //                                                    nobody   device     broker     newcomer   itself     probe   operator
    Row(Method::POST, "/oauth2/token", Form(GRANT),      [Unknown, Done,      Forbidden, Unknown,   Unknown,   Absent, Absent]),
    Row(Method::POST, "/oauth2/token", Form(EXCHANGE),   [Unknown, Forbidden, Done,      Unknown,   Unknown,   Absent, Absent]),
    Row(Method::POST, "/oauth2/introspect", Form(TOKEN), [Unknown, Forbidden, Done,      Unknown,   Unknown,   Absent, Absent]),
    Row(Method::POST, "/oauth2/revoke", Form(TOKEN),     [Unknown, Done,      Done,      Unknown,   Unknown,   Absent, Absent]),
    Row(Method::GET, "/oauth2/revocations", Empty,       [Unknown, Forbidden, Done,      Unknown,   Unknown,   Absent, Absent]),
    Row(Method::POST, "/oauth2/register", NewKey,        [Unknown, Unknown,   Unknown,   Done,      Unknown,   Absent, Absent]),
    Row(Method::GET, PUMP, Empty,                        [Unknown, Unknown,   Unknown,   Unknown,   Done,      Absent, Absent]),
    Row(Method::PUT, PUMP, OwnKey,                       [Unknown, Unknown,   Unknown,   Unknown,   Done,      Absent, Absent]),
    Row(Method::GET, OTHER, Empty,                       [Unknown, Unknown,   Unknown,   Unknown,   Unknown,   Absent, Absent]),
    Row(Method::PUT, OTHER, OwnKey,                      [Unknown, Unknown,   Unknown,   Unknown,   Unknown,   Absent, Absent]),
    Row(Method::GET, "/oauth2/jwks", Empty, EVERYBODY),
    Row(Method::POST, "/oauth2/reports", Json(REPORT),   [Unknown, Forbidden, Done,      Unknown,   Unknown,   Absent, Absent]),
    Row(Method::GET, "/.well-known/oauth-authorization-server", Empty, EVERYBODY),
    Row(Method::GET, "/.well-known/openid-configuration", Empty, EVERYBODY),
    Row(Method::GET, "/healthz", Empty, PROBES),
    Row(Method::GET, "/readyz", Empty, PROBES),
    Row(Method::GET, "/metrics", Empty, PROBES),
    Row(Method::GET, "/admin/v1/backup", Empty, OPERATOR),
    Row(Method::GET, "/admin/v1/clock", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/clock/accept", Empty, OPERATOR),
    Row(Method::GET, "/admin/v1/devices", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/devices", Json(r#"{"name": "valve"}"#), OPERATOR),
    Row(Method::GET, "/admin/v1/devices/valve", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/devices/valve/approve", Empty, operator(Conflict)),
    Row(Method::POST, "/admin/v1/devices/valve/disable", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/devices/valve/enable", Empty, OPERATOR),
    Row(Method::PUT, "/admin/v1/devices/valve/password", Json("{}"), OPERATOR),
    Row(Method::DELETE, "/admin/v1/devices/valve/password", Empty, OPERATOR),
    Row(Method::GET, "/admin/v1/devices/valve/keys", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/devices/valve/keys", NewKey, OPERATOR),
    Row(Method::DELETE, "/admin/v1/devices/valve/keys/x", Empty, operator(Nothing)),
    Row(Method::GET, "/admin/v1/devices/valve/explain", Empty, OPERATOR),
    Row(Method::PATCH, "/admin/v1/devices/valve", Json("{}"), OPERATOR),
    Row(Method::GET, "/admin/v1/devices/valve/secrets", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/devices/valve/secrets", Json("{}"), OPERATOR),
    Row(Method::DELETE, "/admin/v1/devices/valve/secrets/x", Empty, operator(Nothing)),
    Row(Method::POST, "/admin/v1/devices/valve/rotate-secret", Json(r#"{"overlap_s": 0}"#), OPERATOR),
    Row(Method::PUT, "/admin/v1/devices/valve/certificate", Json(r#"{"tls_client_auth_san_dns": "valve.example"}"#), OPERATOR),
    Row(Method::DELETE, "/admin/v1/devices/valve/certificate", Empty, OPERATOR),
    Row(Method::DELETE, "/admin/v1/devices/valve", Empty, OPERATOR),
    Row(Method::GET, "/admin/v1/enrolments", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/enrolments", Json(r#"{"group": "default", "name_pattern": "x-*", "uses": 1, "expires_in_s": 60}"#), OPERATOR),
    Row(Method::DELETE, "/admin/v1/enrolments/x", Empty, operator(Nothing)),
    Row(Method::GET, "/admin/v1/groups", Empty, OPERATOR),
    Row(Method::GET, "/admin/v1/groups/default", Empty, OPERATOR),
    Row(Method::PATCH, "/admin/v1/groups/default", Json("{}"), OPERATOR),
    Row(Method::GET, "/admin/v1/brokers", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/brokers", Json(r#"{"name": "depot", "audience": "depot", "profile": "fleetbadge"}"#), OPERATOR),
    Row(Method::GET, "/admin/v1/brokers/depot", Empty, OPERATOR),
    Row(Method::GET, "/admin/v1/brokers/depot/status", Empty, OPERATOR),
    Row(Method::GET, "/admin/v1/brokers/depot/sessions", Empty, OPERATOR),
    Row(Method::GET, "/admin/v1/brokers/depot/secrets", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/brokers/depot/secrets", Json("{}"), OPERATOR),
    Row(Method::DELETE, "/admin/v1/brokers/depot/secrets/x", Empty, operator(Nothing)),
    Row(Method::POST, "/admin/v1/brokers/depot/rotate-secret", Json(r#"{"overlap_s": 0}"#), OPERATOR),
    Row(Method::DELETE, "/admin/v1/brokers/depot", Empty, OPERATOR),
    Row(Method::GET, "/admin/v1/revocations", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/revocations", Json(r#"{"device": "valve"}"#), OPERATOR),
    Row(Method::GET, "/admin/v1/keys", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/keys/rotate", Json("{}"), OPERATOR),
    Row(Method::POST, "/admin/v1/keys/x/revoke", Empty, operator(Nothing)),
    Row(Method::GET, "/admin/v1/root-keys", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/root-keys", Empty, OPERATOR),
    Row(Method::POST, "/admin/v1/root-keys/x/use", Empty, operator(Nothing)),
    Row(Method::DELETE, "/admin/v1/root-keys/x", Empty, operator(Nothing)),
];

const GRANT: &str = "grant_type=client_credentials";
const EXCHANGE: &str = "grant_type=password&username=pump&password=";
const TOKEN: &str = "token=x";
const REPORT: &str = r#"{"version": 1, "instance": "0123456789abcdefghijkl", "software": "x/1", "kids": []}"#;
const PUMP: &str = "/oauth2/register/pump";
const OTHER: &str = "/oauth2/register/other";

/// An issuer, and what each caller has.
struct Callers {
    issuer: TestIssuer,
    key: TestKey,
    device: String,
    broker: String,
    enrolment_token: String,
    self_token: String,
    password: String,
}

impl Callers {
    async fn new() -> Self {
        let issuer = TestIssuer::new().await;
        let change = PolicyChange { static_passwords: Some(true), ..PolicyChange::default() };
        issuer.set_group(change).await;
        let key = TestKey::generate();
        let device = issuer.add("pump", &[]).await;
        let path = "/admin/v1/devices/pump/keys";
        assert_eq!(issuer.admin(Method::POST, path, Some(jwks(&key))).await.status, StatusCode::CREATED);
        let password = issuer.admin(Method::PUT, "/admin/v1/devices/pump/password", Some(json!({}))).await;
        let terms = json!({"group": "default", "name_pattern": "new-*", "uses": 9, "expires_in_s": 60});
        let enrolment = issuer.admin(Method::POST, "/admin/v1/enrolments", Some(terms)).await;
        issuer.add("other", &[]).await;
        Self {
            device: basic("pump", &device),
            broker: basic("site", &issuer.add_broker("site", "mqtt", Profile::Fleetbadge).await),
            enrolment_token: enrolment.json()["enrolment_token"].as_str().unwrap().into(),
            self_token: self_token(&issuer, &key),
            password: password.json()["password"].as_str().unwrap().into(),
            key,
            issuer,
        }
    }

    fn bearer_token(&self, caller: Caller) -> Option<&str> {
        match caller {
            Caller::Newcomer => Some(&self.enrolment_token),
            Caller::Itself => Some(&self.self_token),
            Caller::Nobody | Caller::Device | Caller::Broker | Caller::Probe | Caller::Operator => None,
        }
    }

    fn request(&self, caller: Caller, method: &Method, path: &str, sent: Sent) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        let token = self.bearer_token(caller);
        let authorization = match caller {
            Caller::Device => Some(self.device.clone()),
            Caller::Broker => Some(self.broker.clone()),
            Caller::Nobody | Caller::Newcomer | Caller::Itself | Caller::Probe | Caller::Operator => {
                token.map(|token| format!("Bearer {token}"))
            }
        };
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let (kind, body) = match sent {
            Empty => return request.body(Body::empty()).unwrap(),
            Form(EXCHANGE) => (FORM, format!("{EXCHANGE}{}", self.password)),
            Form(body) => (FORM, body.to_owned()),
            Json(body) => (JSON, body.to_owned()),
            OwnKey => (JSON, jwks(&self.key).to_string()),
            NewKey => {
                let key = TestKey::generate();
                let url = format!("{ISSUER}{path}");
                let proof = TestProof::new(method.as_str(), &url, token.unwrap_or_default()).sign(&key);
                request = request.header("dpop", proof);
                (JSON, jwks(&key).to_string())
            }
        };
        request.header(header::CONTENT_TYPE, kind).body(Body::from(body)).unwrap()
    }

    async fn ask(&self, caller: Caller, method: &Method, path: &str, sent: Sent) -> Outcome {
        let app = self.issuer.app();
        let router = match caller {
            Caller::Probe => ops(app),
            Caller::Operator => admin(app),
            Caller::Nobody | Caller::Device | Caller::Broker | Caller::Newcomer | Caller::Itself => {
                public(app)
            }
        };
        let answer = crate::test_support::ask(router, self.request(caller, method, path, sent)).await;
        let code = |member: &str| {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            body[member].as_str().unwrap_or_default().to_owned()
        };
        match answer.status.as_u16() {
            200..=299 => Done,
            401 => Unknown,
            400 | 403 if code("error") == "unauthorized_client" => Forbidden,
            409 => Conflict,
            404 if answer.body.is_empty() || code("detail").starts_with("there is no such path") => Absent,
            404 => Nothing,
            other => panic!("{caller:?} {method} {path}: {other} {}", String::from_utf8_lossy(&answer.body)),
        }
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

fn jwks(key: &TestKey) -> Value {
    json!({"jwks": {"keys": [key.public().to_jwk()]}})
}

fn self_token(issuer: &TestIssuer, key: &TestKey) -> String {
    let app = issuer.app();
    let content = SelfContent {
        issuer: app.issuer.as_str(),
        device: &"pump".parse().unwrap(),
        client_key: &key.kid(),
        token_id: TokenId::generate(&*app.random).unwrap(),
        now: app.now(),
    };
    let keys = app.keys.current();
    self_token::mint(content, keys.ring.active(Algorithm::ES256, app.now()).unwrap()).unwrap()
}

#[tokio::test]
async fn each_route_is_for_its_callers_alone() {
    let callers = Callers::new().await;
    for Row(method, path, sent, expected) in ROUTES {
        for (caller, expected) in CALLERS.into_iter().zip(expected) {
            let found = callers.ask(caller, method, path, *sent).await;
            assert_eq!(found, *expected, "{caller:?} {method} {path} {sent:?}");
        }
    }
}

/// Read from the source, as a router does not tell its routes.
#[test]
fn no_route_is_missing_above() {
    let source = include_str!("../router.rs");
    let mut routed = BTreeSet::new();
    for route in source.split(".route(").skip(1) {
        let path = route.split('"').nth(1).unwrap();
        let path =
            [("{base}", ""), ("{TOKEN_PATH}", TOKEN_PATH), ("{INTROSPECTION_PATH}", INTROSPECTION_PATH)]
                .into_iter()
                .chain([("{REVOCATION_PATH}", REVOCATION_PATH), ("{REPORTS_PATH}", REPORTS_PATH)])
                .chain([("{REVOCATION_FEED_PATH}", REVOCATION_FEED_PATH)])
                .chain([("{JWKS_PATH}", JWKS_PATH), ("{REGISTER_PATH}", REGISTER_PATH)])
                .chain([("{{client_id}}", "pump"), ("devices/{name}", "devices/valve")])
                .chain([("brokers/{name}", "brokers/depot"), ("groups/{name}", "groups/default")])
                .chain([("{id}", "x"), ("{kid}", "x"), ("{thumbprint}", "x")])
                .fold(path.to_owned(), |path, (from, to)| path.replace(from, to));
        for method in ["get", "post", "put", "patch", "delete"] {
            if route.contains(&format!(" {method}(")) || route.contains(&format!(".{method}(")) {
                routed.insert((method.to_ascii_uppercase(), path.clone()));
            }
        }
    }
    let rows = ROUTES.iter().filter(|Row(_, path, ..)| *path != OTHER);
    let rows: BTreeSet<_> =
        rows.map(|Row(method, path, ..)| (method.to_string(), (*path).to_owned())).collect();
    assert_eq!(routed, rows);
}

#[tokio::test]
async fn an_issuer_with_a_path_has_it_everywhere() {
    let options = crate::config::Options {
        issuer: Some("https://id.example/tenant/".into()),
        ..crate::config::Options::default()
    };
    let issuer = TestIssuer::with(options).await;
    let get = async |path: &str| issuer.public(Request::get(path).body(Body::empty()).unwrap()).await;
    let metadata = get("/.well-known/oauth-authorization-server/tenant").await;
    assert_eq!(metadata.json()["issuer"], "https://id.example/tenant/");
    assert_eq!(metadata.json()["token_endpoint"], "https://id.example/tenant/oauth2/token");
    assert_eq!(metadata.json()["jwks_uri"], "https://id.example/tenant/oauth2/jwks");
    assert_eq!(metadata.header("cache-control"), Some("public, max-age=3600"));
    assert_eq!(get("/tenant/.well-known/openid-configuration").await.body, metadata.body);
    assert_eq!(get("/tenant/oauth2/jwks").await.status, StatusCode::OK);
    assert_eq!(get("/oauth2/jwks").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_key_set_is_cached_and_has_no_private_member() {
    let issuer = TestIssuer::new().await;
    let get = |tag: Option<&str>| {
        let request = Request::get("/oauth2/jwks");
        match tag {
            Some(tag) => request.header(header::IF_NONE_MATCH, tag),
            None => request,
        }
        .body(Body::empty())
        .unwrap()
    };
    let first = issuer.public(get(None)).await;
    assert_eq!(first.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    let keys = first.json()["keys"].clone();
    let members: Vec<&String> = keys[0].as_object().unwrap().keys().collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    let tag = first.header("etag").unwrap();
    assert_eq!(issuer.public(get(Some(tag))).await.status, StatusCode::NOT_MODIFIED);
    issuer.app().keys.rotate(None, false, issuer.app().now()).await.unwrap();
    let second = issuer.public(get(Some(tag))).await;
    assert_eq!(second.status, StatusCode::OK);
    assert_eq!(second.json()["keys"].as_array().unwrap().len(), 2);
}

/// A change must not stop between the database and the memory because whoever
/// asked for it has gone.
#[tokio::test]
async fn an_operators_request_goes_on_when_its_client_hangs_up() {
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let (end, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let change = move || async move {
        begin.send(()).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        end.send(()).unwrap();
    };
    let router = Router::new().route("/", post(change)).layer(from_fn(to_the_end));
    let request = Request::post("/").body(Body::empty()).unwrap();
    tokio::select! {
        _ = router.oneshot(request) => panic!("it is answered before it was cut off"),
        _ = begun.recv() => {}
    }
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), ended.recv()).await;
    assert_eq!(ended, Ok(Some(())));
}
