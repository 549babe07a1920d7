//! What every database must do, checked against each of them.

use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::time::UnixSeconds;

use super::{
    Attributes, BrokerNotAdded, BrokerNotUpdated, BrokerRecord, ChangedSubject, CredentialUse,
    DeviceNotEnrolled, DeviceNotUpdated, DeviceNotWritten, DeviceQuery, DeviceRecord, DeviceStatus,
    EnrolledBy, EnrolmentRecord, EnrolmentTerms, FleetTerms, GroupRecord, NameTaken, SettingsNotChanged,
    Store, UsedJti,
};
use crate::credentials::{CredentialId, Credentials, KeyRecord, SecretRecord, SecretRecords, SecretVerifier};
use crate::enrolments::NamePattern;
use crate::policy::{PolicyDocument, RefreshWindow};
use crate::profile::Profile;
use crate::root_key::{RootKey, RootKeyId};
use crate::secret::SecretHash;
use fleetbadge_validator::jwk::{Algorithm, Jwk};

mod log;
pub(crate) mod rows;
mod sessions;

/// Checks everything; `make` makes an empty store and whatever must live as
/// long as it does.
pub(super) async fn check<S: Store, G>(make: impl AsyncFn() -> (S, G)) {
    devices_are_found_as_they_were_added(&make().await.0).await;
    names_are_taken_for_ever_or_not_at_all(&make().await.0).await;
    devices_come_in_pages(&make().await.0).await;
    no_two_clients_differ_by_case_alone(&make().await.0).await;
    changes_and_removal(&make().await.0).await;
    no_change_overwrites_another(&make().await.0).await;
    a_key_is_of_one_device(&make().await.0).await;
    brokers_share_the_names_of_devices(&make().await.0).await;
    an_enrolment_is_used_up(&make().await.0).await;
    a_jti_is_good_once(&make().await.0).await;
    uses_never_go_back_and_are_kept_to_the_hour(&make().await.0).await;
    uses_go_with_their_credentials(&make().await.0).await;
    groups_are_replaced(&make().await.0).await;
    settings_are_changed_by_who_has_seen_them(&make().await.0).await;
    one_root_key_is_current(&make().await.0).await;
    all_nodes_have_the_same_terms(&make().await.0).await;
    log::check(&make).await;
    sessions::check(&make).await;
    rows::check(&make).await;
}

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn taken_back(device: &str) -> Revocation {
    Revocation::of_device(device, NOW, NOW.plus(60))
}

fn id(text: &str) -> CredentialId {
    CredentialId::from_text(text)
}

fn secret(name: &str, byte: u8, expires_at: Option<UnixSeconds>) -> SecretRecord {
    let verifier = SecretVerifier::Made(SecretHash::from_bytes([byte; 32]));
    SecretRecord { id: id(name), verifier, created_at: NOW, expires_at }
}

pub(super) fn device(name: &str, mqtt_client_ids: &[&str]) -> DeviceRecord {
    DeviceRecord {
        name: name.parse().unwrap(),
        group: "default".parse().unwrap(),
        status: DeviceStatus::Enabled,
        mqtt_client_ids: mqtt_client_ids.iter().map(|id| id.parse().unwrap()).collect(),
        attributes: [("site".parse().unwrap(), "north".parse().unwrap())].into(),
        credentials: Credentials {
            secrets: [secret("1", 0xab, None), secret("2", 0x0f, Some(NOW.plus(60)))].into_iter().collect(),
            ..Credentials::default()
        },
        enrolled_by: Some(EnrolledBy { enrolment: id("e"), key: id("1") }),
        created_at: NOW,
        revision: 0,
    }
}

fn with_keys(name: &str, thumbprints: &[&str]) -> DeviceRecord {
    let key = |thumbprint: &&str| KeyRecord {
        id: id(thumbprint),
        jwk: Jwk { kty: "EC".into(), ..Jwk::default() },
        created_at: NOW,
    };
    let keys = thumbprints.iter().map(key).collect();
    DeviceRecord { credentials: Credentials { keys, ..Credentials::default() }, ..device(name, &[name]) }
}

