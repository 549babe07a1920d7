//! What somebody says, and how it becomes a [`Config`].

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use fleetbadge_validator::verify::Verifier;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::database::{Database, DatabaseUrl};
use super::signer::{SignerConfig, SignerKind};
use super::transport::Transport;
use super::{Config, InvalidConfig, LogFormat, Said, issuer_url};
use crate::peer::Network;
use crate::policy::MIN_TOKEN_LIFETIME_S;
use crate::private_file;

/// The systemd credential that root keys may come as.
const ROOT_KEY_CREDENTIAL: &str = "fleetbadge-root-key";

/// What can be said on the command line, in the environment and in the file.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Folder for the database, the root key and the admin socket of this node
    #[arg(long, env = "FLEETBADGE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL database that several issuers share, such as
    /// postgres://USER@HOST/NAME. A password is better kept in the environment
    /// (here or in PGPASSWORD), in a TOML file that others cannot read, in
    /// ~/.pgpass, or in the file that PGPASSFILE names [default: SQLite in the data directory]
    #[arg(long, env = "FLEETBADGE_DATABASE", hide_env_values = true, value_name = "URL")]
    pub database: Option<DatabaseUrl>,
    /// Accept a database on another machine whose TLS certificate and name are
    /// not checked
    #[arg(long, env = "FLEETBADGE_ALLOW_INSECURE_DATABASE", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL")]
    pub allow_insecure_database: Option<bool>,
    /// File with the root keys, which others must not be able to read; nodes
    /// over one database share it [default: the systemd credential
    /// fleetbadge-root-key if there is one, else root.key in the data
    /// directory, made if missing]
    #[arg(long, env = "FLEETBADGE_ROOT_KEY_FILE", value_name = "FILE")]
    pub root_key_file: Option<PathBuf>,
    /// Address for devices and brokers [default: 127.0.0.1:8080]
    #[arg(long, env = "FLEETBADGE_LISTEN", value_name = "IP:PORT", value_parser = socket_address)]
    pub listen: Option<SocketAddr>,
    /// Address for /healthz, /readyz and /metrics [default: none]
    #[arg(long, env = "FLEETBADGE_OPS_LISTEN", value_name = "IP:PORT", value_parser = socket_address)]
    pub ops_listen: Option<SocketAddr>,
    /// Issuer identifier: the URL under which devices and brokers reach this
    /// server; the same for all nodes, see change-terms [default: that of the
    /// database; at its first use http://LISTEN or, with TLS, https://LISTEN,
    /// on loopback]
    #[arg(long, env = "FLEETBADGE_ISSUER", value_name = "URL")]
    pub issuer: Option<String>,
    /// Accept plain HTTP beyond loopback, from the proxies of --trusted-proxy
    #[arg(long, env = "FLEETBADGE_ALLOW_INSECURE_HTTP", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL")]
    pub allow_insecure_http: Option<bool>,
    /// PEM file with the TLS certificate of the public listener and those that
    /// lead to its root; taken up again when it changes [default: plain HTTP]
    #[arg(long, env = "FLEETBADGE_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with its private key, which others must not be able to read
    #[arg(long, env = "FLEETBADGE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// PEM file with the roots of the certificates that devices may show
    /// [default: they are asked for none]
    #[arg(long, env = "FLEETBADGE_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Address or network of a proxy whose X-Forwarded-For is believed; several
    /// with commas [default: none]
    #[arg(long, env = "FLEETBADGE_TRUSTED_PROXY", value_delimiter = ',', value_name = "NETWORK")]
    pub trusted_proxy: Option<Vec<Network>>,
    /// Believe the trusted proxies' Client-Cert header (RFC 9440), which they
    /// must remove from what clients send [default: false]
    #[arg(long, env = "FLEETBADGE_TRUSTED_PROXY_CLIENT_CERTS", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL")]
    pub trusted_proxy_client_certs: Option<bool>,
    /// Most connections of the public listener at a time; others are closed at
    /// once [default: what the limit of open files leaves, at most 65536]
    #[arg(long, env = "FLEETBADGE_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Who makes the signing keys and signs with them; with pkcs11 a token
    /// does, ES256 and RS256 [default: local]
    #[arg(long, env = "FLEETBADGE_SIGNER", value_name = "SIGNER")]
    pub signer: Option<SignerKind>,
    /// Library of the PKCS #11 token, as its vendor names it; needed as long as
    /// a key is in there
    #[arg(long, env = "FLEETBADGE_PKCS11_MODULE", value_name = "FILE")]
    pub pkcs11_module: Option<PathBuf>,
    /// Label of the PKCS #11 token
    #[arg(long, env = "FLEETBADGE_PKCS11_TOKEN", value_name = "LABEL")]
    pub pkcs11_token: Option<String>,
    /// File with the PIN of the token's user, which others must not be able to
    /// read
    #[arg(long, env = "FLEETBADGE_PKCS11_PIN_FILE", value_name = "FILE")]
    pub pkcs11_pin_file: Option<PathBuf>,
    /// How log lines are written [default: text]
    #[arg(long, env = "FLEETBADGE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Which log lines are written: a level, or a filter as tracing's EnvFilter
    /// reads it. With debug they say why a client was refused, which it is not
    /// told itself [default: info]
    #[arg(long, env = "FLEETBADGE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Longest token life that a group may have, in seconds [default: 86400]
    #[arg(long, env = "FLEETBADGE_MAX_TOKEN_LIFETIME_S", value_name = "S")]
    pub max_token_lifetime_s: Option<u64>,
    /// How far the clocks of brokers may be off, in seconds [default: 5]
    #[arg(long, env = "FLEETBADGE_SKEW_S", value_name = "S")]
    pub skew_s: Option<u64>,
    /// How long brokers may keep the key set, in seconds [default: 300]
    #[arg(long, env = "FLEETBADGE_JWKS_MAX_AGE_S", value_name = "S")]
    pub jwks_max_age_s: Option<u64>,
    /// How long a signing key signs until its successor is announced, in
    /// seconds; 0: only by hand [default: 2592000, 30 days]
    #[arg(long, env = "FLEETBADGE_KEY_ROTATION_S", value_name = "S")]
    pub key_rotation_s: Option<u64>,
    /// How long a new key is published at least before it signs, in seconds
    /// [default: twice jwks_max_age_s]
    #[arg(long, env = "FLEETBADGE_KEY_ANNOUNCE_S", value_name = "S")]
    pub key_announce_s: Option<u64>,
    /// After how long a new key signs although validators report that they do
    /// not hold it, in seconds [default: 86400, or key_announce_s if that is
    /// longer]
    #[arg(long, env = "FLEETBADGE_KEY_CONFIRM_DEADLINE_S", value_name = "S")]
    pub key_confirm_deadline_s: Option<u64>,
    /// How long a node may go on issuing tokens without hearing of the
    /// database, in seconds; the same for all nodes, see change-terms [default:
    /// that of the database; at its first use 5]
    #[arg(long, env = "FLEETBADGE_PROPAGATION_BOUND_S", value_name = "S")]
    pub propagation_bound_s: Option<u64>,
    /// How many devices are kept in memory, where each takes about 1 kB; others
    /// are read from the database when they ask [default: 100000]
    #[arg(long, env = "FLEETBADGE_DEVICE_CACHE_CAPACITY", value_name = "N")]
    pub device_cache_capacity: Option<usize>,
    /// How long a client may take to send a request, be silent between two, and
    /// take nothing of an answer, in seconds [default: 30]
    #[arg(long, env = "FLEETBADGE_REQUEST_TIMEOUT_S", value_name = "S")]
    pub request_timeout_s: Option<u64>,
    /// How long requests under way may take when the server ends, in seconds
    /// [default: 10]
    #[arg(long, env = "FLEETBADGE_SHUTDOWN_TIMEOUT_S", value_name = "S")]
    pub shutdown_timeout_s: Option<u64>,
}

