//! The secrets of a device, see [`crate::client_secrets`].

use fleetbadge_validator::time::UnixSeconds;

use super::{DeviceError, Devices};
use crate::client_secrets::{self, AddedSecret, RotatedSecret, SecretError};
use crate::credentials::{CredentialId, SecretKind, SecretRecord, SecretRecords, SecretVerifier};
use crate::imported_secrets::ImportedSecrets;
use crate::secret::imported::ImportedSecret;
use crate::secret::{ClientSecret, SecretHash};
use crate::store::DeviceRecord;

impl Devices {
    /// Makes one more secret for a device, good for `expires_in_s` seconds or
    /// without an end. Those that have ended are dropped.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn add_secret(
        &self,
        name: &str,
        expires_in_s: Option<u64>,
        now: UnixSeconds,
    ) -> Result<AddedSecret, DeviceError> {
        let added = self.secrets.make(name, expires_in_s, now)?;
        self.change_secrets(name, |secrets| client_secrets::add(secrets, &added.record, now)).await?;
        Ok(added)
    }

    /// Lets a device have a secret that somebody chose.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub(crate) async fn import_secret(
        &self,
        name: &str,
        secret: ClientSecret,
        slow: &ImportedSecrets,
        expires_in_s: Option<u64>,
        now: UnixSeconds,
    ) -> Result<SecretRecord, DeviceError> {
        let secret = ImportedSecret::parse(secret)?;
        let expires_at = client_secrets::end(expires_in_s, now)?;
        // Before the work, and again when the device is changed.
        client_secrets::make_room(&mut self.get(name).await?.credentials.secrets, SecretKind::Imported, now)?;
        let verifier = SecretVerifier::Imported(slow.hash(self.hasher(), name, &secret).await?);
        let record = self.secrets.record(verifier, expires_at, now)?;
        self.change_secrets(name, |secrets| client_secrets::add(secrets, &record, now)).await?;
        Ok(record)
    }

    /// Makes a new secret for a device; those that it has end after `overlap_s`
    /// seconds, if they do not end sooner.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn rotate_secret(
        &self,
        name: &str,
        overlap_s: u64,
        now: UnixSeconds,
    ) -> Result<RotatedSecret, DeviceError> {
        let successor = self.secrets.make_successor(name, overlap_s, now)?;
        let (_, has_others) = self.change_secrets(name, |secrets| successor.succeed(secrets, now)).await?;
        Ok(successor.rotated(has_others))
    }

    /// Takes a secret from a device, which is then as returned. It may have
    /// been the last one.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn remove_secret(&self, name: &str, id: &str) -> Result<DeviceRecord, DeviceError> {
        let remove = |secrets: &mut _| client_secrets::remove(secrets, name, id);
        self.change_secrets(name, remove).await.map(|(device, ())| device)
    }

    /// Replaces what a secret is compared with, if it is still `former`.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub(crate) async fn replace_verifier(
        &self,
        name: &str,
        id: &CredentialId,
        former: &SecretVerifier,
        next: &SecretVerifier,
    ) -> Result<(), DeviceError> {
        let replace = |secrets: &mut SecretRecords| {
            client_secrets::replace_verifier(secrets, id, former, next);
            Ok(())
        };
        self.change_secrets(name, replace).await.map(drop)
    }

    /// Replaces the hash of the static password, if it is still `former`.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub(crate) async fn replace_password_hash(
        &self,
        name: &str,
        former: &SecretHash,
        next: &SecretHash,
    ) -> Result<(), DeviceError> {
        let replace = |device: &mut DeviceRecord| {
            if let Some(password) = device.credentials.password.as_mut().filter(|it| it.hash == *former) {
                password.hash = next.clone();
            }
            Ok(())
        };
        self.change(name, replace).await.map(drop)
    }

    async fn change_secrets<T>(
        &self,
        name: &str,
        change: impl Fn(&mut SecretRecords) -> Result<T, SecretError>,
    ) -> Result<(DeviceRecord, T), DeviceError> {
        self.change(name, |device| Ok(change(&mut device.credentials.secrets)?)).await
    }
}

#[cfg(test)]
mod tests;
