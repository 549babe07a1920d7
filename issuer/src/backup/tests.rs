use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fleetbadge_validator::time::ManualClock;

use super::*;
use crate::revoker::Revoker;
use crate::root_key::RootKey;
use crate::store::sqlite::SqliteStore;
use crate::test_support::{ISSUER, NOW, TestIssuer};

fn epoch() -> NewEpoch {
    NewEpoch {
        revoker: Revoker::new(Arc::new(ManualClock::at(NOW)), 0, 900),
        statements_after: NOW.plus(360),
    }
}

fn root_keys(byte: u8) -> RootKeySet {
    RootKeySet::of_one(&RootKey::from_bytes([byte; 32]))
}

async fn backup(store: &dyn Store) -> Vec<u8> {
    let header =
        BackupHeader { fleetbadge_backup: BackupHeader::VERSION, issuer: ISSUER.into(), made_at: NOW };
    let (to, mut bytes) = mpsc::channel::<Bytes>(4);
    let mut file = Vec::new();
    let collect = async {
        while let Some(part) = bytes.recv().await {
            file.extend_from_slice(&part);
        }
    };
    let key = root_keys(1);
    let (written, ()) = tokio::join!(write(store, &key, [3; 32], &header, to), collect);
    written.unwrap();
    file
}

async fn restored(
    file: &[u8],
    key: &RootKeySet,
    issuer: &str,
) -> Result<(SqliteStore, tempfile::TempDir), NotRestored> {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("db")).await.unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&count);
    let progress = move |rows| told.store(rows, Ordering::SeqCst);
    let file = Cursor::new(file.to_vec());
    let result = restore(&store, key, file, issuer, &epoch(), progress).await;
    if result.is_err() {
        assert_eq!(store.settings().await.unwrap().groups, [], "nothing is half done");
        assert_eq!(store.revocations(0, 9).await.unwrap(), []);
    }
    let header = result?;
    assert_eq!((header.made_at, count.load(Ordering::SeqCst) > 3), (NOW, true));
    Ok((store, folder))
}

#[tokio::test]
async fn devices_come_back_and_no_token_or_key_does() {
    let issuer = TestIssuer::new().await;
    issuer.add("pump-1", &["other"]).await;
    let from = &*issuer.app().store;
    let file = backup(from).await;
    let (store, _folder) = restored(&file, &root_keys(1), ISSUER).await.unwrap();
    assert_eq!(store.device("pump-1").await.unwrap(), from.device("pump-1").await.unwrap());
    assert_eq!(store.settings().await.unwrap().groups, from.settings().await.unwrap().groups);
    let keys = from.signing_keys().await.unwrap().keys;
    assert_eq!(keys.len(), 1);
    assert_eq!(store.signing_keys().await.unwrap().keys, []);
    let revoked = store.revocations(0, 9).await.unwrap();
    let epoch = epoch();
    epoch.revoker.allow_token_lifetime(from.changes(0).await.unwrap().max_token_lifetime_s);
    let expected = [epoch.revoker.key(&keys[0].kid), epoch.revoker.all()];
    assert_eq!(revoked.into_iter().map(|one| one.revocation).collect::<Vec<_>>(), expected);
    let log = store.changes(0).await.unwrap();
    assert_eq!(log.statements_after, NOW.plus(360));
    assert_ne!(log.epoch, from.changes(0).await.unwrap().epoch);
    for secret in ["pump-1", "ES256", "devices/"] {
        assert!(!file.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret} is readable");
    }
}

#[tokio::test]
async fn nothing_else_is_restored() {
    let issuer = TestIssuer::new().await;
    let file = backup(&*issuer.app().store).await;
    let other_key = restored(&file, &root_keys(2), ISSUER).await;
    assert!(matches!(other_key.err(), Some(NotRestored::Sealed(SealedFileError::RootKey(_)))));
    let cut = restored(&file[..file.len() - 1], &root_keys(1), ISSUER).await;
    assert!(matches!(cut.err(), Some(NotRestored::Sealed(_))));
    let other = restored(&file, &root_keys(1), "https://other.example").await.err().unwrap();
    assert!(other.to_string().contains("give --issuer https://id.example"), "{other}");
    let no_backup = restored(b"not a backup", &root_keys(1), ISSUER).await.err().unwrap();
    assert!(matches!(no_backup, NotRestored::Sealed(SealedFileError::NotSealed)));
}
