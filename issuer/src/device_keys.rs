//! The public keys of a device, as they are handed over: a JWK Set (RFC 7517
//! §5). Pure.
//!
//! A key is looked at once, here, so that every key that is kept is usable:
//! strong, on its curve, no test key, and without its private half. Whoever
//! hands that over has lost it, so nothing is taken from such a set.

use fleetbadge_validator::jwk::{Jwk, PublicJwk, PublicKey, UnusableKey};
use fleetbadge_validator::keys::VerifyingKey;
use fleetbadge_validator::time::UnixSeconds;
use serde::Deserialize as _;
use serde_json::Value;

use crate::credentials::{CredentialId, KeyRecord, MAX_KEYS};

/// The most bytes that a `kid` may have.
const MAX_KID_LENGTH: usize = 128;

/// A public key that a device may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    thumbprint: CredentialId,
    jwk: Jwk,
}

/// A JWK Set has a key that no device can have, or is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDeviceKeys {
    /// No JWK Set.
    #[error("jwks: is not a JWK Set; it has the form {{\"keys\":[…]}}, each key an object")]
    NotJwks,
    /// A set without a key.
    #[error("jwks: has no key")]
    NoKey,
    /// More keys than are accepted at a time.
    #[error("jwks: has {count} keys; at most {max} are accepted here")]
    TooManyKeys {
        /// How many.
        count: usize,
        /// How many are accepted.
        max: usize,
    },
    /// A key that cannot be read, or has a private member.
    #[error("jwks: key {position}: {reason}")]
    Jwk {
        /// Which, from 1.
        position: usize,
        /// What is wrong.
        reason: String,
    },
    /// A key that cannot be used.
    #[error("jwks: key {position} {reason}")]
    Unusable {
        /// Which, from 1.
        position: usize,
        /// Why not.
        reason: UnusableKey,
    },
    /// A `kid` that cannot be one.
    #[error("jwks: key {position}: its kid is not 1 to {MAX_KID_LENGTH} visible ASCII characters")]
    Kid {
        /// Which key, from 1.
        position: usize,
    },
    /// A key or a `kid` twice (RFC 7517 §4.5).
    #[error("jwks: key {position} or its kid is there twice")]
    Duplicate {
        /// Which key, from 1.
        position: usize,
    },
}

/// A key cannot be added to those that a device has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyNotAdded {
    /// The device has it.
    #[error("jwks: the device has the key {thumbprint} already")]
    Known {
        /// Which.
        thumbprint: String,
    },
    /// Another key of the device has its `kid`.
    #[error("jwks: the key {other} of the device has the kid {kid:?} already")]
    KidTaken {
        /// The `kid`.
        kid: String,
        /// The key that has it.
        other: String,
    },
    /// The device would have more than it may.
    #[error(
        "jwks: the device has {current} keys, with these it would have more than {MAX_KEYS}; remove one first"
    )]
    TooMany {
        /// How many it has.
        current: usize,
    },
}

impl DeviceKey {
    /// Reads a JWK Set. No error says what stands in a private member.
    ///
    /// # Errors
    /// [`InvalidDeviceKeys`] names the key and what is wrong with it.
    pub fn read_set(jwks: &Value) -> Result<Vec<Self>, InvalidDeviceKeys> {
        let keys = jwks.get("keys").and_then(Value::as_array).ok_or(InvalidDeviceKeys::NotJwks)?;
        // What is not an object may be a private key in another form, which
        // the error of reading it would show.
        if !keys.iter().all(Value::is_object) {
            return Err(InvalidDeviceKeys::NotJwks);
        }
        let read = |(key, position): (&Value, usize)| {
            PublicJwk::deserialize(key)
                .map_err(|error| InvalidDeviceKeys::Jwk { position, reason: error.to_string() })
        };
        Self::of_jwks(&keys.iter().zip(1..).map(read).collect::<Result<Vec<_>, _>>()?, MAX_KEYS)
    }