fn broker(name: &str, resource: &str) -> BrokerRecord {
    BrokerRecord {
        name: name.parse().unwrap(),
        audience: "mqtt".into(),
        resource: resource.into(),
        profile: Profile::Emqx,
        algorithm: Algorithm::RS256,
        secrets: [secret("1", 1, None)].into(),
        created_at: NOW,
        revision: 0,
    }
}

pub(super) fn group(name: &str, lifetime_s: u64, time: UnixSeconds) -> GroupRecord {
    GroupRecord {
        name: name.parse().unwrap(),
        policy: PolicyDocument {
            publish: vec!["a/${clientid}/\"ä\"/#".into(), "b".into()],
            subscribe: vec![],
            scope: "mqtt.connect".into(),
            audiences: vec!["mqtt".into()],
            token_lifetime_s: lifetime_s,
            refresh_window: RefreshWindow { from_percent: 1, to_percent: 2 },
            static_passwords: true,
            device_password_grant: true,
        },
        created_at: time,
        updated_at: time,
    }
}

async fn settings_revision(store: &impl Store) -> u64 {
    store.settings().await.unwrap().revision
}

async fn set_group(store: &impl Store, group: &GroupRecord) {
    store.set_group(settings_revision(store).await, group).await.unwrap();
}

async fn add_broker(store: &impl Store, broker: &BrokerRecord) -> Result<(), BrokerNotAdded> {
    store.add_broker(settings_revision(store).await, broker).await
}

async fn remove_broker(store: &impl Store, name: &str) -> bool {
    store.remove_broker(settings_revision(store).await, name).await.unwrap()
}

async fn with_group(store: &impl Store) {
    set_group(store, &group("default", 900, NOW)).await;
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
    assert!(matches!(error, DeviceNotWritten::NoSuchGroup { group } if group == "nowhere"));
    assert_eq!(store.device("pump-2").await.unwrap(), None);
}

async fn names_are_taken_for_ever_or_not_at_all(store: &impl Store) {
    with_group(store).await;
    store.add_device(&device("a", &["a1", "a2"])).await.unwrap();
    let refused = async |name: &str, ids: &[&str]| match store.add_device(&device(name, ids)).await {
        Err(DeviceNotWritten::NameTaken(NameTaken { name, taken, client, removed })) if name == taken => {
            (name, client, removed)
        }
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

    assert!(store.remove_device("a", &taken_back("a")).await.unwrap());
    assert_eq!(refused("a", &["a"]).await, taken("a", "a", true));
    assert_eq!(refused("c", &["a1"]).await, taken("a1", "a", true));
    for (name, owner) in
        [("a", Some("a")), ("a1", Some("a")), ("b", Some("b")), ("x", Some("b")), ("c", None)]
    {
        assert_eq!(store.owner_of_name(name).await.unwrap().as_deref(), owner, "{name}");
    }
}

async fn devices_come_in_pages(store: &impl Store) {
    with_group(store).await;
    for name in ["b", "B2", "a", "~", "a-b"] {
        store.add_device(&device(name, &[name])).await.unwrap();
    }
    let names = async |query: DeviceQuery<'_>| -> Vec<String> {
        store.devices(query).await.unwrap().iter().map(|d| d.name.to_string()).collect()
    };
    let page = async |after: Option<&str>, limit| {
        names(DeviceQuery { after, limit, ..DeviceQuery::default() }).await
    };
    assert_eq!(page(None, 10).await, ["B2", "a", "a-b", "b", "~"]);
    assert_eq!(page(None, 2).await, ["B2", "a"]);
    assert_eq!(page(Some("a"), 2).await, ["a-b", "b"]);
    assert_eq!(page(Some("b' OR 1=1 --"), 9).await, ["~"]);
    assert_eq!(page(Some("~"), 2).await, [""; 0]);
    set_group(store, &group("pumps", 900, NOW)).await;
    let pump = DeviceRecord {
        group: "pumps".parse().unwrap(),
        status: DeviceStatus::Pending,
        ..device("pump", &["pump"])
    };
    store.add_device(&pump).await.unwrap();
    let all = DeviceQuery { limit: 9, ..DeviceQuery::default() };
    assert_eq!(names(DeviceQuery { group: Some("pumps"), ..all }).await, ["pump"]);
    assert_eq!(names(DeviceQuery { group: Some("nowhere"), ..all }).await, [""; 0]);
    assert_eq!(names(DeviceQuery { status: Some(DeviceStatus::Pending), ..all }).await, ["pump"]);
    assert_eq!(names(DeviceQuery { status: Some(DeviceStatus::Enabled), ..all }).await.len(), 5);
}

