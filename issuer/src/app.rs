//! The state of a running issuer, shared by everything that answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::rate_limit::RateLimit;
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::time::{Clock, UnixSeconds};

use crate::brokers::Brokers;
use crate::client_auth::private_key_jwt::ParsedKeys;
use crate::credential_uses::CredentialUses;
use crate::devices::Devices;
use crate::endpoints::revocations::Feeds;
use crate::enrolments::Enrolments;
use crate::error::TokenError;
use crate::groups::{GroupError, Groups};
use crate::imported_secrets::ImportedSecrets;
use crate::issued_revocations::IssuedRevocations;
use crate::issuer_url::IssuerUrl;
use crate::keys::{KeyError, Keys};
use crate::metrics::Metrics;
use crate::node::{CurrentMoment, FollowError, Node};
use crate::random::{Random, RandomStock};
use crate::rehash::Rehashes;
use crate::revoker::Revoker;
use crate::root_key::SealBroken;
use crate::root_keys::RootKeys;
use crate::signing_keys::UnusableSigningKey;
use crate::signing_keys::holders::heard_of_since;
use crate::static_password::StaticPasswords;
use crate::store::{Store, StoreError};
use crate::used_jtis::UsedJtis;

/// The state of a running issuer.
pub(crate) struct App {
    pub(crate) issuer: IssuerUrl,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    /// For what is no secret.
    pub(crate) random_stock: RandomStock,
    pub(crate) root_keys: RootKeys,
    pub(crate) rehashes: Rehashes,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) devices: Devices,
    pub(crate) groups: Arc<Groups>,
    pub(crate) brokers: Arc<Brokers>,
    pub(crate) enrolments: Enrolments,
    pub(crate) credential_uses: CredentialUses,
    pub(crate) static_passwords: StaticPasswords,
    pub(crate) imported_secrets: ImportedSecrets,
    pub(crate) used_jtis: UsedJtis,
    pub(crate) parsed_keys: ParsedKeys,
    pub(crate) keys: Keys,
    pub(crate) revocations: IssuedRevocations,
    pub(crate) revoker: Revoker,
    /// Of devices that take back their own tokens.
    pub(crate) own_revocations: RateLimit,
    /// Of brokers that take back tokens.
    pub(crate) broker_revocations: RateLimit,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) node: Node,
    pub(crate) metrics: Metrics,
    pub(crate) metadata: Bytes,
    pub(crate) jwks_cache_control: String,
    pub(crate) request_timeout: Duration,
}

/// The database failed, which has been logged and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreFailed;

impl App {
    /// The present moment.
    pub(crate) fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// This moment, as of which tokens may be issued or called good: asked before
    /// anything is looked up, as the model in `tests` shows.
    pub(crate) fn moment(&self) -> Result<CurrentMoment, TokenError> {
        self.node.moment(self.now()).map_err(|reason| {
            tracing::debug!(%reason, "no token is issued or called good");
            TokenError::TemporarilyUnavailable { retry_after_s: 1 }
        })
    }

    /// Logs and counts a failure of the database.
    pub(crate) fn store_failed(&self, error: &StoreError) -> StoreFailed {
        self.metrics.store_errors.increment(1);
        tell(error, "a request could not be answered");
        StoreFailed
    }

