//! Who makes signing keys, and where those in a PKCS #11 token are.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Options;

/// Who makes signing keys and signs with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SignerKind {
    /// This program; the database keeps them sealed.
    #[default]
    Local,
    /// A PKCS #11 token.
    Pkcs11,
}

/// The signers that are in force, as fields of [`super::Config`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignerConfig {
    /// Who makes new keys.
    pub signer: SignerKind,
    /// The token, if there is one.
    #[serde(flatten)]
    pub pkcs11: Option<Pkcs11Config>,
}

/// A PKCS #11 token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of Options, by their names")]
pub struct Pkcs11Config {
    pub pkcs11_module: PathBuf,
    pub pkcs11_token: String,
    pub pkcs11_pin_file: PathBuf,
}

/// A signer cannot be used. Each message begins with the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSigner {
    /// Three fields that need each other.
    #[error("{field}: is missing; a PKCS #11 token needs pkcs11_module, pkcs11_token and pkcs11_pin_file")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// This program cannot.
    #[error(
        "pkcs11_module: this program was built without PKCS #11; build it with: cargo build --release -p \
         fleetbadge-issuer --features pkcs11"
    )]
    NotBuilt,
}

impl SignerConfig {
    pub(super) fn resolve(options: &Options) -> Result<Self, InvalidSigner> {
        let Options { signer, pkcs11_module, pkcs11_token, pkcs11_pin_file, .. } = options.clone();
        let signer = signer.unwrap_or_default();
        let missing = |field| InvalidSigner::Missing { field };
        let is_wanted = pkcs11_module.is_some() || pkcs11_token.is_some() || pkcs11_pin_file.is_some();
        if !is_wanted && signer == SignerKind::Local {
            return Ok(Self { signer, pkcs11: None });
        }
        if !cfg!(feature = "pkcs11") {
            return Err(InvalidSigner::NotBuilt);
        }
        let pkcs11 = Pkcs11Config {
            pkcs11_module: pkcs11_module.ok_or(missing("pkcs11_module"))?,
            pkcs11_token: pkcs11_token.ok_or(missing("pkcs11_token"))?,
            pkcs11_pin_file: pkcs11_pin_file.ok_or(missing("pkcs11_pin_file"))?,
        };
        Ok(Self { signer, pkcs11: Some(pkcs11) })
    }
}
