//! An external signer that is made up: what a token of PKCS #11 does is in
//! `tests/pkcs11`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Keeps keys, and is as slow as wanted.
struct Signer {
    keys: Mutex<HashMap<String, SigningKey>>,
    slowness: Duration,
    is_there: AtomicBool,
    hangs: AtomicBool,
}

impl Signer {
    fn new(slowness: Duration) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::default(), slowness, is_there: true.into(), hangs: false.into() })
    }

    /// How many keys it keeps.
    fn objects(&self) -> usize {
        self.keys.lock().unwrap().len()
    }

    fn hang(&self) {
        while self.hangs.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl ExternalSigner for Signer {
    fn make(&self, _: Algorithm) -> Result<ExternalKey, SignerFailed> {
        self.hang();
        let (key, _) = SigningKey::generate(Algorithm::ES256, &sealer()).unwrap();
        let external =
            ExternalKey { token: "fleet".into(), id: key.kid().into(), public: key.public().to_jwk() };
        self.keys.lock().unwrap().insert(key.kid().into(), key);
        Ok(external)
    }

    fn sign(&self, key: &ExternalKey, _: Algorithm, message: &[u8]) -> Result<Vec<u8>, SignerFailed> {
        std::thread::sleep(self.slowness);
        let signed = self.keys.lock().unwrap()[&key.id].try_sign(message).unwrap();
        if message == b"short" { Ok(vec![1, 2, 3]) } else { Ok(signed) }
    }

    fn destroy(&self, key: &ExternalKey) -> Result<(), SignerFailed> {
        self.hang();
        if !self.is_there() {
            return Err(SignerFailed::Gone("away".into()));
        }
        self.keys.lock().unwrap().remove(&key.id);
        Ok(())
    }

    fn look_after(&self) {}

    fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }
}

/// Until this is so.
async fn until(is_so: impl AsyncFn() -> bool) {
    let waited = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap();
}

/// A server whose new keys `signer` makes.
async fn open(store: &Arc<dyn Store>, keepers: Keepers, timing: KeyTiming) -> Result<Keys, KeyError> {
    let brokers = Arc::new(Brokers::new(Arc::clone(store)));
    Keys::open(Arc::clone(store), keepers, brokers, "https://id.example", timing, NOW).await
}

async fn store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(&folder.path().join("db")).await.unwrap())
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
    let store = store(&folder).await;
    let signer = Signer::new(Duration::ZERO);
    let first = open(&store, keepers(&signer), TIMING).await.unwrap();
    assert!(first.current().ring.keys()[0].key.is_external());
    // New keys are made here from now on.
    let external: Arc<dyn ExternalSigner> = Arc::<Signer>::clone(&signer);
    let keepers = Keepers::local(sealer()).with_signer(Some(external), false);
    let keys = open(&store, keepers, TIMING).await.unwrap();
    keys.rotate(None, true, NOW).await.unwrap();
    signer.is_there.store(false, Ordering::Relaxed);
    assert!(!keys.is_signer_missed(NOW));
    for _ in 0..3 {
        keys.refresh(NOW.plus(1_000)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(store.signing_keys().await.unwrap().keys.len(), 2);
    // It is not published any more all the same.
    assert_eq!(keys.current().key_set.key_ids().count(), 1);
    signer.is_there.store(true, Ordering::Relaxed);
    until(async || {
        keys.refresh(NOW.plus(1_001)).await.unwrap();
        store.signing_keys().await.unwrap().keys.len() == 1
    })
    .await;
    assert_eq!(signer.objects(), 0);
    // Nothing of it is needed from then on.
    assert!(open(&store, Keepers::local(sealer()), TIMING).await.is_ok());
    assert!(!matches!(keys.refresh(NOW.plus(1_002)).await, Err(KeyError::Unusable(_))));
}

/// Nothing waits for it with anything locked: neither for a key that is to be
/// made nor for one that is to go.
#[tokio::test]
async fn a_signer_that_hangs_holds_up_nothing_but_its_own_keys() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let signer = Signer::new(Duration::ZERO);
    let keys = open(&store, keepers(&signer), KeyTiming { rotation_s: Some(100), ..TIMING }).await.unwrap();
    let first = keys.current().ring.keys()[0].key.kid().to_owned();
    keys.rotate(None, true, NOW).await.unwrap();
    signer.hangs.store(true, Ordering::Relaxed);
    let at = |seconds| NOW.plus(seconds);
    let at_once = async {
        for second in 0..5 {
            // One key is to go, another one to be announced.
            keys.turn(at(1_000 + second)).await.unwrap();
            keys.reload(at(1_000 + second)).await.unwrap();
        }
        let revocation = fleetbadge_validator::revocations::Revocation::of_key(&first, at(9_000));
        keys.revoke(&first, &revocation, at(1_005)).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(20), at_once).await.unwrap();
    assert_eq!(signer.objects(), 2);
    signer.hangs.store(false, Ordering::Relaxed);
    until(async || {
        keys.turn(at(1_006)).await.unwrap();
        keys.current().ring.keys().len() == 2 && signer.objects() == 2
    })
    .await;
    assert!(!keys.current().ring.keys().iter().any(|key| key.key.kid() == first));
}

/// What loses a race is not left in the token.
#[tokio::test]
async fn a_key_that_was_made_and_not_stored_is_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let signer = Signer::new(Duration::ZERO);
    let start = || open(&store, keepers(&signer), KeyTiming { rotation_s: Some(100), ..TIMING });
    let (one, two, three) = tokio::join!(start(), start(), start());
    let nodes = [one.unwrap(), two.unwrap(), three.unwrap()];
    let stored = async || store.signing_keys().await.unwrap().keys.len();
    assert_eq!(stored().await, 1);
    until(async || signer.objects() == 1).await;
    // Each node makes the next key by itself, and an operator asks for it too.
    until(async || {
        for node in &nodes {
            node.turn(NOW.plus(100)).await.unwrap();
        }
        stored().await == 2
    })
    .await;
    for node in &nodes {
        node.reload(NOW.plus(100)).await.unwrap();
        node.turn(NOW.plus(100)).await.unwrap();
        assert!(node.rotate(None, false, NOW.plus(100)).await.is_err());
    }
    until(async || signer.objects() == 2).await;
    let now = NOW.plus(101);
    let [one, two, three] = &nodes;
    let _ =
        tokio::join!(one.rotate(None, true, now), two.rotate(None, true, now), three.rotate(None, true, now));
    let stored = stored().await;
    until(async || signer.objects() == stored).await;
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
