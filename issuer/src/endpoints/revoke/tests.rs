//! Who may take back which tokens, and what is written for it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::test_support::TestKey;
use http::{Method, header};
use serde_json::{Value, json};

use super::*;
use crate::mint::TokenId;
use crate::profile::Profile;
use crate::self_token::{self, SelfContent};
use crate::test_support::{Answer, NOW, TestIssuer, basic};

const FORM: &str = "application/x-www-form-urlencoded";

/// The brokers `north` (audience `mqtt`) and `south`, the devices `pump` and
/// `valve`.
struct Fleet {
    issuer: TestIssuer,
    north: String,
    south: String,
    pump: String,
    valve: String,
}

impl Fleet {
    async fn new() -> Self {
        let issuer = TestIssuer::new().await;
        let north = basic("north", &issuer.add_broker("north", "mqtt", Profile::Fleetbadge).await);
        let south = basic("south", &issuer.add_broker("south", "south", Profile::Fleetbadge).await);
        let pump = issuer.add("pump", &[]).await;
        let valve = basic("valve", &issuer.add("valve", &[]).await);
        Self { issuer, north, south, pump, valve }
    }

    async fn token(&self) -> String {
        let answer = self.issuer.token("pump", &self.pump, "").await;
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, path: &str, authorization: &str, body: &str) -> Answer {
        let mut request = Request::post(path).header(header::CONTENT_TYPE, FORM);
        if !authorization.is_empty() {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let answer = self.issuer.public(request.body(body.to_owned().into()).unwrap()).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer
    }

    async fn revoke(&self, authorization: &str, token: &str) -> (u16, String) {
        let answer = self.ask("/oauth2/revoke", authorization, &format!("token={token}")).await;
        let error = if answer.body.is_empty() { String::new() } else { answer.error() };
        (answer.status.as_u16(), error)
    }

    async fn is_active(&self, token: &str) -> bool {
        let answer = self.ask("/oauth2/introspect", &self.north, &format!("token={token}")).await;
        answer.json()["active"].as_bool().unwrap()
    }

    async fn written(&self) -> usize {
        self.issuer.app().store.revocations(0, 100).await.unwrap().len()
    }

    fn pump(&self) -> String {
        basic("pump", &self.pump)
    }
}

fn done() -> (u16, String) {
    (200, String::new())
}

fn payload(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_device_takes_back_its_own_token_and_the_issuer_refuses_it_at_once() {
    let fleet = Fleet::new().await;
    let (lost, kept) = (fleet.token().await, fleet.token().await);
    assert!(fleet.is_active(&lost).await);
    assert_eq!(fleet.revoke(&fleet.pump(), &lost).await, done());
    assert!(!fleet.is_active(&lost).await && fleet.is_active(&kept).await);
    let [written] = &fleet.issuer.app().store.revocations(0, 100).await.unwrap()[..] else { panic!() };
    let claims = payload(&lost);
    assert_eq!(
        serde_json::to_value(&written.revocation).unwrap(),
        json!({"jti": claims["jti"], "expires_at": claims["exp"].as_u64().unwrap() + 300})
    );
    // Again, by the other method, with hints: nothing more is written.
    for hint in ["access_token", "refresh_token", "x"] {
        let body = format!("token={lost}&token_type_hint={hint}&client_id=pump&client_secret={}", fleet.pump);
        assert_eq!(fleet.ask("/oauth2/revoke", "", &body).await.status, StatusCode::OK, "{hint}");
    }
    assert_eq!(fleet.written().await, 1);
    // It gets others all the same.
    assert!(fleet.is_active(&fleet.token().await).await);
}

#[tokio::test]
async fn a_broker_takes_back_what_is_for_its_audience() {
    let fleet = Fleet::new().await;
    let token = fleet.token().await;
    assert_eq!(fleet.revoke(&fleet.south, &token).await, (400, "unauthorized_client".into()));
    assert!(fleet.is_active(&token).await && fleet.written().await == 0, "refused without effect (§2.1)");
    assert_eq!(fleet.revoke(&fleet.north, &token).await, done());
    assert!(!fleet.is_active(&token).await);
}

#[tokio::test]
async fn no_device_takes_back_anothers_token() {
    let fleet = Fleet::new().await;
    let token = fleet.token().await;
    assert_eq!(fleet.revoke(&fleet.valve, &token).await, (400, "unauthorized_client".into()));
    assert_eq!(fleet.revoke("", &token).await, (401, "invalid_client".into()));
    assert_eq!(fleet.revoke(&basic("pump", "fbs_wrong"), &token).await, (401, "invalid_client".into()));
    assert!(fleet.is_active(&token).await);
    assert_eq!(fleet.written().await, 0);
}

/// Whoever has a device's secret must not fill what every node and every broker
/// keeps in memory.
#[tokio::test]
async fn a_device_takes_back_so_many_and_is_told_when_to_go_on() {
    let fleet = Fleet::new().await;
    let mut taken_back = 0;
    let refused = loop {
        let token = fleet.token().await;
        let answer = fleet.ask("/oauth2/revoke", &fleet.pump(), &format!("token={token}")).await;
        if answer.status != StatusCode::OK {
            // As RFC 7009 §2.2.1 has it: the token goes on being good.
            assert!(fleet.is_active(&token).await);
            assert_eq!(fleet.revoke(&fleet.north, &token).await, done());
            break answer;
        }
        taken_back += 1;
    };
    assert_eq!((taken_back, fleet.written().await), (30, 31));
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header("retry-after"), Some("30"));
    assert_eq!(refused.error(), "temporarily_unavailable");
    // What is taken back already costs nothing.
    fleet.issuer.clock.advance(30);
    let token = fleet.token().await;
    for _ in 0..3 {
        assert_eq!(fleet.revoke(&fleet.pump(), &token).await, done());
    }
}

/// Whoever has a broker's secret must not either.
#[tokio::test]
async fn a_broker_takes_back_more_and_is_slowed_down_too() {
    let fleet = Fleet::new().await;
    let app = fleet.issuer.app();
    let before = (0..).take_while(|_| app.broker_revocations.count("north", app.now()).is_ok()).count();
    assert_eq!(before, 1_000);
    let token = fleet.token().await;
    let refused = fleet.ask("/oauth2/revoke", &fleet.north, &format!("token={token}")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
    assert_eq!(fleet.revoke(&fleet.pump(), &token).await, done());
    fleet.issuer.clock.advance(1);
    assert_eq!(fleet.revoke(&fleet.north, &fleet.token().await).await, done());
}

/// As many as clients may add: a node starts with them, however long it takes to
/// read them, and operators go on.
#[tokio::test]
async fn what_is_left_of_what_brokers_hold_is_for_operators() {
    let fleet = Fleet::new().await;
    let fill = sqlx::query(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1) \
         INSERT INTO revocations (id, target, document, expires_at) \
         SELECT last_change + n, 'token many-' || n, \
                json_object('jti', 'many-' || n, 'expires_at', ?2), ?2 FROM numbers, state",
    );
    let end = i64::try_from(NOW.0 + 600).unwrap();
    let most = i64::try_from(MAX_IN_FORCE).unwrap();
    let database = fleet.issuer.database().await;
    fill.bind(most - 1).bind(end).execute(&database).await.unwrap();
    let count_up = sqlx::query("UPDATE state SET last_change = last_change + ?");
    count_up.bind(most).execute(&database).await.unwrap();
    let Fleet { issuer, north, south, pump, valve } = fleet;
    let fleet = Fleet { issuer: issuer.restart().await, north, south, pump, valve };
    assert_eq!(fleet.issuer.app().revocations.current().len(), MAX_IN_FORCE - 1);

    let (last, next) = (fleet.token().await, fleet.token().await);
    assert_eq!(fleet.revoke(&fleet.pump(), &last).await, done());
    for client in [&fleet.pump(), &fleet.north] {
        let refused = fleet.ask("/oauth2/revoke", client, &format!("token={next}")).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.header("retry-after"), Some("60"));
    }
    let by_operator = json!({"token": next});
    let answer = fleet.issuer.admin(Method::POST, "/admin/v1/revocations", Some(by_operator)).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert!(!fleet.is_active(&next).await);
}

