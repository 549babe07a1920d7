//! The registered brokers: all in memory, changed in the store.
//!
//! A broker is an OAuth resource server. Devices name it by its resource URI
//! (RFC 8707) or not at all; its audience says how their tokens are written
//! and signed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fleetbadge_validator::ids::{BrokerName, GroupName};
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use tokio::sync::{Mutex, MutexGuard};
use url::Url;

use crate::client_secrets::{AddedSecret, SecretError};
use crate::devices::Devices;
use crate::groups::{GroupError, Groups};
use crate::names::{NameRefused, parse_name};
use crate::policy::{MAX_AUDIENCE_LENGTH, check_audience};
use crate::profile::{InvalidProfile, Profile};
use crate::secret::ClientSecret;
use crate::signing_keys::KeyFetch;
use crate::store::{
    BrokerNotAdded, BrokerNotUpdated, BrokerRecord, NameTaken, SettingsNotChanged, Store, StoreError,
};

mod secrets;

/// The most bytes of a resource URI.
const MAX_RESOURCE_LENGTH: usize = 255;

/// For whom a token is, and how it is written and signed for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The `aud`.
    pub audience: &'a str,
    /// How the claims are written.
    pub profile: Cow<'a, Profile>,
    /// What it is signed with.
    pub algorithm: Algorithm,
}

/// What is asked for when a broker is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewBroker {
    /// Its name.
    pub name: String,
    /// The `aud` of the tokens for it.
    pub audience: String,
    /// The URI that devices name it by; `urn:fleetbadge:broker:NAME` if none.
    pub resource: Option<String>,
    /// How its tokens are written.
    pub profile: Profile,
    /// What its tokens are signed with; the first of the profile's if none.
    pub algorithm: Option<Algorithm>,
    /// That clients which only publish are not held to the client ID of their
    /// token, see [`Profile::leaves_publishers_unbound`].
    pub accept_unbound_publishers: bool,
}

/// A broker and the secret that was made for it, which nobody can see again.
#[derive(Debug)]
pub struct AddedBroker {
    /// The broker.
    pub broker: Arc<BrokerRecord>,
    /// Its secret.
    pub secret: ClientSecret,
}

/// A broker cannot be added or found.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameRefused),
    /// Its name is, or was, another client's.
    #[error("name: {0}")]
    NameTaken(#[from] NameTaken),
    /// A profile that cannot be one.
    #[error(transparent)]
    Profile(#[from] InvalidProfile),
    /// An audience that cannot be one.
    #[error("audience: {found:?} is not 1 to {MAX_AUDIENCE_LENGTH} visible ASCII characters")]
    Audience {
        /// What was given.
        found: String,
    },
    /// That of the tokens for the issuer itself.
    #[error("audience: {audience:?} is this issuer, for which devices have tokens to manage their keys with")]
    IssuerAudience {
        /// What was given.
        audience: String,
    },
    /// A client that only publishes could call itself anything there.
    #[error(
        "accept_unbound_publishers: {profile} never compares the client ID of a connection with its token; who \
         subscribes is bound by the names of its queues, but who only publishes may connect as any client ID, and \
         so end another's connection; to take that risk, say --accept-unbound-publishers"
    )]
    UnboundPublishers {
        /// The profile.
        profile: &'static str,
    },
    /// There is nothing to accept.
    #[error("accept_unbound_publishers: is for profile rabbitmq, not for {profile}")]
    NoUnboundPublishers {
        /// The profile.
        profile: &'static str,
    },
    /// A group has this audience already, and a rule that the broker cannot
    /// express.
    #[error("audience: group {group} has it, and its tokens would not do: {reason}")]
    Group {
        /// The group.
        group: GroupName,
        /// What is wrong with it.
        reason: Box<GroupError>,
    },
    /// Not an absolute URI without a fragment (RFC 8707 §2).
    #[error(
        "resource: {found:?} is not an absolute URI without a fragment, of at most {MAX_RESOURCE_LENGTH} bytes"
    )]
    Resource {
        /// What was given.
        found: String,
    },
    /// Another broker has this resource URI.
    #[error("resource: {resource} belongs to another broker")]
    ResourceTaken {
        /// The URI.
        resource: String,
    },
    /// The broker cannot verify this algorithm.
    #[error("algorithm: {} is not for profile {profile}; possible are {}", found.as_str(), names(possible))]
    Algorithm {
        /// What was asked for.
        found: Algorithm,
        /// The profile.
        profile: &'static str,
        /// What is possible.
        possible: &'static [Algorithm],
    },
    /// Brokers of one audience read the same tokens.
    #[error(
        "audience: {audience} is also that of broker {other}, with profile {profile} and algorithm {}; \
         brokers of one audience read the same tokens: give the same ones, or another audience",
        algorithm.as_str()
    )]
    AudienceShared {
        /// The audience.
        audience: String,
        /// The broker that has it.
        other: BrokerName,
        /// Its profile.
        profile: &'static str,
        /// Its algorithm.
        algorithm: Algorithm,
    },
    /// There is no such broker.
    #[error("there is no broker {name:?}")]
    NoSuchBroker {
        /// Its name.
        name: String,
    },
    /// It was changed by others meanwhile.
    #[error("broker {name} is being changed by others; try again")]
    Busy {
        /// Its name.
        name: String,
    },
    /// What another node has set cannot be used by this one.
    #[error(transparent)]
    Reload(Box<GroupError>),
    /// Its secrets cannot be changed so.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The brokers of an issuer.
