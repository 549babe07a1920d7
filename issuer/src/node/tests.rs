use fleetbadge_tests::postgres::SHARED;
use fleetbadge_validator::time::{Clock as _, SystemClock};
use http::StatusCode;

use super::*;
use crate::config::Options;
use crate::test_support::TestIssuer;

async fn on_postgres() -> (TestIssuer, String) {
    let database = Some(SHARED.database().parse().unwrap());
    let issuer = TestIssuer::at(SystemClock.now(), Options { database, ..Options::default() }).await;
    let secret = issuer.add("pump-1", &[]).await;
    (issuer, secret)
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn with_another_clock_than_the_database_nothing_is_issued() {
    let (issuer, secret) = on_postgres().await;
    let app = issuer.app();
    assert_eq!(issuer.token("pump-1", &secret, "").await.status, StatusCode::OK);
    for wrong in [SystemClock.now().plus(5), SystemClock.now().minus(5)] {
        issuer.clock.set(wrong);
        app.node.catch_up(&app).await.unwrap();
        assert_eq!(app.node.check_current(app.now()), Err(NotCurrent::ClockDiffers));
        let refused = issuer.token("pump-1", &secret, "").await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.header("retry-after"), Some("1"));
        let ready = issuer.ops("/readyz").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(String::from_utf8(ready.body).unwrap().contains("clocks"));
        let accepted = app.node.accept_clock(&app).await;
        assert!(matches!(accepted, Err(AcceptClockError::Differs(_))), "{accepted:?}");
        // A second is within what clocks may differ by.
        issuer.clock.set(SystemClock.now().plus(1));
        app.node.catch_up(&app).await.unwrap();
        assert_eq!(issuer.token("pump-1", &secret, "").await.status, StatusCode::OK);
        assert_eq!(issuer.ops("/readyz").await.status, StatusCode::OK);
    }
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn among_several_a_revocation_reaches_beyond_the_bound() {
    let (issuer, _) = on_postgres().await;
    let now = issuer.clock.now();
    let bound_s = issuer.issuer.config().propagation_bound_s;
    let before = issuer.app().revoker.device("pump-1").before().unwrap();
    assert_eq!(before, now.plus(bound_s + 2 * MAX_CLOCK_DIFFERENCE_S + 1));
    let alone = TestIssuer::new().await;
    assert_eq!(alone.app().revoker.device("pump-1").before().unwrap(), alone.clock.now().plus(1));
}

/// Each feed that connects and each change asks what there is: together, once.
#[tokio::test]
async fn those_who_wait_together_ask_once_and_not_for_ever() {
    let options = Options { propagation_bound_s: Some(2), ..Options::default() };
    let issuer = TestIssuer::with(options).await;
    let app = issuer.app();
    let held = app.node.followed.lock().await;
    let begun = app.node.begun.load(Ordering::Acquire);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let app = Arc::clone(&app);
            tokio::spawn(async move { app.node.catch_up(&app).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(held);
    for one in waiting {
        one.await.unwrap().unwrap();
    }
    // The node itself asks too.
    assert!(app.node.begun.load(Ordering::Acquire) - begun < 10);

    let held = app.node.followed.lock().await;
    let refused = app.node.catch_up(&app).await;
    assert!(matches!(refused, Err(FollowError::TooSlow(_))), "{refused:?}");
    drop(held);
    app.node.catch_up(&app).await.unwrap();
}

#[tokio::test]
async fn the_metrics_say_what_a_node_is() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let values = async || {
        let text = String::from_utf8(issuer.ops("/metrics").await.body).unwrap();
        let names = [
            "node_current",
            "clock_refused",
            "revocation_feeds",
            "revocations",
            "last_backup_timestamp_seconds",
        ];
        names.map(|name| {
            let start = format!("fleetbadge_{name} ");
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&start))
                .unwrap_or_else(|| panic!("{name}: {text}"));
            line.parse::<f64>().unwrap()
        })
    };
    assert_eq!(values().await, [1.0, 0.0, 0.0, 0.0, 0.0]);
    app.revoke(app.revoker.token_id("j")).await.unwrap();
    assert_eq!(issuer.admin(http::Method::GET, "/admin/v1/backup", None).await.status, StatusCode::OK);
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let now = app.now().0 as f64;
    assert_eq!(values().await, [1.0, 0.0, 0.0, 1.0, now]);
    app.store.reach_clock(app.now().plus(100)).await.unwrap();
    app.node.catch_up(&app).await.unwrap();
    assert_eq!(values().await[..2], [0.0, 1.0]);
}