async fn no_two_clients_differ_by_case_alone(store: &impl Store) {
    with_group(store).await;
    store.add_device(&device("Pump", &["Pump", "pump"])).await.unwrap();
    for twin in [device("pumP", &["x"]), device("y", &["PUMP"])] {
        let error = store.add_device(&twin).await.unwrap_err();
        assert!(
            matches!(&error, DeviceNotWritten::NameTaken(NameTaken { client, removed: false, .. }) if client == "Pump"),
            "{error:?}"
        );
    }
    let error = add_broker(store, &broker("pUmp", "urn:x")).await.unwrap_err();
    assert!(matches!(error, BrokerNotAdded::NameTaken(_)), "{error:?}");
}

async fn changes_and_removal(store: &impl Store) {
    with_group(store).await;
    store.add_device(&device("a", &["a"])).await.unwrap();
    let mut changed = DeviceRecord { status: DeviceStatus::Disabled, ..device("a", &["a2", "a"]) };
    changed.attributes = Attributes::default();
    changed.credentials.secrets.remove(0);
    store.update_device(&changed, None).await.unwrap();
    changed.revision = 1;
    assert_eq!(store.device("a").await.unwrap().as_ref(), Some(&changed));
    assert!(matches!(store.add_device(&device("b", &["a2"])).await, Err(DeviceNotWritten::NameTaken(_))));
    let mut elsewhere = changed.clone();
    elsewhere.group = "nowhere".parse().unwrap();
    assert!(matches!(
        store.update_device(&elsewhere, None).await,
        Err(DeviceNotUpdated::NotWritten(DeviceNotWritten::NoSuchGroup { .. }))
    ));
    assert!(store.remove_device("a", &taken_back("a")).await.unwrap());
    assert_eq!(store.device("a").await.unwrap(), None);
    assert!(matches!(store.update_device(&changed, None).await, Err(DeviceNotUpdated::Gone)));
    assert!(!store.remove_device("a", &taken_back("a")).await.unwrap());
}

async fn no_change_overwrites_another(store: &impl Store) {
    with_group(store).await;
    store.add_device(&device("a", &["a"])).await.unwrap();
    let read = store.device("a").await.unwrap().unwrap();
    let first = DeviceRecord { status: DeviceStatus::Disabled, ..read.clone() };
    let second = DeviceRecord { attributes: Attributes::default(), ..read };
    store.update_device(&first, None).await.unwrap();
    assert!(matches!(store.update_device(&second, None).await, Err(DeviceNotUpdated::Conflict)));
    assert_eq!(store.device("a").await.unwrap().unwrap().status, DeviceStatus::Disabled);
}

async fn a_key_is_of_one_device(store: &impl Store) {
    with_group(store).await;
    store.add_device(&with_keys("a", &["k1", "k2"])).await.unwrap();
    let taken = |error| {
        let DeviceNotWritten::KeyTaken { thumbprint, device } = error else { panic!("{error:?}") };
        (thumbprint, device)
    };
    let (k1, k2, a) = (|| "k1".to_owned(), || "k2".to_owned(), || "a".to_owned());
    assert_eq!(taken(store.add_device(&with_keys("b", &["k3", "k2"])).await.unwrap_err()), (k2(), a()));
    store.add_device(&with_keys("b", &["k3"])).await.unwrap();
    match store.update_device(&with_keys("b", &["k1"]), None).await {
        Err(DeviceNotUpdated::NotWritten(error)) => assert_eq!(taken(error), (k1(), a())),
        other => panic!("{other:?}"),
    }
    // A key that its device gave up is free.
    store.update_device(&with_keys("a", &["k2"]), None).await.unwrap();
    store.update_device(&with_keys("b", &["k1", "k3"]), None).await.unwrap();
    assert!(store.remove_device("b", &taken_back("b")).await.unwrap());
    store.add_device(&with_keys("c", &["k1"])).await.unwrap();
    let owner =
        async |key: &str| store.device_of_key(&id(key)).await.unwrap().map(|device| device.name.to_string());
    assert_eq!((owner("k1").await, owner("k2").await), (Some("c".into()), Some(a())));
    assert_eq!(owner("k3").await, None, "its device was removed");
}