    /// Looks at public keys, 1 to `max`: each must be usable, and be there
    /// once.
    ///
    /// # Errors
    /// [`InvalidDeviceKeys`] names the key and what is wrong with it.
    pub fn of_jwks(jwks: &[PublicJwk], max: usize) -> Result<Vec<Self>, InvalidDeviceKeys> {
        if jwks.is_empty() {
            return Err(InvalidDeviceKeys::NoKey);
        }
        if jwks.len() > max {
            return Err(InvalidDeviceKeys::TooManyKeys { count: jwks.len(), max });
        }
        let mut keys: Vec<Self> = Vec::with_capacity(jwks.len());
        for (PublicJwk(jwk), position) in jwks.iter().zip(1..) {
            let key = Self::of_jwk(jwk, position)?;
            if keys.iter().any(|other| other.thumbprint == key.thumbprint || other.kid() == key.kid()) {
                return Err(InvalidDeviceKeys::Duplicate { position });
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn of_jwk(jwk: &Jwk, position: usize) -> Result<Self, InvalidDeviceKeys> {
        let unusable = |reason| InvalidDeviceKeys::Unusable { position, reason };
        let key = PublicKey::from_jwk(jwk).map_err(unusable)?;
        // Parsing tells whether a point is on its curve.
        let thumbprint = VerifyingKey::new(&key).map_err(unusable)?.thumbprint().to_string();
        let kid = jwk.kid.clone().unwrap_or_else(|| thumbprint.clone());
        if !(1..=MAX_KID_LENGTH).contains(&kid.len()) || !kid.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidDeviceKeys::Kid { position });
        }
        let jwk = Jwk { kid: Some(kid), ..key.to_jwk() };
        Ok(Self { thumbprint: CredentialId::from_text(&thumbprint), jwk })
    }

    fn kid(&self) -> Option<&str> {
        self.jwk.kid.as_deref()
    }

    /// Its thumbprint (RFC 7638).
    #[must_use]
    pub const fn thumbprint(&self) -> &CredentialId {
        &self.thumbprint
    }

    /// The JWK: the key, `alg`, `use` and `kid`, nothing else that was there.
    #[must_use]
    pub const fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// As it is kept from `now` on.
    #[must_use]
    pub fn into_record(self, now: UnixSeconds) -> KeyRecord {
        KeyRecord { id: self.thumbprint, jwk: self.jwk, created_at: now }
    }
}

/// Adds keys to those that a device has.
///
/// # Errors
/// [`KeyNotAdded`]; then none of them is added.
pub(crate) fn add(
    current: &mut Vec<KeyRecord>,
    new: &[DeviceKey],
    now: UnixSeconds,
) -> Result<(), KeyNotAdded> {
    for key in new {
        if let Some(known) = current.iter().find(|known| known.id == key.thumbprint) {
            return Err(KeyNotAdded::Known { thumbprint: known.id.to_string() });
        }
        if let Some(other) = current.iter().find(|other| other.jwk.kid.as_deref() == key.kid()) {
            let kid = key.kid().unwrap_or_default().into();
            return Err(KeyNotAdded::KidTaken { kid, other: other.id.to_string() });
        }
    }
    if current.len() + new.len() > MAX_KEYS {
        return Err(KeyNotAdded::TooMany { current: current.len() });
    }
    current.extend(new.iter().cloned().map(|key| key.into_record(now)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use fleetbadge_validator::test_support::TestKey;
    use serde_json::json;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn read(keys: &Value) -> Result<Vec<DeviceKey>, String> {
        DeviceKey::read_set(&json!({ "keys": keys })).map_err(|error| error.to_string())
    }

    fn jwk(kid: &str) -> Value {
        let jwk = Jwk { kid: Some(kid.into()), ..TestKey::generate().public().to_jwk() };
        json!(jwk)
    }

    #[test]
    fn what_is_kept_is_the_key_and_its_names() {
        let key = TestKey::generate();
        let mut jwk = json!(key.public().to_jwk());
        let members = jwk.as_object_mut().unwrap();
        for optional in ["kid", "alg", "use"] {
            members.remove(optional);
        }
        members.insert("colour".into(), "red".into());
        let keys = read(&json!([jwk])).unwrap();
        let record = keys[0].clone().into_record(NOW);
        assert_eq!(record.id.as_str(), key.kid());
        assert_eq!((record.jwk, record.created_at), (key.public().to_jwk(), NOW));
        jwk["kid"] = "hsm/slot-1".into();
        assert_eq!(read(&json!([jwk])).unwrap()[0].jwk().kid.as_deref(), Some("hsm/slot-1"));
    }

    #[test]
    fn a_private_key_is_refused_by_its_member_and_never_shown() {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            for value in [json!("canary"), json!(null), json!({"canary": "canary"})] {
                let mut key = jwk("a");
                key[member] = value;
                let error = read(&json!([jwk("b"), key])).unwrap_err();
                assert_eq!(
                    error,
                    format!(
                        "jwks: key 2: has the private or symmetric member {member}; hand over the public key alone"
                    )
                );
            }
        }
        // In other forms, where it does not belong.
        for jwks in
            [json!("canary"), json!(["canary"]), json!({"keys": "canary"}), json!({"keys": ["canary"]})]
        {
            let error = DeviceKey::read_set(&jwks).unwrap_err();
            assert_eq!(error, InvalidDeviceKeys::NotJwks, "{jwks}");
        }
        let alone = json!({"kty": "EC", "crv": "P-256", "d": "canary"});
        assert!(!DeviceKey::read_set(&alone).unwrap_err().to_string().contains("canary"));
    }

    #[test]
    fn a_key_that_proves_nothing_is_refused_with_the_reason() {
        let with = |member: &str, value: Value| {
            let mut key = jwk("a");
            key[member] = value;
            json!([key])
        };
        let rsa = |bits: usize, e: &str| {
            let mut n = vec![0xff; bits / 8];
            n.fill(0xc5);
            let n = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, n);
            json!([{"kty": "RSA", "n": n, "e": e}])
        };
        for (keys, reason) in [
            (json!([]), "has no key"),
            (with("y", json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")), "not a valid public key"),
            (with("x", json!("AA")), "\"x\""),
            (with("x", json!(5)), "key 1: "),
            (with("use", json!("enc")), "not for verifying"),
            (with("key_ops", json!(["sign"])), "not for verifying"),
            (with("alg", json!("RS256")), "alg \"RS256\""),
            (with("crv", json!("P-384")), "\"P-384\""),
            (with("kid", json!("")), "its kid"),
            (with("kid", json!("a b")), "its kid"),
            (with("kid", json!("ä")), "its kid"),
            (with("kid", json!("x".repeat(129))), "its kid"),
            (rsa(1024, "AQAB"), "1024 bits"),
            (rsa(2048, "AQ"), "exponent"),
            (json!([jwk("a"), jwk("a")]), "key 2 or its kid is there twice"),
            (json!((0..9).map(|n| jwk(&n.to_string())).collect::<Vec<_>>()), "has 9 keys"),
        ] {
            let error = read(&keys).unwrap_err();
            assert!(error.starts_with("jwks: ") && error.contains(reason), "{keys}: {error}");
        }
        let (mut one, key) = (jwk("a"), jwk("b"));
        one.clone_from(&key);
        one["kid"] = "c".into();
        assert!(read(&json!([key, one])).unwrap_err().contains("twice"));
    }

    #[test]
    fn keys_are_added_all_or_none() {
        let keys = |range: std::ops::Range<usize>| {
            let jwks = range.map(|n| jwk(&n.to_string())).collect::<Vec<_>>();
            read(&json!(jwks)).unwrap()
        };
        let mut current = Vec::new();
        let first = keys(0..6);
        add(&mut current, &first, NOW).unwrap();
        let before = current.clone();
        let known = add(&mut current, &[&keys(7..8)[..], &first[..1]].concat(), NOW);
        assert_eq!(known, Err(KeyNotAdded::Known { thumbprint: first[0].thumbprint.to_string() }));
        let taken = add(&mut current, &keys(5..7), NOW).unwrap_err().to_string();
        assert!(taken.contains("has the kid \"5\""), "{taken}");
        assert_eq!(add(&mut current, &keys(6..9), NOW), Err(KeyNotAdded::TooMany { current: 6 }));
        assert_eq!(current, before);
        add(&mut current, &keys(6..8), NOW).unwrap();
        assert_eq!(current.len(), MAX_KEYS);
    }
}
