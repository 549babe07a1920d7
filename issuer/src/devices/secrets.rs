//! The secrets of a device: several at a time, each with an end of its own.

use fleetbadge_validator::time::UnixSeconds;

use super::{DeviceError, Devices};
use crate::credentials::{
    CredentialId, Credentials, MAX_IMPORTED_SECRETS, MAX_SECRETS, SecretRecord, SecretVerifier,
};
use crate::imported_secrets::ImportedSecrets;
use crate::secret::ClientSecret;
use crate::secret::imported::ImportedSecret;
use crate::store::DeviceRecord;

/// The longest that an end may be away: ten years.
pub const MAX_SECRET_LIFETIME_S: u64 = 10 * 365 * 24 * 3600;

/// A secret that was made for a device, which nobody can see again.
#[derive(Debug)]
pub struct AddedSecret {
    /// The secret.
    pub secret: ClientSecret,
    /// What is kept of it.
    pub record: SecretRecord,
}

/// A secret that replaces others.
#[derive(Debug)]
pub struct RotatedSecret {
    /// The new one, without an end.
    pub added: AddedSecret,
    /// When the last of the others ends.
    pub others_end_at: UnixSeconds,
}

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
        let expires_at = end(expires_in_s, now)?;
        let (secret, record) = self.make_secret(name, expires_at, now)?;
        self.change(name, |device| add(&mut device.credentials, &record, now)).await?;
        Ok(AddedSecret { secret, record })
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
        let expires_at = end(expires_in_s, now)?;
        // Before the work, and again when the device is changed.
        make_room(&mut self.get(name).await?.credentials, IsImported::Yes, now)?;
        let verifier = SecretVerifier::Imported(slow.hash(&self.hasher, name, &secret).await?);
        let id = CredentialId::generate(&*self.random)?;
        let record = SecretRecord { id, verifier, created_at: now, expires_at };
        self.change(name, |device| add(&mut device.credentials, &record, now)).await?;
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
        let others_end_at = now.plus(within("overlap_s", overlap_s, 0)?);
        let (secret, record) = self.make_secret(name, None, now)?;
        let rotate = |device: &mut DeviceRecord| {
            for other in &mut device.credentials.secrets {
                let end = other.expires_at.unwrap_or(others_end_at).min(others_end_at);
                other.expires_at = Some(end);
            }
            add(&mut device.credentials, &record, now)
        };
        self.change(name, rotate).await?;
        Ok(RotatedSecret { added: AddedSecret { secret, record }, others_end_at })
    }

    /// Takes a secret from a device, which is then as returned. It may have
    /// been the last one.
    ///
    /// # Errors
    /// [`DeviceError::NoSuchCredential`] and others.
    pub async fn remove_secret(&self, name: &str, id: &str) -> Result<DeviceRecord, DeviceError> {
        let remove = |device: &mut DeviceRecord| {
            let secrets = &mut device.credentials.secrets;
            let before = secrets.len();
            secrets.retain(|secret| secret.id.as_str() != id);
            if secrets.len() == before {
                return Err(DeviceError::NoSuchCredential {
                    device: name.into(),
                    what: "secret",
                    id: id.into(),
                });
            }
            Ok(())
        };
        self.change(name, remove).await.map(|(device, ())| device)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum IsImported {
    Yes,
    No,
}

impl From<&SecretRecord> for IsImported {
    fn from(secret: &SecretRecord) -> Self {
        match secret.verifier {
            SecretVerifier::Imported(_) => Self::Yes,
            SecretVerifier::Made(_) => Self::No,
        }
    }
}

fn add(credentials: &mut Credentials, record: &SecretRecord, now: UnixSeconds) -> Result<(), DeviceError> {
    make_room(credentials, record.into(), now)?;
    credentials.secrets.push(record.clone());
    Ok(())
}

/// Drops what has ended; one more must fit in then.
fn make_room(
    credentials: &mut Credentials,
    one_more: IsImported,
    now: UnixSeconds,
) -> Result<(), DeviceError> {
    let secrets = &mut credentials.secrets;
    secrets.retain(|secret| secret.is_in_time(now));
    let imported = secrets.iter().filter(|secret| IsImported::from(*secret) == IsImported::Yes).count();
    if one_more == IsImported::Yes && imported >= MAX_IMPORTED_SECRETS {
        return Err(DeviceError::TooManyCredentials { field: "secret", max: MAX_IMPORTED_SECRETS });
    }
    if secrets.len() >= MAX_SECRETS {
        return Err(DeviceError::TooManyCredentials { field: "secrets", max: MAX_SECRETS });
    }
    Ok(())
}

fn end(expires_in_s: Option<u64>, now: UnixSeconds) -> Result<Option<UnixSeconds>, DeviceError> {
    expires_in_s.map(|found_s| Ok(now.plus(within("expires_in_s", found_s, 1)?))).transpose()
}

fn within(field: &'static str, found_s: u64, min_s: u64) -> Result<u64, DeviceError> {
    if (min_s..=MAX_SECRET_LIFETIME_S).contains(&found_s) {
        Ok(found_s)
    } else {
        Err(DeviceError::Lifetime { field, found_s, min_s })
    }
}

#[cfg(test)]
mod tests;
