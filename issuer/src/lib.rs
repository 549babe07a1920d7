//! The issuer: an OAuth 2.0 authorization server (RFC 6749) for the devices of
//! an MQTT fleet, and its operator CLI.
//!
//! A program that wants an issuer inside itself needs four steps:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use fleetbadge_issuer::{Issuer, config::Options, devices::NewDevice};
//! use fleetbadge_validator::time::SystemClock;
//!
//! let options = Options { data_dir: Some("data".into()), ..Options::default() };
//! let issuer = Issuer::open(options.resolve()?, Arc::new(SystemClock)).await?;
//! let added = issuer.add_device(NewDevice { name: "pump-1".into(), ..NewDevice::default() }).await?;
//! let bound = issuer.bind().await?;
//! println!("{} may ask at {}", added.device.name, bound.public_address()?);
//! bound.run(async { let _ = tokio::signal::ctrl_c().await; }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! How a token comes about: `router` → `endpoints::token` → `client_auth`, then
//! `grants` → [`policy`] decides, [`profile`] writes, [`mint`] signs. The last
//! three are pure.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use axum::Router;
use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::revocations::Revocations;
use fleetbadge_validator::time::Clock;

mod admin;
mod app;
mod audience;
pub mod backup;
mod base64url;
pub mod brokers;
pub mod certificate;
pub mod cli;
mod client_auth;
pub mod client_secrets;
pub mod clock_guard;
pub mod config;
pub mod credential_uses;
pub mod credentials;
pub mod data_dir;
mod date;
pub mod device_keys;
pub mod devices;
pub mod dpop;
mod endpoints;
pub mod enrolments;
mod error;
mod form;
mod grants;
pub mod groups;
mod imported_secrets;
mod issued_revocations;
pub mod issuer_url;
pub mod keys;
mod metrics;
pub mod migrate_store;
pub mod mint;
pub mod names;
pub mod node;
pub mod open_files;
pub mod peer;
pub mod policy;
pub mod private_file;
pub mod profile;
pub mod random;
mod registration;
mod rehash;
pub mod restore;
pub mod revoker;
pub mod root_key;
pub mod root_keys;
mod router;
pub mod secret;
pub mod self_token;
pub mod serve;
mod sha256;
pub mod signing_keys;
mod started;
pub mod static_password;
pub mod storage;
pub mod store;
pub mod terms;
#[cfg(test)]
mod test_support;
pub mod tls;
pub mod used_jtis;

use app::App;
use brokers::Brokers;
use client_auth::private_key_jwt::ParsedKeys;
use client_secrets::SecretMaker;
use config::Config;
use config::signer::{Pkcs11Config, SignerKind};
use credential_uses::CredentialUses;
use data_dir::{DataDir, DataDirError};
use devices::{AddedDevice, DeviceError, Devices, KnownDevice, NewDevice};
use enrolments::Enrolments;
use groups::{GroupError, Groups};
use imported_secrets::ImportedSecrets;
use issued_revocations::IssuedRevocations;
use keys::{Keepers, KeyError, Keys};
use metrics::Metrics;
use node::{FollowError, Node};
use private_file::PrivateFileError;
use random::{Random, RandomStock};
use rehash::Rehashes;
use revoker::Revoker;
use root_keys::{RootKeyError, RootKeys};
use serve::{BoundIssuer, ServeError};
use signing_keys::ExternalSigner;
use static_password::StaticPasswords;
use storage::StorageError;
use store::{DeviceRecord, StoreError};
use terms::TermsError;
use used_jtis::UsedJtis;

/// An issuer whose data directory is open. No listener is bound yet.
pub struct Issuer {
    app: Arc<App>,
    config: Config,
    data_dir: DataDir,
}

