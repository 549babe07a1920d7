//! Rotations that nobody asks for, and what brokers have to say about them.

use super::*;
use crate::credentials::{CredentialId, SecretRecord, SecretVerifier};
use crate::profile::Profile;
use crate::secret::SecretHash;
use crate::store::{BrokerRecord, ReportRecord};
use fleetbadge_validator::reports::Report;

const SLOW: KeyTiming = KeyTiming { rotation_s: None, confirm_deadline_s: 10_000, ..TIMING };

/// With which all brokers report.
const SECRET: &str = "1";

/// Keys, and brokers that report.
struct Fleet {
    keys: Keys,
    folder: tempfile::TempDir,
}

impl Fleet {
    async fn new(timing: KeyTiming) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = open_with(&folder, timing, NOW).await;
        Self { keys, folder }
    }

    async fn broker(&self, name: &str, profile: Profile) {
        let broker = BrokerRecord {
            name: name.parse().unwrap(),
            audience: name.into(),
            resource: format!("urn:{name}").into(),
            profile,
            algorithm: Algorithm::ES256,
            secrets: [SecretRecord {
                id: CredentialId::from_text(SECRET),
                verifier: SecretVerifier::Made(SecretHash::from_bytes([1; 32])),
                created_at: NOW,
                expires_at: None,
            }]
            .into(),
            created_at: NOW,
            revision: 0,
        };
        let store = &self.keys.store;
        store.add_broker(store.settings().await.unwrap().revision, &broker).await.unwrap();
        self.keys.brokers.replace(store.settings().await.unwrap().brokers);
    }

    async fn report(&self, broker: &str, instance: &str, kids: &[String], at: u64) {
        let record = ReportRecord {
            broker: broker.parse().unwrap(),
            instance: instance.into(),
            secret: CredentialId::from_text(SECRET),
            report: Report { software: "x/1".into(), kids: kids.into(), revocations: None, counters: None },
            reported_at: NOW.plus(at),
        };
        self.keys.store.set_report(&record, 64).await.unwrap();
    }

    async fn turn(&self, at: u64) {
        turn(&self.keys, NOW.plus(at)).await.unwrap();
    }

    fn active(&self, at: u64) -> String {
        active(&self.keys, NOW.plus(at))
    }
}

#[tokio::test]
async fn each_key_gets_its_successor_and_a_node_that_was_off_makes_one() {
    let fleet = Fleet::new(TIMING).await;
    let first = fleet.active(0);
    fleet.turn(9_999).await;
    assert_eq!(kids(&fleet.keys), [first.as_str()]);
    // Another node of the same database does the same at the same time.
    let other = open(&fleet.folder, NOW.plus(10_000)).await;
    let at = NOW.plus(10_000);
    let (one, two) = tokio::join!(turn(&fleet.keys, at), turn(&other, at));
    one.unwrap();
    two.unwrap();
    fleet.keys.reload(NOW.plus(10_000)).await.unwrap();
    assert_eq!(kids(&fleet.keys).len(), 2);
    // Off for months: the announced one signs meanwhile, one is announced now.
    let late = 5_000_000;
    fleet.turn(late).await;
    assert_ne!(fleet.active(late), first);
    assert_eq!(kids(&fleet.keys).len(), 2, "the first is dropped, the third announced");
    fleet.turn(late + 1).await;
    assert_eq!(kids(&fleet.keys).len(), 2);
}

#[tokio::test]
async fn a_successor_signs_once_every_instance_holds_it() {
    let fleet = Fleet::new(SLOW).await;
    fleet.broker("north", Profile::Fleetbadge).await;
    fleet.keys.rotate(None, false, NOW).await.unwrap();
    let (first, both) = (fleet.active(0), kids(&fleet.keys));
    fleet.report("north", "a", &both, 1).await;
    fleet.report("north", "b", &both[..1], 1).await;
    fleet.report("north", "b", &["of-another-issuer".to_owned()], 2).await;
    fleet.turn(600).await;
    assert_eq!(fleet.active(9_999), first, "b does not hold it");
    fleet.report("north", "b", &both, 650).await;
    fleet.turn(660).await;
    assert_eq!(fleet.active(9_999), first, "a said so before every node gave it out");
    fleet.report("north", "a", &both, 661).await;
    fleet.turn(700).await;
    assert_eq!(fleet.active(704), first);
    assert_ne!(fleet.active(705), first);
    // A new instance does not take that back.
    fleet.report("north", "c", &[], 701).await;
    fleet.turn(702).await;
    assert_ne!(fleet.active(705), first);
    // Neither does another node.
    assert_ne!(active(&open_with(&fleet.folder, SLOW, NOW.plus(705)).await, NOW.plus(705)), first);
}

