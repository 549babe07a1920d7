use std::time::Duration;

use super::*;
use crate::root_key::RootKey;
use crate::store::sqlite::SqliteStore;

const TIMING: KeyTiming = KeyTiming {
    rotation_s: Some(10_000),
    announce_s: 600,
    confirm_deadline_s: 600,
    propagation_bound_s: 5,
    heard_everywhere_s: 9,
    publish_retired_s: 1_000,
};
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

async fn open(folder: &tempfile::TempDir, now: UnixSeconds) -> Keys {
    open_with(folder, TIMING, now).await
}

async fn open_with(folder: &tempfile::TempDir, timing: KeyTiming, now: UnixSeconds) -> Keys {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.path().join("db")).await.unwrap());
    let sealer = RootKey::from_bytes([1; 32]).key_sealer();
    let brokers = Arc::new(Brokers::new(Arc::clone(&store)));
    let keepers = Keepers::local(sealer);
    Keys::open(store, keepers, brokers, "https://id.example", timing, now).await.unwrap()
}

/// The database, for somebody who spoils it. One connection: another would not
/// know at once what this one has dropped.
async fn behind_its_back(folder: &tempfile::TempDir) -> sqlx::SqlitePool {
    let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
    options.connect(folder.path().join("db").to_str().unwrap()).await.unwrap()
}

fn kids(keys: &Keys) -> Vec<String> {
    keys.current().ring.keys().iter().map(|key| key.key.kid().to_owned()).collect()
}

fn active(keys: &Keys, now: UnixSeconds) -> String {
    active_of(keys, Algorithm::ES256, now).unwrap()
}

fn active_of(keys: &Keys, algorithm: Algorithm, now: UnixSeconds) -> Option<String> {
    keys.current().ring.active(algorithm, now).map(|key| key.kid().to_owned())
}

/// Does what is due, and waits for keys that it needs; as a node does,
/// it takes up meanwhile what another one has changed.
async fn turn(keys: &Keys, now: UnixSeconds) -> Result<(), KeyError> {
    let turning = async {
        loop {
            keys.turn(now).await?;
            if keys.workshop.is_idle() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            keys.reload(now).await?;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), turning).await.unwrap()
}

/// Asks for a key until it is there.
async fn ensure(keys: &Keys, algorithm: Algorithm, now: UnixSeconds) {
    let asked = async {
        while !keys.current().ring.has(algorithm) {
            keys.ensure(algorithm, now).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap();
}

#[tokio::test]
async fn the_first_key_signs_at_once_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = active(&open(&folder, NOW).await, NOW);
    assert_eq!(active(&open(&folder, NOW.plus(5)).await, NOW), first);
}

#[tokio::test]
async fn a_rotation_from_announcement_to_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    let first = active(&keys, NOW);
    let etag = keys.current().etag.clone();
    keys.rotate(None, false, NOW).await.unwrap();
    assert!(matches!(keys.rotate(None, false, NOW).await, Err(KeyError::Refused(_))));
    // Published at once, signing later, without anything being done.
    assert_eq!(keys.current().key_set.key_ids().count(), 2);
    assert_ne!(keys.current().etag, etag);
    assert_eq!(active(&keys, NOW.plus(599)), first);
    assert_ne!(active(&keys, NOW.plus(600)), first);
    // The old one stays published until its tokens are gone.
    keys.refresh(NOW.plus(1_599)).await.unwrap();
    assert_eq!(keys.current().key_set.key_ids().count(), 2);
    keys.refresh(NOW.plus(1_600)).await.unwrap();
    assert_eq!(keys.current().key_set.key_ids().count(), 1);
    assert!(!kids(&keys).contains(&first));
    let again = open(&folder, NOW.plus(1_600)).await;
    assert_eq!(kids(&again), kids(&keys));
}

#[tokio::test]
async fn a_rotation_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    let first = active(&keys, NOW);
    keys.rotate(None, true, NOW).await.unwrap();
    let second = active(&keys, NOW);
    assert_ne!(second, first);
    assert!(kids(&keys).contains(&first));
    // An announced key is promoted, not replaced.
    keys.rotate(None, false, NOW).await.unwrap();
    assert_eq!(active(&keys, NOW), second);
    keys.rotate(None, true, NOW).await.unwrap();
    assert_ne!(active(&keys, NOW), second);
    assert_eq!(kids(&keys).len(), 3);
}

#[tokio::test]
async fn the_first_key_of_another_algorithm_signs_at_once_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    let etag = keys.current().etag.clone();
    for algorithm in [Algorithm::RS256, Algorithm::EdDSA] {
        keys.ensure(algorithm, NOW).await.unwrap();
        // It is being made; the answer did not wait for it.
        assert_eq!(active_of(&keys, algorithm, NOW), None);
        ensure(&keys, algorithm, NOW.plus(1)).await;
        assert!(active_of(&keys, algorithm, NOW.plus(1)).is_some());
    }
    assert_ne!(keys.current().etag, etag);
    assert_eq!(keys.current().key_set.key_ids().count(), 3);
    // Asked again, it makes no other.
    keys.ensure(Algorithm::RS256, NOW.plus(2)).await.unwrap();
    assert_eq!(kids(&open(&folder, NOW.plus(2)).await), kids(&keys));
    assert_eq!(kids(&keys).len(), 3);
}

