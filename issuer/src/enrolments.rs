//! Enrolments: the right to bring devices into a group, which a token carries
//! that many devices may share.
//!
//! A token has 256 random bits and is shown once; what is kept is its SHA-256,
//! which nobody can turn around. Each device takes one use, together with its
//! registration or not at all.

use std::sync::Arc;

use aws_lc_rs::rand::SecureRandom;
use fleetbadge_validator::ids::{DeviceName, GroupName};
use fleetbadge_validator::time::UnixSeconds;

use crate::credentials::{CredentialId, Credentials, KeyRecord};
use crate::devices::{DeviceError, not_written, parse_mqtt_client_ids};
use crate::groups::Groups;
use crate::names::{NameRefused, parse_name};
use crate::random::{NoRandomness, Random};
use crate::secret::ClientSecret;
use crate::sha256::sha256;
use crate::store::{
    Attributes, DeviceNotEnrolled, DeviceNotWritten, DeviceRecord, DeviceStatus, EnrolledBy, EnrolmentRecord,
    EnrolmentTerms, Store, StoreError,
};

mod name_pattern;

pub use name_pattern::{InvalidNamePattern, NamePattern};

/// What every enrolment token begins with, so that scanners for leaked secrets
/// can know it.
pub const TOKEN_PREFIX: &str = "fbe_";
/// The most devices that one token can enrol.
pub const MAX_USES: u32 = 1_000_000;
/// The longest that a token can be good, in seconds: a year.
pub const MAX_LIFETIME_S: u64 = 366 * 86_400;
/// How often another name is drawn when one is taken.
const MAX_DRAWS: usize = 8;

/// A token that enrols devices, or what somebody presents as one. Cannot be
/// printed.
#[derive(Debug)]
pub struct EnrolmentToken(ClientSecret);

impl EnrolmentToken {
    /// A new token.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, NoRandomness> {
        ClientSecret::generate_with_prefix(TOKEN_PREFIX, random).map(Self)
    }

    /// What somebody presents.
    #[must_use]
    pub fn presented(text: String) -> Self {
        Self(ClientSecret::presented(text))
    }

    /// The token itself, to show it to whoever made it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    fn hash(&self) -> [u8; 32] {
        sha256(&[self.expose().as_bytes()])
    }
}

/// What is asked for when an enrolment is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEnrolment {
    /// The group that the devices come into.
    pub group: String,
    /// Which names they may have.
    pub name_pattern: String,
    /// How many devices it can enrol.
    pub uses: u32,
    /// How long it is good, in seconds.
    pub expires_in_s: u64,
    /// Whether an operator has to approve each device.
    pub approval: bool,
}

/// An enrolment and its token, which nobody can see again.
#[derive(Debug)]
pub struct CreatedEnrolment {
    /// The enrolment.
    pub enrolment: EnrolmentRecord,
    /// Its token.
    pub token: EnrolmentToken,
}

/// A device that is in by an enrolment.
#[derive(Debug)]
pub struct EnrolledDevice {
    /// The device, as it is now.
    pub device: DeviceRecord,
    /// Whether it came in just now, and was not there before.
    pub is_new: bool,
}

/// An enrolment cannot be made, found or used.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameRefused),
    /// A pattern that cannot be one.
    #[error("name_pattern: {found:?} {reason}")]
    NamePattern {
        /// What was given.
        found: String,
        /// Why not.
        reason: InvalidNamePattern,
    },
    /// No use, too many, or several for one name.
    #[error("uses: {found} is not between 1 and {max}{}", if *.max == 1 {
        ", as name_pattern without '*' is the name of one device"
    } else {
        ""
    })]
    Uses {
        /// What was given.
        found: u32,
        /// The most.
        max: u32,
    },
    /// Over at once, or too late.
    #[error("expires_in_s: {found} is not between 1 and {MAX_LIFETIME_S}")]
    Lifetime {
        /// What was given.
        found: u64,
    },
    /// There is no such enrolment.
    #[error("there is no enrolment {id:?}")]
    NoSuchEnrolment {
        /// What was named.
        id: String,
    },
    /// A name that the enrolment does not allow.
    #[error("{found:?} is not a name that this enrolment allows: {pattern}")]
    NameNotAllowed {
        /// The name.
        found: String,
        /// Which names it allows.
        pattern: NamePattern,
    },
    /// It has no use left, or was removed meanwhile.
    #[error("the enrolment has no use left")]
    UsedUp,
    /// The group or the device is refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No token can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The enrolments of an issuer.
pub struct Enrolments {
    store: Arc<dyn Store>,
    groups: Arc<Groups>,
    random: Random,
}

impl Enrolments {
    pub(crate) fn new(store: Arc<dyn Store>, groups: Arc<Groups>, random: Random) -> Self {
        Self { store, groups, random }
    }

