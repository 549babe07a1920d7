//! Signing keys, and which of them does what when: pure.
//!
//! The state of a key follows from its [`Schedule`] and the time:
//!
//! 1. *announced*: published, so that brokers have it before it signs;
//! 2. *active*: signs;
//! 3. *retired*: still published, as tokens that it signed are still good;
//! 4. *dropped*: gone.
//!
//! Each algorithm has keys of its own: one that is active, and its forerunners
//! and successors. A [`KeyRing`] is all keys of one moment, [`plan`] says how the
//! schedules of one algorithm change, [`holders`] which brokers hold a key. What
//! is stored and in use is the concern of [`crate::keys`].

use std::sync::Arc;

use fleetbadge_validator::jwk::{Algorithm, Jwks};
use fleetbadge_validator::time::UnixSeconds;

mod external;
pub mod holders;
mod key;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
pub mod plan;
mod schedule;

pub use external::{ExternalKey, ExternalSigner, SignerFailed};
pub(crate) use key::signature_length;
pub use key::{PrivateHalf, SigningKey, TokenType, UnusableSigningKey};
pub use plan::{Planned, RotationRefused};
pub use schedule::{KeyFetch, KeyState, KeyTiming, Schedule};

/// A key and its schedule.
#[derive(Clone)]
pub struct ScheduledKey {
    /// The key.
    pub key: Arc<SigningKey>,
    /// When it does what.
    pub schedule: Schedule,
}

/// The keys of an issuer. Never changed: a new ring replaces it whole.
#[derive(Clone)]
pub struct KeyRing(Vec<ScheduledKey>);

impl KeyRing {
    /// A ring of these keys.
    #[must_use]
    pub const fn new(keys: Vec<ScheduledKey>) -> Self {
        Self(keys)
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[ScheduledKey] {
        &self.0
    }

    /// Whether there is a key of this algorithm, in whichever state.
    #[must_use]
    pub fn has(&self, algorithm: Algorithm) -> bool {
        self.0.iter().any(|key| key.key.algorithm() == algorithm)
    }

    /// The key that signs at `now`. None if there is no such key yet, or the
    /// clock shows a time before the first was made.
    #[must_use]
    pub fn active(&self, algorithm: Algorithm, now: UnixSeconds) -> Option<&SigningKey> {
        self.0
            .iter()
            .find(|key| key.key.algorithm() == algorithm && key.schedule.state(now) == KeyState::Active)
            .map(|key| &*key.key)
    }

    /// The same keys but for one.
    #[must_use]
    pub fn without(&self, kid: &str) -> Self {
        Self(self.0.iter().filter(|key| key.key.kid() != kid).cloned().collect())
    }

    /// The schedules, and of which algorithm each is.
    #[must_use]
    pub fn schedules(&self) -> Vec<Planned> {
        self.0.iter().map(|key| (key.key.algorithm(), key.schedule)).collect()
    }

    /// The JWK Set of `now`: every key that is not dropped.
    #[must_use]
    pub fn jwks(&self, now: UnixSeconds) -> Jwks {
        let published = |key: &&ScheduledKey| match key.schedule.state(now) {
            KeyState::Announced | KeyState::Active | KeyState::Retired => true,
            KeyState::Dropped => false,
        };
        Jwks { keys: self.0.iter().filter(published).map(|key| key.key.public().to_jwk()).collect() }
    }

    /// When a key changes its state next.
    #[must_use]
    pub fn next_change(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        self.0.iter().filter_map(|key| key.schedule.next_change(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_key::RootKey;

    fn key(algorithm: Algorithm) -> Arc<SigningKey> {
        SigningKey::generate(algorithm, &RootKey::from_bytes([1; 32]).key_sealer()).unwrap().0.into()
    }

    #[test]
    fn the_ring_follows_the_schedules() {
        let at = UnixSeconds;
        let ring = KeyRing::new(
            [
                Schedule {
                    announced_at: at(0),
                    active_at: at(0),
                    retired_at: Some(at(200)),
                    dropped_at: Some(at(300)),
                },
                Schedule { announced_at: at(100), active_at: at(200), retired_at: None, dropped_at: None },
            ]
            .map(|schedule| ScheduledKey { key: key(Algorithm::ES256), schedule })
            .into(),
        );
        let seen = |now| {
            let active = ring.keys().iter().position(|k| {
                Some(k.key.kid()) == ring.active(Algorithm::ES256, at(now)).map(SigningKey::kid)
            });
            (active.unwrap(), ring.jwks(at(now)).keys.len(), ring.next_change(at(now)).map(|t| t.0))
        };
        assert_eq!(seen(150), (0, 2, Some(200)));
        assert_eq!(seen(199), (0, 2, Some(200)));
        assert_eq!(seen(200), (1, 2, Some(300)));
        assert_eq!(seen(299), (1, 2, Some(300)));
        assert_eq!(seen(300), (1, 1, None));
    }

    #[test]
    fn each_algorithm_has_a_key_that_signs() {
        let schedule = Schedule::first(UnixSeconds(100));
        let ring = KeyRing::new(
            Algorithm::ALL.map(|algorithm| ScheduledKey { key: key(algorithm), schedule }).into(),
        );
        for algorithm in Algorithm::ALL {
            assert!(ring.has(algorithm));
            assert_eq!(ring.active(algorithm, UnixSeconds(100)).unwrap().algorithm(), algorithm);
            // The clock went back: there is a key all the same.
            assert!(ring.active(algorithm, UnixSeconds(99)).is_none());
        }
        assert_eq!(ring.jwks(UnixSeconds(100)).keys.len(), 3);
        assert!(!KeyRing::new(vec![]).has(Algorithm::ES256));
    }
}
