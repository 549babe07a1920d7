//! `fleetbadge-issuer backup …`.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use fleetbadge_validator::time::SystemClock;
use serde::Serialize;

use super::client::{Failure, Operator};
use super::serve::{Configuration, hide_unless};
use super::{date, note, print, print_json, tell, told};
use crate::restore::restore;

#[derive(Args)]
pub(super) struct Backup {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write everything that the running server keeps into one file
    ///
    /// The file is encrypted under the root key, which is not in it: keep that
    /// (root.key in the data directory) somewhere else.
    Create {
        /// The file; must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        operator: Operator,
    },
    /// Fill an empty data directory or database from a backup
    ///
    /// No server may run. root.key must be in the data directory. Since nobody
    /// knows what has happened after the backup was made, every token is taken
    /// back and new signing keys are made; what operators have changed since is
    /// lost. Takes the options, the environment and the TOML file of `serve`.
    #[command(mut_args(|argument| hide_unless(&OPTIONS_OF_RESTORE, argument)))]
    Restore {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        configuration: Box<Configuration>,
    },
}

#[derive(Serialize)]
struct Created<'a> {
    file: &'a Path,
    bytes: u64,
}

#[derive(Serialize)]
struct Restored {
    made_at: fleetbadge_validator::time::UnixSeconds,
    rows: u64,
}

/// The options of `serve` that decide what is restored, and where.
const OPTIONS_OF_RESTORE: [&str; 12] = [
    "file",
    "json",
    "help",
    "config",
    "data_dir",
    "root_key_file",
    "database",
    "allow_insecure_database",
    "issuer",
    "allow_insecure_http",
    "propagation_bound_s",
    "max_token_lifetime_s",
];

impl Backup {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Create { file, operator } => operator.run(async |client| {
                let unfinished = unfinished(&file)?;
                let result = async {
                    let at_file = |error| Failure::Input { path: file.clone(), error };
                    let mut to = create_private(&unfinished).map_err(at_file)?;
                    let bytes = match client.download(&["backup"], &mut to).await {
                        Err(Failure::Io(error)) => return Err(at_file(error)),
                        other => other?,
                    };
                    to.sync_all().map_err(at_file)?;
                    // Fails if the file came into being meanwhile.
                    std::fs::hard_link(&unfinished, &file).map_err(at_file)?;
                    Ok::<_, Failure>(bytes)
                };
                let result = result.await;
                let _ = std::fs::remove_file(&unfinished);
                let bytes = result?;
                if operator.json {
                    return print_json(&Created { file: &file, bytes });
                }
                print(&format!("{} has the backup: {bytes} bytes.\n", file.display()))?;
                note("it is worth nothing without the root key: keep that somewhere else");
                Ok(())
            }),
            Verb::Restore { file, json, configuration } => {
                let config = configuration.resolve()?;
                let from = File::open(&file).map_err(|error| Failure::Input { path: file.clone(), error })?;
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                let progress = |rows| tell(rows, "read");
                let restored = runtime.block_on(restore(&config, Arc::new(SystemClock), from, progress));
                told();
                let (header, rows) =
                    restored.map_err(|reason| Failure::NotRestored { path: file.clone(), reason })?;
                if json {
                    return print_json(&Restored { made_at: header.made_at, rows });
                }
                print(&format!(
                    "{} is restored: {rows} rows, as they were at {}.\n",
                    file.display(),
                    date(header.made_at)
                ))?;
                note(
                    "every token is taken back, and there will be new signing keys. What was changed after the \
                     backup is lost: disable again what has been disabled since, as soon as the server runs",
                );
                Ok(())
            }
        }
    }
}

fn unfinished(file: &Path) -> Result<PathBuf, Failure> {
    if file.exists() {
        return Err(Failure::Usage(format!("{} exists; give another name", file.display())));
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.unfinished", std::process::id()));
    Ok(file.with_file_name(name))
}

fn create_private(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}
