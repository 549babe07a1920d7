//! `fleetbadge-issuer device key …`.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Failure, Operator};
use super::table::show_list;
use super::{date, input, last_used, print, print_json, secret};
use crate::admin::device_keys::{AddKeys, DeviceKeyDocument, RemovedKeyDocument};
use crate::device_keys::DeviceKey;

/// More bytes than a JWK Set has that a device may have.
const MAX_LENGTH: u64 = 64 * 1024;

/// Add, list and remove the public keys of a device.
#[derive(Args)]
pub(super) struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Add public keys to those that the device has
    ///
    /// A device has at most 8 keys, and no other device has one of them.
    /// A key is P-256 (ES256), RSA of 2048 to 8192 bits (RS256) or Ed25519
    /// (EdDSA).
    Add {
        /// Name of the device
        name: String,
        /// JWK Set with the keys, {"keys":[…]}; - for stdin
        #[arg(long, value_name = "FILE")]
        jwks: PathBuf,
        #[command(flatten)]
        operator: Operator,
    },
    /// List the keys: thumbprint, algorithm, kid, when added, when last used
    List {
        /// Name of the device
        name: String,
        #[command(flatten)]
        operator: Operator,
    },
    /// Remove a key; it is no longer good at once
    Remove {
        /// Name of the device
        name: String,
        /// Thumbprint of the key, as `list` shows it
        #[arg(value_name = "THUMBPRINT", allow_hyphen_values = true)]
        thumbprint: String,
        #[command(flatten)]
        operator: Operator,
    },
}

impl Key {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Add { name, jwks, operator } => {
                let new = AddKeys { jwks: read(&jwks)? };
                operator.run(async |client| {
                    let path = ["devices", &name, "keys"];
                    let keys: Vec<DeviceKeyDocument> = client.send_json(Method::POST, &path, &new).await?;
                    show(&keys, operator.json)
                })
            }
            Verb::List { name, operator } => operator.run(async |client| {
                let keys: Vec<DeviceKeyDocument> = client.get(&["devices", &name, "keys"]).await?;
                show(&keys, operator.json)
            }),
            Verb::Remove { name, thumbprint, operator } => operator.run(async |client| {
                let path = ["devices", &name, "keys", &thumbprint];
                let removed: RemovedKeyDocument = client.delete_with_answer(&path).await?;
                if operator.json {
                    return print_json(&removed);
                }
                let left = secret::DEVICE.what_is_left(removed.has_credentials);
                print(&format!("Removed key {thumbprint} of device {name}.{left}\n"))
            }),
        }
    }
}

/// Reads a JWK Set and looks at its keys, so that a private one never leaves
/// this process.
pub(super) fn read(path: &Path) -> Result<Value, Failure> {
    input::read(path, |from| {
        let mut json = Vec::new();
        from.take(MAX_LENGTH).read_to_end(&mut json)?;
        let jwks = serde_json::from_slice(&json)
            .map_err(|error| io::Error::other(format!("is not JSON: {error}")))?;
        let keys = DeviceKey::read_set(&jwks).map_err(io::Error::other)?;
        Ok(json!({ "keys": keys.iter().map(DeviceKey::jwk).collect::<Vec<_>>() }))
    })
}

/// A key on a line.
pub(super) fn line(key: &DeviceKeyDocument) -> String {
    let DeviceKeyDocument { thumbprint, kid, alg, created_at, last_used_at } = key;
    let kid = if kid == thumbprint.as_str() { String::new() } else { format!("  kid {kid}") };
    format!("{thumbprint}  {alg}{kid}  added {}  {}", date(*created_at), last_used(*last_used_at))
}

fn show(keys: &[DeviceKeyDocument], json: bool) -> Result<(), Failure> {
    show_list(keys, json, ["THUMBPRINT", "ALGORITHM", "KID", "ADDED", "LAST_USED"], |key| {
        let DeviceKeyDocument { thumbprint, kid, alg, created_at, last_used_at } = key;
        let used = last_used_at.map_or_else(|| "never".into(), date);
        [thumbprint.to_string(), alg.clone(), kid.clone(), date(*created_at), used]
    })
}