    /// Makes an enrolment and its token.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub async fn create(
        &self,
        new: NewEnrolment,
        now: UnixSeconds,
    ) -> Result<CreatedEnrolment, EnrolmentError> {
        let NewEnrolment { group, name_pattern, uses, expires_in_s, approval } = new;
        let group: GroupName = parse_name("group", group)?;
        if self.groups.find(group.as_str()).is_none() {
            return Err(DeviceError::NoSuchGroup { group: group.into() }.into());
        }
        let name_pattern = NamePattern::parse(&name_pattern)
            .map_err(|reason| EnrolmentError::NamePattern { found: name_pattern, reason })?;
        self.groups.check_name_pattern(&group, &name_pattern).map_err(DeviceError::from)?;
        let max = if name_pattern.is_one_name() { 1 } else { MAX_USES };
        if !(1..=max).contains(&uses) {
            return Err(EnrolmentError::Uses { found: uses, max });
        }
        if !(1..=MAX_LIFETIME_S).contains(&expires_in_s) {
            return Err(EnrolmentError::Lifetime { found: expires_in_s });
        }
        let token = EnrolmentToken::generate(&*self.random)?;
        let enrolment = EnrolmentRecord {
            id: CredentialId::generate(&*self.random)?,
            token_hash: token.hash(),
            uses_left: uses,
            terms: EnrolmentTerms { group, name_pattern, uses, expires_at: now.plus(expires_in_s), approval },
            created_at: now,
        };
        self.store.add_enrolment(&enrolment).await?;
        Ok(CreatedEnrolment { enrolment, token })
    }

    /// All enrolments, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn all(&self) -> Result<Vec<EnrolmentRecord>, StoreError> {
        self.store.enrolments().await
    }

    /// Removes an enrolment: its token enrols nobody any more. The devices
    /// that it enrolled stay.
    ///
    /// # Errors
    /// [`EnrolmentError::NoSuchEnrolment`], [`EnrolmentError::Store`].
    pub async fn remove(&self, id: &str) -> Result<(), EnrolmentError> {
        if self.store.remove_enrolment(&CredentialId::from_text(id)).await? {
            Ok(())
        } else {
            Err(EnrolmentError::NoSuchEnrolment { id: id.into() })
        }
    }

    /// The enrolment of a token that has not ended, used up or not. None for
    /// any other, whatever is wrong with it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn of_token(
        &self,
        token: &EnrolmentToken,
        now: UnixSeconds,
    ) -> Result<Option<EnrolmentRecord>, StoreError> {
        let enrolment = self.store.enrolment(&token.hash()).await?;
        Ok(enrolment.filter(|enrolment| now < enrolment.terms.expires_at))
    }

    /// Makes a device that has this key, under the name that it wishes or one
    /// that is assigned, and takes one use: both or none.
    ///
    /// The device that this enrolment made for this very key is found again,
    /// whatever it wishes to be called now: it had no answer the first time.
    /// Possession of the key must have been proven.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub async fn enrol(
        &self,
        enrolment: &EnrolmentRecord,
        wish: Option<String>,
        key: KeyRecord,
        now: UnixSeconds,
    ) -> Result<EnrolledDevice, EnrolmentError> {
        let by = EnrolledBy { enrolment: enrolment.id.clone(), key: key.id.clone() };
        // In this order, so that of two requests at once one finds the other's
        // device.
        let refused = match self.enrol_new(enrolment, wish, key, &by, now).await {
            Ok(device) => return Ok(EnrolledDevice { device, is_new: true }),
            Err(refused) => refused,
        };
        match self.store.device_of_key(&by.key).await? {
            Some(device) if device.enrolled_by.as_ref() == Some(&by) => {
                Ok(EnrolledDevice { device, is_new: false })
            }
            Some(_) | None => Err(refused),
        }
    }

    async fn enrol_new(
        &self,
        enrolment: &EnrolmentRecord,
        wish: Option<String>,
        key: KeyRecord,
        by: &EnrolledBy,
        now: UnixSeconds,
    ) -> Result<DeviceRecord, EnrolmentError> {
        let EnrolmentTerms { group, name_pattern, approval, .. } = &enrolment.terms;
        let mut draws_left = match &wish {
            Some(wish) if !name_pattern.allows(wish) => {
                return Err(EnrolmentError::NameNotAllowed {
                    found: wish.clone(),
                    pattern: name_pattern.clone(),
                });
            }
            Some(_) => 0,
            None if name_pattern.is_one_name() => 0,
            None => MAX_DRAWS,
        };
        let status = if *approval { DeviceStatus::Pending } else { DeviceStatus::Enabled };
        let credentials = Credentials { keys: vec![key], ..Credentials::default() };
        loop {
            let name = match &wish {
                Some(wish) => wish.clone(),
                None => name_pattern.draw(&*self.random)?,
            };
            let name: DeviceName = parse_name("client_name", name)?;
            let mqtt_client_ids = parse_mqtt_client_ids(&name, Vec::new())?;
            let device = DeviceRecord {
                name,
                group: group.clone(),
                status,
                mqtt_client_ids,
                attributes: Attributes::default(),
                credentials: credentials.clone(),
                enrolled_by: Some(by.clone()),
                created_at: now,
                revision: 0,
            };
            self.groups.check_device(&device).map_err(DeviceError::from)?;
            match self.store.enrol(&enrolment.id, &device).await {
                Ok(()) => return Ok(device),
                Err(DeviceNotEnrolled::UsedUp) => return Err(EnrolmentError::UsedUp),
                Err(DeviceNotEnrolled::NotWritten(DeviceNotWritten::NameTaken(_))) if draws_left > 0 => {
                    draws_left -= 1;
                }
                Err(DeviceNotEnrolled::NotWritten(error)) => {
                    return Err(not_written(error, device.name.as_str()).into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
