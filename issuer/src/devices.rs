//! The devices: found in memory, changed in the store.
//!
//! In front of the store is a bounded cache, so that a device that asks for
//! tokens regularly costs no database access. Every change is written first
//! and then taken out of the cache; what was read from the store meanwhile is
//! not put into it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetbadge_validator::ids::{AttributeName, AttributeValue, DeviceName, GroupName, check_name};
use fleetbadge_validator::time::UnixSeconds;
use metrics::Counter;
use quick_cache::sync::Cache;

use crate::client_secrets::{AddedSecret, SecretMaker};
use crate::credentials::Credentials;
use crate::device_keys::{self, DeviceKey};
use crate::groups::Groups;
use crate::names::parse_name;
use crate::revoker::Revoker;
use crate::secret::{ClientSecret, SecretHasher};
use crate::store::{
    Attributes, DeviceNotUpdated, DeviceQuery, DeviceRecord, DeviceStatus, MqttClientIds, Store, StoreError,
};

mod change;
mod error;
mod keys;
mod known;
mod secrets;

pub use change::DeviceChange;
pub use error::DeviceError;
pub(crate) use error::not_written;
pub use known::{KnownDevice, USE_PRECISION_S};

/// The most MQTT client identifiers that a device may have.
pub const MAX_MQTT_CLIENT_IDS: usize = 16;
/// The most attributes that a device may have.
pub const MAX_ATTRIBUTES: usize = 16;
/// How often a change is tried again when somebody else was faster.
const MAX_ATTEMPTS: usize = 16;
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
    /// What goes into topics for `${attr.NAME}`.
    pub attributes: BTreeMap<String, String>,
    /// Its public keys, for `private_key_jwt`.
    pub keys: Vec<DeviceKey>,
}

/// A device and the secret that was made for it, which nobody can see again.
#[derive(Debug)]
pub struct AddedDevice {
    /// The device.
    pub device: DeviceRecord,
    /// Its secret.
    pub secret: ClientSecret,
}

/// The devices of an issuer.
pub struct Devices {
    store: Arc<dyn Store>,
    groups: Arc<Groups>,
    cache: Cache<DeviceName, Arc<KnownDevice>>,
    /// How many changes there have been, see [`Self::remember`].
    changes: Mutex<u64>,
    misses: Counter,
    secrets: SecretMaker,
    revoker: Revoker,
    #[cfg(test)]
    lookups: std::sync::atomic::AtomicUsize,
}

