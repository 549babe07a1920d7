//! `fleetbadge-issuer migrate-store`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::client::Failure;
use super::{note, print, print_json, tell, told};
use crate::config::InvalidConfig;
use crate::config::database::{Database, DatabaseUrl};
use crate::migrate_store::{Migrated, Progress, TableCount, migrate_store};

#[derive(Args)]
pub(super) struct MigrateStore {
    /// Data directory of the issuer, which keeps its root key
    #[arg(long, env = "FLEETBADGE_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// The empty PostgreSQL database, such as postgres://USER@HOST/NAME. A
    /// password is better kept in the environment (here or in PGPASSWORD), in
    /// ~/.pgpass, or in the file that PGPASSFILE names
    #[arg(long, env = "FLEETBADGE_DATABASE", hide_env_values = true, value_name = "URL")]
    to: DatabaseUrl,
    /// Accept a database on another machine whose TLS certificate and name are
    /// not checked
    #[arg(long, env = "FLEETBADGE_ALLOW_INSECURE_DATABASE", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL")]
    allow_insecure_database: Option<bool>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Done<'a> {
    /// Whether this run has done it, or an earlier one.
    migrated: bool,
    database: &'a Database,
    left: PathBuf,
    tables: Vec<TableCount>,
}

impl MigrateStore {
    pub(super) fn run(self) -> Result<(), Failure> {
        let allow_insecure = self.allow_insecure_database.unwrap_or(false);
        let database = Database::resolve(self.to, allow_insecure).map_err(InvalidConfig::from)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let progress = |progress| match progress {
            Progress::Copied(rows) => tell(rows, "copied"),
            Progress::Compared(rows) => tell(rows, "compared"),
        };
        let done = runtime.block_on(migrate_store(&self.data_dir, &database, progress));
        told();
        let done = match done? {
            Migrated::Now { tables, left } => Done { migrated: true, database: &database, left, tables },
            Migrated::Before { left } => {
                Done { migrated: false, database: &database, left, tables: Vec::new() }
            }
        };
        if self.json {
            return print_json(&done);
        }
        print(&text(&done))?;
        note(&format!(
            "start the server with --database from now on. {} is what was there before, and no server starts \
             with it any more: remove it once you are content",
            done.left.display()
        ));
        Ok(())
    }
}

fn text(done: &Done<'_>) -> String {
    let Done { migrated, database, tables, .. } = done;
    if !migrated {
        return format!("This issuer was moved to {database} before; there is nothing to do.\n");
    }
    let mut text = String::new();
    for TableCount { table, rows } in tables {
        let _ = writeln!(text, "  {table:16} {rows:>9}");
    }
    let rows: u64 = tables.iter().map(|count| count.rows).sum();
    let _ = writeln!(text, "The issuer is moved to {database}: {rows} rows, the same in both databases.");
    text
}
