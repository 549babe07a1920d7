//! What brokers are told, from where on, and who is not told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use axum::body::Body;
use fleetbadge_validator::revocations::Revocations;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::config::Options;
use crate::profile::Profile;
use crate::router;
use crate::test_support::{Answer, NOW, TestIssuer, ask, basic};

const PATIENCE: Duration = Duration::from_secs(20);

struct Broker {
    issuer: TestIssuer,
    authorization: String,
}

/// What a client reads.
struct Reader {
    body: Body,
    read: VecDeque<Told>,
}

#[derive(Clone, Debug, PartialEq)]
struct Told {
    event: String,
    id: Option<String>,
    data: Value,
}

impl Broker {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let issuer = TestIssuer::with(options).await;
        let authorization = basic("site", &issuer.add_broker("site", "mqtt", Profile::Fleetbadge).await);
        Self { issuer, authorization }
    }

    fn request(&self, last_event_id: Option<&str>) -> Request<Body> {
        let mut request =
            Request::get("/oauth2/revocations").header(header::AUTHORIZATION, &self.authorization);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        request.body(Body::empty()).unwrap()
    }

    async fn follow(&self, last_event_id: Option<&str>) -> Reader {
        let router = router::public(self.issuer.app());
        let response = router.oneshot(self.request(last_event_id)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Reader { body: response.into_body(), read: VecDeque::new() }
    }

    async fn refused(&self, request: Request<Body>) -> (u16, String) {
        let answer: Answer = ask(router::public(self.issuer.app()), request).await;
        (answer.status.as_u16(), answer.error())
    }

    async fn revoke(&self, what: Value) {
        let answer = self.issuer.admin(Method::POST, "/admin/v1/revocations", Some(what)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json());
    }

    async fn write(&self, count: u32) {
        let token = |n: u32| Revocation::of_token(&n.to_string(), NOW.plus(1_000));
        let app = self.issuer.app();
        app.store.revoke(&(0..count).map(token).collect::<Vec<_>>()).await.unwrap();
        app.node.catch_up(&app).await.unwrap();
    }
}

impl Reader {
    /// The next event; None at the end.
    async fn next(&mut self) -> Option<Told> {
        if self.read.is_empty() {
            self.read = self.write().await?.into();
        }
        self.read.pop_front()
    }

    /// The events that are written together; None at the end.
    async fn write(&mut self) -> Option<Vec<Told>> {
        assert!(self.read.is_empty());
        let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.unwrap()?;
        let written = frame.unwrap().into_data().unwrap();
        let events = std::str::from_utf8(&written).unwrap().strip_suffix("\n\n").unwrap();
        Some(events.split("\n\n").map(parse).collect())
    }

    /// The next event that is no heartbeat: the first of those comes at once.
    async fn news(&mut self) -> Option<Told> {
        loop {
            let told = self.next().await?;
            if told.event != "heartbeat" {
                return Some(told);
            }
        }
    }

    async fn is_silent(&mut self) {
        assert!(tokio::time::timeout(Duration::from_millis(300), self.news()).await.is_err());
    }
}