/// Whoever invents tokens must not fill the database with them.
#[tokio::test]
async fn what_is_no_token_of_this_issuer_is_done_with_and_nothing_is_written() {
    let fleet = Fleet::new().await;
    let token = fleet.token().await;
    let [head, claims, _] = token.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
    let mut invented = payload(&token);
    invented["jti"] = json!("invented");
    let kid = fleet.issuer.app().keys.current().key_set.key_ids().next().unwrap().to_owned();
    let forged = json!({"alg": "ES256", "typ": "at+jwt", "kid": kid}).to_string();
    let stranger = TestKey::generate();
    for other in [
        "x",
        "a.b.c",
        &format!("{head}.{claims}."),
        &format!("{head}.{}.AAAA", URL_SAFE_NO_PAD.encode(invented.to_string())),
        // Of another issuer, and under the name of this one's key.
        &stranger.token(&invented),
        &stranger.token_of(&forged, invented.to_string()),
    ] {
        for client in [fleet.pump(), fleet.north.clone()] {
            assert_eq!(fleet.revoke(&client, other).await, done(), "{other}");
        }
    }
    assert_eq!(fleet.written().await, 0);
}

/// A broker may allow for a clock that is minutes off.
#[tokio::test]
async fn a_token_can_be_taken_back_until_it_is_good_nowhere() {
    let fleet = Fleet::new().await;
    let (late, too_late) = (fleet.token().await, fleet.token().await);
    let exp = payload(&late)["exp"].as_u64().unwrap().max(payload(&too_late)["exp"].as_u64().unwrap());
    fleet.issuer.clock.advance(exp - NOW.0);
    assert_eq!(fleet.revoke(&fleet.pump(), &late).await, done());
    assert_eq!(fleet.written().await, 1);
    fleet.issuer.clock.advance(Verifier::MAX_SKEW_S);
    assert_eq!(fleet.revoke(&fleet.pump(), &too_late).await, done());
    let revoked = fleet.issuer.app().store.revocations(0, 100).await.unwrap();
    assert!(revoked.iter().all(|found| {
        !found.revocation.target.to_string().contains(payload(&too_late)["jti"].as_str().unwrap())
    }));
}