/// An issuer cannot be opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "one variant for each part of an issuer")]
pub enum OpenError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    RootKeys(#[from] RootKeyError),
    #[error(transparent)]
    Terms(#[from] TermsError),
    #[error("pkcs11_pin_file: {0}")]
    Pin(PrivateFileError),
    #[error(transparent)]
    Groups(#[from] GroupError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error("metadata: {0}")]
    Metadata(#[from] serde_json::Error),
}

impl Issuer {
    /// Opens the data directory and the database of `config`; makes everything
    /// in them that is not there yet: root key, schema, the group `default`, a
    /// signing key.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that the server's randomness comes from"
        )]
        let random: Random = Arc::new(SystemRandom::new());
        let now = clock.now();
        let data_dir = DataDir::open(&config.data_dir)?;
        let (root_key_file, keys, store) = storage::open(&config, &data_dir, &*random).await?;
        let root_keys = RootKeys::open(root_key_file, &keys, Arc::clone(&store), Arc::clone(&random)).await?;
        drop(keys);
        let config = terms::agree(config, &*store).await?;
        let in_use = root_keys.in_use();
        let issuer = config.issuer.clone();
        let brokers = Arc::new(Brokers::new(Arc::clone(&store)));
        let groups = Groups::open(
            Arc::clone(&store),
            issuer.as_str(),
            config.max_token_lifetime_s,
            Arc::clone(&brokers),
            now,
        );
        let groups = Arc::new(groups.await?);
        let makes_external = config.signer.signer == SignerKind::Pkcs11;
        let signer = external_signer(config.signer.pkcs11.as_ref(), &random).await?;
        let keys = Keys::open(
            Arc::clone(&store),
            Keepers::local(in_use.key_sealer()).with_signer(signer, makes_external),
            Arc::clone(&brokers),
            issuer.as_str(),
            config.key_timing(),
            now,
        );
        let keys = keys.await?;
        // Before any token is issued.
        store.allow_token_lifetime(config.max_token_lifetime_s).await?;
        let metrics = Metrics::new()?;
        let margin_s = config.revocation_margin_s();
        let revoker = Revoker::new(Arc::clone(&clock), margin_s, config.max_token_lifetime_s);
        let app = App {
            devices: Devices::new(
                Arc::clone(&store),
                Arc::clone(&groups),
                config.device_cache_capacity,
                metrics.device_cache_misses.clone(),
                SecretMaker::new(in_use.secret_hasher(), Arc::clone(&random)),
                revoker.clone(),
            ),
            enrolments: Enrolments::new(Arc::clone(&store), Arc::clone(&groups), Arc::clone(&random)),
            groups,
            brokers,
            credential_uses: CredentialUses::new(Arc::clone(&store)),
            static_passwords: StaticPasswords::new(in_use.password_hasher(), Arc::clone(&random)),
            imported_secrets: ImportedSecrets::new(config.device_cache_capacity, Arc::clone(&random)),
            used_jtis: UsedJtis::new(Arc::clone(&store)),
            parsed_keys: ParsedKeys::new(),
            keys,
            revocations: IssuedRevocations::new(),
            revoker,
            own_revocations: endpoints::revoke::own_revocation_limit(),
            broker_revocations: endpoints::revoke::broker_revocation_limit(),
            feeds: Arc::default(),
            node: Node::new(terms::of(&config), config.skew_s),
            metadata: endpoints::metadata::document(&issuer, config.transport.has_client_certificates())?,
            jwks_cache_control: format!("public, max-age={}", config.jwks_max_age_s),
            request_timeout: Duration::from_secs(config.request_timeout_s),
            issuer,
            clock,
            random_stock: RandomStock::new(Arc::clone(&random)),
            random,
            root_keys,
            rehashes: Rehashes::default(),
            store,
            metrics,
        };
        let app = Arc::new(app);
        app.node.catch_up_patiently(&app).await?;
        // What took long to read is old already.
        app.node.catch_up_patiently(&app).await?;
        node::start(&app);
        Ok(Self { app, config, data_dir })
    }

    /// What it runs with.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Adds a device. Its secret is in the answer and can never be had again.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn add_device(&self, new: NewDevice) -> Result<AddedDevice, DeviceError> {
        self.app.devices.add(new, self.app.now()).await
    }

    /// Adds a device without a secret: one that proves itself with its keys
    /// alone, or is given another credential later.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn add_device_without_secret(&self, new: NewDevice) -> Result<DeviceRecord, DeviceError> {
        self.app.devices.add_without_secret(new, self.app.now()).await
    }

    /// The device of this name, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn device(&self, name: &str) -> Result<Option<Arc<KnownDevice>>, StoreError> {
        self.app.devices.find(name).await
    }

    /// What gives the keys that tokens are verified with, at any time, also
    /// once the issuer is serving.
    #[must_use]
    pub fn key_source(&self) -> KeySource {
        KeySource(Arc::clone(&self.app))
    }

    /// What gives the tokens that were taken back, at any time, also once the
    /// issuer is serving.
    #[must_use]
    pub fn revocation_source(&self) -> RevocationSource {
        RevocationSource(Arc::clone(&self.app))
    }

    /// The routes of the public listener, for a server of one's own. There no
    /// client has a certificate, and no proxy is believed.
    pub fn public_router(&self) -> Router {
        router::public(Arc::clone(&self.app))
    }

    /// Binds the listeners.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn bind(self) -> Result<BoundIssuer, ServeError> {
        BoundIssuer::bind(self).await
    }
}

/// Gives the revocations of an issuer in the same process, without HTTP.
#[derive(Clone)]
pub struct RevocationSource(Arc<App>);

impl RevocationSource {
    /// Those that are in force now. Another node's are there within a second.
    #[must_use]
    pub fn current(&self) -> Arc<Revocations> {
        self.0.revocations.current()
    }
}

/// The external signer of a configuration, which need not be there yet.
#[cfg(feature = "pkcs11")]
async fn external_signer(
    config: Option<&Pkcs11Config>,
    random: &Random,
) -> Result<Option<Arc<dyn ExternalSigner>>, OpenError> {
    let Some(Pkcs11Config { pkcs11_module, pkcs11_token, pkcs11_pin_file }) = config.cloned() else {
        return Ok(None);
    };
    let random = Arc::clone(random);
    let open = move || {
        let pin = private_file::open_given(&pkcs11_pin_file)
            .and_then(|file| private_file::read_to_string(&pkcs11_pin_file, file))
            .map_err(OpenError::Pin)?;
        let pin = pin.trim_end_matches(['\r', '\n']);
        let signer = signing_keys::pkcs11::Pkcs11Signer::new(pkcs11_module, pkcs11_token, pin, random);
        Ok(Some(Arc::new(signer) as Arc<dyn ExternalSigner>))
    };
    tokio::task::spawn_blocking(open).await.map_err(|_| KeyError::Ending)?
}

/// There is none: no configuration with one is accepted.
#[cfg(not(feature = "pkcs11"))]
#[expect(clippy::unused_async, reason = "there is something to wait for with the feature")]
async fn external_signer(
    _: Option<&Pkcs11Config>,
    _: &Random,
) -> Result<Option<Arc<dyn ExternalSigner>>, OpenError> {
    Ok(None)
}

/// Gives the keys of an issuer in the same process, without HTTP.
#[derive(Clone)]
pub struct KeySource(Arc<App>);

impl KeySource {
    /// The keys that are published now.
    #[must_use]
    pub fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.0.keys.current().key_set)
    }
}
