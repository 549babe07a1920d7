//! What brokers may say, and what nobody can say for them.

use http::{Method, header};
use serde_json::{Value, json};

use super::*;
use crate::endpoints::body::MAX_BODY_LENGTH;
use crate::profile::Profile;
use crate::test_support::{Answer, NOW, TestIssuer, basic};

const JSON: &str = "application/json";

/// The brokers `north` and `south`, the device `pump`.
struct Fleet {
    issuer: TestIssuer,
    north: String,
    south: String,
    pump: String,
}

impl Fleet {
    async fn new() -> Self {
        let issuer = TestIssuer::new().await;
        Self {
            north: basic("north", &issuer.add_broker("north", "north", Profile::Fleetbadge).await),
            south: basic("south", &issuer.add_broker("south", "south", Profile::Fleetbadge).await),
            pump: basic("pump", &issuer.add("pump", &[]).await),
            issuer,
        }
    }

    async fn post(&self, authorization: Option<&str>, kind: &str, body: impl Into<Body>) -> Answer {
        let mut request = Request::post("/oauth2/reports").header(header::CONTENT_TYPE, kind);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let answer = self.issuer.public(request.body(body.into()).unwrap()).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer
    }

    async fn report(&self, authorization: &str, report: &Value) -> Answer {
        self.post(Some(authorization), JSON, report.to_string()).await
    }

    async fn held_by(&self) -> Value {
        self.issuer.admin(Method::GET, "/admin/v1/keys", None).await.json()[0]["held_by"].clone()
    }

    fn kid(&self) -> String {
        self.issuer.app().keys.current().ring.keys()[0].key.kid().to_owned()
    }
}

/// A report of the instance `n`.
fn report(n: usize, kids: &[&str]) -> Value {
    json!({"version": 1, "instance": format!("{n:022}"), "software": "fleetbadge-mosquitto/0.1.0", "kids": kids})
}

#[tokio::test]
async fn a_report_is_kept_in_place_of_the_last_and_for_a_day() {
    let fleet = Fleet::new().await;
    let kid = fleet.kid();
    for kids in [&[][..], &[&kid, "of-another-issuer"]] {
        let answer = fleet.report(&fleet.north, &report(1, kids)).await;
        assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::NO_CONTENT, &b""[..]));
    }
    fleet.report(&fleet.north, &report(2, &[])).await;
    let instance = format!("{:022}", 2);
    let expected = json!([{"broker": "north", "instances": 2, "holding": 1, "missing": [instance]}]);
    assert_eq!(fleet.held_by().await, expected);
    fleet.issuer.clock.set(NOW.plus(86_400));
    fleet.issuer.app().tick().await;
    assert_eq!(fleet.held_by().await, expected);
    fleet.issuer.clock.set(NOW.plus(86_401));
    fleet.issuer.app().tick().await;
    assert_eq!(fleet.held_by().await, json!([]));
}

