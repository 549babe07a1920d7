//! Times as people read them.

use fleetbadge_validator::time::UnixSeconds;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time as people read it (RFC 3339).
pub(crate) fn date(time: UnixSeconds) -> String {
    let date = i64::try_from(time.0).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| time.to_string())
}
