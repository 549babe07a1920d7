//! Every route, and who may call it.

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use tower::ServiceExt as _;

use super::*;
use crate::test_support::TestIssuer;

/// A listener says who can call: the public one everybody, the ops one
/// whoever can reach it, and the admin socket the server's own user and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Public,
    Ops,
    Admin,
}

use Listener::{Admin, Ops, Public};

/// Each route with what somebody without credentials gets.
const ROUTES: &[(Method, &str, Listener, u16)] = &[
    (Method::POST, "/oauth2/token", Public, 401),
    (Method::POST, "/oauth2/introspect", Public, 401),
    (Method::GET, "/oauth2/jwks", Public, 200),
    (Method::POST, "/oauth2/register", Public, 401),
    (Method::GET, "/oauth2/register/pump", Public, 401),
    (Method::PUT, "/oauth2/register/pump", Public, 401),
    (Method::GET, "/.well-known/oauth-authorization-server", Public, 200),
    (Method::GET, "/.well-known/openid-configuration", Public, 200),
    (Method::GET, "/healthz", Ops, 200),
    (Method::GET, "/readyz", Ops, 200),
    (Method::GET, "/metrics", Ops, 200),
    // Requests with a body want JSON.
    (Method::GET, "/admin/v1/devices", Admin, 200),
    (Method::POST, "/admin/v1/devices", Admin, 422),
    (Method::GET, "/admin/v1/devices/pump", Admin, 200),
    (Method::POST, "/admin/v1/devices/pump/approve", Admin, 409),
    (Method::POST, "/admin/v1/devices/pump/disable", Admin, 200),
    (Method::POST, "/admin/v1/devices/pump/enable", Admin, 200),
    (Method::PUT, "/admin/v1/devices/pump/password", Admin, 422),
    (Method::DELETE, "/admin/v1/devices/pump/password", Admin, 404),
    (Method::GET, "/admin/v1/devices/pump/keys", Admin, 200),
    (Method::POST, "/admin/v1/devices/pump/keys", Admin, 422),
    (Method::DELETE, "/admin/v1/devices/pump/keys/x", Admin, 404),
    (Method::GET, "/admin/v1/devices/pump/explain", Admin, 200),
    (Method::PATCH, "/admin/v1/devices/pump", Admin, 422),
    (Method::GET, "/admin/v1/devices/pump/secrets", Admin, 200),
    (Method::POST, "/admin/v1/devices/pump/secrets", Admin, 422),
    (Method::DELETE, "/admin/v1/devices/pump/secrets/x", Admin, 404),
    (Method::POST, "/admin/v1/devices/pump/rotate-secret", Admin, 422),
    (Method::PUT, "/admin/v1/devices/pump/certificate", Admin, 422),
    (Method::DELETE, "/admin/v1/devices/pump/certificate", Admin, 404),
    (Method::DELETE, "/admin/v1/devices/pump", Admin, 204),
    (Method::GET, "/admin/v1/enrolments", Admin, 200),
    (Method::POST, "/admin/v1/enrolments", Admin, 422),
    (Method::DELETE, "/admin/v1/enrolments/none", Admin, 404),
    (Method::GET, "/admin/v1/groups", Admin, 200),
    (Method::GET, "/admin/v1/groups/default", Admin, 200),
    (Method::PATCH, "/admin/v1/groups/default", Admin, 422),
    (Method::GET, "/admin/v1/brokers", Admin, 200),
    (Method::POST, "/admin/v1/brokers", Admin, 422),
    (Method::GET, "/admin/v1/brokers/site", Admin, 200),
    (Method::GET, "/admin/v1/brokers/site/secrets", Admin, 200),
    (Method::POST, "/admin/v1/brokers/site/secrets", Admin, 422),
    (Method::DELETE, "/admin/v1/brokers/site/secrets/x", Admin, 404),
    (Method::POST, "/admin/v1/brokers/site/rotate-secret", Admin, 422),
    (Method::DELETE, "/admin/v1/brokers/site", Admin, 204),
    (Method::GET, "/admin/v1/keys", Admin, 200),
    (Method::POST, "/admin/v1/keys/rotate", Admin, 422),
];

#[tokio::test]
async fn each_route_is_on_its_listener_alone() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump", &[]).await;
    issuer.add_broker("site", "mqtt", crate::profile::Profile::Fleetbadge).await;
    for &(ref method, path, listener, status) in ROUTES {
        let app = issuer.app();
        let routers = [(Public, public(Arc::clone(&app))), (Ops, ops(Arc::clone(&app))), (Admin, admin(app))];
        for (asked, router) in routers {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Body::from("grant_type=client_credentials"))
                .unwrap();
            let found = router.oneshot(request).await.unwrap().status();
            let expected = if asked == listener { status } else { 404 };
            assert_eq!(found.as_u16(), expected, "{method} {path} on {asked:?}");
        }
    }
}

#[test]
fn no_route_is_missing_above() {
    let source = include_str!("../router.rs");
    let routed = [" get(", " post(", " put(", " delete(", ".post(", ".put(", ".patch(", ".delete("]
        .map(|m| source.matches(m).count());
    assert_eq!(routed.iter().sum::<usize>(), ROUTES.len());
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
