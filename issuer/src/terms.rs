//! What all nodes over one database must have in common: the issuer, and how
//! long a node may go on that does not hear of the others.
//!
//! A revocation reaches so far ahead as its node believes that another may be
//! behind; a node that takes more time would issue tokens which survive it. So
//! the first node writes both down, others are refused that differ, and one that
//! runs while they are changed issues nothing any more.

use std::time::Duration;

use crate::config::{Config, InvalidConfig};
use crate::data_dir::{DataDir, DatabaseFile, DatabaseFileError};
use crate::node::MAX_CLOCK_DIFFERENCE_S;
use crate::storage::{self, StorageError};
use crate::store::sqlite::SqliteStore;
use crate::store::{FleetTerms, Store, StoreError};

/// A node cannot be one of those over its database.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// It is another issuer's.
    #[error(
        "issuer: the database is that of {found}, and this node is to be {given}; leave --issuer out or give \
         {found}. To change it for good, end every node, then: fleetbadge-issuer change-terms --issuer {given}"
    )]
    OtherIssuer {
        /// The database's.
        found: String,
        /// This node's.
        given: String,
    },
    /// It may be behind for another time.
    #[error(
        "propagation_bound_s: all nodes over the database have {found}, and this node is to have {given}; leave \
         --propagation-bound-s out or give {found}. To change it for good, end every node, then: \
         fleetbadge-issuer change-terms --propagation-bound-s {given}"
    )]
    OtherBound {
        /// The database's.
        found: u64,
        /// This node's.
        given: u64,
    },
    /// What the database says cannot be used here.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Terms cannot be changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "one variant for each part")]
pub enum NotChanged {
    #[error("give --issuer, --propagation-bound-s, or both")]
    NothingSaid,
    #[error("there is no database in this data directory; give the one of the issuer, or --database")]
    NoDatabase,
    #[error(transparent)]
    DatabaseFile(#[from] DatabaseFileError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The configuration of a node, with what its database says; in a new one it
/// says so itself.
pub(crate) async fn agree(config: Config, store: &dyn Store) -> Result<Config, TermsError> {
    let own = of(&config);
    store.make_terms(&own).await?;
    let found = store.terms().await?.unwrap_or_else(|| own.clone());
    let is_alone = config.database.is_none();
    let said = config.said;
    // One node alone may be as late as it likes.
    let takes_own_bound = is_alone && said.propagation_bound_s;
    let takes_own_issuer = is_alone && said.prevails;
    if said.issuer && !takes_own_issuer && found.issuer != own.issuer {
        return Err(TermsError::OtherIssuer { found: found.issuer, given: own.issuer });
    }
    if said.propagation_bound_s && !takes_own_bound && found.propagation_bound_s != own.propagation_bound_s {
        let (found, given) = (found.propagation_bound_s, own.propagation_bound_s);
        return Err(TermsError::OtherBound { found, given });
    }
    let agreed = FleetTerms {
        issuer: if takes_own_issuer { own.issuer } else { found.issuer.clone() },
        propagation_bound_s: if takes_own_bound {
            own.propagation_bound_s
        } else {
            found.propagation_bound_s
        },
    };
    if agreed != found {
        store.change_terms(&agreed).await?;
    }
    let propagation_bound_s = agreed.propagation_bound_s;
    Ok(Config { propagation_bound_s, ..config.with_issuer(agreed.issuer)? })
}

/// That a node that runs still goes by what the database says.
pub(crate) async fn check(own: &FleetTerms, store: &dyn Store) -> Result<(), TermsError> {
    match store.terms().await? {
        Some(found) if found.issuer != own.issuer => {
            Err(TermsError::OtherIssuer { found: found.issuer, given: own.issuer.clone() })
        }
        Some(found) if found.propagation_bound_s != own.propagation_bound_s => {
            let (found, given) = (found.propagation_bound_s, own.propagation_bound_s);
            Err(TermsError::OtherBound { found, given })
        }
        Some(_) | None => Ok(()),
    }
}

/// Changes them in the database of a configuration, to what that says itself.
/// Returns the former ones and those of now.
///
/// With several nodes it takes as long as one may go on that has not heard of it.
///
/// # Errors
/// [`NotChanged`].
pub async fn change(config: &Config) -> Result<(Option<FleetTerms>, FleetTerms), NotChanged> {
    let said = config.said;
    if !said.issuer && !said.propagation_bound_s {
        return Err(NotChanged::NothingSaid);
    }
    let data_dir = DataDir::open_existing(&config.data_dir)?;
    let Some(database) = &config.database else {
        data_dir.check_for_own_database()?;
        let DatabaseFile::Present(path) = data_dir.database_file() else {
            return Err(NotChanged::NoDatabase);
        };
        let store = SqliteStore::open(&path).await?;
        let changed = change_in(&store, config).await;
        store.close().await?;
        return changed;
    };
    data_dir.check_for_other_database().map_err(StorageError::from)?;
    let store = storage::open_shared(database).await?;
    let (former, now) = change_in(&store, config).await?;
    if let Some(former) = former.as_ref().filter(|former| **former != now) {
        let late_s = former.propagation_bound_s + 2 * MAX_CLOCK_DIFFERENCE_S;
        tokio::time::sleep(Duration::from_secs(late_s)).await;
    }
    Ok((former, now))
}

async fn change_in(
    store: &dyn Store,
    config: &Config,
) -> Result<(Option<FleetTerms>, FleetTerms), NotChanged> {
    let (former, own) = (store.terms().await?, of(config));
    let now = match former.clone() {
        Some(former) => FleetTerms {
            issuer: if config.said.issuer { own.issuer } else { former.issuer },
            propagation_bound_s: if config.said.propagation_bound_s {
                own.propagation_bound_s
            } else {
                former.propagation_bound_s
            },
        },
        None => own,
    };
    if former.as_ref() != Some(&now) {
        store.change_terms(&now).await?;
    }
    Ok((former, now))
}

/// Those of a node.
pub(crate) fn of(config: &Config) -> FleetTerms {
    let propagation_bound_s = config.propagation_bound_s;
    FleetTerms { issuer: config.issuer.as_str().into(), propagation_bound_s }
}

#[cfg(test)]
mod tests;
