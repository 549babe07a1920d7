use axum::body::Body;
use http::{Request, header};

use super::*;
use crate::client_secrets::MAX_SECRET_LIFETIME_S;
use crate::credentials::MAX_SECRETS;
use crate::profile::Profile;
use crate::test_support::{NOW, TestIssuer, basic};

/// What a broker gets that asks about a token: 200, or 401 if the secret is
/// not good.
async fn status(issuer: &TestIssuer, secret: &str) -> u16 {
    let request = Request::post("/oauth2/introspect")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::AUTHORIZATION, basic("site-1", secret))
        .body(Body::from("token=x"));
    issuer.public(request.unwrap()).await.status.as_u16()
}

async fn add(issuer: &TestIssuer, expires_in_s: Option<u64>) -> Result<String, BrokerError> {
    let app = issuer.app();
    let maker = app.devices.secret_maker();
    let (_, added) = app.brokers.add_secret("site-1", expires_in_s, maker, app.now()).await?;
    Ok(added.secret.expose().into())
}

async fn rotate(issuer: &TestIssuer, overlap_s: u64) -> Result<String, BrokerError> {
    let app = issuer.app();
    let maker = app.devices.secret_maker();
    let (_, rotated) = app.brokers.rotate_secret("site-1", overlap_s, maker, app.now()).await?;
    Ok(rotated.added.secret.expose().into())
}

fn ends(issuer: &TestIssuer) -> Vec<Option<UnixSeconds>> {
    let broker = issuer.app().brokers.find("site-1").unwrap();
    broker.secrets.iter().map(|secret| secret.expires_at).collect()
}

async fn issuer() -> (TestIssuer, String) {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add_broker("site-1", "mqtt", Profile::Fleetbadge).await;
    (issuer, secret)
}

#[tokio::test]
async fn the_old_secret_is_good_during_the_overlap_and_not_after_it() {
    let (issuer, old) = issuer().await;
    let new = rotate(&issuer, 60).await.unwrap();
    assert_eq!(ends(&issuer), [Some(NOW.plus(60)), None]);
    issuer.clock.advance(59);
    assert_eq!((status(&issuer, &old).await, status(&issuer, &new).await), (200, 200));
    // Neither does a restart end it, nor a second rotation prolong it.
    let issuer = issuer.restart().await;
    assert_eq!((status(&issuer, &old).await, status(&issuer, &new).await), (200, 200));
    let newest = rotate(&issuer, 3600).await.unwrap();
    issuer.clock.advance(1);
    for (secret, expected) in [(&old, 401), (&new, 200), (&newest, 200)] {
        assert_eq!(status(&issuer, secret).await, expected);
    }
    // Without overlap the others end at once, and for good.
    let last = rotate(&issuer, 0).await.unwrap();
    assert_eq!(ends(&issuer), [None]);
    let issuer = issuer.restart().await;
    for (secret, expected) in [(&old, 401), (&new, 401), (&newest, 401), (&last, 200)] {
        assert_eq!(status(&issuer, secret).await, expected);
    }
}

#[tokio::test]
async fn several_are_good_each_to_its_own_end_and_a_removed_one_no_more() {
    let (issuer, first) = issuer().await;
    let second = add(&issuer, Some(60)).await.unwrap();
    issuer.add_broker("site-2", "mqtt", Profile::Fleetbadge).await;
    issuer.add("pump-1", &[]).await;
    assert_eq!((status(&issuer, &first).await, status(&issuer, &second).await), (200, 200));

    let brokers = &issuer.app().brokers;
    let id = brokers.find("site-1").unwrap().secrets[0].id.clone();
    assert_eq!(brokers.remove_secret("site-1", id.as_str()).await.unwrap().secrets.len(), 1);
    assert_eq!((status(&issuer, &first).await, status(&issuer, &second).await), (401, 200));
    for name in ["site-1", "site-2"] {
        let refused = brokers.remove_secret(name, id.as_str()).await.unwrap_err();
        assert!(matches!(refused, BrokerError::Secret(SecretError::NoSuchSecret { .. })), "{refused}");
    }
    // A device is no broker.
    for name in ["site-9", "pump-1"] {
        let refused = brokers.remove_secret(name, id.as_str()).await.unwrap_err();
        assert!(matches!(refused, BrokerError::NoSuchBroker { .. }), "{refused}");
    }
    issuer.clock.advance(60);
    assert_eq!(status(&issuer, &second).await, 401);
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let (issuer, first) = issuer().await;
    for wrong in [0, MAX_SECRET_LIFETIME_S + 1, u64::MAX] {
        let refused = add(&issuer, Some(wrong)).await.unwrap_err().to_string();
        assert!(refused.starts_with("expires_in_s: "), "{refused}");
    }
    let refused = rotate(&issuer, MAX_SECRET_LIFETIME_S + 1).await.unwrap_err().to_string();
    assert!(refused.starts_with("overlap_s: "), "{refused}");
    for _ in 1..MAX_SECRETS {
        add(&issuer, None).await.unwrap();
    }
    for refused in [rotate(&issuer, 60).await, add(&issuer, None).await] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, BrokerError::Secret(SecretError::TooMany)), "{refused}");
    }
    assert_eq!(ends(&issuer), [None; MAX_SECRETS]);
    assert_eq!(status(&issuer, &first).await, 200);
    // One that ends the others at once makes room.
    rotate(&issuer, 0).await.unwrap();
    assert_eq!(ends(&issuer), [None]);
}

/// Each changes what the other leaves, or a secret that was shown would be
/// good for nothing.
#[tokio::test]
async fn changes_at_the_same_time_are_all_made() {
    let (issuer, _) = issuer().await;
    let (one, two, three) = tokio::join!(add(&issuer, None), rotate(&issuer, 60), add(&issuer, Some(60)));
    let issuer = issuer.restart().await;
    for secret in [one, two, three] {
        assert_eq!(status(&issuer, &secret.unwrap()).await, 200);
    }
}