async fn brokers_share_the_names_of_devices(store: &impl Store) {
    with_group(store).await;
    add_broker(store, &broker("b", "urn:b")).await.unwrap();
    add_broker(store, &broker("a", "urn:a")).await.unwrap();
    assert_eq!(store.settings().await.unwrap().brokers, [broker("a", "urn:a"), broker("b", "urn:b")]);
    store.add_device(&device("d", &["d1"])).await.unwrap();
    for taken in ["b", "d", "d1"] {
        assert!(
            matches!(add_broker(store, &broker(taken, "urn:x")).await, Err(BrokerNotAdded::NameTaken(_))),
            "{taken}"
        );
    }
    assert!(matches!(store.add_device(&device("e", &["b"])).await, Err(DeviceNotWritten::NameTaken(_))));
    let error = add_broker(store, &broker("c", "urn:b")).await.unwrap_err();
    assert!(matches!(&error, BrokerNotAdded::ResourceTaken { resource } if resource == "urn:b"), "{error:?}");
    add_broker(store, &broker("c", "urn:c")).await.unwrap();

    let changed = BrokerRecord { secrets: SecretRecords::new(), ..broker("b", "urn:b") };
    store.update_broker(&changed).await.unwrap();
    assert!(matches!(store.update_broker(&changed).await, Err(BrokerNotUpdated::Conflict)));
    assert_eq!(store.settings().await.unwrap().brokers[1], BrokerRecord { revision: 1, ..changed.clone() });
    assert!(remove_broker(store, "b").await);
    assert!(!remove_broker(store, "b").await);
    assert!(matches!(store.update_broker(&changed).await, Err(BrokerNotUpdated::Gone)));
    assert!(matches!(
        add_broker(store, &broker("b", "urn:b")).await,
        Err(BrokerNotAdded::NameTaken(NameTaken { removed: true, .. }))
    ));
}

fn enrolment(name: &str, byte: u8) -> EnrolmentRecord {
    EnrolmentRecord {
        id: id(name),
        token_hash: [byte; 32],
        uses_left: 2,
        terms: EnrolmentTerms {
            group: "default".parse().unwrap(),
            name_pattern: NamePattern::parse("pump-*").unwrap(),
            uses: 2,
            expires_at: NOW.plus(60),
            approval: true,
        },
        created_at: NOW,
    }
}

fn used(client: &str, credential: &str, at: UnixSeconds) -> CredentialUse {
    CredentialUse { client: client.into(), credential: id(credential), at }
}

async fn an_enrolment_is_used_up(store: &impl Store) {
    with_group(store).await;
    store.add_enrolment(&enrolment("1", 1)).await.unwrap();
    store.add_enrolment(&enrolment("2", 2)).await.unwrap();
    assert_eq!(store.enrolment(&[1; 32]).await.unwrap(), Some(enrolment("1", 1)));
    assert_eq!(store.enrolment(&[3; 32]).await.unwrap(), None);
    store.enrol(&id("1"), &device("a", &["a"])).await.unwrap();
    // A device that cannot be added takes no use.
    assert!(matches!(
        store.enrol(&id("1"), &device("a", &["a"])).await,
        Err(DeviceNotEnrolled::NotWritten(DeviceNotWritten::NameTaken(_)))
    ));
    assert_eq!(store.enrolment(&[1; 32]).await.unwrap().unwrap().uses_left, 1);
    store.enrol(&id("1"), &device("b", &["b"])).await.unwrap();
    assert!(matches!(store.enrol(&id("1"), &device("c", &["c"])).await, Err(DeviceNotEnrolled::UsedUp)));
    assert_eq!(store.device("c").await.unwrap(), None);
    assert!(store.remove_enrolment(&id("2")).await.unwrap());
    assert!(!store.remove_enrolment(&id("2")).await.unwrap());
    assert!(matches!(store.enrol(&id("2"), &device("c", &["c"])).await, Err(DeviceNotEnrolled::UsedUp)));
    let left: Vec<u32> = store.enrolments().await.unwrap().iter().map(|e| e.uses_left).collect();
    assert_eq!(left, [0]);
}

