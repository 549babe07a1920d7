use fleetbadge_validator::freshness::Freshness;
use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::revocations::{Revocation, RevocationState};
use fleetbadge_validator::verify::{VerifiedToken, Verifier};
use http::{Method, StatusCode};
use serde_json::Value;

use super::*;
use crate::config::Options;
use crate::test_support::{Answer, ISSUER, NOW, TestIssuer};

const DAYS: u64 = 2 * 86_400;

/// With a device whose token was taken back, the key that signed it retired, and
/// the time written.
async fn with_revocation() -> (TestIssuer, VerifiedToken) {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let secret = issuer.add("pump-1", &[]).await;
    let token = issuer.verify(&issuer.token("pump-1", &secret, "").await, "pump-1").unwrap();
    app.revoke(app.revoker.device("pump-1")).await.unwrap();
    app.keys.rotate(None, true, app.now()).await.unwrap();
    app.tick().await;
    (issuer, token)
}

/// What a wrong clock must not end.
async fn check_all_is_kept(issuer: &TestIssuer, token: &VerifiedToken) {
    let app = issuer.app();
    assert!(app.revocations.current().find_signed(token.signed()).is_some());
    assert_eq!(app.store.revocations(0, 9).await.unwrap().len(), 1);
    let keys = app.store.signing_keys().await.unwrap().keys;
    assert!(keys.iter().any(|key| key.kid == token.signed().key_id()), "{keys:?}");
}

#[tokio::test]
async fn a_start_by_a_clock_that_is_ahead_ends_nothing() {
    let (mut issuer, token) = with_revocation().await;
    for ahead_s in [7_200, DAYS, 365 * 86_400] {
        issuer.clock.set(NOW.plus(ahead_s));
        issuer = issuer.restart().await;
        for _ in 0..3 {
            issuer.app().tick().await;
            issuer.clock.advance(1);
        }
        check_all_is_kept(&issuer, &token).await;
        assert_eq!(issuer.app().store.changes(0).await.unwrap().clock_high, NOW);
        // Put right, it is not even behind, and all is as it was.
        issuer.clock.set(NOW.plus(3));
        issuer.app().tick().await;
        assert_eq!(issuer.app().node.check_current(issuer.app().now()), Ok(()));
        check_all_is_kept(&issuer, &token).await;
        let published = String::from_utf8(issuer.app().keys.current().jwks.to_vec()).unwrap();
        assert!(published.contains(token.signed().key_id()), "{published}");
    }
}

#[tokio::test]
async fn a_jump_of_a_few_seconds_ends_nothing() {
    let (issuer, token) = with_revocation().await;
    let app = issuer.app();
    assert!(app.keys.timing().publish_retired_s < DAYS);
    issuer.clock.set(NOW.plus(DAYS));
    for _ in 0..4 {
        app.tick().await;
        issuer.clock.advance(1);
    }
    check_all_is_kept(&issuer, &token).await;
    issuer.clock.set(NOW.plus(4));
    app.tick().await;
    check_all_is_kept(&issuer, &token).await;
}

/// What is forgotten has ended by any clock that is not refused.
#[tokio::test]
async fn what_has_ended_is_forgotten_once_the_skew_has_passed_too() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let skew_s = issuer.issuer.config().skew_s;
    app.store.revoke(&[Revocation::of_token("j", NOW)]).await.unwrap();
    for (later_s, left) in [(0, 1), (skew_s, 1), (skew_s + 1, 1), (skew_s + 6, 0)] {
        issuer.clock.set(NOW.plus(later_s));
        app.tick().await;
        assert_eq!(app.store.revocations(0, 9).await.unwrap().len(), left, "{later_s}");
    }
}

async fn accept(issuer: &TestIssuer) -> Value {
    let accepted = issuer.admin(Method::POST, "/admin/v1/clock/accept", Some(serde_json::json!({}))).await;
    assert_eq!(accepted.status, StatusCode::OK);
    accepted.json()
}

async fn kids(issuer: &TestIssuer) -> Vec<String> {
    issuer.app().store.signing_keys().await.unwrap().keys.into_iter().map(|key| key.kid).collect()
}

/// Whether somebody lets a token in who has the keys of before, and hears what
/// is taken back now.
fn is_let_in(issuer: &TestIssuer, answer: &Answer, keys: &KeySet) -> bool {
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let app = issuer.app();
    let freshness = Freshness { confirmed_at: app.now(), max_staleness_s: 60 };
    let revocations = RevocationState::Known { revocations: app.revocations.current(), freshness };
    Verifier::new(ISSUER, "mqtt").verify(&token, "pump-1", keys, &revocations, app.now()).is_ok()
}

