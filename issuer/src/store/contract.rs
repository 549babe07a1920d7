//! What every database must do, checked against each of them.

use fleetbadge_validator::time::UnixSeconds;

use super::{AddDeviceError, DeviceRecord, DeviceStatus, GroupRecord, SecretRecord, SigningKeyRecord, Store};
use crate::policy::PolicyDocument;
use crate::secret::SecretHash;
use crate::signing_keys::Schedule;

/// Checks everything; `make` makes an empty store and whatever must live as
/// long as it does.
pub(super) async fn check<S: Store, G>(make: impl AsyncFn() -> (S, G)) {
    devices_are_found_as_they_were_added(&make().await.0).await;
    names_are_taken_for_ever_or_not_at_all(&make().await.0).await;
    devices_come_in_pages(&make().await.0).await;
    status_changes_and_removal(&make().await.0).await;
    groups_are_replaced(&make().await.0).await;
    signing_keys_are_scheduled(&make().await.0).await;
}

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn device(name: &str, mqtt_client_ids: &[&str]) -> DeviceRecord {
    DeviceRecord {
        name: name.parse().unwrap(),
        group: "default".parse().unwrap(),
        status: DeviceStatus::Enabled,
        mqtt_client_ids: mqtt_client_ids.iter().map(|id| id.parse().unwrap()).collect(),
        secrets: [None, Some(NOW.plus(60))]
            .map(|expires_at| SecretRecord {
                hash: SecretHash::from_bytes([expires_at.map_or(0xab, |_| 0x0f); 32]),
                created_at: NOW,
                expires_at,
            })
            .into(),
        created_at: NOW,
    }
}

fn group(name: &str, lifetime_s: u64, time: UnixSeconds) -> GroupRecord {
    GroupRecord {
        name: name.parse().unwrap(),
        policy: PolicyDocument {
            publish: vec!["a/${clientid}/\"ä\"/#".into(), "b".into()],
            subscribe: vec![],
            scope: "mqtt.connect".into(),
            audience: "mqtt".into(),
            token_lifetime_s: lifetime_s,
        },
        created_at: time,
        updated_at: time,
    }
}

async fn with_group(store: &impl Store) {
    store.set_group(&group("default", 900, NOW)).await.unwrap();
}

async fn devices_are_found_as_they_were_added(store: &impl Store) {
    with_group(store).await;
    let added = device("pump-1", &["c2", "c1", "pump-1"]);
    store.add_device(&added).await.unwrap();
    assert_eq!(store.device("pump-1").await.unwrap(), Some(added));
    for other in ["PUMP-1", "pump-1 ", "c1", ""] {
        assert_eq!(store.device(other).await.unwrap(), None, "{other:?}");
    }
    let mut elsewhere = device("pump-2", &["pump-2"]);
    elsewhere.group = "nowhere".parse().unwrap();
    let error = store.add_device(&elsewhere).await.unwrap_err();
    assert!(matches!(error, AddDeviceError::NoSuchGroup { group } if group == "nowhere"));
    assert_eq!(store.device("pump-2").await.unwrap(), None);
}

async fn names_are_taken_for_ever_or_not_at_all(store: &impl Store) {
    with_group(store).await;
    store.add_device(&device("a", &["a1", "a2"])).await.unwrap();
    let refused = async |name: &str, ids: &[&str]| match store.add_device(&device(name, ids)).await {
        Err(AddDeviceError::NameTaken { name, device, removed }) => (name, device, removed),
        other => panic!("{other:?}"),
    };
    let taken = |name: &str, device: &str, removed| (name.to_owned(), device.to_owned(), removed);
    // A device name, a client identifier, and each as the other.
    assert_eq!(refused("a", &["x"]).await, taken("a", "a", false));
    assert_eq!(refused("b", &["a2"]).await, taken("a2", "a", false));
    assert_eq!(refused("a1", &["x"]).await, taken("a1", "a", false));
    assert_eq!(refused("b", &["a"]).await, taken("a", "a", false));
    // A refused addition takes nothing.
    store.add_device(&device("b", &["x"])).await.unwrap();

    assert!(store.remove_device("a").await.unwrap());
    assert_eq!(refused("a", &["a"]).await, taken("a", "a", true));
    assert_eq!(refused("c", &["a1"]).await, taken("a1", "a", true));
}

async fn devices_come_in_pages(store: &impl Store) {
    with_group(store).await;
    for name in ["b", "B", "a", "~", "a-b"] {
        store.add_device(&device(name, &[name])).await.unwrap();
    }
    let page = async |after: Option<&str>, limit| -> Vec<String> {
        store.devices(after, limit).await.unwrap().iter().map(|d| d.name.to_string()).collect()
    };
    assert_eq!(page(None, 10).await, ["B", "a", "a-b", "b", "~"]);
    assert_eq!(page(None, 2).await, ["B", "a"]);
    assert_eq!(page(Some("a"), 2).await, ["a-b", "b"]);
    assert_eq!(page(Some("b' OR 1=1 --"), 9).await, ["~"]);
    assert_eq!(page(Some("~"), 2).await, [""; 0]);
}

async fn status_changes_and_removal(store: &impl Store) {
    with_group(store).await;
    store.add_device(&device("a", &["a"])).await.unwrap();
    assert!(store.set_device_status("a", DeviceStatus::Disabled).await.unwrap());
    assert_eq!(store.device("a").await.unwrap().unwrap().status, DeviceStatus::Disabled);
    assert!(store.set_device_status("a", DeviceStatus::Enabled).await.unwrap());
    assert_eq!(store.device("a").await.unwrap().unwrap(), device("a", &["a"]));
    assert!(store.remove_device("a").await.unwrap());
    assert_eq!(store.device("a").await.unwrap(), None);
    assert!(!store.set_device_status("a", DeviceStatus::Enabled).await.unwrap());
    assert!(!store.remove_device("a").await.unwrap());
}

async fn groups_are_replaced(store: &impl Store) {
    store.set_group(&group("b", 900, NOW)).await.unwrap();
    store.set_group(&group("a", 900, NOW)).await.unwrap();
    store.set_group(&group("b", 60, NOW.plus(5))).await.unwrap();
    let changed = GroupRecord { created_at: NOW, ..group("b", 60, NOW.plus(5)) };
    assert_eq!(store.groups().await.unwrap(), [group("a", 900, NOW), changed]);
}

async fn signing_keys_are_scheduled(store: &impl Store) {
    let schedule = |at: UnixSeconds| Schedule {
        announced_at: at,
        active_at: at.plus(1),
        retired_at: None,
        dropped_at: None,
    };
    let key = |kid: &str, schedule| SigningKeyRecord { kid: kid.into(), sealed: vec![1, 2, 3], schedule };
    store.set_signing_keys(&[key("z", schedule(NOW))]).await.unwrap();
    let retired = Schedule { retired_at: Some(NOW.plus(9)), dropped_at: Some(NOW.plus(10)), ..schedule(NOW) };
    let both = [key("z", retired), key("a", schedule(NOW.plus(8)))];
    store.set_signing_keys(&both).await.unwrap();
    assert_eq!(store.signing_keys().await.unwrap(), both);
    store.delete_signing_key("z").await.unwrap();
    store.delete_signing_key("z").await.unwrap();
    assert_eq!(store.signing_keys().await.unwrap(), both[1..]);
}
