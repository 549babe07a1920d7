//! What an issuer runs with.
//!
//! [`Options`] is what somebody says: flags win over environment variables,
//! those over the TOML file, that over the defaults. [`Options::resolve`]
//! checks all of it once and makes a [`Config`], where nothing is missing.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::issuer_url::IssuerUrl;
use crate::node::MAX_CLOCK_DIFFERENCE_S;
use crate::signing_keys::KeyTiming;

pub mod database;
mod error;
mod options;
pub mod signer;
pub mod transport;

use database::Database;
pub use error::InvalidConfig;
pub use options::{Options, socket_address};
use signer::SignerConfig;
use transport::Transport;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}
/// What is in force. As TOML it reads as [`Options`] again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of Options, by their names")]
pub struct Config {
    pub data_dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    pub allow_insecure_database: bool,
    pub root_key_file: Option<PathBuf>,
    pub listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops_listen: Option<SocketAddr>,
    pub issuer: IssuerUrl,
    pub allow_insecure_http: bool,
    #[serde(flatten)]
    pub transport: Transport,
    #[serde(flatten)]
    pub signer: SignerConfig,
    pub log_format: LogFormat,
    pub log: String,
    pub max_token_lifetime_s: u64,
    pub skew_s: u64,
    pub jwks_max_age_s: u64,
    pub key_rotation_s: u64,
    pub key_announce_s: u64,
    pub key_confirm_deadline_s: u64,
    pub propagation_bound_s: u64,
    pub device_cache_capacity: usize,
    pub request_timeout_s: u64,
    pub shutdown_timeout_s: u64,
    #[serde(skip)]
    pub(crate) said: Said,
}

/// What somebody said of that which all nodes have in common: the rest follows
/// from the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) issuer: bool,
    pub(crate) propagation_bound_s: bool,
    /// Whether the database is to go by this node, should they differ.
    pub(crate) prevails: bool,
}

/// The same values are the same configuration, whoever said them.
impl PartialEq for Said {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Said {}
impl Config {
    /// How long a rotation of the signing key takes.
    #[must_use]
    pub const fn key_timing(&self) -> KeyTiming {
        // As long as a node may go on signing that has not heard.
        let late_s = self.propagation_bound_s + MAX_CLOCK_DIFFERENCE_S;
        KeyTiming {
            rotation_s: match self.key_rotation_s {
                0 => None,
                some => Some(some),
            },
            announce_s: self.key_announce_s,
            confirm_deadline_s: self.key_confirm_deadline_s,
            propagation_bound_s: self.propagation_bound_s,
            heard_everywhere_s: self.revocation_margin_s(),
            publish_retired_s: self.max_token_lifetime_s + self.skew_s + late_s,
        }
    }

    /// How much later than this node's clock says another node may issue a
    /// token that has not heard of a revocation made now, in seconds: this
    /// node's clock may be behind the database's, the other's ahead of it.
    pub(crate) const fn revocation_margin_s(&self) -> u64 {
        match self.database {
            Some(_) => self.propagation_bound_s + 2 * MAX_CLOCK_DIFFERENCE_S,
            None => 0,
        }
    }

    /// The same with the issuer that the database has.
    pub(crate) fn with_issuer(self, issuer: String) -> Result<Self, InvalidConfig> {
        let is_tls = self.transport.tls_files().is_some();
        Ok(Self { issuer: issuer_url(issuer, is_tls, self.allow_insecure_http)?, ..self })
    }

    /// The same for a program whose address, and so its issuer, may be another
    /// at every start: the SQLite database goes by it.
    #[must_use]
    pub const fn that_prevails(mut self) -> Self {
        self.said = Said { issuer: true, propagation_bound_s: true, prevails: true };
        self
    }

    /// The TOML that reads as this configuration, but for a password of the
    /// database: three asterisks stand for it.
    ///
    /// # Errors
    /// If the data directory's name is not UTF-8.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}
fn issuer_url(issuer: String, is_tls: bool, allow_insecure_http: bool) -> Result<IssuerUrl, InvalidConfig> {
    if is_tls && issuer.starts_with("http://") {
        return Err(InvalidConfig::IssuerWithoutTls { issuer });
    }
    Ok(IssuerUrl::parse(&issuer, allow_insecure_http)?)
}
#[cfg(test)]
mod tests;
