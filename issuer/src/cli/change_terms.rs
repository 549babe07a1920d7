//! `fleetbadge-issuer change-terms`.

use clap::Args;

use super::client::Failure;
use super::serve::{Configuration, hide_unless};
use super::{note, print, print_json};
use crate::terms;

/// The options of `serve` that decide what is changed, and where.
const OPTIONS: [&str; 9] = [
    "json",
    "help",
    "config",
    "data_dir",
    "database",
    "allow_insecure_database",
    "issuer",
    "allow_insecure_http",
    "propagation_bound_s",
];

#[derive(Args)]
#[command(mut_args(|argument| hide_unless(&OPTIONS, argument)))]
pub(super) struct ChangeTerms {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    configuration: Box<Configuration>,
}

impl ChangeTerms {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.configuration.resolve()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (former, now) = runtime.block_on(terms::change(&config))?;
        if self.json {
            return print_json(&now);
        }
        print(&format!("issuer {}, propagation bound {} s\n", now.issuer, now.propagation_bound_s))?;
        if former.is_some_and(|former| former.issuer != now.issuer) {
            note(
                "tokens of the former issuer go on being that one's: give brokers and devices the new one, and \
                 start every node again",
            );
        }
        Ok(())
    }
}
