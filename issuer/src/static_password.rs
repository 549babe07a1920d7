//! Static passwords, for clients that cannot do OAuth: 256 random bits, made
//! here, shown once, kept as a keyed hash.
//!
//! A registered broker exchanges one for a token, see `grants::password`; it
//! is never good as a client secret. The key of its hash has a label of its
//! own (see [`crate::root_key`]), so that even somebody who writes rows into
//! the database cannot make the one of the other.

use aws_lc_rs::rand::SecureRandom;
use fleetbadge_validator::rate_limit::RateLimit;
pub use fleetbadge_validator::static_password::PASSWORD_PREFIX;
use fleetbadge_validator::time::UnixSeconds;

use crate::client_secrets::MAX_SECRET_LIFETIME_S;
use crate::credentials::{CredentialId, PasswordRecord};
use crate::devices::{DeviceError, Devices};
use crate::groups::Groups;
use crate::random::{NoRandomness, Random};
use crate::root_key::PresentedHashes;
use crate::secret::{ClientSecret, SecretHash, SecretHasher};
use crate::store::DeviceRecord;

mod attempt;

pub(crate) use attempt::Attempt;

/// A static password of a device, or what somebody presents as one. Cannot be
/// printed.
#[derive(Debug)]
pub struct StaticPassword(ClientSecret);

impl StaticPassword {
    /// A new password.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, NoRandomness> {
        ClientSecret::generate_with_prefix(PASSWORD_PREFIX, random).map(Self)
    }

    /// What somebody presents.
    #[must_use]
    pub fn presented(text: String) -> Self {
        Self(ClientSecret::presented(text))
    }

    /// The password itself, to show it to whoever made it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Makes the hashes of static passwords, see [`crate::root_key`].
pub struct PasswordHasher(SecretHasher);

impl PasswordHasher {
    pub(crate) const fn new(hasher: SecretHasher) -> Self {
        Self(hasher)
    }

    /// The hash of a password of a device.
    #[must_use]
    pub fn hash(&self, device: &str, password: &StaticPassword) -> SecretHash {
        self.0.hash(device, &password.0)
    }

    /// What hashes that are kept are compared with, if somebody presents this
    /// password.
    #[must_use]
    pub fn presented(&self, device: &str, password: &StaticPassword) -> PresentedHashes {
        self.0.presented(device, &password.0)
    }
}

/// A static password cannot be set or removed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The device's group has not opted in.
    #[error(
        "static_passwords: group {group}, which device {device} is in, has none; allow them with: \
         fleetbadge-issuer group set {group} --static-passwords"
    )]
    NotAllowed {
        /// The device.
        device: String,
        /// Its group.
        group: String,
    },
    /// It would never be good, or practically for ever.
    #[error("expires_in_s: {found} is not between 1 and {MAX_SECRET_LIFETIME_S}; leave it out for no end")]
    Lifetime {
        /// What was asked for, in seconds.
        found: u64,
    },
    /// There is none to remove.
    #[error("device {device} has no static password")]
    NoPassword {
        /// The device.
        device: String,
    },
    /// No password can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The device cannot be changed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What makes, checks and guards static passwords.
pub(crate) struct StaticPasswords {
    hasher: PasswordHasher,
    random: Random,
    /// What slows down whoever tries passwords.
    pub(crate) failures: RateLimit,
}

impl StaticPasswords {
    pub(crate) fn new(hasher: PasswordHasher, random: Random) -> Self {
        Self { hasher, random, failures: attempt::failure_limit() }
    }

    /// What makes the hashes.
    pub(crate) const fn hasher(&self) -> &PasswordHasher {
        &self.hasher
    }

    /// Makes the password of a device, in place of the one that it may have.
    /// Without `expires_in_s` it has no end.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub(crate) async fn set(
        &self,
        devices: &Devices,
        groups: &Groups,
        name: &str,
        expires_in_s: Option<u64>,
        now: UnixSeconds,
    ) -> Result<(DeviceRecord, PasswordRecord, StaticPassword), PasswordError> {
        if let Some(found) = expires_in_s.filter(|s| !(1..=MAX_SECRET_LIFETIME_S).contains(s)) {
            return Err(PasswordError::Lifetime { found });
        }
        let password = StaticPassword::generate(&*self.random)?;
        let record = PasswordRecord {
            id: CredentialId::generate(&*self.random)?,
            hash: self.hasher.hash(name, &password),
            created_at: now,
            expires_at: expires_in_s.map(|s| now.plus(s)),
        };
        let set = |device: &mut DeviceRecord| {
            let group = groups.find(device.group.as_str());
            let may = group.is_some_and(|group| group.policy.static_passwords);
            if may {
                device.credentials.password = Some(Box::new(record.clone()));
            }
            Ok(may)
        };
        match devices.change(name, set).await? {
            (device, true) => Ok((device, record, password)),
            (device, false) => {
                Err(PasswordError::NotAllowed { device: name.into(), group: device.group.into() })
            }
        }
    }

    /// Removes the password of a device, whatever its group says.
    ///
    /// # Errors
    /// [`PasswordError::NoPassword`], [`PasswordError::Device`].
    pub(crate) async fn remove(&self, devices: &Devices, name: &str) -> Result<(), PasswordError> {
        match devices.change(name, |device| Ok(device.credentials.password.take())).await? {
            (_, Some(_)) => Ok(()),
            (_, None) => Err(PasswordError::NoPassword { device: name.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::root_key::RootKey;

    #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable password")]
    fn generate() -> StaticPassword {
        StaticPassword::generate(&SystemRandom::new()).unwrap()
    }

    #[test]
    fn a_password_has_a_prefix_of_its_own_and_256_bits() {
        let password = generate();
        let bits = URL_SAFE_NO_PAD.decode(password.expose().strip_prefix(PASSWORD_PREFIX).unwrap()).unwrap();
        assert_eq!(bits.len(), 32);
        assert_ne!(generate().expose(), password.expose());
        assert!(!format!("{password:?}").contains(password.expose()));
    }

    /// Somebody who can write rows copies the hash of a password over that of
    /// a secret, or the other way round.
    #[test]
    fn one_text_has_different_hashes_as_password_and_as_secret() {
        let root = RootKey::from_bytes([7; 32]);
        let password = generate();
        let secret = ClientSecret::presented(password.expose().into());
        let hash = root.password_hasher().hash("pump-1", &password);
        assert_ne!(hash, root.secret_hasher().hash("pump-1", &secret));
        assert_ne!(hash, root.password_hasher().hash("pump-2", &password));
        assert_eq!(hash, root.password_hasher().hash("pump-1", &password));
    }
}
