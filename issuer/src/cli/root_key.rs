//! `fleetbadge-issuer root-key …`.

use std::path::PathBuf;

use aws_lc_rs::rand::SystemRandom;
use clap::{Args, Subcommand};

use super::client::{Failure, Operator};
use super::table::show_list;
use super::{note, print, print_json};
use crate::admin::root_keys::{AddedRootKeyDocument, RootKeyDocument};
use crate::root_key::RootKeyFile;
use crate::root_keys::RootKeyState;

#[derive(Args)]
pub(super) struct RootKey {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the root keys, and how much is still under each
    List {
        #[command(flatten)]
        operator: Operator,
    },
    /// Put a new root key into the file, which nothing is under yet
    ///
    /// Copy the file to the other nodes then; they take it up within 5 s.
    Add {
        #[command(flatten)]
        operator: Operator,
    },
    /// Seal and hash everything new under this root key, on all nodes
    ///
    /// Every node must have it: one that does not answers 503 until it does.
    /// It is looked for in the file at once.
    /// Signing keys are sealed again at once; hashes of secrets and passwords
    /// are made anew when they are next presented.
    Use {
        /// Which, as `root-key list` shows it
        id: String,
        #[command(flatten)]
        operator: Operator,
    },
    /// Take away a root key that nothing is under any more
    ///
    /// From then on no node needs it; this one also takes it out of its file.
    Remove {
        /// Which, as `root-key list` shows it
        id: String,
        /// Even if secrets and passwords are under it: they are refused then
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        operator: Operator,
    },
    /// Make a file with one new root key, for a new database; needs no server
    New {
        /// Where; must not be there yet
        file: PathBuf,
    },
}

impl RootKey {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::List { operator } => {
                operator.run(async |client| show(&client.get::<Vec<_>>(&["root-keys"]).await?, operator.json))
            }
            Verb::Add { operator } => operator.run(async |client| {
                let added: AddedRootKeyDocument = client.post(&["root-keys"]).await?;
                if operator.json {
                    return print_json(&added);
                }
                print(&format!("{}\n", added.id))?;
                note(&format!(
                    "copy {} to the other nodes, if there are any; then: root-key use {}",
                    added.file, added.id
                ));
                Ok(())
            }),
            Verb::Use { id, operator } => operator.run(async |client| {
                show(&client.post::<Vec<_>>(&["root-keys", &id, "use"]).await?, operator.json)
            }),
            Verb::Remove { id, yes, operator } => operator.run(async |client| {
                let query: &[_] = if yes { &[("although_needed", "true")] } else { &[] };
                client.delete_with(&["root-keys", &id], query).await?;
                if operator.json {
                    return print_json(&serde_json::json!({ "id": id, "removed": true }));
                }
                note("copy the file to the other nodes, if there are any");
                Ok(())
            }),
            Verb::New { file } => {
                #[expect(clippy::disallowed_methods, reason = "there is no server to take it from")]
                let key = RootKeyFile::make_new(&file, &SystemRandom::new())?;
                print(&format!("{}\n", key.id()))
            }
        }
    }
}

fn show(keys: &[RootKeyDocument], json: bool) -> Result<(), Failure> {
    show_list(keys, json, ["ID", "STATE", "SIGNING KEYS", "SECRETS", "PASSWORDS"], |key| {
        let state = match key.state {
            RootKeyState::Current => "current",
            RootKeyState::Known => "known",
            RootKeyState::Missing => "missing here",
            RootKeyState::CurrentMissing => "current, missing here",
        };
        let numbers = [key.signing_keys, key.secrets, key.passwords].map(|number| number.to_string());
        let [signing_keys, secrets, passwords] = numbers;
        [key.id.to_string(), state.into(), signing_keys, secrets, passwords]
    })
}
