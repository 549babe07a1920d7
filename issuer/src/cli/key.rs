//! `fleetbadge-issuer key …`.

use clap::{Args, Subcommand};
use reqwest::Method;

use super::client::{Failure, Operator};
use super::{date, print, print_json};
use crate::admin::keys::{KeyDocument, Rotate};
use crate::signing_keys::KeyState;

#[derive(Args)]
pub(super) struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the signing keys
    List {
        #[command(flatten)]
        operator: Operator,
    },
    /// Replace the signing key
    ///
    /// The new key is announced first and signs once every broker has had the
    /// time to fetch it. Tokens of the old one stay good.
    Rotate {
        /// Sign with the new key at once; brokers that do not have it yet deny
        /// its tokens until they have fetched it
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        operator: Operator,
    },
}

impl Key {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::List { operator } => operator
                .run(async |client| show(&client.get::<Vec<KeyDocument>>(&["keys"]).await?, operator.json)),
            Verb::Rotate { now, operator } => operator.run(async |client| {
                let path = ["keys", "rotate"];
                let keys: Vec<KeyDocument> = client.send_json(Method::POST, &path, &Rotate { now }).await?;
                show(&keys, operator.json)
            }),
        }
    }
}

fn show(keys: &[KeyDocument], json: bool) -> Result<(), Failure> {
    for key in keys {
        if json {
            print_json(key)?;
            continue;
        }
        let next = match (key.state, key.retired_at, key.dropped_at) {
            (KeyState::Announced, ..) => format!("signs from {}", date(key.active_at)),
            (KeyState::Active, Some(retired_at), _) => format!("signs until {}", date(retired_at)),
            (KeyState::Active, None, _) => format!("signs since {}", date(key.active_at)),
            (KeyState::Retired, _, Some(dropped_at)) => format!("published until {}", date(dropped_at)),
            (KeyState::Retired, _, None) | (KeyState::Dropped, ..) => String::new(),
        };
        print(&format!("{}  {}  {:9}  {next}\n", key.kid, key.alg, key.state))?;
    }
    Ok(())
}
