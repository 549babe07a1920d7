//! What a device says of itself when it registers (RFC 7591 §2) and when it
//! changes its keys (RFC 7592 §2.2). Pure.
//!
//! Members that are not listed are passed over, as RFC 7591 §2 has it. Those
//! that are must have their type; a key must be one that can be used.

use fleetbadge_validator::claims::{from_json_object, present, present_object};
use fleetbadge_validator::jwk::{Jwks, PublicJwk};
use fleetbadge_validator::time::UnixSeconds;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::credentials::{CredentialId, KeyRecord};
use crate::device_keys::{DeviceKey, InvalidDeviceKeys};

/// How a device that registers itself proves who it is.
pub(crate) const AUTH_METHOD: &str = "private_key_jwt";

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientMetadata {
    /// Its public keys, each once; at least one.
    pub(crate) keys: Vec<KeyRecord>,
    /// The name that it wishes.
    pub(crate) client_name: Option<String>,
    /// Who it says that it is, when it has been registered.
    pub(crate) client_id: Option<String>,
}

/// What a device says of itself cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidMetadata {
    /// No JSON object, a member of the wrong type, or a private key.
    #[error("the body: {reason}")]
    Json {
        /// What is wrong.
        reason: String,
    },
    /// No keys, or such as a device cannot have.
    #[error(transparent)]
    Keys(#[from] InvalidDeviceKeys),
    /// Keys are not fetched from elsewhere.
    #[error("jwks_uri: is not accepted; send the keys themselves in jwks")]
    JwksUri,
    /// Another way to prove who it is.
    #[error("token_endpoint_auth_method: {found:?} is not accepted, only {AUTH_METHOD} is")]
    AuthMethod {
        /// What was asked for.
        found: String,
    },
    /// It is not who it says.
    #[error("client_id: {found:?} is not the client of this URL")]
    ClientId {
        /// What it says.
        found: String,
    },
    /// Each new key needs a proof of its own.
    #[error("jwks: has {count} new keys; add one at a time, each with its proof")]
    NewKeys {
        /// How many.
        count: usize,
    },
}

#[derive(Deserialize)]
struct Members {
    #[serde(default, deserialize_with = "present_object")]
    jwks: Option<Jwks<PublicJwk>>,
    #[serde(default, deserialize_with = "present")]
    jwks_uri: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    token_endpoint_auth_method: Option<String>,
    #[serde(default, deserialize_with = "present")]
    client_name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    client_id: Option<String>,
}

impl ClientMetadata {
    /// Reads what a device says, with at most `max_keys` keys.
    ///
    /// # Errors
    /// [`InvalidMetadata`] names the member.
    pub(crate) fn read(json: &[u8], max_keys: usize, now: UnixSeconds) -> Result<Self, InvalidMetadata> {
        let members: Members =
            from_json_object(json).map_err(|error| InvalidMetadata::Json { reason: error.to_string() })?;
        if members.jwks_uri.is_some() {
            return Err(InvalidMetadata::JwksUri);
        }
        match members.token_endpoint_auth_method {
            Some(found) if found != AUTH_METHOD => return Err(InvalidMetadata::AuthMethod { found }),
            Some(_) | None => {}
        }
        let jwks = members.jwks.map(|jwks| jwks.keys).unwrap_or_default();
        let keys = DeviceKey::of_jwks(&jwks, max_keys)?;
        Ok(Self {
            keys: keys.into_iter().map(|key| key.into_record(now)).collect(),
            client_name: members.client_name,
            client_id: members.client_id,
        })
    }
}

/// What the keys of a device become: those of `wanted`, of which at most one
/// may be new. Known ones keep the time at which they were added.
///
/// # Errors
/// [`InvalidMetadata::NewKeys`].
pub(crate) fn replace_keys(
    current: &[KeyRecord],
    wanted: &[KeyRecord],
) -> Result<ReplacedKeys, InvalidMetadata> {
    let known = |id: &CredentialId| current.iter().find(|key| key.id == *id);
    let mut new_keys = wanted.iter().filter(|key| known(&key.id).is_none());
    let (new_key, more) = (new_keys.next(), new_keys.count());
    if more > 0 {
        return Err(InvalidMetadata::NewKeys { count: more + 1 });
    }
    let keep_time = |key: &KeyRecord| KeyRecord {
        created_at: known(&key.id).map_or(key.created_at, |known| known.created_at),
        ..key.clone()
    };
    Ok(ReplacedKeys {
        keys: wanted.iter().map(keep_time).collect(),
        new_key: new_key.map(|key| key.id.clone()),
    })
}

/// The keys of a device after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplacedKeys {
    /// All of them.
    pub(crate) keys: Vec<KeyRecord>,
    /// The one that the device did not have before: it has to be proven.
    pub(crate) new_key: Option<CredentialId>,
}

#[cfg(test)]
mod tests;
