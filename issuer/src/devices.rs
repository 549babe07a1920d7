//! The devices: found in memory, changed in the store.
//!
//! In front of the store is a bounded cache, so that a device that asks for
//! tokens regularly costs no database access. Every change is written first
//! and then taken out of the cache, which also stops a load that is under way
//! from putting back what it read before.

use std::collections::HashSet;
use std::sync::Arc;

use fleetbadge_validator::ids::{DeviceName, GroupName, MqttClientId, check_name};
use fleetbadge_validator::time::UnixSeconds;
use metrics::Counter;
use quick_cache::sync::Cache;

use crate::names::{NameRefused, parse_name};
use crate::random::{NoRandomness, Random};
use crate::secret::{ClientSecret, SecretHasher};
use crate::store::{AddDeviceError, DeviceRecord, DeviceStatus, SecretRecord, Store, StoreError};

/// The most MQTT client identifiers that a device may have.
pub const MAX_MQTT_CLIENT_IDS: usize = 16;
/// The group of a device that is added without one.
pub const DEFAULT_GROUP: &str = "default";

/// What is asked for when a device is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewDevice {
    /// Its name.
    pub name: String,
    /// Its group; [`DEFAULT_GROUP`] if none is named.
    pub group: Option<String>,
    /// As whom it may connect, the first by default; its name if empty.
    pub mqtt_client_ids: Vec<String>,
}

/// A device and the secret that was made for it, which nobody can see again.
#[derive(Debug)]
pub struct AddedDevice {
    /// The device.
    pub device: DeviceRecord,
    /// Its secret.
    pub secret: ClientSecret,
}

/// A device cannot be added or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameRefused),
    /// One MQTT client identifier twice.
    #[error("mqtt_client_ids: {found} is there twice")]
    DuplicateMqttClientId {
        /// Which.
        found: String,
    },
    /// More than [`MAX_MQTT_CLIENT_IDS`].
    #[error("mqtt_client_ids: has {count}; at most {MAX_MQTT_CLIENT_IDS} are allowed")]
    TooManyMqttClientIds {
        /// How many.
        count: usize,
    },
    /// One of its names is, or was, another device's.
    #[error("{}", name_taken(name, device, *removed))]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        device: String,
        /// Whether that device has been removed.
        removed: bool,
    },
    /// There is no such group.
    #[error("group: there is no group {group}; make it with: fleetbadge-issuer group set {group}")]
    NoSuchGroup {
        /// Its name.
        group: String,
    },
    /// There is no such device.
    #[error("there is no device {name:?}")]
    NoSuchDevice {
        /// Its name.
        name: String,
    },
    /// No secret can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The devices of an issuer.
pub struct Devices {
    store: Arc<dyn Store>,
    cache: Cache<String, Arc<DeviceRecord>>,
    misses: Counter,
    hasher: SecretHasher,
    random: Random,
}

