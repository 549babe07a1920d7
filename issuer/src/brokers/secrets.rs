//! The secrets of a broker, see [`crate::client_secrets`].

use std::sync::Arc;

use fleetbadge_validator::time::UnixSeconds;

use super::{BrokerError, Brokers};
use crate::client_secrets::{self, AddedSecret, RotatedSecret, SecretError, SecretMaker};
use crate::credentials::{CredentialId, SecretRecords, SecretVerifier};
use crate::store::BrokerRecord;

impl Brokers {
    /// Makes one more secret for a broker, good for `expires_in_s` seconds or
    /// without an end. Those that have ended are dropped. The broker is then
    /// as returned.
    ///
    /// # Errors
    /// [`BrokerError::Secret`], [`BrokerError::NoSuchBroker`],
    /// [`BrokerError::Store`].
    pub(crate) async fn add_secret(
        &self,
        name: &str,
        expires_in_s: Option<u64>,
        maker: &SecretMaker,
        now: UnixSeconds,
    ) -> Result<(Arc<BrokerRecord>, AddedSecret), BrokerError> {
        let added = maker.make(name, expires_in_s, now)?;
        let add = |secrets: &mut _| client_secrets::add(secrets, &added.record, now);
        let (broker, ()) = self.change_secrets(name, add).await?;
        Ok((broker, added))
    }

    /// Makes a new secret for a broker; those that it has end after `overlap_s`
    /// seconds, if they do not end sooner. The broker is then as returned.
    ///
    /// # Errors
    /// As [`Self::add_secret`].
    pub(crate) async fn rotate_secret(
        &self,
        name: &str,
        overlap_s: u64,
        maker: &SecretMaker,
        now: UnixSeconds,
    ) -> Result<(Arc<BrokerRecord>, RotatedSecret), BrokerError> {
        let successor = maker.make_successor(name, overlap_s, now)?;
        let (broker, has_others) =
            self.change_secrets(name, |secrets| successor.succeed(secrets, now)).await?;
        Ok((broker, successor.rotated(has_others)))
    }

    /// Takes a secret from a broker, which is then as returned. It may have
    /// been the last one.
    ///
    /// # Errors
    /// As [`Self::add_secret`].
    pub(crate) async fn remove_secret(&self, name: &str, id: &str) -> Result<Arc<BrokerRecord>, BrokerError> {
        let remove = |secrets: &mut _| client_secrets::remove(secrets, name, id);
        self.change_secrets(name, remove).await.map(|(broker, ())| broker)
    }

    /// Replaces what a secret is compared with, if it is still `former`.
    ///
    /// # Errors
    /// As [`Self::add_secret`].
    pub(crate) async fn replace_verifier(
        &self,
        name: &str,
        id: &CredentialId,
        former: &SecretVerifier,
        next: &SecretVerifier,
    ) -> Result<(), BrokerError> {
        let replace = |secrets: &mut SecretRecords| {
            client_secrets::replace_verifier(secrets, id, former, next);
            Ok(())
        };
        self.change_secrets(name, replace).await.map(drop)
    }

    async fn change_secrets<T>(
        &self,
        name: &str,
        change: impl Fn(&mut SecretRecords) -> Result<T, SecretError>,
    ) -> Result<(Arc<BrokerRecord>, T), BrokerError> {
        self.change(name, |broker| Ok(change(&mut broker.secrets)?)).await
    }
}

#[cfg(test)]
mod tests;
