//! `fleetbadge-issuer key …`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use fleetbadge_validator::jwk::Algorithm;
use reqwest::Method;

use super::client::{Failure, Operator};
use super::table::show_list;
use super::{date, note};
use crate::admin::brokers::BrokerDocument;
use crate::admin::keys::{KeyDocument, Rotate};
use crate::signing_keys::KeyState;
use crate::signing_keys::holders::some_of;

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
    /// time to fetch it and every validator that reports holds it, or at a
    /// deadline. Tokens of the old one stay good.
    Rotate {
        /// Replace the key of this algorithm only, not of every one in use
        #[arg(long, value_name = "ALGORITHM", value_parser = algorithm())]
        algorithm: Option<Algorithm>,
        /// Sign with the new key at once; brokers that do not have it yet deny
        /// its tokens until they have fetched it
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        operator: Operator,
    },
    /// Delete a signing key that others may have, and take back its tokens
    ///
    /// Every token that it signed is good for nothing, at once with brokers that
    /// follow the feed of revocations, with others once they fetch the keys
    /// anew; every device that has one needs another. The announced key signs
    /// from now on, or a new one that brokers have yet to fetch.
    Revoke {
        /// Which key: its kid
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Do it
        #[arg(long)]
        yes: bool,
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
                show(&keys, operator.json)?;
                if algorithm.is_none() && !operator.json {
                    let brokers: Vec<BrokerDocument> = client.get(&["brokers"]).await?;
                    for being_made in first_keys_being_made(&keys, &brokers) {
                        note(&format!("the first {being_made} key is still being made; it was not rotated"));
                    }
                }
                Ok(())
            }),
            Verb::Revoke { kid, yes: false, .. } => Err(Failure::Usage(format!(
                "every token that {kid} signed is good for nothing once it is revoked: each device that has one is \
                 cut off until it has got another, and brokers deny the new ones until they have fetched the key that \
                 signs them. To do it, say: key revoke {kid} --yes. To replace a key that nobody else has: key rotate"
            ))),
            Verb::Revoke { kid, yes: true, operator } => operator.run(async |client| {
                let keys: Vec<KeyDocument> = client.post(&["keys", &kid, "revoke"]).await?;
                show(&keys, operator.json)
            }),
        }
    }
}

/// The algorithms that brokers want and no key signs with yet.
fn first_keys_being_made(keys: &[KeyDocument], brokers: &[BrokerDocument]) -> Vec<&'static str> {
    let signs = |alg: &str| keys.iter().any(|key| key.alg == alg && key.state == KeyState::Active);
    let is_wanted = |algorithm: &Algorithm| brokers.iter().any(|broker| broker.algorithm == *algorithm);
    let wanted = Algorithm::ALL.into_iter().filter(is_wanted).map(Algorithm::as_str);
    wanted.filter(|alg| !signs(alg)).collect()
}

pub(super) fn algorithm() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(Algorithm::ALL.map(Algorithm::as_str))
        .try_map(|name| Algorithm::from_name(&name).ok_or("is no algorithm"))
}

fn show(keys: &[KeyDocument], json: bool) -> Result<(), Failure> {
    show_list(keys, json, ["KID", "ALGORITHM", "STATE", "SCHEDULE", "HELD BY"], |key| {
        let held_by: Vec<String> = key.held_by.iter().map(ToString::to_string).collect();
        [key.kid.clone(), key.alg.clone(), key.state.to_string(), schedule(key), held_by.join(", ")]
    })?;
    if !json {
        let active = keys.iter().filter(|key| key.state == KeyState::Active);
        for (key, broker) in active.flat_map(|key| key.held_by.iter().map(move |broker| (key, broker))) {
            if !broker.missing.is_empty() {
                let (kid, name, missing) = (&key.kid, &broker.broker, some_of(&broker.missing));
                note(&format!(
                    "{kid} is not held by these instances of {name}, and they deny its tokens: {missing}"
                ));
            }
        }
        for (key, waited) in keys.iter().flat_map(|key| key.waits_for.iter().map(move |of| (key, of))) {
            let (kid, name, instances) = (&key.kid, &waited.broker, some_of(&waited.instances));
            note(&format!("{kid} waits until these instances of {name} say that they hold it: {instances}"));
        }
    }
    Ok(())
}

fn schedule(key: &KeyDocument) -> String {
    let latest = if key.next_change_may_come_earlier { " at the latest" } else { "" };
    match (key.state, key.retired_at, key.dropped_at, key.successor_announced_at) {
        (KeyState::Announced, ..) => {
            let earliest = key.earliest_at.map(|at| format!(", {} at the earliest", date(at)));
            format!("signs from {}{latest}{}", date(key.active_at), earliest.unwrap_or_default())
        }
        (KeyState::Active, Some(retired_at), ..) => format!("signs until {}{latest}", date(retired_at)),
        (KeyState::Active, None, _, Some(next)) => {
            format!("signs since {}; the next is announced {}", date(key.active_at), date(next))
        }
        (KeyState::Active, None, _, None) => format!("signs since {}", date(key.active_at)),
        (KeyState::Retired, _, Some(dropped_at), _) => format!("published until {}", date(dropped_at)),
        (KeyState::Retired, _, None, _) | (KeyState::Dropped, ..) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_brokers_want_and_no_key_signs_is_being_made() {
        let key = |alg, state| {
            let key = json!({"kid": "k", "alg": alg, "state": state, "announced_at": 1, "active_at": 1,
                             "retired_at": null, "dropped_at": null, "next_change_at": null,
                             "next_change_may_come_earlier": false, "earliest_at": null, "waits_for": [],
                             "successor_announced_at": null, "held_by": []});
            serde_json::from_value(key).unwrap()
        };
        let broker = |algorithm| {
            let broker = json!({"client_id": "b", "audience": "b", "resource": "b", "profile": "fleetbadge",
                                "algorithm": algorithm, "created_at": 1, "secrets": []});
            serde_json::from_value(broker).unwrap()
        };
        let keys: [KeyDocument; 2] = [key("ES256", "active"), key("RS256", "announced")];
        assert!(first_keys_being_made(&keys, &[broker("ES256")]).is_empty());
        let brokers = ["ES256", "EdDSA", "EdDSA", "RS256"].map(broker);
        assert_eq!(first_keys_being_made(&keys, &brokers), ["RS256", "EdDSA"]);
    }
}