#[tokio::test]
async fn who_never_confirms_holds_it_up_until_the_deadline_and_no_longer() {
    let fleet = Fleet::new(SLOW).await;
    fleet.broker("north", Profile::Fleetbadge).await;
    let first = fleet.active(0);
    fleet.keys.rotate(None, false, NOW).await.unwrap();
    for at in (0..10_000).step_by(500) {
        fleet.report("north", "stubborn", std::slice::from_ref(&first), at).await;
        fleet.turn(at).await;
        assert_eq!(fleet.active(at), first, "{at}");
    }
    assert_ne!(fleet.active(10_000), first);
}

#[tokio::test]
async fn who_is_gone_holds_up_nothing() {
    let fleet = Fleet::new(KeyTiming { confirm_deadline_s: 500_000, ..SLOW }).await;
    fleet.broker("north", Profile::Fleetbadge).await;
    fleet.broker("south", Profile::Fleetbadge).await;
    let first = fleet.active(0);
    fleet.keys.rotate(None, false, NOW).await.unwrap();
    fleet.report("north", "a", &[], 0).await;
    fleet.report("south", "a", &[], 90_000).await;
    fleet.turn(90_000).await;
    assert_eq!(fleet.active(100_000), first, "south is heard of");
    let store = &fleet.keys.store;
    let revision = store.settings().await.unwrap().revision;
    assert!(store.remove_broker(revision, "south").await.unwrap());
    fleet.turn(90_001).await;
    assert_ne!(fleet.active(90_006), first, "north was not heard of for a day");
}

#[tokio::test]
async fn brokers_with_a_native_profile_are_given_the_time_that_they_need() {
    for (profile, least) in
        [(Profile::Emqx, Some(600)), (Profile::Hivemq, Some(1_800)), (Profile::Rmqtt, None)]
    {
        let fleet = Fleet::new(SLOW).await;
        fleet.broker("native", profile.clone()).await;
        let first = fleet.active(0);
        fleet.keys.rotate(None, false, NOW).await.unwrap();
        fleet.turn(least.unwrap_or(9_990) - 1).await;
        assert_eq!(fleet.active(9_999), first, "{profile:?}");
        fleet.turn(least.unwrap_or(10_000)).await;
        assert_ne!(fleet.active(least.map_or(10_000, |least| least + 5)), first, "{profile:?}");
    }
}

/// Nobody carries the key there by night.
#[tokio::test]
async fn keys_that_are_carried_by_hand_are_rotated_by_hand() {
    let fleet = Fleet::new(TIMING).await;
    fleet.broker("native", Profile::Rmqtt).await;
    fleet.turn(50_000).await;
    assert_eq!(kids(&fleet.keys).len(), 1);
    fleet.keys.rotate(None, false, NOW.plus(50_000)).await.unwrap();
    assert_eq!(kids(&fleet.keys).len(), 2);
}

/// Whatever fails on the way: nothing is half done, and it is done later.
#[tokio::test]
async fn a_write_that_fails_anywhere_leaves_the_keys_as_they_were() {
    let fleet = Fleet::new(KeyTiming { confirm_deadline_s: 10_000, ..TIMING }).await;
    let behind_its_back = behind_its_back(&fleet.folder).await;
    let first = fleet.active(0);
    // Announcement, promotion, deletion; each with every statement of it.
    let steps = [
        (
            10_000,
            &["INSERT ON signing_keys", "UPDATE ON signing_keys", "INSERT ON changes", "UPDATE ON state"][..],
            2,
        ),
        (10_600, &["UPDATE ON signing_keys", "INSERT ON changes", "UPDATE ON state"], 2),
        (11_605, &["DELETE ON signing_keys", "INSERT ON changes", "UPDATE ON state"], 1),
    ];
    for (at, statements, expected) in steps {
        let now = NOW.plus(at);
        let before = fleet.keys.store.signing_keys().await.unwrap();
        for statement in statements {
            // After it: the statement itself was done.
            let fail = format!("CREATE TRIGGER fail AFTER {statement} BEGIN SELECT RAISE(ABORT, 'no'); END");
            sqlx::raw_sql(sqlx::AssertSqlSafe(fail)).execute(&behind_its_back).await.unwrap();
            turn(&fleet.keys, now).await.unwrap_err();
            assert_eq!(fleet.keys.store.signing_keys().await.unwrap(), before, "{statement} at {at}");
            let again = open(&fleet.folder, now).await;
            let states =
                again.current().ring.keys().iter().map(|key| key.schedule.state(now)).collect::<Vec<_>>();
            assert_eq!(states.iter().filter(|state| **state == KeyState::Active).count(), 1, "{states:?}");
            sqlx::raw_sql("DROP TRIGGER fail").execute(&behind_its_back).await.unwrap();
        }
        turn(&fleet.keys, now).await.unwrap();
        assert_eq!(kids(&fleet.keys).len(), expected, "at {at}");
    }
    assert_ne!(fleet.active(11_605), first);
}