impl Devices {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        capacity: usize,
        misses: Counter,
        hasher: SecretHasher,
        random: Random,
    ) -> Self {
        Self { store, cache: Cache::new(capacity), misses, hasher, random }
    }

    /// What makes and checks the hashes of secrets.
    pub(crate) const fn hasher(&self) -> &SecretHasher {
        &self.hasher
    }

    /// The device of this name, from memory if it was asked for before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find(&self, name: &str) -> Result<Option<Arc<DeviceRecord>>, StoreError> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        match self.cache.get_value_or_guard_async(name).await {
            Ok(device) => Ok(Some(device)),
            Err(vacancy) => {
                self.misses.increment(1);
                let device = self.store.device(name).await?.map(Arc::new);
                if let Some(device) = &device {
                    // Refused if the device was changed meanwhile: what was
                    // read still answers this request, and is then forgotten.
                    drop(vacancy.insert(Arc::clone(device)));
                }
                Ok(device)
            }
        }
    }

    /// Adds a device and makes its secret.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn add(&self, new: NewDevice, now: UnixSeconds) -> Result<AddedDevice, DeviceError> {
        let name: DeviceName = parse_name("name", new.name)?;
        let group: GroupName = parse_name("group", new.group.unwrap_or_else(|| DEFAULT_GROUP.into()))?;
        let mqtt_client_ids = parse_mqtt_client_ids(&name, new.mqtt_client_ids)?;
        let secret = ClientSecret::generate(&*self.random)?;
        let hash = self.hasher.hash(name.as_str(), &secret);
        let device = DeviceRecord {
            name,
            group,
            status: DeviceStatus::Enabled,
            mqtt_client_ids,
            secrets: [SecretRecord { hash, created_at: now, expires_at: None }].into(),
            created_at: now,
        };
        self.store.add_device(&device).await?;
        Ok(AddedDevice { device, secret })
    }

    /// The first `limit` devices after the name `after`, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn page(&self, after: Option<&str>, limit: u32) -> Result<Vec<DeviceRecord>, StoreError> {
        self.store.devices(after, limit).await
    }

    /// A device as it is stored.
    ///
    /// # Errors
    /// [`DeviceError::NoSuchDevice`], [`DeviceError::Store`].
    pub async fn get(&self, name: &str) -> Result<DeviceRecord, DeviceError> {
        self.store.device(name).await?.ok_or_else(|| no_such_device(name))
    }

    /// Lets a device have tokens, or no more. Takes effect with the next
    /// request.
    ///
    /// # Errors
    /// [`DeviceError::NoSuchDevice`], [`DeviceError::Store`].
    pub async fn set_status(&self, name: &str, status: DeviceStatus) -> Result<DeviceRecord, DeviceError> {
        let found = self.store.set_device_status(name, status).await?;
        self.cache.remove(name);
        if found { self.get(name).await } else { Err(no_such_device(name)) }
    }

    /// Removes a device. Its names stay taken.
    ///
    /// # Errors
    /// [`DeviceError::NoSuchDevice`], [`DeviceError::Store`].
    pub async fn remove(&self, name: &str) -> Result<(), DeviceError> {
        let found = self.store.remove_device(name).await?;
        self.cache.remove(name);
        if found { Ok(()) } else { Err(no_such_device(name)) }
    }
}

impl From<AddDeviceError> for DeviceError {
    fn from(error: AddDeviceError) -> Self {
        match error {
            AddDeviceError::NameTaken { name, device, removed } => Self::NameTaken { name, device, removed },
            AddDeviceError::NoSuchGroup { group } => Self::NoSuchGroup { group },
            AddDeviceError::Store(error) => Self::Store(error),
        }
    }
}

fn parse_mqtt_client_ids(name: &DeviceName, given: Vec<String>) -> Result<Box<[MqttClientId]>, DeviceError> {
    let given = if given.is_empty() { vec![name.to_string()] } else { given };
    if given.len() > MAX_MQTT_CLIENT_IDS {
        return Err(DeviceError::TooManyMqttClientIds { count: given.len() });
    }
    let mut seen = HashSet::new();
    if let Some(found) = given.iter().find(|id| !seen.insert(*id)) {
        return Err(DeviceError::DuplicateMqttClientId { found: found.clone() });
    }
    Ok(given.into_iter().map(|id| parse_name("mqtt_client_ids", id)).collect::<Result<_, _>>()?)
}

fn no_such_device(name: &str) -> DeviceError {
    DeviceError::NoSuchDevice { name: name.into() }
}

fn name_taken(name: &str, device: &str, removed: bool) -> String {
    match (name == device, removed) {
        (true, false) => format!("there is a device {name} already"),
        (false, false) => {
            format!("{name} belongs to device {device}; client IDs and device names are one namespace")
        }
        (true, true) => format!(
            "there was a device {name}; a name is never used again, as old tokens and topics could mean it"
        ),
        (false, true) => format!(
            "{name} belonged to device {device}, which was removed; a name is never used again, as old tokens \
             and topics could mean it"
        ),
    }
}

#[cfg(test)]
mod tests;
