//! Makes revocations that no token escapes.
//!
//! A node hears of a revocation within the propagation bound, or mints nothing.
//! So a revocation of a device, a group or all names every token that was
//! issued before the end of that bound, measured on the clock that is furthest
//! ahead; until then whoever is meant gets no token, see
//! [`crate::issued_revocations`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fleetbadge_validator::freshness::Freshness;
use fleetbadge_validator::revocations::{Revocation, RevocationTarget};
use fleetbadge_validator::time::{Clock, UnixSeconds};
use fleetbadge_validator::verify::Verifier;

use crate::store::{Store, StoreError};

/// Makes revocations.
#[derive(Clone)]
pub struct Revoker {
    clock: Arc<dyn Clock>,
    /// How long a node may go on that has not heard, and how far its clock may
    /// be ahead, in seconds.
    margin_s: u64,
    /// The longest life of a token, in seconds, that any node was ever allowed
    /// to give one.
    max_token_lifetime_s: Arc<AtomicU64>,
}

impl Revoker {
    pub(crate) fn new(clock: Arc<dyn Clock>, margin_s: u64, max_token_lifetime_s: u64) -> Self {
        Self { clock, margin_s, max_token_lifetime_s: Arc::new(max_token_lifetime_s.into()) }
    }

    /// Hears how long tokens may live: what any node ever allowed, since such
    /// tokens are about whatever the settings are now.
    pub(crate) fn allow_token_lifetime(&self, max_token_lifetime_s: u64) {
        self.max_token_lifetime_s.fetch_max(max_token_lifetime_s, Ordering::AcqRel);
    }

    /// Takes back what a device has, and what other nodes may still issue it.
    #[must_use]
    pub fn device(&self, name: &str) -> Revocation {
        let before = self.before();
        Revocation::of_device(name, before, self.end_of_tokens_until(before))
    }

    /// Takes back what the devices of a group have.
    #[must_use]
    pub fn group(&self, name: &str) -> Revocation {
        let before = self.before();
        Revocation::of_group(name, before, self.end_of_tokens_until(before))
    }

    /// Takes back everything.
    #[must_use]
    pub fn all(&self) -> Revocation {
        let before = self.before();
        Revocation::of_all(before, self.end_of_tokens_until(before))
    }

    /// Takes back what a key signed. Whoever has stolen it goes on signing, so
    /// this is kept until no validator can still have the public half.
    #[must_use]
    pub fn key(&self, kid: &str) -> Revocation {
        self.key_used_until(kid, UnixSeconds(0))
    }

    /// The same, if it may have signed by a clock that was ahead.
    #[must_use]
    pub fn key_used_until(&self, kid: &str, latest: UnixSeconds) -> Revocation {
        let before = self.before();
        let end_of_copies = before.plus(Freshness::MAX_STALENESS_S);
        Revocation::of_key(kid, self.end_of_tokens_until(before.max(latest)).max(end_of_copies))
    }

    /// Takes back one token, which ends at `exp`.
    #[must_use]
    pub fn token(&self, jti: &str, exp: UnixSeconds) -> Revocation {
        Revocation::of_token(jti, exp.plus(Verifier::MAX_SKEW_S))
    }

    /// Takes back one token of which no more than the `jti` is known.
    #[must_use]
    pub fn token_id(&self, jti: &str) -> Revocation {
        Revocation::of_token(jti, self.end_of_tokens_until(self.before()))
    }

    /// Sees to it that a revocation which was written names every token that
    /// was issued until then: it was made before it was written, and that may
    /// have taken long. Whoever asks sees to it first that this node has heard.
    ///
    /// # Errors
    /// [`StoreError`]: then it may not name all of them.
    pub async fn settle(&self, store: &dyn Store, written: Revocation) -> Result<(), StoreError> {
        let mut written = written;
        while let Some(wider) = self.wider(&written) {
            store.revoke(std::slice::from_ref(&wider)).await?;
            written = wider;
        }
        Ok(())
    }