impl Devices {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        groups: Arc<Groups>,
        capacity: usize,
        misses: Counter,
        secrets: SecretMaker,
        revoker: Revoker,
    ) -> Self {
        Self {
            store,
            groups,
            cache: Cache::new(capacity),
            changes: Mutex::default(),
            misses,
            secrets,
            revoker,
            #[cfg(test)]
            lookups: std::sync::atomic::AtomicUsize::default(),
        }
    }

    /// What makes secrets, also those of brokers.
    pub(crate) const fn secret_maker(&self) -> &SecretMaker {
        &self.secrets
    }

    /// What makes and checks the hashes of secrets.
    pub(crate) const fn hasher(&self) -> &SecretHasher {
        self.secrets.hasher()
    }

    /// The device of this name, from memory if it was asked for before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find(&self, name: &str) -> Result<Option<Arc<KnownDevice>>, StoreError> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        if let Some(device) = self.find_in_memory(name) {
            return Ok(Some(device));
        }
        self.misses.increment(1);
        // Nobody waits for another one's look at the same name: for one that
        // does not exist that would be a queue, for others none.
        let seen = *self.changes();
        let device = self.look_up(name).await?.map(|record| Arc::new(KnownDevice::new(record)));
        if let Some(device) = &device {
            self.remember(device, seen);
        }
        Ok(device)
    }

    /// The device of this name, if it is in memory.
    pub(crate) fn find_in_memory(&self, name: &str) -> Option<Arc<KnownDevice>> {
        self.cache.get(name)
    }

    /// Costs as much as to look into the store for a device that there is not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn look_for_nobody(&self) -> Result<(), StoreError> {
        self.look_up("").await.map(drop)
    }

    async fn look_up(&self, name: &str) -> Result<Option<DeviceRecord>, StoreError> {
        #[cfg(test)]
        self.lookups.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.store.device(name).await
    }

    /// How many looks into the store there have been.
    #[cfg(test)]
    pub(crate) fn lookups(&self) -> usize {
        self.lookups.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Keeps what was read when so many changes had been `seen`, unless there
    /// was one since: it still answers this request, and is then forgotten.
    fn remember(&self, device: &Arc<KnownDevice>, seen: u64) {
        let changes = self.changes();
        if *changes == seen {
            self.cache.insert(device.name.clone(), Arc::clone(device));
        }
    }

    /// After every change, or attempt at one, here or on another node.
    pub(crate) fn forget(&self, name: &str) {
        let mut changes = self.changes();
        *changes += 1;
        self.cache.remove(name);
    }

    /// After changes of nobody knows which devices.
    pub(crate) fn forget_all(&self) {
        let mut changes = self.changes();
        *changes += 1;
        self.cache.clear();
    }

    fn changes(&self) -> MutexGuard<'_, u64> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a device and makes its secret.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn add(&self, new: NewDevice, now: UnixSeconds) -> Result<AddedDevice, DeviceError> {
        let mut device = enabled(new, now)?;
        let AddedSecret { secret, record } = self.secrets.make(device.name.as_str(), None, now)?;
        device.credentials.secrets.push(record);
        self.write_new(&device).await?;
        Ok(AddedDevice { device, secret })
    }

    /// Adds a device without a secret.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn add_without_secret(
        &self,
        new: NewDevice,
        now: UnixSeconds,
    ) -> Result<DeviceRecord, DeviceError> {
        let device = enabled(new, now)?;
        self.write_new(&device).await?;
        Ok(device)
    }

    async fn write_new(&self, device: &DeviceRecord) -> Result<(), DeviceError> {
        self.groups.check_device(device)?;
        self.store.add_device(device).await.map_err(|error| not_written(error, device.name.as_str()))
    }

    /// Some devices, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn page(&self, query: DeviceQuery<'_>) -> Result<Vec<DeviceRecord>, StoreError> {
        self.store.devices(query).await
    }

    /// A device as it is stored.
    ///
    /// # Errors
    /// [`DeviceError::NoSuchDevice`], [`DeviceError::Store`].
    pub async fn get(&self, name: &str) -> Result<DeviceRecord, DeviceError> {
        self.store.device(name).await?.ok_or_else(|| error::no_such_device(name))
    }

    /// Changes a device, as a whole or not at all. `change` may be called
    /// several times, each time with what the device is then. Takes effect
    /// with the next request. The tokens of one that may have no more are taken
    /// back with it.
    ///
    /// # Errors
    /// What `change` says; [`DeviceError::NoSuchDevice`],
    /// [`DeviceError::NameTaken`], [`DeviceError::KeyTaken`],
    /// [`DeviceError::NoSuchGroup`], [`DeviceError::Store`].
    pub async fn change<T>(
        &self,
        name: &str,
        change: impl Fn(&mut DeviceRecord) -> Result<T, DeviceError>,
    ) -> Result<(DeviceRecord, T), DeviceError> {
        for _ in 0..MAX_ATTEMPTS {
            let mut device = self.get(name).await?;
            let former = device.clone();
            let result = change(&mut device)?;
            if device == former {
                return Ok((device, result));
            }
            let is_shut_out = former.check_enabled().is_ok() && device.check_enabled().is_err();
            let revoke = is_shut_out.then(|| self.revoker.device(name));
            let written = self.store.update_device(&device, revoke.as_ref()).await;
            self.forget(name);
            match written {
                Ok(()) => {
                    if let Some(revoked) = revoke {
                        self.revoker.settle(&*self.store, revoked).await?;
                    }
                    device.revision += 1;
                    return Ok((device, result));
                }
                Err(DeviceNotUpdated::Conflict) => {}
                Err(DeviceNotUpdated::Gone) => return Err(error::no_such_device(name)),
                Err(DeviceNotUpdated::NotWritten(error)) => return Err(not_written(error, name)),
            }
        }
        Err(DeviceError::Busy { name: name.into() })
    }

    /// Lets a device have tokens, or no more. One that waits for approval is
    /// not enabled by the way.
    ///
    /// # Errors
    /// [`DeviceError::Pending`], [`DeviceError::NoSuchDevice`],
    /// [`DeviceError::Store`].
    pub async fn set_status(&self, name: &str, status: DeviceStatus) -> Result<DeviceRecord, DeviceError> {
        let set = |device: &mut DeviceRecord| match (device.status, status) {
            (DeviceStatus::Pending, DeviceStatus::Enabled) => {
                Err(DeviceError::Pending { name: device.name.to_string() })
            }
            _ => Ok(std::mem::replace(&mut device.status, status)),
        };
        let (device, former) = self.change(name, set).await?;
        if (former, status) == (DeviceStatus::Disabled, DeviceStatus::Disabled) {
            // Whoever was told that it failed asks again: it counts now, at the latest.
            let revoked = self.revoker.device(name);
            self.store.revoke(std::slice::from_ref(&revoked)).await?;
            self.revoker.settle(&*self.store, revoked).await?;
        }
        Ok(device)
    }

    /// Lets a device that enrolled have tokens.
    ///
    /// # Errors
    /// [`DeviceError::NotPending`], [`DeviceError::NoSuchDevice`],
    /// [`DeviceError::Store`].
    pub async fn approve(&self, name: &str) -> Result<DeviceRecord, DeviceError> {
        let approve = |device: &mut DeviceRecord| match device.status {
            DeviceStatus::Pending => {
                device.status = DeviceStatus::Enabled;
                Ok(())
            }
            status @ (DeviceStatus::Enabled | DeviceStatus::Disabled) => {
                Err(DeviceError::NotPending { name: device.name.to_string(), status })
            }
        };
        self.change(name, approve).await.map(|(device, ())| device)
    }

    /// Removes a device and takes back its tokens. Its names stay taken.
    ///
    /// # Errors
    /// [`DeviceError::NoSuchDevice`], [`DeviceError::Store`].
    pub async fn remove(&self, name: &str) -> Result<(), DeviceError> {
        let revoked = self.revoker.device(name);
        let removed = self.store.remove_device(name, &revoked).await;
        self.forget(name);
        if !removed? {
            return Err(error::no_such_device(name));
        }
        Ok(self.revoker.settle(&*self.store, revoked).await?)
    }
}

