//! `fleetbadge-issuer key …`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use fleetbadge_validator::jwk::Algorithm;
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
    /// Replace the signing keys
    ///
    /// A new key is announced first and signs once every broker has had the
    /// time to fetch it. Tokens of the old one stay good.
    Rotate {
        /// Replace the key of this algorithm only, not of every one in use
        #[arg(long, value_parser = algorithm())]
        algorithm: Option<Algorithm>,
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
            Verb::Rotate { algorithm, now, operator } => operator.run(async |client| {
                let (path, rotate) = (["keys", "rotate"], Rotate { algorithm, now });
                let keys: Vec<KeyDocument> = client.send_json(Method::POST, &path, &rotate).await?;
                show(&keys, operator.json)
            }),
        }
    }
}

fn algorithm() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(Algorithm::ALL.map(Algorithm::as_str))
        .try_map(|name| Algorithm::from_name(&name).ok_or("is no algorithm"))
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