    /// What tokens are signed with: ES256 always, others if a broker wants it.
    pub(crate) fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        let brokers = self.brokers.all();
        let wanted = move |algorithm: &Algorithm| {
            *algorithm == Algorithm::ES256 || brokers.iter().any(|broker| broker.algorithm == *algorithm)
        };
        Algorithm::ALL.into_iter().filter(wanted)
    }

    /// The algorithms that tokens are to be signed with and no key is active of.
    pub(crate) fn algorithms_without_key(&self) -> Vec<Algorithm> {
        let (keys, now) = (self.keys.current(), self.now());
        self.algorithms().filter(|algorithm| keys.ring.active(*algorithm, now).is_none()).collect()
    }

    /// Takes up groups and brokers that another node has changed.
    pub(crate) async fn reload_settings(&self) -> Result<(), GroupError> {
        let mut revision = self.brokers.hold().await;
        self.groups.reload(&mut revision).await
    }

    /// Takes back tokens. When it is done, this node knows it.
    pub(crate) async fn revoke(&self, revocation: Revocation) -> Result<(), FollowError> {
        self.store.revoke(std::slice::from_ref(&revocation)).await?;
        self.node.catch_up(self).await?;
        if revocation.before().is_some() {
            self.revoker.settle(&*self.store, revocation).await?;
            self.node.catch_up(self).await?;
        }
        Ok(())
    }

    /// Writes what waits to be written: every second, and at the end.
    pub(crate) async fn flush(&self) {
        if let Err(error) = self.credential_uses.flush().await {
            tell(&error, "when credentials were used could not be written");
        }
    }

    /// Forgets what has ended by a moment that the clock can be believed about.
    async fn forget_ended(&self, now: UnixSeconds) {
        self.revocations.forget_expired(now);
        if let Err(error) = self.store.forget_revocations(now).await {
            tell(&error, "revocations of tokens that have died could not be forgotten");
        }
        if let Err(error) = self.used_jtis.forget_ended(now).await {
            tell(&error, "statements that have ended could not be forgotten");
        }
        if let Err(error) = self.store.forget_reports(heard_of_since(now)).await {
            tell(&error, "old reports of validators could not be forgotten");
        }
        if let Err(error) = self.node.forget_old_changes(self).await {
            tell(&error, "old changes could not be forgotten");
        }
    }

    /// Takes up what has become of the root keys: every few seconds, and when
    /// somebody asks for it.
    pub(crate) async fn refresh_root_keys(&self) {
        if self.store.is_away() {
            return;
        }
        if let Err(error) = self.root_keys.refresh().await {
            tracing::error!(%error, "the root keys could not be brought up to date");
        } else if self.root_keys.check().is_ok() {
            self.seal_keys_again().await;
        }
    }

    /// Seals the signing keys under the current root key; if that fails, it is
    /// tried again in a few seconds.
    pub(crate) async fn seal_keys_again(&self) {
        if let Err(error) = self.keys.seal_again().await {
            tracing::error!(%error, "the signing keys could not be sealed under the current root key");
        }
    }

    /// Takes up the signing keys that are stored. They may be under a root key
    /// that came into the file a moment ago.
    pub(crate) async fn reload_keys(&self) -> Result<(), FollowError> {
        match self.keys.reload(self.now()).await {
            Err(KeyError::Unusable(UnusableSigningKey::Seal(SealBroken::RootKey(_)))) => {
                self.root_keys.refresh().await?;
                Ok(self.keys.reload(self.now()).await?)
            }
            reloaded => Ok(reloaded?),
        }
    }

    /// What has to be done every second.
    pub(crate) async fn tick(&self) {
        if self.store.is_away() {
            // Nothing of this can be done, and it was said why.
            self.keys.look_after_signer();
            self.metrics.run_upkeep();
            return;
        }
        for algorithm in self.algorithms() {
            if let Err(error) = self.keys.ensure(algorithm, self.now()).await {
                tracing::error!(%error, alg = algorithm.as_str(), "the first key could not be made");
            }
        }
        let believed = self.node.look_at_clock(self).await;
        // By a wrong clock keys would be dropped that are still needed.
        if believed.is_some()
            && let Err(error) = self.keys.turn(self.now()).await
        {
            let what = "the signing keys could not be brought up to date";
            if let KeyError::Store(error) = &error {
                tell(error, what);
            } else {
                tracing::error!(%error, "{what}");
            }
        }
        self.keys.look_after_signer();
        self.flush().await;
        self.rehashes.flush(self).await;
        if let Some(moment) = believed {
            self.forget_ended(moment).await;
        }
        self.metrics.signing_keys_missing(&self.algorithms_without_key());
        self.metrics.run_upkeep();
    }
}

/// Logs a failure of the database, but for one that is away: whoever follows it
/// says so, once.
pub(crate) fn tell(error: &StoreError, what: &'static str) {
    if matches!(error, StoreError::Away { .. }) {
        tracing::debug!(%error, "{what}");
    } else {
        tracing::warn!(%error, "{what}");
    }
}

#[cfg(test)]
mod tests;
