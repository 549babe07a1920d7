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