pub struct Brokers {
    store: Arc<dyn Store>,
    current: ArcSwap<BTreeMap<BrokerName, Arc<BrokerRecord>>>,
    change: Mutex<SettingsRevision>,
}

/// The revision of groups and brokers that both are in memory of, or an older
/// one: then the next change finds out.
pub(crate) type SettingsRevision = u64;

/// How often a change is tried again that another node came before.
pub(crate) const MAX_ATTEMPTS: u32 = 8;

impl Brokers {
    /// None, until [`Groups`] reads them together with the groups.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, current: ArcSwap::default(), change: Mutex::default() }
    }

    /// Takes up what is in the store. Whoever asks holds the lock.
    pub(crate) fn replace(&self, brokers: Vec<BrokerRecord>) {
        let brokers = brokers.into_iter().map(|broker| (broker.name.clone(), Arc::new(broker)));
        self.current.store(Arc::new(brokers.collect()));
    }

    /// The broker of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<BrokerRecord>> {
        self.current.load().get(name).cloned()
    }

    /// All brokers, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<BrokerRecord>> {
        self.current.load().values().cloned().collect()
    }

    /// The broker with this resource URI, byte for byte.
    #[must_use]
    pub fn of_resource(&self, resource: &str) -> Option<Arc<BrokerRecord>> {
        self.current.load().values().find(|broker| *broker.resource == *resource).cloned()
    }

    /// How tokens for an audience are written and signed. One that no broker
    /// has registered is for the validator.
    #[must_use]
    pub fn target<'a>(&self, audience: &'a str) -> Target<'a> {
        match self.of_audience(audience) {
            Some(broker) => {
                Target { audience, profile: Cow::Owned(broker.profile.clone()), algorithm: broker.algorithm }
            }
            None => Target::unregistered(audience),
        }
    }

    /// How the brokers that verify tokens of an algorithm come by a new key:
    /// the slowest of them.
    #[must_use]
    pub fn key_fetch(&self, algorithm: Algorithm) -> KeyFetch {
        let brokers = self.current.load();
        let own = brokers.values().filter(|broker| broker.algorithm == algorithm);
        own.map(|broker| broker.profile.key_fetch()).max().unwrap_or(KeyFetch::Within(0))
    }

    /// Keeps brokers and groups as they are for whoever holds this: a rule and
    /// the broker that cannot express it must not come at the same time.
    pub(crate) async fn hold(&self) -> MutexGuard<'_, SettingsRevision> {
        self.change.lock().await
    }

    fn of_audience(&self, audience: &str) -> Option<Arc<BrokerRecord>> {
        self.current.load().values().find(|broker| *broker.audience == *audience).cloned()
    }

    /// Adds a broker and makes its secret.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub(crate) async fn add(
        &self,
        new: NewBroker,
        groups: &Groups,
        devices: &Devices,
        now: UnixSeconds,
    ) -> Result<AddedBroker, BrokerError> {
        let NewBroker { name, audience, resource, profile, algorithm, accept_unbound_publishers } = new;
        let name: BrokerName = parse_name("name", name)?;
        if check_audience(&audience).is_err() {
            return Err(BrokerError::Audience { found: audience });
        }
        if groups.is_issuer(&audience) {
            return Err(BrokerError::IssuerAudience { audience });
        }
        let resource = parse_resource(resource.unwrap_or_else(|| format!("urn:fleetbadge:broker:{name}")))?;
        let algorithm = choose_algorithm(&profile, algorithm)?;
        match (profile.leaves_publishers_unbound(), accept_unbound_publishers) {
            (true, true) | (false, false) => {}
            (true, false) => return Err(BrokerError::UnboundPublishers { profile: profile.as_str() }),
            (false, true) => return Err(BrokerError::NoUnboundPublishers { profile: profile.as_str() }),
        }
        let AddedSecret { secret, record } = devices.secret_maker().make(name.as_str(), None, now)?;
        let broker = Arc::new(BrokerRecord {
            name,
            audience: audience.into(),
            resource: resource.into(),
            profile,
            algorithm,
            secrets: [record].into(),
            created_at: now,
            revision: 0,
        });
        let mut revision = self.hold().await;
        for _ in 0..MAX_ATTEMPTS {
            self.check(&broker, groups).await?;
            match self.store.add_broker(*revision, &broker).await {
                Ok(()) => {
                    *revision += 1;
                    self.remember(&broker);
                    return Ok(AddedBroker { broker, secret });
                }
                Err(BrokerNotAdded::Conflict) => groups.reload(&mut revision).await?,
                Err(BrokerNotAdded::NameTaken(error)) => return Err(error.into()),
                Err(BrokerNotAdded::ResourceTaken { resource }) => {
                    return Err(BrokerError::ResourceTaken { resource });
                }
                Err(BrokerNotAdded::Store(error)) => return Err(error.into()),
            }
        }
        Err(BrokerError::Busy { name: broker.name.to_string() })
    }

    /// Whether a new broker gets on with the others and with the groups.
    async fn check(&self, new: &BrokerRecord, groups: &Groups) -> Result<(), BrokerError> {
        if let Some(other) = self.of_audience(&new.audience)
            && (other.profile != new.profile || other.algorithm != new.algorithm)
        {
            return Err(BrokerError::AudienceShared {
                audience: new.audience.to_string(),
                other: other.name.clone(),
                profile: other.profile.as_str(),
                algorithm: other.algorithm,
            });
        }
        let profile = Cow::Borrowed(&new.profile);
        groups.check_target(&Target { audience: &new.audience, profile, algorithm: new.algorithm }).await
    }

    /// Changes a broker, as a whole or not at all. Takes effect with the next
    /// request.
    async fn change<T>(
        &self,
        name: &str,
        change: impl Fn(&mut BrokerRecord) -> Result<T, BrokerError>,
    ) -> Result<(Arc<BrokerRecord>, T), BrokerError> {
        // What is changed here is checked against nothing else: the revision
        // that is in memory may stay behind.
        let _one_at_a_time = self.hold().await;
        for _ in 0..MAX_ATTEMPTS {
            let found = self.find(name).ok_or_else(|| BrokerError::NoSuchBroker { name: name.into() })?;
            let mut broker = BrokerRecord::clone(&found);
            let result = change(&mut broker)?;
            match self.store.update_broker(&broker).await {
                Ok(()) => {
                    broker.revision += 1;
                    let broker = Arc::new(broker);
                    self.remember(&broker);
                    return Ok((broker, result));
                }
                Err(BrokerNotUpdated::Conflict | BrokerNotUpdated::Gone) => {
                    self.replace(self.store.settings().await?.brokers);
                }
                Err(BrokerNotUpdated::Store(error)) => return Err(error.into()),
            }
        }
        Err(BrokerError::Busy { name: name.into() })
    }

    /// Puts a broker that was written into memory; for whoever holds the lock.
    fn remember(&self, broker: &Arc<BrokerRecord>) {
        let mut brokers = BTreeMap::clone(&self.current.load());
        brokers.insert(broker.name.clone(), Arc::clone(broker));
        self.current.store(Arc::new(brokers));
    }

    /// Removes a broker. Its name stays taken; tokens for its audience are
    /// written for the validator from now on, unless another broker has it.
    ///
    /// # Errors
    /// [`BrokerError::NoSuchBroker`], [`BrokerError::Group`],
    /// [`BrokerError::Store`].
    pub(crate) async fn remove(&self, name: &str, groups: &Groups) -> Result<(), BrokerError> {
        let mut revision = self.hold().await;
        for _ in 0..MAX_ATTEMPTS {
            let mut brokers = BTreeMap::clone(&self.current.load());
            let broker =
                brokers.remove(name).ok_or_else(|| BrokerError::NoSuchBroker { name: name.into() })?;
            if !brokers.values().any(|other| other.audience == broker.audience) {
                groups.check_target(&Target::unregistered(&broker.audience)).await?;
            }
            match self.store.remove_broker(*revision, name).await {
                Ok(_) => {
                    *revision += 1;
                    self.current.store(Arc::new(brokers));
                    return Ok(());
                }
                Err(SettingsNotChanged::Conflict) => {
                    groups.reload(&mut revision).await?;
                }
                Err(SettingsNotChanged::Store(error)) => return Err(error.into()),
            }
        }
        Err(BrokerError::Busy { name: name.into() })
    }
}