async fn a_jti_is_good_once(store: &impl Store) {
    let jti = |byte: u8, end: u64| UsedJti { id: [byte; 32], expires_at: NOW.plus(end) };
    let used = store.use_jtis(&[jti(1, 60), jti(2, 10), jti(1, 60)]).await.unwrap();
    assert_eq!(used, [true, true, false]);
    assert_eq!(store.use_jtis(&[jti(2, 10), jti(3, 60)]).await.unwrap(), [false, true]);
    store.forget_jtis(NOW.plus(10)).await.unwrap();
    assert_eq!(store.use_jtis(&[jti(2, 10)]).await.unwrap(), [false]);
    store.forget_jtis(NOW.plus(11)).await.unwrap();
    assert_eq!(store.use_jtis(&[jti(2, 10), jti(1, 60)]).await.unwrap(), [true, false]);
}

async fn uses_never_go_back_and_are_kept_to_the_hour(store: &impl Store) {
    let used = |credential: &str, at: u64| used("a", credential, NOW.plus(at));
    store.record_uses(&[]).await.unwrap();
    store.record_uses(&[used("1", 10_000), used("2", 5), used("3", 5)]).await.unwrap();
    store.record_uses(&[used("1", 0), used("2", 3_604), used("3", 3_605), used("\"", 7)]).await.unwrap();
    let mut found = store.credential_uses("a").await.unwrap();
    found.sort_by(|a, b| a.credential.cmp(&b.credential));
    assert_eq!(found, [used("\"", 7), used("1", 10_000), used("2", 5), used("3", 3_605)]);
    assert_eq!(store.credential_uses("b").await.unwrap(), []);
}

async fn uses_go_with_their_credentials(store: &impl Store) {
    let used = |client: &str, credential: &str| used(client, credential, NOW);
    set_group(store, &group("default", 900, NOW)).await;
    let mut device = device("a", &["a"]);
    store.add_device(&device).await.unwrap();
    // The third is of no credential in the record.
    let all = ["1", "2", "certificate"].map(|credential| used("a", credential));
    store.record_uses(&all).await.unwrap();
    store.record_uses(&[used("b", "1")]).await.unwrap();
    device.credentials.secrets.remove(0);
    // What is not written forgets nothing.
    let outdated = DeviceRecord { revision: 7, ..device.clone() };
    store.update_device(&outdated, None).await.unwrap_err();
    assert_eq!(store.credential_uses("a").await.unwrap().len(), 3);
    store.update_device(&device, None).await.unwrap();
    let mut left = store.credential_uses("a").await.unwrap();
    left.sort_by(|a, b| a.credential.cmp(&b.credential));
    assert_eq!(left, [used("a", "2"), used("a", "certificate")]);
    assert_eq!(store.credential_uses("b").await.unwrap(), [used("b", "1")]);

    let mut broker = broker("c", "urn:c");
    broker.secrets.push(secret("2", 2, None));
    add_broker(store, &broker).await.unwrap();
    store.record_uses(&["1", "2"].map(|credential| used("c", credential))).await.unwrap();
    broker.secrets.remove(0);
    store.update_broker(&broker).await.unwrap();
    assert_eq!(store.credential_uses("c").await.unwrap(), [used("c", "2")]);
    assert_eq!(store.credential_uses("b").await.unwrap(), [used("b", "1")]);
}

