//! Times as people read them.

use fleetbadge_validator::time::{Rfc3339, UnixSeconds};

/// A time as people read it (RFC 3339).
pub(crate) fn date(time: UnixSeconds) -> String {
    Rfc3339(time).to_string()
}
