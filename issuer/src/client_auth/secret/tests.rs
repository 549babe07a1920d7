//! Secrets that people chose: how they are checked, and what guessing at them
//! costs and tells. `endpoints/token` has the rest.

use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::started::Started;
use crate::store::DeviceStatus;
use crate::test_support::{Answer, TestIssuer};

const CHOSEN: &str = "a secret that people chose";

/// An issuer whose `pump-1` has an imported secret. `pump-2` is disabled and
/// has one, `pump-3` has none.
async fn with_pumps() -> TestIssuer {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    for name in ["pump-1", "pump-2", "pump-3"] {
        issuer.add(name, &[]).await;
    }
    for name in ["pump-1", "pump-2"] {
        let secret = ClientSecret::presented(CHOSEN.into());
        app.devices.import_secret(name, secret, &app.imported_secrets, None, app.now()).await.unwrap();
    }
    app.devices.set_status("pump-2", DeviceStatus::Disabled).await.unwrap();
    issuer
}

fn seen(answer: &Answer) -> (StatusCode, &[u8], Option<&str>) {
    (answer.status, &answer.body, answer.header("www-authenticate"))
}

#[tokio::test]
async fn whoever_guesses_cannot_tell_unknown_wrong_and_disabled_apart() {
    let issuer = with_pumps().await;
    let unknown = issuer.token("pump-9", CHOSEN, "").await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    for (name, secret) in [
        ("pump-1", "a secret that nobody chose"),
        ("pump-1", "a secret that people chos"),
        ("pump-1", "a secret that people chose "),
        ("pump-1", "x"),
        ("pump-2", CHOSEN),
        ("pump-2", "a secret that nobody chose"),
        ("pump-3", CHOSEN),
        ("no name", CHOSEN),
        ("", CHOSEN),
    ] {
        assert_eq!(seen(&issuer.token(name, secret, "").await), seen(&unknown), "{name}, {secret}");
    }
}

/// The time of a no says nothing: each of these holds its turn until the time
/// of all of them, and what has our prefix takes none.
#[tokio::test]
async fn every_guess_takes_a_turn_and_holds_it_whatever_is_behind_the_name() {
    let issuer = with_pumps().await;
    let app = issuer.app();
    let cores = app.imported_secrets.free_turns();
    // Once right: remembered, the secret of a disabled device all the same.
    issuer.token("pump-1", CHOSEN, "").await;
    issuer.token("pump-2", CHOSEN, "").await;
    for (name, secret) in
        [("pump-1", "x"), ("pump-2", "x"), ("pump-2", CHOSEN), ("pump-3", "x"), ("pump-9", "x")]
    {
        let before = app.imported_secrets.turns_taken();
        let began = Started::now();
        assert_eq!(issuer.token(name, secret, "").await.status, StatusCode::UNAUTHORIZED);
        assert!(began.elapsed() >= CHOSEN_REFUSAL_DELAY, "{name}, {secret}");
        assert_eq!(app.imported_secrets.turns_taken(), before + 1, "{name}, {secret}");
    }
    for secret in ["fbs_x", "fbp_x", "fbe_x"] {
        let before = app.imported_secrets.turns_taken();
        assert_eq!(issuer.token("pump-1", secret, "").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(app.imported_secrets.turns_taken(), before, "{secret}");
    }
    assert_eq!(app.imported_secrets.free_turns(), cores);
}

#[tokio::test]
async fn a_secret_that_was_right_costs_no_slow_hash_again() {
    let issuer = with_pumps().await;
    let app = issuer.app();
    assert_eq!(issuer.token("pump-1", CHOSEN, "").await.status, StatusCode::OK);
    let before = app.imported_secrets.turns_taken();
    for _ in 0..10 {
        assert_eq!(issuer.token("pump-1", CHOSEN, "").await.status, StatusCode::OK);
    }
    assert_eq!(app.imported_secrets.turns_taken(), before);
    // Remembered of what the device has: gone with it.
    let device = app.devices.get("pump-1").await.unwrap();
    let [_, imported] = device.credentials.secrets.as_slice() else { panic!("{device:?}") };
    app.devices.remove_secret("pump-1", imported.id.as_str()).await.unwrap();
    assert_eq!(issuer.token("pump-1", CHOSEN, "").await.status, StatusCode::UNAUTHORIZED);
}

/// The flood that would eat the machine: guesses wait for each other, at last
/// in vain; secrets that were made here, and chosen ones that are remembered,
/// do not wait for them.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_keep_neither_the_machine_busy_nor_others_out() {
    let issuer = with_pumps().await;
    let app = issuer.app();
    let made = app.devices.add_secret("pump-3", None, app.now()).await.unwrap().secret;
    assert_eq!(issuer.token("pump-1", CHOSEN, "").await.status, StatusCode::OK);
    let mut held = Vec::new();
    while app.imported_secrets.free_turns() > 0 {
        held.push(app.imported_secrets.turn().await.unwrap());
    }
    for (name, secret) in [("pump-1", CHOSEN), ("pump-3", made.expose())] {
        assert_eq!(issuer.token(name, secret, "").await.status, StatusCode::OK, "{name}");
    }
    for name in ["pump-1", "pump-2", "pump-3", "pump-9"] {
        let crowded = issuer.token(name, "a guess among many", "").await;
        assert_eq!(crowded.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
        assert_eq!(crowded.error(), "temporarily_unavailable");
        assert_eq!(crowded.header("retry-after"), Some("5"));
    }
    // Whoever waits gets the next turn.
    let waiting = tokio::time::timeout(Duration::from_secs(20), issuer.token("pump-1", "a guess", ""));
    let free = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        held.clear();
    };
    let (answer, ()) = tokio::join!(waiting, free);
    assert_eq!(answer.unwrap().status, StatusCode::UNAUTHORIZED);
}

/// A client that hangs up must not free its turn while its hash is still made.
#[tokio::test]
async fn hanging_up_ends_no_turn_before_its_work() {
    let issuer = with_pumps().await;
    let app = issuer.app();
    let all = app.imported_secrets.free_turns();
    let turn = app.imported_secrets.turn().await.unwrap();
    let secrets = app.devices.get("pump-1").await.unwrap().credentials.secrets;
    let guess = app.devices.hasher().presented("pump-1", &ClientSecret::presented("x".into()));
    let mut find = Box::pin(app.imported_secrets.find(&turn, &secrets, &guess, app.now()));
    // Begun, then dropped.
    assert!(is_pending_once(&mut find).await);
    drop(find);
    drop(turn);
    assert_eq!(app.imported_secrets.free_turns(), all - 1);
    while app.imported_secrets.free_turns() < all {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Polls once; whether it is not done.
async fn is_pending_once(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
    })
    .await
}
