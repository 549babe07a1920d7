//! What is the same of `device secret …` and `broker secret …`, and of
//! `rotate-secret`.

use clap::{Args, Subcommand};
use fleetbadge_validator::time::UnixSeconds;
use reqwest::Method;
use serde::de::DeserializeOwned;

use super::client::{Failure, Operator};
use super::table::show_list;
use super::{date, duration, last_used, print, print_json};
use crate::admin::secrets::{AddedSecretTerms, RemovedSecretDocument, RotateSecret, SecretDocument};

/// Whose secrets.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    /// The noun of the command line.
    noun: &'static str,
    /// The resource of the admin API.
    resource: &'static str,
    /// What it means to have no credential.
    without: &'static str,
}

pub(super) const DEVICE: Owner =
    Owner { noun: "device", resource: "devices", without: "the device gets no more tokens" };
pub(super) const BROKER: Owner = Owner {
    noun: "broker",
    resource: "brokers",
    without: "the broker can neither ask about tokens nor exchange passwords",
};

impl Owner {
    /// What to say after a credential was removed.
    pub(super) fn what_is_left(self, has_credentials: bool) -> String {
        if has_credentials {
            return String::new();
        }
        format!(" It was the last credential: {} until it has another.", self.without)
    }
}

#[derive(Subcommand)]
pub(super) enum Kept {
    /// List the secrets: id, when made, when they end, when last used
    List {
        /// Name of the device or broker
        name: String,
        #[command(flatten)]
        operator: Operator,
    },
    /// Remove a secret; it is no longer good at once
    Remove {
        /// Name of the device or broker
        name: String,
        /// Id of the secret, as `list` shows it
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        operator: Operator,
    },
}

/// What is asked for of a secret to add.
#[derive(Args)]
pub(super) struct New {
    /// Name of the device or broker
    pub(super) name: String,
    /// For how long it is good: 30s, 15m, 24h, 30d [default: no end]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(super) expires: Option<u64>,
    #[command(flatten)]
    pub(super) operator: Operator,
}

#[derive(Args)]
pub(super) struct Rotate {
    /// Name of the device or broker
    name: String,
    /// For how long the secrets that are there stay good: 30s, 15m, 24h, 7d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    overlap: u64,
    #[command(flatten)]
    operator: Operator,
}

impl Owner {
    /// Where the admin API has the secrets of a client.
    pub(super) const fn secrets(self, name: &str) -> [&str; 3] {
        [self.resource, name, "secrets"]
    }
}

impl Kept {
    pub(super) fn run(self, owner: Owner) -> Result<(), Failure> {
        match self {
            Self::List { name, operator } => operator.run(async |client| {
                let secrets: Vec<SecretDocument> = client.get(&owner.secrets(&name)).await?;
                let header = ["ID", "KIND", "CREATED", "ENDS", "LAST_USED"];
                show_list(&secrets, operator.json, header, |secret| {
                    let SecretDocument { id, imported, created_at, expires_at, last_used_at } = secret;
                    let kind = if *imported { "imported" } else { "made" };
                    let at = |time: &Option<UnixSeconds>| time.map_or_else(|| "never".into(), date);
                    [id.to_string(), kind.into(), date(*created_at), at(expires_at), at(last_used_at)]
                })
            }),
            Self::Remove { name, id, operator } => operator.run(async |client| {
                let [resource, _, secrets] = owner.secrets(&name);
                let path = [resource, &name, secrets, &id];
                let removed: RemovedSecretDocument = client.delete_with_answer(&path).await?;
                if operator.json {
                    return print_json(&removed);
                }
                let left = owner.what_is_left(removed.has_credentials);
                print(&format!("Removed secret {id} of {} {name}.{left}\n", owner.noun))
            }),
        }
    }
}

impl Rotate {
    /// Rotates, and has the answer of the API shown: as JSON if that is wanted.
    pub(super) fn run<T: DeserializeOwned>(
        self,
        owner: Owner,
        show: impl FnOnce(&T, bool) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Self { name, overlap, operator } = self;
        operator.run(async |client| {
            let path = [owner.resource, &name, "rotate-secret"];
            let rotate = RotateSecret { overlap_s: overlap };
            show(&client.send_json(Method::POST, &path, &rotate).await?, operator.json)
        })
    }
}

/// A secret on a line.
pub(super) fn line(secret: &SecretDocument) -> String {
    let SecretDocument { id, imported, created_at, expires_at, last_used_at } = secret;
    let made = if *imported { "imported" } else { "made" };
    let end = expires_at.map_or_else(|| "no end".into(), |end| format!("ends {}", date(end)));
    format!("{id}  {made} {}  {end}  {}", date(*created_at), last_used(*last_used_at))
}

/// What is said of a secret that was added: with itself, if it was made.
pub(super) fn added(
    owner: Owner,
    client_id: &str,
    client_secret: Option<&str>,
    terms: &AddedSecretTerms,
) -> String {
    let Owner { noun, .. } = owner;
    let AddedSecretTerms { secret_id, expires_at, others_end_at } = terms;
    let end = expires_at.map_or_else(|| "without an end".into(), |end| format!("good until {}", date(end)));
    let others = others_end_at
        .map(|end| format!("The other secrets are good until {} at the latest.\n", date(end)))
        .unwrap_or_default();
    match client_secret {
        Some(client_secret) => format!(
            "Made secret {secret_id} for {noun} {client_id}, {end}.\n\n\
             \x20 client_id        {client_id}\n\
             \x20 client_secret    {client_secret}\n\n\
             The secret is shown this once.\n{others}"
        ),
        None => format!("Imported secret {secret_id} for {noun} {client_id}, {end}.\n{others}"),
    }
}
