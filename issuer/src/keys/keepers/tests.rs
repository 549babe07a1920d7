//! An external signer that is made up: what a token of PKCS #11 does is in
//! `tests/pkcs11`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fleetbadge_validator::time::UnixSeconds;
use jsonwebtoken::signature::Signer as _;

use super::*;
use crate::brokers::Brokers;
use crate::keys::{KeyError, Keys};
use crate::root_key::{RootKey, SealBroken};
use crate::signing_keys::{KeyTiming, Schedule};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const TIMING: KeyTiming = KeyTiming {
    rotation_s: None,
    announce_s: 600,
    confirm_deadline_s: 600,
    propagation_bound_s: 5,
    heard_everywhere_s: 9,
    publish_retired_s: 1_000,
};

/// Signs with a key of its own, as slowly as wanted.
struct Signer {
    key: SigningKey,
    slowness: Duration,
    is_there: AtomicBool,
    destroyed: AtomicUsize,
}

impl Signer {
    fn new(slowness: Duration) -> Arc<Self> {
        let (key, _) = SigningKey::generate(Algorithm::ES256, &sealer()).unwrap();
        Arc::new(Self { key, slowness, is_there: true.into(), destroyed: 0.into() })
    }
}

impl ExternalSigner for Signer {
    fn make(&self, _: Algorithm) -> Result<ExternalKey, SignerFailed> {
        Ok(ExternalKey { token: "fleet".into(), id: "00".into(), public: self.key.public().to_jwk() })
    }

    fn sign(&self, _: &ExternalKey, _: Algorithm, message: &[u8]) -> Result<Vec<u8>, SignerFailed> {
        std::thread::sleep(self.slowness);
        if message == b"short" { Ok(vec![1, 2, 3]) } else { Ok(self.key.try_sign(message).unwrap()) }
    }

    fn destroy(&self, _: &ExternalKey) -> Result<(), SignerFailed> {
        if !self.is_there() {
            return Err(SignerFailed::Gone("away".into()));
        }
        self.destroyed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn look_after(&self) {}

    fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }
}

fn sealer() -> KeySealer {
    RootKey::from_bytes([1; 32]).key_sealer()
}

fn keepers(signer: &Arc<Signer>) -> Keepers {
    let signer: Arc<dyn ExternalSigner> = Arc::<Signer>::clone(signer);
    Keepers::local(sealer()).with_signer(Some(signer), true)
}

fn made(keepers: &Keepers) -> SigningKeyRecord {
    let (kid, private) = keepers.make(Algorithm::ES256).unwrap();
    SigningKeyRecord { kid, algorithm: Algorithm::ES256, private, schedule: Schedule::first(NOW) }
}

/// Somebody who can write rows, but has no root key, wants his own key
/// published.
#[test]
fn a_row_that_was_not_sealed_here_is_no_key() {
    let keepers = keepers(&Signer::new(Duration::ZERO));
    let record = made(&keepers);
    assert_eq!(keepers.open(&record).unwrap().kid(), record.kid);
    let refused = |record: &SigningKeyRecord| keepers.open(record).err().unwrap();
    let broken = UnusableSigningKey::Seal(SealBroken::Content(RootKey::from_bytes([1; 32]).id()));
    let other = made(&self::keepers(&Signer::new(Duration::ZERO)));
    assert_eq!(refused(&SigningKeyRecord { private: other.private, ..record.clone() }), broken);
    let PrivateHalf::Pkcs11(sealed) = record.private.clone() else { panic!("not external") };
    let as_own = SigningKeyRecord { private: PrivateHalf::Sealed(sealed), ..record.clone() };
    assert_eq!(refused(&as_own), UnusableSigningKey::Cryptography);
    let (kid, own) = Keepers::local(sealer()).make(Algorithm::ES256).unwrap();
    let as_external = PrivateHalf::Pkcs11(own.sealed().clone());
    let as_external = SigningKeyRecord { kid, private: as_external, ..record.clone() };
    assert_eq!(refused(&as_external), UnusableSigningKey::Cryptography);
    let as_rsa = SigningKeyRecord { algorithm: Algorithm::RS256, ..record.clone() };
    assert_eq!(refused(&as_rsa), UnusableSigningKey::Cryptography);
    // And without a signer it is said what is missing.
    assert_eq!(Keepers::local(sealer()).open(&record).err(), Some(UnusableSigningKey::NoSigner));
}