#[tokio::test]
async fn whoever_asks_meanwhile_starts_no_second_key() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    tokio::join!(
        ensure(&keys, Algorithm::RS256, NOW),
        ensure(&keys, Algorithm::RS256, NOW),
        ensure(&keys, Algorithm::RS256, NOW),
    );
    assert_eq!(kids(&keys).len(), 2);
    assert_eq!(kids(&open(&folder, NOW).await).len(), 2);
}

/// Between the making of a key and its storing nobody has seen it: nothing is
/// half there, and the next start makes another.
#[tokio::test]
async fn an_end_while_a_key_is_made_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let before = {
        let keys = open(&folder, NOW).await;
        keys.ensure(Algorithm::RS256, NOW).await.unwrap();
        while !keys.workshop.is_ready(Algorithm::RS256) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        kids(&keys)
    };
    let keys = open(&folder, NOW.plus(1)).await;
    assert_eq!(kids(&keys), before);
    ensure(&keys, Algorithm::RS256, NOW.plus(1)).await;
    assert_eq!(kids(&open(&folder, NOW.plus(1)).await).len(), 2);
}

/// Another server of the same database was first.
#[tokio::test]
async fn a_key_that_somebody_else_has_stored_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(&folder, NOW).await, open(&folder, NOW).await);
    one.ensure(Algorithm::EdDSA, NOW).await.unwrap();
    ensure(&other, Algorithm::EdDSA, NOW).await;
    ensure(&one, Algorithm::EdDSA, NOW).await;
    assert_eq!(kids(&one), kids(&other));
    assert_eq!(kids(&one).len(), 2);
}

#[tokio::test]
async fn a_rotation_of_one_algorithm_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    ensure(&keys, Algorithm::RS256, NOW).await;
    let (es, rs) = (active(&keys, NOW), active_of(&keys, Algorithm::RS256, NOW));
    keys.rotate(Some(Algorithm::RS256), false, NOW).await.unwrap();
    assert_eq!(kids(&keys).len(), 3);
    assert_eq!(active_of(&keys, Algorithm::RS256, NOW.plus(599)), rs);
    assert_ne!(active_of(&keys, Algorithm::RS256, NOW.plus(600)), rs);
    assert_eq!(active(&keys, NOW.plus(600)), es);
    let refused = keys.rotate(Some(Algorithm::EdDSA), true, NOW).await;
    assert!(matches!(refused, Err(KeyError::Refused(RotationRefused::NoKey { .. }))));
}

#[tokio::test]
async fn without_a_name_every_algorithm_in_use_is_rotated_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    ensure(&keys, Algorithm::RS256, NOW).await;
    let (es, rs) = (active(&keys, NOW), active_of(&keys, Algorithm::RS256, NOW));
    keys.rotate(Some(Algorithm::RS256), false, NOW).await.unwrap();
    let before = kids(&keys);
    // RS256 is under way: ES256 is not rotated without it.
    let refused = keys.rotate(None, false, NOW).await;
    assert!(matches!(refused, Err(KeyError::Refused(RotationRefused::UnderWay { .. }))));
    assert_eq!(kids(&keys), before);
    keys.rotate(None, true, NOW).await.unwrap();
    assert_ne!(active(&keys, NOW), es);
    assert_ne!(active_of(&keys, Algorithm::RS256, NOW), rs);
    assert_eq!(active_of(&keys, Algorithm::EdDSA, NOW), None);
    assert_eq!(kids(&keys).len(), 4);
}

/// Both make their RSA key at the same time; only one of them is announced.
#[tokio::test]
async fn two_rotations_at_the_same_time_announce_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    ensure(&keys, Algorithm::RS256, NOW).await;
    let rotate = || keys.rotate(Some(Algorithm::RS256), false, NOW);
    let (one, other) = tokio::join!(rotate(), rotate());
    assert!(one.is_ok() != other.is_ok());
    assert_eq!(kids(&keys).len(), 3);
}

/// Its `active_at` is after the moment at which the rotation began, which is no
/// sign of a wrong clock.
#[tokio::test]
async fn a_first_key_that_comes_meanwhile_is_left_out_of_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    keys.ensure(Algorithm::EdDSA, NOW).await.unwrap();
    let es = active(&keys, NOW);
    // Still being made.
    keys.rotate(None, true, NOW).await.unwrap();
    assert_ne!(active(&keys, NOW), es);
    ensure(&keys, Algorithm::EdDSA, NOW.plus(2)).await;
    let ed = active_of(&keys, Algorithm::EdDSA, NOW.plus(2));
    keys.rotate(None, true, NOW.plus(1)).await.unwrap();
    assert_eq!(active_of(&keys, Algorithm::EdDSA, NOW.plus(2)), ed);
    assert_eq!(kids(&keys).len(), 4);
    // Where no key at all is active, the clock is asked about.
    let refused = keys.rotate(None, true, UnixSeconds(NOW.0 - 1)).await;
    assert!(matches!(refused, Err(KeyError::Refused(RotationRefused::NoActiveKey { .. }))));
}

mod revoke;
mod turn;