impl From<GroupError> for BrokerError {
    fn from(error: GroupError) -> Self {
        Self::Reload(Box::new(error))
    }
}

impl<'a> Target<'a> {
    /// That of an audience which no broker has registered.
    const fn unregistered(audience: &'a str) -> Self {
        Self { audience, profile: Cow::Owned(Profile::Fleetbadge), algorithm: Algorithm::ES256 }
    }
}

fn choose_algorithm(profile: &Profile, wanted: Option<Algorithm>) -> Result<Algorithm, BrokerError> {
    let possible = profile.algorithms();
    let chosen = wanted.or_else(|| possible.first().copied()).unwrap_or(Algorithm::ES256);
    if possible.contains(&chosen) {
        Ok(chosen)
    } else {
        Err(BrokerError::Algorithm { found: chosen, profile: profile.as_str(), possible })
    }
}

fn parse_resource(text: String) -> Result<String, BrokerError> {
    let is_resource = text.len() <= MAX_RESOURCE_LENGTH
        && text.bytes().all(|b| b.is_ascii_graphic())
        && Url::parse(&text).is_ok_and(|url| url.fragment().is_none());
    if is_resource { Ok(text) } else { Err(BrokerError::Resource { found: text }) }
}

fn names(algorithms: &[Algorithm]) -> String {
    algorithms.iter().map(|algorithm| algorithm.as_str()).collect::<Vec<_>>().join(", ")
}