/// Who reports is who the credentials say, whatever the report says.
#[tokio::test]
async fn nobody_reports_for_another_broker() {
    let fleet = Fleet::new().await;
    let mut of_north = report(1, &[&fleet.kid()]);
    of_north["broker"] = "north".into();
    of_north["client_id"] = "north".into();
    assert_eq!(fleet.report(&fleet.south, &of_north).await.status, StatusCode::NO_CONTENT);
    assert_eq!(fleet.held_by().await[0]["broker"], "south");
    // The same instance of another broker is another one.
    fleet.report(&fleet.north, &report(1, &[])).await;
    assert_eq!(fleet.held_by().await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn only_brokers_report_and_only_with_basic_credentials() {
    let fleet = Fleet::new().await;
    let good = report(1, &[]);
    let device = fleet.report(&fleet.pump, &good).await;
    assert_eq!((device.status, device.error()), (StatusCode::FORBIDDEN, "unauthorized_client".into()));
    for authorization in [None, Some(basic("north", "fbs_wrong")), Some("Bearer x".into())] {
        let answer = fleet.post(authorization.as_deref(), JSON, good.to_string()).await;
        assert_eq!((answer.status, answer.error()), (StatusCode::UNAUTHORIZED, "invalid_client".into()));
        assert!(answer.header("www-authenticate").unwrap().starts_with("Basic "));
    }
    assert_eq!(fleet.held_by().await, json!([]));
}

#[tokio::test]
async fn what_cannot_be_used_says_why() {
    let fleet = Fleet::new().await;
    let refused = async |kind: &str, body: String, expected: &str| {
        let answer = fleet.post(Some(&fleet.north), kind, body).await;
        assert_eq!((answer.status, answer.error()), (StatusCode::BAD_REQUEST, "invalid_request".into()));
        let description = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(description.contains(expected), "{description}");
    };
    let good = report(1, &[]);
    refused("text/plain", good.to_string(), "Content-Type must be application/json").await;
    refused(JSON, "{".into(), "the report cannot be read").await;
    refused(JSON, json!({"version": 2}).to_string(), "version: 2 is not known here, 1 is").await;
    refused(JSON, report(1, &["k"; 65]).to_string(), "kids: are 65").await;
    let large = fleet.post(Some(&fleet.north), JSON, vec![b' '; MAX_BODY_LENGTH + 1]).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(fleet.held_by().await, json!([]));
}

/// Whoever has a broker's secret makes up instances: those that there are get in
/// all the same, and other brokers keep their places.
#[tokio::test]
async fn whoever_was_heard_of_longest_ago_gives_way() {
    let fleet = Fleet::new().await;
    let count = async || {
        let held_by = fleet.held_by().await;
        let of = |broker: &str| {
            let holders = held_by.as_array().unwrap().iter().find(|holders| holders["broker"] == broker);
            holders.map(|holders| (holders["instances"].clone(), holders["holding"].clone()))
        };
        (of("north"), of("south"))
    };
    let said = async |by: &str, n: u32, kids: &[&str]| {
        assert_eq!(fleet.report(by, &report(n as usize, kids)).await.status, StatusCode::NO_CONTENT);
    };
    said(&fleet.south, 0, &[]).await;
    for n in 0..MAX_INSTANCES {
        fleet.issuer.clock.advance(1);
        said(&fleet.north, n, &[]).await;
    }
    fleet.issuer.clock.advance(1);
    said(&fleet.north, 0, &[&fleet.kid()]).await;
    said(&fleet.north, 1_000, &[&fleet.kid()]).await;
    let south = Some((1.into(), 0.into()));
    assert_eq!(count().await, (Some((MAX_INSTANCES.into(), 2.into())), south.clone()));
    said(&fleet.north, 1, &[]).await;
    assert_eq!(count().await, (Some((MAX_INSTANCES.into(), 2.into())), south));
}

/// What came with a secret that was taken away says nothing any more.
#[tokio::test]
async fn a_report_counts_as_long_as_its_secret() {
    let fleet = Fleet::new().await;
    fleet.report(&fleet.north, &report(1, &[])).await;
    let rotate = json!({"overlap_s": 60});
    let rotated =
        fleet.issuer.admin(Method::POST, "/admin/v1/brokers/north/rotate-secret", Some(rotate)).await.json();
    let next = basic("north", rotated["client_secret"].as_str().unwrap());
    fleet.report(&next, &report(2, &[])).await;
    assert_eq!(fleet.held_by().await[0]["instances"], 2);
    fleet.issuer.clock.advance(61);
    assert_eq!(fleet.held_by().await[0]["instances"], 1);
    // The same instance with the other secret is the same.
    fleet.report(&next, &report(1, &[])).await;
    assert_eq!(fleet.held_by().await[0]["instances"], 2);
}

#[tokio::test]
async fn a_broker_that_was_removed_no_longer_counts() {
    let fleet = Fleet::new().await;
    fleet.report(&fleet.north, &report(1, &[])).await;
    let removed = fleet.issuer.admin(Method::DELETE, "/admin/v1/brokers/north", None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(fleet.held_by().await, json!([]));
    assert_eq!(fleet.report(&fleet.north, &report(1, &[])).await.status, StatusCode::UNAUTHORIZED);
}
