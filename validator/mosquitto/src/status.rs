//! The status file, if the options name one.

use std::path::PathBuf;
use std::sync::Arc;

use fleetbadge_validator::reports::activity::Activity;
use fleetbadge_validator::reports::status_file::StatusFile;
use fleetbadge_validator::time::Clock;

use crate::keys::Keys;
use crate::options::{InvalidOption, Prefix};

/// What the plugin calls itself to others.
pub(crate) const SOFTWARE: &str = concat!("fleetbadge-mosquitto/", env!("CARGO_PKG_VERSION"));

/// Writes the file and goes on with it, on a thread of its own.
pub(crate) fn start(
    path: Option<PathBuf>,
    prefix: &Prefix,
    keys: &Keys,
    activity: &Arc<Activity>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<StatusFile>, InvalidOption> {
    let Some(path) = path else { return Ok(None) };
    let (activity, clock) = (Arc::clone(activity), Arc::clone(clock));
    StatusFile::start(path.clone(), SOFTWARE, keys.key_ids(), activity, clock).map(Some).map_err(|error| {
        InvalidOption::File { name: format!("{prefix}status_file"), path, reason: error.to_string() }
    })
}