async fn groups_are_replaced(store: &impl Store) {
    set_group(store, &group("b", 900, NOW)).await;
    set_group(store, &group("a", 900, NOW)).await;
    set_group(store, &group("b", 60, NOW.plus(5))).await;
    let changed = GroupRecord { created_at: NOW, ..group("b", 60, NOW.plus(5)) };
    assert_eq!(store.settings().await.unwrap().groups, [group("a", 900, NOW), changed]);
}

async fn settings_are_changed_by_who_has_seen_them(store: &impl Store) {
    let first = settings_revision(store).await;
    store.set_group(first, &group("a", 900, NOW)).await.unwrap();
    let seen = store.settings().await.unwrap();
    assert_eq!(seen.revision, first + 1);
    let refused = store.set_group(first, &group("a", 60, NOW)).await;
    assert!(matches!(refused, Err(SettingsNotChanged::Conflict)), "{refused:?}");
    let refused = store.add_broker(first, &broker("b", "urn:b")).await;
    assert!(matches!(refused, Err(BrokerNotAdded::Conflict)), "{refused:?}");
    assert_eq!(store.settings().await.unwrap(), seen);
    store.add_broker(seen.revision, &broker("b", "urn:b")).await.unwrap();
    store.update_broker(&broker("b", "urn:b")).await.unwrap();
    let refused = store.remove_broker(seen.revision + 1, "b").await;
    assert!(matches!(refused, Err(SettingsNotChanged::Conflict)), "{refused:?}");
    assert!(store.remove_broker(seen.revision + 2, "b").await.unwrap());
    // A refused change takes no name, and is not logged.
    assert_eq!(store.changes(0).await.unwrap().last, 4);
}

fn root_key(byte: u8) -> RootKeyId {
    RootKey::from_bytes([byte; 32]).id()
}

async fn one_root_key_is_current(store: &impl Store) {
    let (one, two) = (root_key(1), root_key(2));
    let needed = async || store.root_keys().await.unwrap().map(|needed| (needed.current, needed.others));
    assert_eq!(needed().await, None);
    assert!(!store.set_root_key(two, Some(one)).await.unwrap());
    assert!(store.set_root_key(one, None).await.unwrap());
    // Somebody else was faster.
    assert!(!store.set_root_key(two, None).await.unwrap());
    assert_eq!(needed().await, Some((one, vec![])));
    assert!(store.set_root_key(two, Some(one)).await.unwrap());
    assert!(!store.set_root_key(two, Some(one)).await.unwrap());
    assert_eq!(needed().await, Some((two, vec![one])));
    store.forget_root_key(two).await.unwrap();
    assert_eq!(needed().await, Some((two, vec![one])), "the current one stays");
    assert!(store.set_root_key(one, Some(two)).await.unwrap());
    assert_eq!(needed().await, Some((one, vec![two])));
    for _ in 0..2 {
        store.forget_root_key(two).await.unwrap();
    }
    assert_eq!(needed().await, Some((one, vec![])));
    // Whatever changed, the other nodes hear of.
    let changes = store.changes(0).await.unwrap().changes.unwrap();
    assert!(changes.iter().all(|change| change.subject == ChangedSubject::RootKeys), "{changes:?}");
    assert_eq!(changes.len(), 3);
}

pub(super) fn terms(issuer: &str, propagation_bound_s: u64) -> FleetTerms {
    FleetTerms { issuer: issuer.into(), propagation_bound_s }
}

async fn all_nodes_have_the_same_terms(store: &impl Store) {
    let (first, other) = (terms("https://a.example", 5), terms("https://b.example", 60));
    assert_eq!(store.terms().await.unwrap(), None);
    for terms in [&first, &other] {
        store.make_terms(terms).await.unwrap();
        assert_eq!(store.terms().await.unwrap().as_ref(), Some(&first));
    }
    let before = store.changes(0).await.unwrap();
    store.change_terms(&other).await.unwrap();
    assert_eq!(store.terms().await.unwrap(), Some(other));
    assert_ne!(store.changes(0).await.unwrap().epoch, before.epoch, "whoever follows looks at everything");
}