#[tokio::test]
async fn requests_are_read_as_strictly_as_at_the_token_endpoint() {
    let fleet = Fleet::new().await;
    for body in ["", "token=", "token_type_hint=x", "token=x&token=y", "token=%zz"] {
        let answer = fleet.ask("/oauth2/revoke", &fleet.north, body).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, "invalid_request".into()), "{body}");
    }
    assert_eq!(
        fleet.ask("/oauth2/revoke?token=x", &fleet.north, "token=x").await.status,
        StatusCode::BAD_REQUEST
    );
    let request = Request::builder().method(Method::GET).uri("/oauth2/revoke").body(Body::empty()).unwrap();
    assert_eq!(fleet.issuer.public(request).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_metadata_tell_where_and_how() {
    let fleet = Fleet::new().await;
    let request = Request::get("/.well-known/oauth-authorization-server").body(Body::empty()).unwrap();
    let metadata = fleet.issuer.public(request).await.json();
    assert_eq!(metadata["revocation_endpoint"], "https://id.example/oauth2/revoke");
    assert_eq!(
        metadata["revocation_endpoint_auth_methods_supported"],
        json!(["client_secret_basic", "client_secret_post", "private_key_jwt"])
    );
    assert_eq!(
        metadata["revocation_endpoint_auth_signing_alg_values_supported"],
        metadata["token_endpoint_auth_signing_alg_values_supported"]
    );
}

/// The token with which a device manages its keys is its own, too, and no
/// broker's.
#[tokio::test]
async fn a_token_for_the_issuer_is_the_devices_to_take_back() {
    let fleet = Fleet::new().await;
    let app = fleet.issuer.app();
    let content = SelfContent {
        issuer: app.issuer.as_str(),
        device: &"pump".parse().unwrap(),
        client_key: "k",
        token_id: TokenId::generate(&*app.random).unwrap(),
        now: NOW,
    };
    let keys = app.keys.current();
    let token = self_token::mint(content, keys.ring.active(Algorithm::ES256, NOW).unwrap()).unwrap();
    for other in [&fleet.north, &fleet.valve] {
        assert_eq!(fleet.revoke(other, &token).await, (400, "unauthorized_client".into()));
    }
    assert_eq!(fleet.revoke(&fleet.pump(), &token).await, done());
    assert!(IssuedToken::read(&app, &token).unwrap().revoked_by(&app).is_some());
}
