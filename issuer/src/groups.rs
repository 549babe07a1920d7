//! The groups and their policies: all in memory, changed in the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fleetbadge_validator::ids::{DeviceName, GroupName};
use fleetbadge_validator::scope::Scope;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::brokers::{BrokerError, Brokers, MAX_ATTEMPTS, SettingsRevision, Target};
use crate::devices::DEFAULT_GROUP;
use crate::mint::{MAX_MINTED_LENGTH, MintError, largest_token_length};
use crate::names::{NameRefused, parse_name};
use crate::policy::{InvalidPolicy, Policy, PolicyDocument, RefreshWindow};
use crate::profile::{Inexpressible, Misread};
use crate::store::{GroupRecord, SettingsNotChanged, Store, StoreError};

mod device_names;

pub use device_names::MisreadName;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// What its devices may have.
    pub policy: Policy,
    /// When it was first set.
    pub created_at: UnixSeconds,
    /// When it was last set.
    pub updated_at: UnixSeconds,
}

/// A change of a policy; what is not there stays as it is. A new group starts
/// without topics, with every scope, audience `mqtt` and 900 seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of PolicyDocument, by their names")]
pub struct PolicyChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audiences: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_lifetime_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_window: Option<RefreshWindow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub static_passwords: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_password_grant: Option<bool>,
}

impl PolicyChange {
    fn apply_to(self, policy: PolicyDocument) -> PolicyDocument {
        PolicyDocument {
            publish: self.publish.unwrap_or(policy.publish),
            subscribe: self.subscribe.unwrap_or(policy.subscribe),
            scope: self.scope.unwrap_or(policy.scope),
            audiences: self.audiences.unwrap_or(policy.audiences),
            token_lifetime_s: self.token_lifetime_s.unwrap_or(policy.token_lifetime_s),
            refresh_window: self.refresh_window.unwrap_or(policy.refresh_window),
            static_passwords: self.static_passwords.unwrap_or(policy.static_passwords),
            device_password_grant: self.device_password_grant.unwrap_or(policy.device_password_grant),
        }
    }
}

