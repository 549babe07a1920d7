//! What the environment says: every variable whose name begins as ours do must be
//! one of ours. A misspelt one would be no word at all, and an issuer with
//! another database than was meant.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use clap::Command;

/// How all of them begin.
const PREFIX: &str = "FLEETBADGE_";
/// Those of other programs of ours, which may be in the same environment.
const OF_OTHERS: [&str; 5] = [
    "FLEETBADGE_AGENT_",
    "FLEETBADGE_CLIENT_ID",
    "FLEETBADGE_ISSUER_PROGRAM",
    "FLEETBADGE_MQTT_LISTEN",
    "FLEETBADGE_WS_LISTEN",
];

/// A variable that means nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} in the environment means nothing; {nearest} does")]
pub(super) struct UnknownVariable {
    found: String,
    nearest: String,
}

/// Looks at the names of variables.
///
/// # Errors
/// [`UnknownVariable`], for the first that is none of ours.
pub(super) fn check<'a>(
    command: &Command,
    names: impl Iterator<Item = &'a OsStr>,
) -> Result<(), UnknownVariable> {
    let mut known = BTreeSet::new();
    collect(command, &mut known);
    for name in names {
        let name = name.to_string_lossy();
        let is_of_others = OF_OTHERS.iter().any(|of_others| name.starts_with(of_others));
        if !name.starts_with(PREFIX) || is_of_others || known.contains(&*name) {
            continue;
        }
        let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, &name));
        return Err(UnknownVariable {
            found: name.escape_debug().to_string(),
            nearest: nearest.cloned().unwrap_or_default(),
        });
    }
    Ok(())
}

fn collect(command: &Command, known: &mut BTreeSet<String>) {
    let names = command.get_arguments().filter_map(clap::Arg::get_env);
    known.extend(names.map(|name| name.to_string_lossy().into_owned()));
    command.get_subcommands().for_each(|command| collect(command, known));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_misspelt_one_is_refused_with_what_was_meant() {
        let command = super::super::Cli::command();
        let check = |name: &str| check(&command, std::iter::once(OsStr::new(name)));
        for (name, nearest) in [
            ("FLEETBADGE_DATABSE", "FLEETBADGE_DATABASE"),
            ("FLEETBADGE_ISUER", "FLEETBADGE_ISSUER"),
            ("FLEETBADGE_DATA-DIR", "FLEETBADGE_DATA_DIR"),
        ] {
            let refused = check(name).unwrap_err();
            assert_eq!((refused.found.as_str(), refused.nearest.as_str()), (name, nearest));
        }
        for name in [
            "FLEETBADGE_DATABASE",
            "FLEETBADGE_CONFIG",
            "FLEETBADGE_PKCS11_PIN_FILE",
            "FLEETBADGE_AGENT_CLIENT_SECRET",
            "DATABSE",
        ] {
            assert_eq!(check(name), Ok(()));
        }
    }
}