/// A new device that may have tokens.
fn enabled(new: NewDevice, now: UnixSeconds) -> Result<DeviceRecord, DeviceError> {
    let NewDevice { name, group, mqtt_client_ids, attributes, keys } = new;
    let name: DeviceName = parse_name("name", name)?;
    let group: GroupName = parse_name("group", group.unwrap_or_else(|| DEFAULT_GROUP.into()))?;
    let mqtt_client_ids = parse_mqtt_client_ids(&name, mqtt_client_ids)?;
    let attributes = parse_attributes(attributes)?;
    let mut credentials = Credentials::default();
    device_keys::add(&mut credentials.keys, &keys, now)?;
    Ok(DeviceRecord {
        name,
        group,
        status: DeviceStatus::Enabled,
        mqtt_client_ids,
        attributes,
        credentials,
        enrolled_by: None,
        created_at: now,
        revision: 0,
    })
}

/// Reads the attributes of a device.
pub(crate) fn parse_attributes(given: BTreeMap<String, String>) -> Result<Attributes, DeviceError> {
    if given.len() > MAX_ATTRIBUTES {
        return Err(DeviceError::TooManyAttributes { count: given.len() });
    }
    let parse = |(name, value)| {
        let name = parse_name("attributes", name)?;
        let value = parse_attribute_value(&name, value)?;
        Ok((name, value))
    };
    given.into_iter().map(parse).collect()
}

fn parse_attribute_value(attribute: &AttributeName, value: String) -> Result<AttributeValue, DeviceError> {
    AttributeValue::try_from(value.clone()).map_err(|reason| DeviceError::AttributeValue {
        attribute: attribute.clone(),
        found: value,
        reason,
    })
}

pub(crate) fn parse_mqtt_client_ids(
    name: &DeviceName,
    given: Vec<String>,
) -> Result<MqttClientIds, DeviceError> {
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

#[cfg(test)]
mod tests;
