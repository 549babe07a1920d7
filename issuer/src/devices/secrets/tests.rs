use super::*;
use crate::client_secrets::MAX_SECRET_LIFETIME_S;
use crate::credentials::{MAX_IMPORTED_SECRETS, MAX_SECRETS};
use crate::test_support::{NOW, TestIssuer};

const CHOSEN: &str = "a secret that people chose";

async fn status(issuer: &TestIssuer, secret: &str) -> u16 {
    issuer.token("pump-1", secret, "").await.status.as_u16()
}

async fn add(issuer: &TestIssuer, expires_in_s: Option<u64>) -> Result<String, DeviceError> {
    let app = issuer.app();
    let added = app.devices.add_secret("pump-1", expires_in_s, app.now()).await?;
    Ok(added.secret.expose().into())
}

async fn rotate(issuer: &TestIssuer, overlap_s: u64) -> Result<String, DeviceError> {
    let app = issuer.app();
    let rotated = app.devices.rotate_secret("pump-1", overlap_s, app.now()).await?;
    Ok(rotated.added.secret.expose().into())
}

async fn import(issuer: &TestIssuer, name: &str, secret: &str) -> Result<SecretRecord, DeviceError> {
    let app = issuer.app();
    let secret = ClientSecret::presented(secret.into());
    app.devices.import_secret(name, secret, &app.imported_secrets, None, app.now()).await
}

async fn secrets(issuer: &TestIssuer) -> SecretRecords {
    issuer.app().devices.get("pump-1").await.unwrap().credentials.secrets
}

#[tokio::test]
async fn several_are_good_each_to_its_own_end() {
    let issuer = TestIssuer::new().await;
    let first = issuer.add("pump-1", &[]).await;
    let second = add(&issuer, Some(60)).await.unwrap();
    assert_eq!((status(&issuer, &first).await, status(&issuer, &second).await), (200, 200));
    issuer.clock.advance(60);
    assert_eq!((status(&issuer, &first).await, status(&issuer, &second).await), (200, 401));
    for wrong in [0, MAX_SECRET_LIFETIME_S + 1, u64::MAX] {
        let refused = add(&issuer, Some(wrong)).await.unwrap_err().to_string();
        assert!(refused.starts_with("expires_in_s: "), "{refused}");
    }
}

#[tokio::test]
async fn a_rotation_ends_the_others_after_the_overlap_and_none_later_than_before() {
    let issuer = TestIssuer::new().await;
    let first = issuer.add("pump-1", &[]).await;
    let short = add(&issuer, Some(10)).await.unwrap();
    let new = rotate(&issuer, 60).await.unwrap();
    let ends: Vec<_> = secrets(&issuer).await.iter().map(|secret| secret.expires_at).collect();
    assert_eq!(ends, [Some(NOW.plus(60)), Some(NOW.plus(10)), None]);
    issuer.clock.advance(10);
    assert_eq!((status(&issuer, &first).await, status(&issuer, &short).await), (200, 401));
    // A second rotation does not prolong the first; what has ended is dropped.
    let newest = rotate(&issuer, 3600).await.unwrap();
    let ends: Vec<_> = secrets(&issuer).await.iter().map(|secret| secret.expires_at).collect();
    assert_eq!(ends, [Some(NOW.plus(60)), Some(NOW.plus(3610)), None]);
    issuer.clock.advance(50);
    assert_eq!((status(&issuer, &first).await, status(&issuer, &new).await), (401, 200));
    // Without overlap the others end at once.
    let last = rotate(&issuer, 0).await.unwrap();
    assert_eq!(secrets(&issuer).await.len(), 1);
    for (secret, expected) in [(&first, 401), (&new, 401), (&newest, 401), (&last, 200)] {
        assert_eq!(status(&issuer, secret).await, expected);
    }
}