/// The longest announcement of a key, in seconds.
const MAX_KEY_ANNOUNCE_S: u64 = 30 * 86_400;

impl Options {
    const DEFAULT_LISTEN: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

    /// Reads the options of a TOML file.
    ///
    /// # Errors
    /// [`InvalidConfig::File`] and [`InvalidConfig::Toml`].
    pub fn from_file(path: &Path) -> Result<Self, InvalidConfig> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| InvalidConfig::File { path: path.into(), source })?;
        let options: Self = toml::from_str(&text).map_err(|mut reason: toml::de::Error| {
            // An error shows its line, and that one has a password in it.
            let line = reason
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(0, |before| before.lines().count());
            if text.lines().skip(line.saturating_sub(1)).take(2).any(|line| line.contains("database")) {
                reason.set_input(None);
            }
            InvalidConfig::Toml { path: path.into(), reason: reason.into() }
        })?;
        if options.database.as_ref().is_some_and(DatabaseUrl::has_password) {
            private_file::open_given(path).map_err(InvalidConfig::ShownPassword)?;
        }
        Ok(options)
    }

    /// These options, and those of `weaker` where these say nothing.
    #[must_use]
    pub fn over(self, weaker: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(weaker.data_dir),
            database: self.database.or(weaker.database),
            allow_insecure_database: self.allow_insecure_database.or(weaker.allow_insecure_database),
            root_key_file: self.root_key_file.or(weaker.root_key_file),
            listen: self.listen.or(weaker.listen),
            ops_listen: self.ops_listen.or(weaker.ops_listen),
            issuer: self.issuer.or(weaker.issuer),
            allow_insecure_http: self.allow_insecure_http.or(weaker.allow_insecure_http),
            tls_certificate: self.tls_certificate.or(weaker.tls_certificate),
            tls_key: self.tls_key.or(weaker.tls_key),
            tls_client_ca: self.tls_client_ca.or(weaker.tls_client_ca),
            trusted_proxy: self.trusted_proxy.or(weaker.trusted_proxy),
            trusted_proxy_client_certs: self.trusted_proxy_client_certs.or(weaker.trusted_proxy_client_certs),
            max_connections: self.max_connections.or(weaker.max_connections),
            signer: self.signer.or(weaker.signer),
            pkcs11_module: self.pkcs11_module.or(weaker.pkcs11_module),
            pkcs11_token: self.pkcs11_token.or(weaker.pkcs11_token),
            pkcs11_pin_file: self.pkcs11_pin_file.or(weaker.pkcs11_pin_file),
            log_format: self.log_format.or(weaker.log_format),
            log: self.log.or(weaker.log),
            max_token_lifetime_s: self.max_token_lifetime_s.or(weaker.max_token_lifetime_s),
            skew_s: self.skew_s.or(weaker.skew_s),
            jwks_max_age_s: self.jwks_max_age_s.or(weaker.jwks_max_age_s),
            key_rotation_s: self.key_rotation_s.or(weaker.key_rotation_s),
            key_announce_s: self.key_announce_s.or(weaker.key_announce_s),
            key_confirm_deadline_s: self.key_confirm_deadline_s.or(weaker.key_confirm_deadline_s),
            propagation_bound_s: self.propagation_bound_s.or(weaker.propagation_bound_s),
            device_cache_capacity: self.device_cache_capacity.or(weaker.device_cache_capacity),
            request_timeout_s: self.request_timeout_s.or(weaker.request_timeout_s),
            shutdown_timeout_s: self.shutdown_timeout_s.or(weaker.shutdown_timeout_s),
        }
    }

    /// These options, with the root keys from systemd's `directory` of
    /// credentials (systemd.exec(5)), if they are there and no other file was
    /// named.
    #[must_use]
    pub fn with_credentials(mut self, directory: Option<&OsStr>) -> Self {
        let credential = directory.map(|directory| Path::new(directory).join(ROOT_KEY_CREDENTIAL));
        self.root_key_file = self.root_key_file.or(credential.filter(|path| path.exists()));
        self
    }

    /// Checks everything and puts in the defaults.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the field.
    pub fn resolve(self) -> Result<Config, InvalidConfig> {
        let allow_insecure_http = self.allow_insecure_http.unwrap_or(false);
        let listen = self.listen.unwrap_or(Self::DEFAULT_LISTEN);
        let is_tls = self.tls_certificate.is_some();
        for (field, address) in [("listen", (!is_tls).then_some(listen)), ("ops_listen", self.ops_listen)] {
            match address {
                Some(address) if !address.ip().is_loopback() && !allow_insecure_http => {
                    return Err(InvalidConfig::InsecureListener { field, address });
                }
                Some(_) | None => {}
            }
        }
        let transport = Transport::resolve(&self, listen)?;
        let signer = SignerConfig::resolve(&self)?;
        let allow_insecure_database = self.allow_insecure_database.unwrap_or(false);
        let database =
            self.database.map(|url| Database::resolve(url, allow_insecure_database)).transpose()?;
        let scheme = if is_tls { "https" } else { "http" };
        let said = Said {
            issuer: self.issuer.is_some(),
            propagation_bound_s: self.propagation_bound_s.is_some(),
            prevails: false,
        };
        let issuer = match self.issuer {
            Some(issuer) => issuer,
            None if listen.ip().is_loopback() && listen.port() != 0 => format!("{scheme}://{listen}"),
            None => return Err(InvalidConfig::NoIssuer { listen }),
        };
        let jwks_max_age_s = in_range("jwks_max_age_s", self.jwks_max_age_s.unwrap_or(300), 1, 86_400)?;
        let two_fetches_s = 2 * jwks_max_age_s;
        // Whoever fetched the set just before must have the key in time.
        let key_announce_s = in_range(
            "key_announce_s",
            self.key_announce_s.unwrap_or(two_fetches_s),
            two_fetches_s,
            MAX_KEY_ANNOUNCE_S,
        )?;
        Ok(Config {
            data_dir: self.data_dir.ok_or(InvalidConfig::NoDataDir)?,
            database,
            allow_insecure_database,
            root_key_file: self.root_key_file,
            listen,
            ops_listen: self.ops_listen,
            issuer: issuer_url(issuer, is_tls, allow_insecure_http)?,
            allow_insecure_http,
            transport,
            signer,
            log_format: self.log_format.unwrap_or_default(),
            log: check_log_filter(self.log.unwrap_or_else(|| "info".into()))?,
            max_token_lifetime_s: in_range(
                "max_token_lifetime_s",
                self.max_token_lifetime_s.unwrap_or(Verifier::DEFAULT_MAX_LIFETIME_S),
                MIN_TOKEN_LIFETIME_S,
                366 * 86_400,
            )?,
            skew_s: in_range(
                "skew_s",
                self.skew_s.unwrap_or(Verifier::DEFAULT_SKEW_S),
                0,
                Verifier::MAX_SKEW_S,
            )?,
            jwks_max_age_s,
            key_rotation_s: match self.key_rotation_s.unwrap_or(30 * 86_400) {
                0 => 0,
                some => in_range("key_rotation_s", some, key_announce_s, 3_660 * 86_400)?,
            },
            key_announce_s,
            key_confirm_deadline_s: in_range(
                "key_confirm_deadline_s",
                self.key_confirm_deadline_s.unwrap_or(key_announce_s.max(86_400)),
                key_announce_s,
                MAX_KEY_ANNOUNCE_S,
            )?,
            propagation_bound_s: in_range(
                "propagation_bound_s",
                self.propagation_bound_s.unwrap_or(5),
                2,
                60,
            )?,
            device_cache_capacity: count_in_range(
                "device_cache_capacity",
                self.device_cache_capacity.unwrap_or(100_000),
                1,
                10_000_000,
            )?,
            request_timeout_s: in_range("request_timeout_s", self.request_timeout_s.unwrap_or(30), 1, 3_600)?,
            shutdown_timeout_s: in_range(
                "shutdown_timeout_s",
                self.shutdown_timeout_s.unwrap_or(10),
                0,
                3_600,
            )?,
            said,
        })
    }
}

/// Reads an address to listen on.
///
/// # Errors
/// How one is written.
pub fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is not an IP address and port, such as 127.0.0.1:8080")
}

fn check_log_filter(filter: String) -> Result<String, InvalidConfig> {
    match EnvFilter::try_new(&filter) {
        Ok(_) => Ok(filter),
        Err(error) => Err(InvalidConfig::Log { found: filter, reason: error.to_string() }),
    }
}

fn in_range(field: &'static str, found: u64, min: u64, max: u64) -> Result<u64, InvalidConfig> {
    if (min..=max).contains(&found) {
        Ok(found)
    } else {
        Err(InvalidConfig::Range { field, found, min, max })
    }
}

fn count_in_range(field: &'static str, found: usize, min: usize, max: usize) -> Result<usize, InvalidConfig> {
    in_range(field, found as u64, min as u64, max as u64).map(|_| found)
}