/// A group cannot be set or found.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameRefused),
    /// A policy that cannot be one.
    #[error("{0}")]
    Policy(#[from] InvalidPolicy),
    /// There is no such group.
    #[error("there is no group {name:?}")]
    NoSuchGroup {
        /// Its name.
        name: String,
    },
    /// Groups and brokers were changed by others meanwhile.
    #[error("groups and brokers are being changed by others; try again")]
    Busy {
        /// Its name.
        name: GroupName,
    },
    /// A stored group no longer fits the configuration.
    #[error("group {name}: {reason}")]
    Stored {
        /// Its name.
        name: GroupName,
        /// Why it cannot be used.
        reason: InvalidPolicy,
    },
    /// A broker would take the name of a device in the group for another.
    #[error("audiences: {audience:?} cannot be had for device {device}: {reason}")]
    DeviceMisread {
        /// The device.
        device: DeviceName,
        /// The audience.
        audience: Box<str>,
        /// What the broker takes otherwise.
        reason: Misread,
    },
    /// A token of the group cannot be written.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The groups of an issuer.
pub struct Groups {
    store: Arc<dyn Store>,
    issuer: Box<str>,
    max_token_lifetime_s: u64,
    brokers: Arc<Brokers>,
    current: ArcSwap<BTreeMap<GroupName, Arc<Group>>>,
}

impl Groups {
    /// Reads the groups; makes the group `default` if there is none at all.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        issuer: &str,
        max_token_lifetime_s: u64,
        brokers: Arc<Brokers>,
        now: UnixSeconds,
    ) -> Result<Self, GroupError> {
        let current = ArcSwap::default();
        let groups = Self { store, issuer: issuer.into(), max_token_lifetime_s, brokers, current };
        let mut revision = groups.brokers.hold().await;
        for _ in 0..MAX_ATTEMPTS {
            groups.reload(&mut revision).await?;
            if !groups.current.load().is_empty() {
                break;
            }
            let own_topics = Some(vec!["devices/${clientid}/#".to_owned()]);
            let change = PolicyChange {
                publish: own_topics.clone(),
                subscribe: own_topics,
                ..PolicyChange::default()
            };
            // Otherwise another node has made it.
            groups.try_set(&mut revision, parse_name("name", DEFAULT_GROUP.into())?, change, now).await?;
        }
        drop(revision);
        Ok(groups)
    }

    /// Takes up the groups and brokers that are in the store. Whoever asks
    /// holds the brokers' lock.
    pub(crate) async fn reload(&self, revision: &mut SettingsRevision) -> Result<(), GroupError> {
        let settings = self.store.settings().await?;
        self.brokers.replace(settings.brokers);
        let groups = settings.groups.into_iter().map(|record| {
            let GroupRecord { name, policy, created_at, updated_at } = record;
            match policy_of(&policy, self.max_token_lifetime_s, &self.issuer, &self.brokers) {
                Ok(policy) => Ok((name.clone(), Arc::new(Group { name, policy, created_at, updated_at }))),
                Err(GroupError::Policy(reason)) => Err(GroupError::Stored { name, reason }),
                Err(error) => Err(error),
            }
        });
        self.current.store(Arc::new(groups.collect::<Result<_, _>>()?));
        *revision = settings.revision;
        Ok(())
    }

    /// The group of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Group>> {
        self.current.load().get(name).cloned()
    }

    /// All groups, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Group>> {
        self.current.load().values().cloned().collect()
    }

    /// The group of this name, for somebody who counts on it.
    ///
    /// # Errors
    /// [`GroupError::NoSuchGroup`].
    pub fn get(&self, name: &str) -> Result<Arc<Group>, GroupError> {
        self.find(name).ok_or_else(|| GroupError::NoSuchGroup { name: name.into() })
    }

    /// Changes a group or makes it. Takes effect with the next token.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn set(
        &self,
        name: &str,
        change: PolicyChange,
        now: UnixSeconds,
    ) -> Result<Arc<Group>, GroupError> {
        let name: GroupName = parse_name("name", name.into())?;
        let mut revision = self.brokers.hold().await;
        for _ in 0..MAX_ATTEMPTS {
            if let Some(group) = self.try_set(&mut revision, name.clone(), change.clone(), now).await? {
                return Ok(group);
            }
            self.reload(&mut revision).await?;
        }
        Err(GroupError::Busy { name })
    }

    /// Changes a group or makes it, unless another node changes groups or
    /// brokers meanwhile.
    async fn try_set(
        &self,
        revision: &mut SettingsRevision,
        name: GroupName,
        change: PolicyChange,
        now: UnixSeconds,
    ) -> Result<Option<Arc<Group>>, GroupError> {
        let former = self.find(name.as_str());
        let document = former.as_ref().map_or_else(initial_policy, |group| group.policy.to_document());
        let policy =
            policy_of(&change.apply_to(document), self.max_token_lifetime_s, &self.issuer, &self.brokers)?;
        if let Some(former) = &former {
            for audience in &policy.audiences {
                if former.policy.audience(Some(audience)).is_none() {
                    self.check_devices(&name, &self.brokers.target(audience)).await?;
                }
            }
        }
        let created_at = former.map_or(now, |group| group.created_at);
        let group = Arc::new(Group { name, policy, created_at, updated_at: now });
        let record = GroupRecord {
            name: group.name.clone(),
            policy: group.policy.to_document(),
            created_at,
            updated_at: now,
        };
        match self.store.set_group(*revision, &record).await {
            Ok(()) => *revision += 1,
            Err(SettingsNotChanged::Conflict) => return Ok(None),
            Err(SettingsNotChanged::Store(error)) => return Err(error.into()),
        }
        let mut groups = BTreeMap::clone(&self.current.load());
        groups.insert(group.name.clone(), Arc::clone(&group));
        self.current.store(Arc::new(groups));
        Ok(Some(group))
    }

    /// Whether tokens of this audience are for the issuer itself: a broker must
    /// not get those with which devices manage their keys.
    pub(crate) fn is_issuer(&self, audience: &str) -> bool {
        audience == &*self.issuer
    }

    /// Whether the tokens of every group that has this audience can be written
    /// like this, for each of its devices.
    ///
    /// # Errors
    /// [`BrokerError::Group`] names the first group whose cannot.
    pub(crate) async fn check_target(&self, target: &Target<'_>) -> Result<(), BrokerError> {
        for group in self.all() {
            if group.policy.audience(Some(target.audience)).is_some() {
                let unfit =
                    |reason| BrokerError::Group { group: group.name.clone(), reason: Box::new(reason) };
                check_for(&group.policy, target, &self.issuer).map_err(unfit)?;
                self.check_devices(&group.name, target).await.map_err(unfit)?;
            }
        }
        Ok(())
    }
}

fn initial_policy() -> PolicyDocument {
    PolicyDocument {
        publish: Vec::new(),
        subscribe: Vec::new(),
        scope: Scope::ALL.to_string(),
        audiences: vec!["mqtt".into()],
        token_lifetime_s: 900,
        refresh_window: RefreshWindow::default(),
        static_passwords: false,
        device_password_grant: false,
    }
}

/// Reads a policy, and makes sure that its tokens can be written and minted
/// for every audience.
fn policy_of(
    document: &PolicyDocument,
    max_token_lifetime_s: u64,
    issuer: &str,
    brokers: &Brokers,
) -> Result<Policy, GroupError> {
    let policy = Policy::from_document(document, max_token_lifetime_s)?;
    for audience in &policy.audiences {
        if **audience == *issuer {
            return Err(InvalidPolicy::IssuerAudience { audience: issuer.into() }.into());
        }
        check_for(&policy, &brokers.target(audience), issuer)?;
    }
    Ok(policy)
}

/// Whether the tokens of a policy can be written for one audience, and are
/// not too large for it.
fn check_for(policy: &Policy, target: &Target<'_>, issuer: &str) -> Result<(), GroupError> {
    let inexpressible = |Inexpressible { field, rule, reason }| InvalidPolicy::Inexpressible {
        field,
        rule,
        audience: target.audience.into(),
        profile: target.profile.as_str(),
        reason,
    };
    target.profile.check_policy(policy).map_err(inexpressible)?;
    let length = largest_token_length(policy, issuer, target)?;
    if length > MAX_MINTED_LENGTH {
        return Err(InvalidPolicy::TokenTooLarge { length, max: MAX_MINTED_LENGTH }.into());
    }
    Ok(())
}
