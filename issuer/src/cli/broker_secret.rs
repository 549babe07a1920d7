//! `fleetbadge-issuer broker secret …`.

use clap::{Args, Subcommand};
use reqwest::Method;

use super::client::Failure;
use super::secret::{self, BROKER, Kept, New};
use super::{print, print_json};
use crate::admin::broker_secrets::{AddBrokerSecret, AddedBrokerSecretDocument};

/// Make, list and remove the secrets of a broker.
#[derive(Args)]
pub(super) struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make one more secret and print it, once
    ///
    /// The others stay good. What --json prints is the credentials file of the
    /// broker's validator, with the new secret; save it for its user alone
    /// (umask 077).
    Add(New),
    #[command(flatten)]
    Kept(Kept),
}

impl Secret {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Add(New { name, expires, operator }) => operator.run(async |client| {
                let new = AddBrokerSecret { expires_in_s: expires };
                let added = client.send_json(Method::POST, &BROKER.secrets(&name), &new).await?;
                show_added(&added, operator.json)
            }),
            Verb::Kept(kept) => kept.run(BROKER),
        }
    }
}

/// Shows a secret that was added to a broker; as JSON its credentials file,
/// and nothing else.
pub(super) fn show_added(added: &AddedBrokerSecretDocument, json: bool) -> Result<(), Failure> {
    let AddedBrokerSecretDocument { credentials, terms } = added;
    if json {
        return print_json(credentials);
    }
    let text = secret::added(BROKER, &credentials.client_id, Some(&credentials.client_secret), terms);
    print(&format!("{text}With --json it is printed as the credentials file of the broker's validator.\n"))
}
