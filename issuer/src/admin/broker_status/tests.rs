use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::profile::Profile;
use crate::test_support::{Answer, NOW, TestIssuer, basic};

/// The brokers `north` and `south`, the device `pump` with two client IDs.
struct Fleet {
    issuer: TestIssuer,
    north: String,
    south: String,
}

impl Fleet {
    async fn new() -> Self {
        let issuer = TestIssuer::new().await;
        issuer.add("pump", &["pump", "pump-b"]).await;
        Self {
            north: basic("north", &issuer.add_broker("north", "north", Profile::Fleetbadge).await),
            south: basic("south", &issuer.add_broker("south", "south", Profile::Fleetbadge).await),
            issuer,
        }
    }

    async fn report(&self, authorization: &str, n: u64, sessions: Value, more: Value) -> Answer {
        let mut report =
            json!({"version": 1, "instance": format!("{n:022}"), "software": "x/1", "kids": ["k"]});
        report["sessions"] = sessions;
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = Request::post("/oauth2/reports")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, authorization);
        self.issuer.public(request.body(Body::from(report.to_string())).unwrap()).await
    }

    /// What becomes of the part.
    async fn tell(&self, authorization: &str, n: u64, epoch: u64, part: u64, online: &[&str]) -> Value {
        let online: Vec<Value> = online.iter().map(|id| online_for(id, 60)).collect();
        let sessions = json!({"epoch": epoch, "part": part, "online": online, "gone": []});
        let answer = self.report(authorization, n, sessions, json!({})).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer.json()["sessions"].clone()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.issuer.admin(Method::GET, &format!("/admin/v1/{path}"), None).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    async fn clients_of(&self, broker: &str) -> Vec<String> {
        let page = self.get(&format!("brokers/{broker}/sessions")).await;
        let sessions = page["sessions"].as_array().unwrap().clone();
        sessions.iter().map(|session| session["client_id"].as_str().unwrap().into()).collect()
    }
}

fn online_for(client_id: &str, seconds: u64) -> Value {
    json!({"client_id": client_id, "since": NOW, "until": NOW.plus(seconds)})
}

#[tokio::test]
async fn what_was_reported_is_shown_with_its_age() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.get("brokers/north/status").await, json!({"client_id": "north", "instances": []}));
    let counters = json!({"started_at": 5, "let_in": 7, "denied": {"expired": 2}});
    let held = json!({"event_id": "x-1", "age_s": 3});
    fleet.report(&fleet.north, 1, json!(null), json!({"counters": counters, "revocations": held})).await;
    let instance = |n: u64| format!("{n:022}");
    let mut first = json!({
        "instance": instance(1), "software": "x/1", "heard_of_at": NOW, "silent": false, "kids": ["k"],
        "revocations": held, "counters": counters,
    });
    // An older validator tells of no sessions.
    assert_eq!(fleet.get("brokers/north/status").await["instances"], json!([first]));
    fleet.issuer.clock.advance(181);
    assert_eq!(fleet.tell(&fleet.north, 2, 1, 0, &["pump", "valve"]).await, "kept");
    first["silent"] = true.into();
    let second = json!({
        "instance": instance(2), "software": "x/1", "heard_of_at": NOW.plus(181), "silent": false,
        "kids": ["k"], "sessions_online": 2,
    });
    assert_eq!(fleet.get("brokers/north/status").await["instances"], json!([first, second]));
    let session = |silent: bool| {
        json!([{"broker": "north", "instance": instance(2), "client_id": "pump", "since": NOW,
                "until": NOW.plus(60), "heard_of_at": NOW.plus(181), "silent": silent}])
    };
    assert_eq!(fleet.get("devices/pump").await["online"], session(false));
    fleet.issuer.clock.advance(181);
    assert_eq!(fleet.get("devices/pump").await["online"], session(true), "as it was then");
    let listed = fleet.get("devices").await;
    assert_eq!(listed["devices"][0].get("online"), None);
    let unknown = fleet.issuer.admin(Method::GET, "/admin/v1/brokers/nobody/status", None).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    // For a day, and then no longer.
    fleet.issuer.clock.advance(86_400);
    fleet.issuer.app().tick().await;
    assert_eq!(fleet.get("devices/pump").await.get("online"), None);
    assert!(fleet.clients_of("north").await.is_empty());
}

