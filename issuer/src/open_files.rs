//! How many files and connections the system lets this process have open.
//!
//! A flood of connections must not take the descriptors that the database and
//! the operators' socket need: some are kept back for them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the public listener never takes: [`MAX_OPS_CONNECTIONS`] and
/// [`MAX_ADMIN_CONNECTIONS`], and 64 for the database, files and the runtime.
const RESERVE: usize = MAX_OPS_CONNECTIONS + MAX_ADMIN_CONNECTIONS + 64;
/// The most connections of the ops listener.
pub(crate) const MAX_OPS_CONNECTIONS: usize = 32;
/// The most connections of the admin socket.
pub(crate) const MAX_ADMIN_CONNECTIONS: usize = 32;
/// The most connections unless more are asked for; each takes about 27 kB.
const DEFAULT_MAX_CONNECTIONS: usize = 65_536;
/// With fewer a fleet would lock itself out.
const LEAST_DEFAULT: usize = 64;

/// The system does not allow as many open files as are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooFewOpenFiles {
    /// Not enough for the connections that were asked for.
    #[error(
        "{wanted} connections need {} open files, and this process may have {limit}; raise the limit (ulimit -n, \
         LimitNOFILE=) or allow fewer connections",
        wanted.saturating_add(RESERVE)
    )]
    ForConnections {
        /// How many connections.
        wanted: usize,
        /// How many open files.
        limit: usize,
    },
    /// Not enough for a server.
    #[error(
        "this process may have {limit} open files, at least {} are needed; raise the limit (ulimit -n, LimitNOFILE=)",
        RESERVE + LEAST_DEFAULT
    )]
    ForAnything {
        /// How many open files.
        limit: usize,
    },
    /// No connection at all.
    #[error("0 is not between 1 and {}", limit.saturating_sub(RESERVE))]
    None {
        /// How many open files.
        limit: usize,
    },
}

/// How many files this process may have open.
#[must_use]
pub fn limit() -> usize {
    // None means without limit.
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX))
}

/// Takes as many open files as the system allows: what is offered at first is
/// meant for programs that cannot have many.
///
/// # Errors
/// If the system says no.
pub fn raise_limit() -> std::io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// How many connections the public listener may have: as many as `asked`, or
/// what `limit` leaves.
///
/// # Errors
/// [`TooFewOpenFiles`].
pub fn max_connections(asked: Option<usize>, limit: usize) -> Result<usize, TooFewOpenFiles> {
    let left = limit.saturating_sub(RESERVE);
    match asked {
        Some(0) => Err(TooFewOpenFiles::None { limit }),
        Some(wanted) if wanted > left => Err(TooFewOpenFiles::ForConnections { wanted, limit }),
        Some(wanted) => Ok(wanted),
        None if left < LEAST_DEFAULT => Err(TooFewOpenFiles::ForAnything { limit }),
        None => Ok(left.min(DEFAULT_MAX_CONNECTIONS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_never_given_away() {
        assert_eq!(max_connections(None, 1024), Ok(896));
        assert_eq!(max_connections(None, usize::MAX), Ok(DEFAULT_MAX_CONNECTIONS));
        assert_eq!(max_connections(Some(896), 1024), Ok(896));
        let error = max_connections(Some(897), 1024).unwrap_err().to_string();
        assert!(error.contains("need 1025 open files, and this process may have 1024"), "{error}");
        let error = max_connections(None, 100).unwrap_err().to_string();
        assert!(error.contains("at least 192"), "{error}");
        assert_eq!(max_connections(Some(1), 129), Ok(1));
        assert!(max_connections(Some(0), 1024).is_err());
    }
}
