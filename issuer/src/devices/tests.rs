use crate::credentials::{CredentialId, SecretRecord, SecretVerifier};
use fleetbadge_validator::time::UnixSeconds;

use super::*;
use crate::test_support::{NOW, TestIssuer};

fn new(name: &str, group: Option<&str>, ids: &[&str]) -> NewDevice {
    NewDevice {
        name: name.into(),
        group: group.map(Into::into),
        mqtt_client_ids: ids.iter().map(|id| (*id).into()).collect(),
        ..NewDevice::default()
    }
}

async fn refused(issuer: &TestIssuer, new: NewDevice) -> String {
    issuer.issuer.add_device(new).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_device_connects_as_itself_unless_told_otherwise() {
    let issuer = TestIssuer::new().await;
    let added = issuer.issuer.add_device(new("pump-1", None, &[])).await.unwrap();
    assert_eq!(added.device.mqtt_client_ids[..], ["pump-1".parse().unwrap()]);
    assert_eq!(added.device.group.as_str(), "default");
    let added = issuer.issuer.add_device(new("pump-2", None, &["x", "y"])).await.unwrap();
    assert_eq!(added.device.mqtt_client_ids[..], ["x".parse().unwrap(), "y".parse().unwrap()]);
}

#[tokio::test]
async fn what_is_refused_says_which_field_and_why() {
    let issuer = TestIssuer::new().await;
    for name in ["", "a/b", "+", "#", "${x}", "ä", "a b", "%c", &"x".repeat(65), ".", ".."] {
        assert!(refused(&issuer, new(name, None, &[])).await.starts_with("name: "), "{name}");
        let by_id = refused(&issuer, new("pump", None, &["good", name])).await;
        assert!(by_id.starts_with("mqtt_client_ids: "), "{by_id}");
    }
    assert!(refused(&issuer, new("pump", None, &["a", "a"])).await.contains("twice"));
    let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(refused(&issuer, new("pump", None, &many)).await.contains("at most 16"));
    let no_group = refused(&issuer, new("pump", Some("pumps"), &[])).await;
    assert!(no_group.contains("group set pumps"), "{no_group}");
}

#[tokio::test]
async fn a_taken_name_says_by_whom_and_whether_for_ever() {
    let issuer = TestIssuer::new().await;
    issuer.add("a", &["a1"]).await;
    assert_eq!(refused(&issuer, new("a", None, &["x"])).await, "name: there is a device or broker a already");
    assert!(refused(&issuer, new("b", None, &["a1"])).await.starts_with("mqtt_client_ids: a1 belongs to a;"));
    issuer.app().devices.remove("a").await.unwrap();
    assert!(refused(&issuer, new("a", None, &["x"])).await.contains("never used again"));
    assert!(
        refused(&issuer, new("b", None, &["a1"])).await.starts_with("mqtt_client_ids: a1 belonged to a,")
    );
}

#[tokio::test]
async fn a_known_device_costs_no_database_access() {
    let issuer = TestIssuer::new().await;
    let secret = issuer.add("pump-1", &[]).await;
    assert_eq!(issuer.token("pump-1", &secret, "").await.status, 200);
    let before = issuer.app().devices.lookups();
    for _ in 0..3 {
        assert_eq!(issuer.token("pump-1", &secret, "").await.status, 200);
    }
    assert_eq!(issuer.app().devices.lookups(), before);
}

#[tokio::test]
async fn a_change_is_seen_at_once_by_requests_under_way_too() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump-1", &[]).await;
    let devices = &issuer.app().devices;
    // A load that began before the change must not bring back what it read.
    let seen = *devices.changes();
    let before = Arc::new(KnownDevice::new(devices.get("pump-1").await.unwrap()));
    devices.set_status("pump-1", DeviceStatus::Disabled).await.unwrap();
    devices.remember(&before, seen);
    assert!(devices.find_in_memory("pump-1").is_none());
    let found = devices.find("pump-1").await.unwrap().unwrap();
    assert_eq!(found.status, DeviceStatus::Disabled);
}

#[tokio::test]
async fn an_expired_secret_is_none() {
    let issuer = TestIssuer::new().await;
    let app = issuer.app();
    let [ended, lasting] = ["fbs_ended", "fbs_lasting"].map(|text| ClientSecret::presented(text.into()));
    let record = |secret: &ClientSecret, expires_at: Option<UnixSeconds>| SecretRecord {
        id: CredentialId::from_text(secret.expose()),
        verifier: SecretVerifier::Made(app.devices.hasher().hash("pump-1", secret)),
        created_at: NOW,
        expires_at,
    };
    let device = DeviceRecord {
        name: "pump-1".parse().unwrap(),
        group: "default".parse().unwrap(),
        status: DeviceStatus::Enabled,
        mqtt_client_ids: ["pump-1".parse().unwrap()].into(),
        attributes: Attributes::default(),
        credentials: Credentials {
            secrets: [record(&ended, Some(NOW.plus(60))), record(&lasting, None)].into_iter().collect(),
            ..Credentials::default()
        },
        enrolled_by: None,
        created_at: NOW,
        revision: 0,
    };
    app.store.add_device(&device).await.unwrap();
    for (seconds, secret, status) in
        [(0, &ended, 200), (0, &lasting, 200), (59, &ended, 200), (1, &ended, 401), (0, &lasting, 200)]
    {
        issuer.clock.advance(seconds);
        assert_eq!(issuer.token("pump-1", secret.expose(), "").await.status, status);
    }
}