fn parse(event: &str) -> Told {
    let mut told = Told { event: String::new(), id: None, data: Value::Null };
    for line in event.lines() {
        match line.split_once(": ").unwrap() {
            ("event", name) => told.event = name.into(),
            ("id", id) => told.id = Some(id.into()),
            ("data", data) => told.data = serde_json::from_str(data).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    told
}

#[tokio::test]
async fn a_snapshot_and_then_what_happens() {
    let broker = Broker::new().await;
    let secret = broker.issuer.add("pump", &[]).await;
    let mut reader = broker.follow(None).await;
    let first = reader.news().await.unwrap();
    assert_eq!((&*first.event, &first.data), ("snapshot", &json!({"revocations": [], "more": false})));
    let epoch = first.id.as_deref().unwrap().strip_suffix("-0").unwrap();

    broker.revoke(json!({"device": "pump"})).await;
    let told = reader.news().await.unwrap();
    let (before, expires_at) = (NOW.plus(1), NOW.plus(1 + 86_400 + 300));
    let data = json!({"device": "pump", "before": before, "expires_at": expires_at});
    assert_eq!((&*told.event, &told.data), ("revocation", &data));
    assert!(told.id.unwrap().starts_with(&format!("{epoch}-")));
    // Disabling is one, too, and so is what a device says itself.
    broker.issuer.clock.advance(1);
    let token = broker.issuer.token("pump", &secret, "").await.json()["access_token"].clone();
    let body = format!("token={}&client_id=pump&client_secret={secret}", token.as_str().unwrap());
    let request = Request::post("/oauth2/revoke").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert_eq!(broker.issuer.public(request.body(body.into()).unwrap()).await.status, StatusCode::OK);
    assert!(reader.news().await.unwrap().data["jti"].is_string());
    broker.issuer.admin(Method::POST, "/admin/v1/devices/pump/disable", None).await;
    assert_eq!(reader.news().await.unwrap().data["before"], json!(NOW.plus(2)));
    reader.is_silent().await;

    let mut later = broker.follow(None).await;
    let snapshot = later.news().await.unwrap();
    assert_eq!(snapshot.data["revocations"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn whoever_comes_back_is_told_what_it_missed() {
    let broker = Broker::new().await;
    broker.write(5).await;
    let id = broker.follow(None).await.news().await.unwrap().id.unwrap();
    let mut back = broker.follow(Some(&id)).await;
    back.is_silent().await;
    broker.revoke(json!({"group": "default"})).await;
    let told = back.news().await.unwrap();
    assert_eq!((&*told.event, &told.data["group"]), ("revocation", &json!("default")));
    let mut late = broker.follow(Some(&id)).await;
    assert_eq!(late.news().await, Some(told));
    late.is_silent().await;
    // After a restart, too.
    let (epoch, number) = id.rsplit_once('-').unwrap();
    let earlier = format!("{epoch}-{}", number.parse::<u64>().unwrap() - 2);
    let broker = Broker { issuer: broker.issuer.restart().await, ..broker };
    let missed = broker.follow(Some(&earlier)).await.news().await.unwrap();
    assert_eq!((missed.event.as_str(), missed.data["jti"].as_str()), ("revocation", Some("3")));
}

#[tokio::test]
async fn an_id_that_says_nothing_here_begins_anew() {
    let broker = Broker::new().await;
    broker.write(5).await;
    let id = broker.follow(None).await.news().await.unwrap().id.unwrap();
    let (epoch, number) = id.rsplit_once('-').unwrap();
    let next = number.parse::<u64>().unwrap() + 1;
    for id in [
        "",
        "-",
        "x",
        number,
        epoch,
        &format!("{epoch}-"),
        &format!("{epoch}-+1"),
        &format!("{epoch}-0{number}"),
        &format!("{epoch}--1"),
        &format!("{epoch}-{next}"),
        &format!("{epoch}-99999999999999999999999"),
        &format!("another{epoch}-{number}"),
        &format!("{epoch}_1-{number}"),
        &format!("{}-{number}", epoch.to_uppercase()),
    ] {
        let told = broker.follow(Some(id)).await.news().await.unwrap();
        assert_eq!(told.event, "snapshot", "{id}");
        assert_eq!(told.data["revocations"].as_array().unwrap().len(), 5, "{id}");
    }
    let mut twice = broker.request(Some(&id));
    twice.headers_mut().append("last-event-id", id.parse().unwrap());
    let response = router::public(broker.issuer.app()).oneshot(twice).await.unwrap();
    let mut reader = Reader { body: response.into_body(), read: VecDeque::new() };
    assert_eq!(reader.news().await.unwrap().event, "snapshot");
}

/// While a large snapshot is being read, others are added and replaced.
#[tokio::test]
async fn a_snapshot_comes_in_parts_and_misses_nothing() {
    let broker = Broker::new().await;
    broker.write(3_500).await;
    let mut reader = broker.follow(None).await;
    let mut known = Vec::new();
    for part in 0..5_u32 {
        let told = reader.news().await.unwrap();
        assert_eq!(told.event, "snapshot");
        let snapshot: Snapshot = serde_json::from_value(told.data).unwrap();
        assert!(snapshot.revocations.len() <= Snapshot::MAX_LENGTH);
        known.extend(snapshot.revocations);
        assert_eq!((snapshot.more, told.id.is_some()), (part < 3, part == 3));
        if !snapshot.more {
            break;
        }
        let (was_told, was_not) = (part.to_string(), (3_499 - part).to_string());
        let app = broker.issuer.app();
        for jti in [&*was_told, &was_not, &format!("new-{part}")] {
            app.store.revoke(&[Revocation::of_token(jti, NOW.plus(2_000))]).await.unwrap();
        }
        app.node.catch_up(&app).await.unwrap();
    }
    let known: Revocations = known.into_iter().collect();
    assert_eq!(known, *broker.issuer.app().revocations.current());
}

#[tokio::test]
async fn only_brokers_are_told() {
    let broker = Broker::new().await;
    let device = basic("pump", &broker.issuer.add("pump", &[]).await);
    let with = |authorization: &str| {
        Request::get("/oauth2/revocations")
            .header(header::AUTHORIZATION, authorization)
            .body(Body::empty())
            .unwrap()
    };
    let invalid_client = (401, "invalid_client".to_owned());
    let nobody = Request::get("/oauth2/revocations").body(Body::empty()).unwrap();
    assert_eq!(broker.refused(nobody).await, invalid_client);
    for wrong in [&basic("site", "fbs_wrong"), &basic("other", "x"), "Bearer x"] {
        assert_eq!(broker.refused(with(wrong)).await, invalid_client, "{wrong}");
    }
    assert_eq!(broker.refused(with(&device)).await, (403, "unauthorized_client".into()));
    let mut in_url = broker.request(None);
    *in_url.uri_mut() = "/oauth2/revocations?client_id=site".parse().unwrap();
    assert_eq!(broker.refused(in_url).await, (400, "invalid_request".into()));
    broker.issuer.app().brokers.remove("site", &broker.issuer.app().groups).await.unwrap();
    assert_eq!(broker.refused(broker.request(None)).await, invalid_client);
}

#[tokio::test]
async fn a_broker_has_so_many_places_and_gives_them_back() {
    let broker = Broker::new().await;
    let mut readers = Vec::new();
    for _ in 0..MAX_FEEDS_PER_BROKER {
        readers.push(broker.follow(None).await);
    }
    assert_eq!(broker.refused(broker.request(None)).await, (429, "slow_down".into()));
    // Another broker has its own.
    let other = basic("other", &broker.issuer.add_broker("other", "other", Profile::Fleetbadge).await);
    let request = Request::get("/oauth2/revocations").header(header::AUTHORIZATION, other);
    let answer = broker.issuer.public(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    readers.pop();
    broker.follow(None).await;
    readers.clear();
    assert!(broker.issuer.app().feeds.by_broker.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_heartbeat_tells_that_all_is_told_until_the_secret_is_gone() {
    let broker = Broker::new().await;
    let mut reader = broker.follow(None).await;
    let beat = Told { event: "heartbeat".into(), id: None, data: json!({"now": NOW}) };
    let beats = [beat.clone()];
    let first = reader.write().await.unwrap();
    assert_eq!((&*first[0].event, &first[1..]), ("snapshot", &beats[..]), "at once");
    let mut back = broker.follow(first[0].id.as_deref()).await;
    assert_eq!(back.write().await.unwrap(), beats, "also for whoever comes back");
    assert_eq!(reader.write().await.unwrap(), beats, "and again");

    // A flood is no reason to leave it out, and it never comes before what it
    // says is told.
    tokio::time::sleep(Duration::from_secs(Heartbeat::EVERY_S)).await;
    broker.write(1_500).await;
    let [first, second] = [reader.write().await.unwrap(), reader.write().await.unwrap()];
    let is_revocation = |told: &Told| told.event == "revocation";
    assert!(first.len() == Snapshot::MAX_LENGTH && first.iter().all(is_revocation), "{}", first.len());
    let (last, before) = second.split_last().unwrap();
    assert!(before.len() == 500 && before.iter().all(is_revocation), "{}", before.len());
    assert_eq!(*last, beat);

    let shown = broker.issuer.admin(Method::GET, "/admin/v1/brokers/site/secrets", None).await.json();
    let path = format!("/admin/v1/brokers/site/secrets/{}", shown[0]["id"].as_str().unwrap());
    assert_eq!(broker.issuer.admin(Method::DELETE, &path, None).await.status, StatusCode::OK);
    assert_eq!(reader.news().await, None);
}

#[tokio::test]
async fn the_end_of_the_server_ends_it_and_so_does_the_end_of_the_broker() {
    let broker = Broker::new().await;
    let mut ended = broker.follow(None).await;
    ended.news().await.unwrap();
    let app = broker.issuer.app();
    app.brokers.remove("site", &app.groups).await.unwrap();
    assert_eq!(ended.news().await, None);

    let broker = Broker::new().await;
    let mut reader = broker.follow(None).await;
    reader.news().await.unwrap();
    broker.issuer.app().feeds.end();
    assert_eq!(reader.news().await, None);
    assert_eq!(broker.follow(None).await.news().await, None);
}

/// A node that cannot hear of the others neither issues tokens nor says that
/// nothing happened: its clients go to another one.
#[tokio::test]
async fn a_node_that_is_not_current_sends_everybody_away() {
    let broker = Broker::with(Options { propagation_bound_s: Some(2), ..Options::default() }).await;
    let secret = broker.issuer.add("pump", &[]).await;
    let mut reader = broker.follow(None).await;
    reader.news().await.unwrap();
    assert_eq!(broker.issuer.token("pump", &secret, "").await.status, StatusCode::OK);
    broker.issuer.break_log_of_changes().await;
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    let answer = broker.issuer.token("pump", &secret, "").await;
    assert_eq!((answer.status.as_u16(), answer.error()), (503, "temporarily_unavailable".into()));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(broker.refused(broker.request(None)).await, (503, "temporarily_unavailable".into()));
    assert_eq!(reader.news().await, None);
}

/// The promise is 100 ms from the answer to the event.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "measures")]
async fn an_event_is_there_soon_after_the_answer() {
    let broker = Broker::new().await;
    broker.write(1_000).await;
    let mut reader = broker.follow(None).await;
    reader.news().await.unwrap();
    let mut took = Vec::new();
    for n in 0..21 {
        broker.issuer.add(&format!("pump-{n}"), &[]).await;
        broker.revoke(json!({"device": format!("pump-{n}")})).await;
        let answered = Instant::now();
        assert_eq!(reader.news().await.unwrap().data["device"], format!("pump-{n}"));
        took.push(answered.elapsed());
    }
    took.sort_unstable();
    println!("from the answer to the event: median {:?}, longest {:?}", took[10], took[20]);
    assert!(took[10] < Duration::from_millis(100), "{took:?}");
}