/// It has worked at a time that is to come, for long, and may have forgotten
/// what was taken back.
#[tokio::test]
async fn going_back_takes_back_what_there_is_and_what_is_of_the_time_to_come() {
    let issuer = TestIssuer::at(NOW.plus(DAYS), Options::default()).await;
    let app = issuer.app();
    let secret = issuer.add("pump-1", &[]).await;
    let of_later = issuer.token("pump-1", &secret, "").await;
    app.revoke(app.revoker.all()).await.unwrap();
    app.tick().await;
    let (old_kids, old_keys) = (kids(&issuer).await, issuer.issuer.key_source().current());
    let epoch = app.store.changes(0).await.unwrap().epoch;

    issuer.clock.set(NOW);
    app.tick().await;
    assert!(matches!(app.node.check_current(NOW), Err(NotCurrent::ClockBehind { .. })));
    let shown = issuer.admin(Method::GET, "/admin/v1/clock", None).await.json();
    assert_eq!(shown["held_up"][0]["target"], "everything");
    let accepted = accept(&issuer).await;
    assert_eq!((&accepted["refused"], accepted["held_up"].as_array().unwrap().len()), (&Value::Null, 0));
    assert_ne!(app.store.changes(0).await.unwrap().epoch, epoch, "validators are told anew");
    assert!(kids(&issuer).await.iter().all(|kid| !old_kids.contains(kid)));
    // The same for whoever is told by the feed, however long that takes.
    issuer.clock.advance(2);
    let token = issuer.token("pump-1", &secret, "").await;
    assert_eq!(token.status, StatusCode::OK, "nothing keeps it out until the later time");
    assert!(is_let_in(&issuer, &token, &issuer.issuer.key_source().current()));
    issuer.clock.set(NOW.plus(DAYS + 10));
    app.tick().await;
    assert!(!is_let_in(&issuer, &of_later, &old_keys));
}

/// One that was ahead for a moment has ended nothing, but what was taken back
/// then keeps devices out.
#[tokio::test]
async fn what_was_revoked_at_a_later_time_is_said_and_ends_when_the_clock_is_accepted() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let secret = issuer.add("pump-1", &[]).await;
    app.tick().await;
    let kids_before = kids(&issuer).await;
    accept(&issuer).await;
    assert_eq!(kids(&issuer).await, kids_before, "nothing was to be accepted");
    assert_eq!(app.store.revocations(0, 9).await.unwrap(), []);

    issuer.clock.set(NOW.plus(3_600));
    app.tick().await;
    app.revoke(app.revoker.device("pump-1")).await.unwrap();
    issuer.clock.set(NOW.plus(1));
    app.tick().await;
    let refused = issuer.token("pump-1", &secret, "").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let shown = issuer.admin(Method::GET, "/admin/v1/clock", None).await.json();
    assert_eq!(shown["refused"], Value::Null);
    assert_eq!(shown["held_up"][0]["target"], "device \"pump-1\"");
    assert_eq!(shown["held_up"][0]["until"], NOW.plus(3_601).0);
    let shown = accept(&issuer).await;
    assert_eq!(shown["held_up"].as_array().unwrap().len(), 0);
    issuer.clock.advance(2);
    assert_eq!(issuer.token("pump-1", &secret, "").await.status, StatusCode::OK);
    assert!(kids(&issuer).await.iter().all(|kid| !kids_before.contains(kid)));
}

/// A token of seven days is about, and the settings allow one day now.
#[tokio::test]
async fn what_is_taken_back_stays_so_whatever_the_settings_become() {
    const WEEK_S: u64 = 7 * 86_400;
    let issuer = TestIssuer::with(Options { max_token_lifetime_s: Some(WEEK_S), ..Options::default() }).await;
    let issuer = issuer.restart_with(|config| config.max_token_lifetime_s = 86_400).await;
    let app = issuer.app();
    issuer.add("pump-1", &[]).await;
    let disable = issuer.admin(Method::POST, "/admin/v1/devices/pump-1/disable", None).await;
    assert_eq!(disable.status, StatusCode::OK);
    let written = app.store.revocations(0, 9).await.unwrap();
    assert!(written[0].revocation.expires_at > NOW.plus(WEEK_S), "{written:?}");
}