/// Whoever has the credentials of one broker says nothing about another's, even
/// with the name of its instance.
#[tokio::test]
async fn a_forged_report_changes_nothing_of_another_broker() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.tell(&fleet.north, 1, 7, 0, &["pump"]).await, "kept");
    let before = fleet.get("brokers/north/status").await;
    // It goes on with the other's list, or takes its place.
    assert_eq!(fleet.tell(&fleet.south, 1, 7, 1, &["valve"]).await, "begin_anew");
    assert_eq!(fleet.tell(&fleet.south, 1, 7, 0, &["valve"]).await, "kept");
    let gone = json!({"epoch": 7, "part": 1, "online": [], "gone": ["pump"], "broker": "north"});
    fleet.report(&fleet.south, 1, gone, json!({"broker": "north", "client_id": "north"})).await;
    assert_eq!(fleet.get("brokers/north/status").await, before);
    assert_eq!(fleet.clients_of("north").await, ["pump"]);
    assert_eq!(fleet.clients_of("south").await, ["valve"]);
    assert_eq!(fleet.tell(&fleet.north, 1, 7, 1, &["pump-b"]).await, "kept", "it goes on undisturbed");
    let online = fleet.get("devices/pump").await["online"].clone();
    let brokers: Vec<_> = online.as_array().unwrap().iter().map(|session| &session["broker"]).collect();
    assert_eq!(brokers, ["north", "north"]);
}

#[tokio::test]
async fn nothing_that_writes_into_a_terminal_is_kept() {
    let fleet = Fleet::new().await;
    let refused = async |sessions: Value, more: Value| {
        let answer = fleet.report(&fleet.north, 1, sessions, more).await;
        assert_eq!((answer.status, answer.error()), (StatusCode::BAD_REQUEST, "invalid_request".into()));
        assert!(!answer.body.contains(&0x1b));
    };
    let part = |online: Value, gone: Value| json!({"epoch": 1, "part": 0, "online": online, "gone": gone});
    refused(part(json!([online_for("\u{1b}[2J", 1)]), json!([])), json!({})).await;
    refused(part(json!([]), json!(["pump\n"])), json!({})).await;
    refused(part(json!([online_for(&"p".repeat(65), 1)]), json!([])), json!({})).await;
    let many: Vec<Value> = (0..401).map(|n| online_for(&n.to_string(), 1)).collect();
    refused(part(json!(many), json!([])), json!({})).await;
    let denied = json!({"started_at": 1, "let_in": 1, "denied": {"\u{1b}]0;x": 1}});
    refused(json!(null), json!({"counters": denied})).await;
    assert_eq!(fleet.get("brokers/north/status").await["instances"], json!([]));
}

#[tokio::test]
async fn sessions_count_as_long_as_the_secret_and_outlive_a_restart() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.tell(&fleet.north, 1, 7, 0, &["a", "b", "pump"]).await, "kept");
    let issuer = fleet.issuer.restart().await;
    let fleet = Fleet { issuer, ..fleet };
    assert_eq!(fleet.tell(&fleet.north, 1, 7, 1, &["c"]).await, "kept");
    // In pages.
    let page = fleet.get("brokers/north/sessions?limit=3").await;
    let after = format!(
        "brokers/north/sessions?limit=3&after_instance={}&after_client_id={}",
        page["next_after"]["instance"].as_str().unwrap(),
        page["next_after"]["client_id"].as_str().unwrap()
    );
    let rest = fleet.get(&after).await;
    assert_eq!((rest["sessions"][0]["client_id"].as_str(), rest.get("next_after")), (Some("pump"), None));
    let rotated = fleet
        .issuer
        .admin(Method::POST, "/admin/v1/brokers/north/rotate-secret", Some(json!({"overlap_s": 0})))
        .await;
    assert!(rotated.status.is_success());
    fleet.issuer.clock.advance(1);
    assert!(fleet.clients_of("north").await.is_empty());
    assert_eq!(fleet.get("devices/pump").await.get("online"), None);
}
