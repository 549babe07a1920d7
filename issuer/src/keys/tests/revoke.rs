//! A key that others may have.

use fleetbadge_validator::revocations::{Revocation, RevocationTarget};

use super::*;

async fn revoke(keys: &Keys, kid: &str, now: UnixSeconds) -> Result<(), KeyError> {
    keys.revoke(kid, &Revocation::of_key(kid, now.plus(1_000)), now).await
}

async fn revoked(keys: &Keys) -> Vec<RevocationTarget> {
    let revocations = keys.store.revocations(0, 99).await.unwrap();
    revocations.into_iter().map(|numbered| numbered.revocation.target).collect()
}

#[tokio::test]
async fn a_revoked_key_is_gone_and_another_signs_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    let first = active(&keys, NOW);
    revoke(&keys, &first, NOW).await.unwrap();
    let second = active(&keys, NOW);
    assert_eq!(kids(&keys), [second.as_str()]);
    assert!(!String::from_utf8_lossy(&keys.current().jwks).contains(&first));
    assert_eq!(revoked(&keys).await, [RevocationTarget::Key(first.as_str().into())]);
    // An announced one takes its place.
    keys.rotate(None, false, NOW).await.unwrap();
    let announced = kids(&keys).into_iter().find(|kid| *kid != second).unwrap();
    revoke(&keys, &second, NOW.plus(1)).await.unwrap();
    assert_eq!((active(&keys, NOW.plus(1)), kids(&keys).len()), (announced.clone(), 1));
    assert!(matches!(revoke(&keys, &first, NOW).await, Err(KeyError::NoSuchKey { .. })));
    assert_eq!(kids(&open(&folder, NOW.plus(1)).await), [announced]);
}

#[tokio::test]
async fn without_its_successor_a_key_signs_on() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    let first = active(&keys, NOW);
    keys.rotate(None, false, NOW).await.unwrap();
    let announced = kids(&keys).into_iter().find(|kid| *kid != first).unwrap();
    revoke(&keys, &announced, NOW.plus(1)).await.unwrap();
    assert_eq!(active(&keys, NOW.plus(100_000)), first);
    keys.rotate(None, false, NOW.plus(2)).await.unwrap();
}

/// Two operators revoke it at the same time: one new key, and one is told that
/// it is gone.
#[tokio::test]
async fn two_revocations_at_the_same_time_make_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(&folder, NOW).await, open(&folder, NOW).await);
    let first = active(&one, NOW);
    let (a, b) = tokio::join!(revoke(&one, &first, NOW), revoke(&other, &first, NOW));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    for keys in [&one, &other] {
        keys.refresh(NOW).await.unwrap();
        keys.reload(NOW).await.unwrap();
    }
    assert_eq!(kids(&one), kids(&other));
    assert_eq!(kids(&one).len(), 1);
}

/// All of it or nothing; and while that is open, the key signs nothing here.
#[tokio::test]
async fn a_revocation_that_cannot_be_written_is_not_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(&folder, NOW).await;
    let first = active(&keys, NOW);
    let behind_its_back = behind_its_back(&folder).await;
    let statements = [
        "INSERT ON signing_keys",
        "DELETE ON signing_keys",
        "INSERT ON revocations",
        "INSERT ON changes",
        "UPDATE ON state",
    ];
    for statement in statements {
        let fail = format!("CREATE TRIGGER fail AFTER {statement} BEGIN SELECT RAISE(ABORT, 'no'); END");
        sqlx::raw_sql(sqlx::AssertSqlSafe(fail)).execute(&behind_its_back).await.unwrap();
        assert!(matches!(revoke(&keys, &first, NOW).await, Err(KeyError::Store(_))), "{statement}");
        assert_eq!(active_of(&keys, Algorithm::ES256, NOW), None, "{statement}");
        assert_eq!(revoked(&keys).await, []);
        assert_eq!(active(&open(&folder, NOW).await, NOW), first, "{statement}");
        // The operator was told that it failed; the next tick goes on with it.
        keys.refresh(NOW).await.unwrap();
        assert_eq!(active(&keys, NOW), first, "{statement}");
        sqlx::raw_sql("DROP TRIGGER fail").execute(&behind_its_back).await.unwrap();
    }
    revoke(&keys, &first, NOW).await.unwrap();
    assert_ne!(active(&keys, NOW), first);
}
