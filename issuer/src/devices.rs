//! The devices: found in memory, changed in the store.
//!
//! In front of the store is a bounded cache, so that a device that asks for
//! tokens regularly costs no database access. Every change is written first
//! and then taken out of the cache; what was read from the store meanwhile is
//! not put into it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetbadge_validator::ids::{DeviceName, GroupName, MqttClientId, check_name};
use fleetbadge_validator::time::UnixSeconds;
use metrics::Counter;
use quick_cache::sync::Cache;

use crate::certificate::InvalidSubject;
use crate::credentials::{CredentialId, Credentials, SecretRecord, SecretVerifier};
use crate::device_keys::{self, DeviceKey, InvalidDeviceKeys, KeyNotAdded};
use crate::names::{NameRefused, parse_name};
use crate::random::{NoRandomness, Random};
use crate::secret::imported::{InvalidImportedSecret, SlowHashFailed};
use crate::secret::{ClientSecret, SecretHasher};
use crate::store::{Attributes, DeviceQuery, DeviceRecord, DeviceStatus, Store, StoreError, WriteError};

mod change;
mod keys;
mod secrets;

pub use change::DeviceChange;
pub use secrets::{AddedSecret, MAX_SECRET_LIFETIME_S, RotatedSecret};

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
    /// More than [`MAX_ATTRIBUTES`].
    #[error("attributes: has {count}; at most {MAX_ATTRIBUTES} are allowed")]
    TooManyAttributes {
        /// How many.
        count: usize,
    },
    /// One of its names is, or was, another client's.
    #[error("{}", name_taken(name, taken, client, *removed))]
    NameTaken {
        /// The name.
        name: String,
        /// What is in its way: the same name, or its twin by case.
        taken: String,
        /// Whose it is.
        client: String,
        /// Whether that client has been removed.
        removed: bool,
    },
    /// Its public keys cannot be used.
    #[error(transparent)]
    InvalidKeys(#[from] InvalidDeviceKeys),
    /// Public keys cannot be added to those that it has.
    #[error(transparent)]
    KeyNotAdded(#[from] KeyNotAdded),
    /// One of its public keys is another device's.
    #[error("jwks: the key {thumbprint} belongs to device {device}")]
    KeyTaken {
        /// Its thumbprint.
        thumbprint: String,
        /// Whose it is.
        device: String,
    },
    /// A name that no certificate can be found by.
    #[error(transparent)]
    CertificateSubject(#[from] InvalidSubject),
    /// It has as many credentials of a kind as it may have.
    #[error("{field}: the device has {max}, the most that it may have; remove one first")]
    TooManyCredentials {
        /// Which kind.
        field: &'static str,
        /// How many it may have.
        max: usize,
    },
    /// A secret that cannot be imported.
    #[error("secret: {0}")]
    ImportedSecret(#[from] InvalidImportedSecret),
    /// The slow hash of a secret failed.
    #[error(transparent)]
    SlowHash(#[from] SlowHashFailed),
    /// Too long, or no time at all.
    #[error("{field}: {found_s} seconds are not between {min_s} and {MAX_SECRET_LIFETIME_S}")]
    Lifetime {
        /// Of what.
        field: &'static str,
        /// What was asked for.
        found_s: u64,
        /// The least that is possible.
        min_s: u64,
    },
    /// It has no such credential.
    #[error("device {device} has no {what} {id}")]
    NoSuchCredential {
        /// The device.
        device: String,
        /// Which kind.
        what: &'static str,
        /// What was named.
        id: String,
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
    /// It does not wait for approval.
    #[error("device {name} is {status}; only a pending one can be approved")]
    NotPending {
        /// Its name.
        name: String,
        /// What it is.
        status: DeviceStatus,
    },
    /// No secret can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// It was changed by others each time that it was tried.
    #[error("device {name} is being changed by others; try again")]
    Busy {
        /// Its name.
        name: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The devices of an issuer.
pub struct Devices {
    store: Arc<dyn Store>,
    cache: Cache<String, Arc<DeviceRecord>>,
    /// How many changes there have been, see [`Self::remember`].
    changes: Mutex<u64>,
    misses: Counter,
    hasher: SecretHasher,
    random: Random,
    #[cfg(test)]
    lookups: std::sync::atomic::AtomicUsize,
}

impl Devices {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        capacity: usize,
        misses: Counter,
        hasher: SecretHasher,
        random: Random,
    ) -> Self {
        Self {
            store,
            cache: Cache::new(capacity),
            changes: Mutex::default(),
            misses,
            hasher,
            random,
            #[cfg(test)]
            lookups: std::sync::atomic::AtomicUsize::default(),
        }
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
        if let Some(device) = self.find_in_memory(name) {
            return Ok(Some(device));
        }
        self.misses.increment(1);
        // Nobody waits for another one's look at the same name: for one that
        // does not exist that would be a queue, for others none.
        let seen = *self.changes();
        let device = self.look_up(name).await?.map(Arc::new);
        if let Some(device) = &device {
            self.remember(device, seen);
        }
        Ok(device)
    }

    /// The device of this name, if it is in memory.
    pub(crate) fn find_in_memory(&self, name: &str) -> Option<Arc<DeviceRecord>> {
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
    fn remember(&self, device: &Arc<DeviceRecord>, seen: u64) {
        let changes = self.changes();
        if *changes == seen {
            self.cache.insert(device.name.to_string(), Arc::clone(device));
        }
    }

    /// After every change, or attempt at one.
    fn forget(&self, name: &str) {
        let mut changes = self.changes();
        *changes += 1;
        self.cache.remove(name);
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
        let (secret, record) = self.make_secret(device.name.as_str(), None, now)?;
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
        self.store.add_device(device).await.map_err(|error| write_error(error, device.name.as_str()))
    }

    /// Makes a secret for a client, and what is kept of it.
    pub(crate) fn make_secret(
        &self,
        client: &str,
        expires_at: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<(ClientSecret, SecretRecord), NoRandomness> {
        let secret = ClientSecret::generate(&*self.random)?;
        let verifier = SecretVerifier::Made(self.hasher.hash(client, &secret));
        let id = CredentialId::generate(&*self.random)?;
        Ok((secret, SecretRecord { id, verifier, created_at: now, expires_at }))
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
        self.store.device(name).await?.ok_or_else(|| no_such_device(name))
    }

    /// Changes a device, as a whole or not at all. `change` may be called
    /// several times, each time with what the device is then. Takes effect
    /// with the next request.
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
            let written = self.store.update_device(&device).await;
            self.forget(name);
            match written {
                Ok(()) => {
                    device.revision += 1;
                    return Ok((device, result));
                }
                Err(WriteError::Conflict) => {}
                Err(error) => return Err(write_error(error, name)),
            }
        }
        Err(DeviceError::Busy { name: name.into() })
    }

    /// Lets a device have tokens, or no more.
    ///
    /// # Errors
    /// [`DeviceError::NoSuchDevice`], [`DeviceError::Store`].
    pub async fn set_status(&self, name: &str, status: DeviceStatus) -> Result<DeviceRecord, DeviceError> {
        let set = |device: &mut DeviceRecord| {
            device.status = status;
            Ok(())
        };
        self.change(name, set).await.map(|(device, ())| device)
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

    /// Removes a device. Its names stay taken.
    ///
    /// # Errors
    /// [`DeviceError::NoSuchDevice`], [`DeviceError::Store`].
    pub async fn remove(&self, name: &str) -> Result<(), DeviceError> {
        let removed = self.store.remove_device(name).await;
        self.forget(name);
        if removed? { Ok(()) } else { Err(no_such_device(name)) }
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
        created_at: now,
        revision: 0,
    })
}

pub(crate) fn write_error(error: WriteError, name: &str) -> DeviceError {
    match error {
        WriteError::NameTaken { name, taken, client, removed } => {
            DeviceError::NameTaken { name, taken, client, removed }
        }
        WriteError::KeyTaken { thumbprint, device } => DeviceError::KeyTaken { thumbprint, device },
        WriteError::NoSuchGroup { group } => DeviceError::NoSuchGroup { group },
        WriteError::Gone => no_such_device(name),
        WriteError::Conflict | WriteError::EnrolmentUsedUp | WriteError::ResourceTaken { .. } => {
            DeviceError::Busy { name: name.into() }
        }
        WriteError::Store(error) => DeviceError::Store(error),
    }
}

/// Reads the attributes of a device.
pub(crate) fn parse_attributes(given: BTreeMap<String, String>) -> Result<Attributes, DeviceError> {
    if given.len() > MAX_ATTRIBUTES {
        return Err(DeviceError::TooManyAttributes { count: given.len() });
    }
    let parse = |(name, value)| Ok((parse_name("attributes", name)?, parse_name("attributes", value)?));
    given.into_iter().map(parse).collect()
}

pub(crate) fn parse_mqtt_client_ids(
    name: &DeviceName,
    given: Vec<String>,
) -> Result<Vec<MqttClientId>, DeviceError> {
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

pub(crate) fn name_taken(name: &str, taken: &str, client: &str, removed: bool) -> String {
    const FOR_EVER: &str = "a name is never used again, as old tokens and topics could mean it";
    let twin = if name == taken {
        String::new()
    } else {
        format!("{name} differs from {taken} by case alone; people would take one for the other: ")
    };
    match (taken == client, removed) {
        (true, false) => format!("{twin}there is a device or broker {taken} already"),
        (false, false) => {
            format!("{twin}{taken} belongs to {client}; client IDs and names are one namespace")
        }
        (true, true) => format!("{twin}there was a device or broker {taken}; {FOR_EVER}"),
        (false, true) => format!("{twin}{taken} belonged to {client}, which was removed; {FOR_EVER}"),
    }
}

#[cfg(test)]
mod tests;