#[tokio::test]
async fn there_are_at_most_so_many_and_ended_ones_make_room() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump-1", &[]).await;
    for _ in 1..MAX_SECRETS {
        rotate(&issuer, 60).await.unwrap();
    }
    for refused in [rotate(&issuer, 60).await, add(&issuer, None).await] {
        let refused = refused.unwrap_err().to_string();
        assert_eq!(
            refused,
            "secrets: there are 8 already, the most that a client may have; see which with `secret list` and take one \
             away with `secret remove` first"
        );
    }
    assert_eq!(secrets(&issuer).await.len(), MAX_SECRETS);
    issuer.clock.advance(60);
    rotate(&issuer, 60).await.unwrap();
    assert_eq!(secrets(&issuer).await.len(), 2);
}

#[tokio::test]
async fn a_removed_one_is_good_no_more() {
    let issuer = TestIssuer::new().await;
    let (first, second) = (issuer.add("pump-1", &[]).await, add(&issuer, None).await.unwrap());
    issuer.add("pump-2", &[]).await;
    let devices = &issuer.app().devices;
    let ids: Vec<_> = secrets(&issuer).await.into_iter().map(|secret| secret.id).collect();
    assert_eq!((status(&issuer, &first).await, status(&issuer, &second).await), (200, 200));
    let device = devices.remove_secret("pump-1", ids[0].as_str()).await.unwrap();
    assert!(!device.credentials.is_empty());
    assert_eq!((status(&issuer, &first).await, status(&issuer, &second).await), (401, 200));
    for (name, id) in [("pump-1", ids[0].as_str()), ("pump-1", ""), ("pump-2", ids[1].as_str())] {
        let refused = devices.remove_secret(name, id).await.unwrap_err();
        assert!(matches!(refused, DeviceError::Secret(SecretError::NoSuchSecret { .. })), "{refused}");
    }
    assert!(devices.remove_secret("pump-1", ids[1].as_str()).await.unwrap().credentials.is_empty());
    assert_eq!(status(&issuer, &second).await, 401);
}

#[tokio::test]
async fn an_imported_one_is_of_its_device_alone_and_kept_as_a_slow_hash() {
    let issuer = TestIssuer::new().await;
    let made = issuer.add("pump-1", &[]).await;
    issuer.add("pump-2", &[]).await;
    let record = import(&issuer, "pump-1", CHOSEN).await.unwrap();
    assert!(matches!(record.verifier, SecretVerifier::Imported(_)));
    assert_eq!((status(&issuer, CHOSEN).await, status(&issuer, &made).await), (200, 200));
    assert_eq!(issuer.token("pump-2", CHOSEN, "").await.status, 401);
    // Rotated out like any other.
    rotate(&issuer, 60).await.unwrap();
    assert_eq!(status(&issuer, CHOSEN).await, 200);
    issuer.clock.advance(60);
    assert_eq!(status(&issuer, CHOSEN).await, 401);
}

#[tokio::test]
async fn what_cannot_be_imported_says_why_and_does_not_repeat_it() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump-1", &[]).await;
    for wrong in ["too short", "fbs_0123456789abcdef", "größer als erlaubt ist", &"x".repeat(257)] {
        let refused = import(&issuer, "pump-1", wrong).await.unwrap_err().to_string();
        assert!(refused.starts_with("secret: ") && !refused.contains(wrong), "{refused}");
    }
    assert_eq!(secrets(&issuer).await.len(), 1);
    let refused = import(&issuer, "pump-9", CHOSEN).await.unwrap_err();
    assert!(matches!(refused, DeviceError::NoSuchDevice { .. }), "{refused}");
    for n in 0..MAX_IMPORTED_SECRETS {
        import(&issuer, "pump-1", &format!("{CHOSEN} {n}")).await.unwrap();
    }
    let refused = import(&issuer, "pump-1", CHOSEN).await.unwrap_err().to_string();
    assert!(refused.contains("there are 2 imported secrets already"), "{refused}");
    add(&issuer, None).await.unwrap();
}