#[test]
fn what_is_no_signature_is_not_passed_on() {
    let signer = Signer::new(Duration::ZERO);
    let keepers = keepers(&signer);
    let key = keepers.open(&made(&keepers)).unwrap();
    assert!(key.is_external());
    assert!(key.try_sign(b"message").is_ok());
    assert!(key.try_sign(b"short").is_err());
    signer.is_there.store(false, Ordering::Relaxed);
    assert!(key.try_sign(b"message").is_err());
}

/// On one thread, while the token takes its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_signer_stops_nobody_else() {
    let keepers = keepers(&Signer::new(Duration::from_millis(500)));
    let key = keepers.open(&made(&keepers)).unwrap();
    let is_signed = Arc::new(AtomicBool::new(false));
    let (task, signed) = (Arc::clone(&is_signed), Arc::clone(&is_signed));
    let signing = tokio::spawn(async move {
        key.try_sign(b"message").unwrap();
        task.store(true, Ordering::Relaxed);
    });
    // Begun before the signature ends, and ended before it, too.
    let others = tokio::spawn(async move {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        signed.load(Ordering::Relaxed)
    });
    assert!(!others.await.unwrap());
    signing.await.unwrap();
    assert!(is_signed.load(Ordering::Relaxed));
}

/// A token that is away when its key is dropped still loses it.
#[tokio::test]
async fn a_dropped_key_is_destroyed_once_its_signer_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.path().join("db")).await.unwrap());
    let signer = Signer::new(Duration::ZERO);
    let open = async |keepers| {
        let brokers = Arc::new(Brokers::new(Arc::clone(&store)));
        Keys::open(Arc::clone(&store), keepers, brokers, "https://id.example", TIMING, NOW).await
    };
    let first = open(keepers(&signer)).await.unwrap();
    assert!(first.current().ring.keys()[0].key.is_external());
    // New keys are made here from now on.
    let external: Arc<dyn ExternalSigner> = Arc::<Signer>::clone(&signer);
    let keys = open(Keepers::local(sealer()).with_signer(Some(external), false)).await.unwrap();
    keys.rotate(None, true, NOW).await.unwrap();
    signer.is_there.store(false, Ordering::Relaxed);
    assert!(!keys.is_signer_missed(NOW));
    keys.refresh(NOW.plus(1_000)).await.unwrap();
    assert_eq!(store.signing_keys().await.unwrap().keys.len(), 2);
    // It is not published any more all the same.
    assert_eq!(keys.current().key_set.key_ids().count(), 1);
    signer.is_there.store(true, Ordering::Relaxed);
    keys.refresh(NOW.plus(1_001)).await.unwrap();
    assert_eq!(store.signing_keys().await.unwrap().keys.len(), 1);
    assert_eq!(signer.destroyed.load(Ordering::Relaxed), 1);
    // Nothing of it is needed from then on.
    assert!(open(Keepers::local(sealer())).await.is_ok());
    assert!(!matches!(keys.refresh(NOW.plus(1_002)).await, Err(KeyError::Unusable(_))));
}

/// A change of the root key reaches what is known of an external key, too.
#[test]
fn what_is_known_of_an_external_key_is_sealed_again() {
    use crate::root_key::{RootKeySet, RootKeysInUse};

    let [one, two] = [1, 2].map(|byte| RootKey::from_bytes([byte; 32]));
    let keys = [one, two];
    let set = |n: usize| RootKeySet::new(&keys, keys[n].id()).unwrap();
    let in_use = RootKeysInUse::new(set(0));
    let signer: Arc<dyn ExternalSigner> = Signer::new(Duration::ZERO);
    let keepers = Keepers::local(in_use.key_sealer()).with_signer(Some(signer), true);
    let record = made(&keepers);
    assert_eq!(keepers.seal_again(&record), Ok(None));
    in_use.replace(set(1));
    let private = keepers.seal_again(&record).unwrap().unwrap();
    assert_eq!(private.sealed().root_key, keys[1].id());
    let record = SigningKeyRecord { private, ..record };
    assert!(keepers.open(&record).unwrap().is_external());
}
