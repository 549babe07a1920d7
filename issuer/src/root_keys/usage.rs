//! What is under which root key.

use std::collections::BTreeMap;

use fleetbadge_validator::time::UnixSeconds;

use crate::root_key::RootKeyId;
use crate::store::{DeviceQuery, Store, StoreError};

/// How many devices are looked at at a time.
const PAGE: u32 = 1_000;

/// What is under a root key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many signing keys.
    pub signing_keys: u64,
    /// How many secrets of devices and brokers that have not ended.
    pub secrets: u64,
    /// How many static passwords that have not ended.
    pub passwords: u64,
    /// One of the clients that have such a secret or password.
    pub client: Option<String>,
}

impl Usage {
    pub(super) const fn is_none(&self) -> bool {
        self.signing_keys == 0 && self.secrets == 0 && self.passwords == 0
    }

    /// What is in the way of removing it, and what to do about that.
    pub(super) fn way_out(&self, id: RootKeyId) -> String {
        if self.signing_keys > 0 {
            return "; signing keys move by themselves once a node has it and the current one".into();
        }
        let client = self.client.as_ref().map_or_else(String::new, |client| format!(", one of {client}"));
        format!(
            "{client}; they move by themselves when they are next presented, and those that never are can be rotated \
             or removed. To refuse them all from now on: root-key remove {id} --yes"
        )
    }

    fn count_client(&mut self, client: &str) {
        self.client.get_or_insert_with(|| client.into());
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { signing_keys, secrets, passwords, client: _ } = self;
        write!(
            f,
            "{signing_keys} signing keys, {secrets} secrets and {passwords} static passwords are under it"
        )
    }
}

/// What is under which root key. Looks at every device: a million takes
/// some seconds.
pub(super) async fn count(
    store: &dyn Store,
    now: UnixSeconds,
) -> Result<BTreeMap<RootKeyId, Usage>, StoreError> {
    let mut usage: BTreeMap<RootKeyId, Usage> = BTreeMap::new();
    for key in store.signing_keys().await?.keys {
        usage.entry(key.private.sealed().root_key).or_default().signing_keys += 1;
    }
    for broker in store.settings().await?.brokers {
        for secret in broker.secrets.iter().filter(|secret| secret.is_in_time(now)) {
            let usage = usage.entry(secret.verifier.root_key()).or_default();
            usage.secrets += 1;
            usage.count_client(broker.name.as_str());
        }
    }
    let mut last = String::new();
    loop {
        let query = DeviceQuery { after: Some(&last), limit: PAGE, ..DeviceQuery::default() };
        let page = store.devices(query).await?;
        for device in &page {
            let (name, credentials) = (device.name.as_str(), &device.credentials);
            for secret in credentials.secrets.iter().filter(|secret| secret.is_in_time(now)) {
                let usage = usage.entry(secret.verifier.root_key()).or_default();
                usage.secrets += 1;
                usage.count_client(name);
            }
            if let Some(password) = credentials.password.as_ref().filter(|it| it.is_in_time(now)) {
                let usage = usage.entry(password.hash.root_key()).or_default();
                usage.passwords += 1;
                usage.count_client(name);
            }
        }
        match page.last() {
            Some(device) => last = device.name.to_string(),
            None => return Ok(usage),
        }
    }
}
