//! The public keys of a device: several at a time, each of this device alone.

use fleetbadge_validator::time::UnixSeconds;

use super::{DeviceError, Devices};
use crate::device_keys::{self, DeviceKey};
use crate::store::DeviceRecord;

impl Devices {
    /// Adds public keys to a device, all or none; it is then as returned.
    ///
    /// # Errors
    /// [`DeviceError::KeyNotAdded`], [`DeviceError::KeyTaken`] and others.
    pub async fn add_keys(
        &self,
        name: &str,
        keys: &[DeviceKey],
        now: UnixSeconds,
    ) -> Result<DeviceRecord, DeviceError> {
        let add = |device: &mut DeviceRecord| Ok(device_keys::add(&mut device.credentials.keys, keys, now)?);
        self.change(name, add).await.map(|(device, ())| device)
    }

    /// Takes a public key from a device, which is then as returned. It may
    /// have been the last one.
    ///
    /// # Errors
    /// [`DeviceError::NoSuchCredential`] and others.
    pub async fn remove_key(&self, name: &str, thumbprint: &str) -> Result<DeviceRecord, DeviceError> {
        let remove = |device: &mut DeviceRecord| {
            let none =
                || DeviceError::NoSuchCredential { device: name.into(), what: "key", id: thumbprint.into() };
            let keys = &mut device.credentials.keys;
            keys.remove(keys.iter().position(|key| key.id.as_str() == thumbprint).ok_or_else(none)?);
            Ok(())
        };
        self.change(name, remove).await.map(|(device, ())| device)
    }
}
