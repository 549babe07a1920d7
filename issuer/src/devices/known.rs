//! A device in memory.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use fleetbadge_validator::time::UnixSeconds;
use smallvec::SmallVec;

use crate::credentials::CredentialId;
use crate::store::DeviceRecord;

/// How exactly it is kept when a credential was last used, in seconds: tokens
/// that a device gets within an hour cost one write together.
pub const USE_PRECISION_S: u64 = 3_600;

/// A device, and which uses of its credentials have been noted.
#[derive(Debug)]
pub struct KnownDevice {
    record: DeviceRecord,
    /// When a use of each credential was last noted, in the order of
    /// [`crate::credentials::Credentials::ids`]; 0 if none was.
    noted_at: SmallVec<[AtomicU64; 1]>,
}

impl KnownDevice {
    pub(super) fn new(mut record: DeviceRecord) -> Self {
        // Lists are read with room for more, which would be kept as long.
        record.mqtt_client_ids.shrink_to_fit();
        record.credentials.secrets.shrink_to_fit();
        record.credentials.keys.shrink_to_fit();
        let noted_at = record.credentials.ids().map(|_| AtomicU64::new(0)).collect();
        Self { record, noted_at }
    }

    /// Whether this use of a credential is one to be noted: it is, unless
    /// another was noted within [`USE_PRECISION_S`].
    pub(crate) fn notes_use(&self, credential: &CredentialId, now: UnixSeconds) -> bool {
        let mut ids = self.record.credentials.ids().zip(&self.noted_at);
        let Some((_, noted_at)) = ids.find(|(id, _)| *id == credential.as_str()) else { return true };
        let last = UnixSeconds(noted_at.load(Ordering::Relaxed));
        // A clock that was set back is no reason to note nothing.
        let is_noted = last <= now && now.since(last) < USE_PRECISION_S;
        if !is_noted {
            noted_at.store(now.0, Ordering::Relaxed);
        }
        !is_noted
    }
}

impl Deref for KnownDevice {
    type Target = DeviceRecord;

    fn deref(&self) -> &DeviceRecord {
        &self.record
    }
}