    /// The same of this moment, if that names more or for longer; with as much
    /// time to spare as was too little.
    fn wider(&self, written: &Revocation) -> Option<Revocation> {
        let (needed, before) = (self.before(), written.before()?);
        if before >= needed && written.expires_at >= self.end_of_tokens_until(before) {
            return None;
        }
        let before = needed.plus(needed.since(before)).max(before);
        let expires_at = self.end_of_tokens_until(before);
        match &written.target {
            RevocationTarget::Device(name) => Some(Revocation::of_device(name, before, expires_at)),
            RevocationTarget::Group(name) => Some(Revocation::of_group(name, before, expires_at)),
            RevocationTarget::All => Some(Revocation::of_all(before, expires_at)),
            RevocationTarget::Token(_) | RevocationTarget::Key(_) => None,
        }
    }

    /// Times are whole seconds: a token of this very second is meant too.
    pub(crate) fn before(&self) -> UnixSeconds {
        self.clock.now().plus(self.margin_s + 1)
    }

    /// When the last token that was issued before a moment is good for nothing,
    /// wherever.
    fn end_of_tokens_until(&self, moment: UnixSeconds) -> UnixSeconds {
        moment.plus(self.max_token_lifetime_s.load(Ordering::Acquire) + Verifier::MAX_SKEW_S)
    }
}

#[cfg(test)]
mod tests {
    use fleetbadge_validator::revocations::{Revocations, TokenFacts};
    use fleetbadge_validator::time::ManualClock;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    #[test]
    fn the_last_token_that_a_slow_node_may_issue_is_named_and_none_outlives_the_entry() {
        let revoker = Revoker::new(Arc::new(ManualClock::at(NOW)), 7, 900);
        for revocation in [revoker.device("pump-1"), revoker.group("pumps"), revoker.all()] {
            let is_named = |iat| {
                let token = TokenFacts { jti: "j", device: "pump-1", kid: "k", iat };
                Revocations::from_iter([revocation.clone()]).find(&token, ["pumps"]).is_some()
            };
            assert!(is_named(NOW) && is_named(NOW.plus(7)) && !is_named(NOW.plus(8)), "{revocation:?}");
            assert!(revocation.expires_at >= NOW.plus(7 + 900 + Verifier::MAX_SKEW_S), "{revocation:?}");
        }
        assert!(revoker.token_id("j").expires_at >= NOW.plus(7 + 900 + Verifier::MAX_SKEW_S));
        assert_eq!(revoker.token("j", NOW).expires_at, NOW.plus(Verifier::MAX_SKEW_S));
    }

    /// Its settings are not those by which what is about was issued.
    #[test]
    fn an_entry_outlives_tokens_of_longer_lives_than_are_allowed_now() {
        const WEEK_S: u64 = 7 * 86_400;
        let revoker = Revoker::new(Arc::new(ManualClock::at(NOW)), 0, 900);
        let early = revoker.device("pump-1");
        revoker.clone().allow_token_lifetime(WEEK_S);
        revoker.allow_token_lifetime(60);
        let end = NOW.plus(WEEK_S);
        let all =
            [revoker.device("d"), revoker.group("g"), revoker.all(), revoker.key("k"), revoker.token_id("j")];
        assert!(all.iter().all(|revocation| revocation.expires_at > end), "{all:?}");
        // One that was written before this node had heard.
        let wider = revoker.wider(&early).unwrap();
        assert_eq!(wider, revoker.device("pump-1"));
    }

    /// A token of the time that the database took would not be named.
    #[test]
    fn what_was_written_too_late_is_written_again() {
        let clock = ManualClock::at(NOW);
        let revoker = Revoker::new(Arc::new(clock.clone()), 0, 900);
        let written = [revoker.device("pump-1"), revoker.group("pumps"), revoker.all()];
        assert!(written.iter().all(|written| revoker.wider(written).is_none()));
        clock.advance(3);
        for written in written {
            let wider = revoker.wider(&written).unwrap();
            assert_eq!((&wider.target, wider.before()), (&written.target, Some(NOW.plus(3 + 1 + 3))));
            assert!(wider.expires_at >= NOW.plus(7 + 900 + Verifier::MAX_SKEW_S), "{wider:?}");
            assert_eq!(revoker.wider(&wider), None);
        }
        assert_eq!(revoker.wider(&revoker.token("j", NOW)), None);
    }
}
