//! `fleetbadge-issuer broker …`.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use fleetbadge_validator::jwk::Algorithm;
use reqwest::Method;

use super::client::{Failure, Operator};
use super::key::algorithm;
use super::secret::{self, BROKER};
use super::table::show_list;
use super::{broker_secret, broker_status, date, print, print_json};
use crate::admin::brokers::{AddBroker, AddedBrokerDocument, BrokerDocument};
use crate::profile::Profile;

#[derive(Args)]
pub(super) struct Broker {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Register a broker and print its secret, once
    ///
    /// What --json prints is the credentials file of the broker's validator;
    /// save it for its user alone (umask 077).
    Add(Add),
    /// List the brokers, by name
    List {
        #[command(flatten)]
        operator: Operator,
    },
    /// Show a broker
    Show(Named),
    /// Show what the validators of a broker report: how they are, how many clients
    /// are connected, what they let in and what they denied
    ///
    /// Each process of the broker is an instance; what is shown is what it said
    /// last, if that is not older than a day.
    Status(broker_status::Status),
    /// List who is connected to a broker, by instance and client ID
    Sessions(broker_status::Sessions),
    /// Remove a broker; its name is never used again
    Remove(Named),
    /// Make, list and remove the secrets of a broker
    Secret(broker_secret::Secret),
    /// Make a new secret and print it, once; the others end after a while
    ///
    /// What --json prints is the credentials file of the broker's validator,
    /// with the new secret; save it beside the old one for its user alone
    /// (umask 077), and put it in its place when it is complete.
    RotateSecret(secret::Rotate),
}

#[derive(Args)]
struct Add {
    /// Name of the broker: its OAuth client_id
    name: String,
    /// The aud of the tokens for it; groups name it with --audience
    #[arg(long, value_name = "AUDIENCE")]
    audience: String,
    /// URI that devices name it by when they ask for a token (RFC 8707)
    /// [default: urn:fleetbadge:broker:NAME]
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// How its tokens are written: fleetbadge is for the validator, each other
    /// for what the broker itself reads
    #[arg(long, value_name = "PROFILE", value_parser = PossibleValuesParser::new(Profile::NAMES))]
    profile: String,
    /// What its tokens are signed with [default: the first that the profile
    /// has, ES256 if possible]
    #[arg(long, value_name = "ALGORITHM", value_parser = algorithm())]
    algorithm: Option<Algorithm>,
    /// Virtual host of a RabbitMQ broker [default: /]
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    /// RabbitMQ alone: accept that it never compares the client ID of a connection with
    /// its token: who subscribes is bound by the names of its queues, but who
    /// only publishes may connect as any client, and end another's connection
    #[arg(long)]
    accept_unbound_publishers: bool,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Args)]
struct Named {
    /// Name of the broker
    name: String,
    #[command(flatten)]
    operator: Operator,
}

impl Broker {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Add(add) => add.run(),
            Verb::Status(status) => status.run(),
            Verb::Sessions(sessions) => sessions.run(),
            Verb::Secret(secret) => secret.run(),
            Verb::RotateSecret(rotate) => rotate.run(BROKER, broker_secret::show_added),
            Verb::List { operator } => operator.run(async |client| {
                let brokers: Vec<BrokerDocument> = client.get(&["brokers"]).await?;
                let header = ["CLIENT_ID", "AUDIENCE", "PROFILE", "ALGORITHM", "RESOURCE"];
                show_list(&brokers, operator.json, header, |broker| {
                    let BrokerDocument { client_id, audience, resource, profile, algorithm, .. } = broker;
                    let algorithm = algorithm.as_str().to_owned();
                    [client_id.clone(), audience.clone(), profile.clone(), algorithm, resource.clone()]
                })
            }),
            Verb::Show(Named { name, operator }) => operator.run(async |client| {
                let broker: BrokerDocument = client.get(&["brokers", &name]).await?;
                if operator.json { print_json(&broker) } else { print(&page(&broker)) }
            }),
            Verb::Remove(Named { name, operator }) => operator.run(async |client| {
                client.delete(&["brokers", &name]).await?;
                if operator.json {
                    return print_json(&serde_json::json!({ "client_id": name, "removed": true }));
                }
                print(&format!(
                    "Removed broker {name} and its secrets. Tokens for its audience stay good to their end. Its \
                     name is never used again.\n"
                ))
            }),
        }
    }
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        let Self { name, audience, resource, profile, algorithm, vhost, accept_unbound_publishers, operator } =
            self;
        operator.run(async |client| {
            let new =
                AddBroker { name, audience, resource, profile, algorithm, vhost, accept_unbound_publishers };
            let added: AddedBrokerDocument = client.send_json(Method::POST, &["brokers"], &new).await?;
            if operator.json {
                return print_json(&added);
            }
            let AddedBrokerDocument { client_id, client_secret, audience, resource, profile } = added;
            print(&format!(
                "Added broker {client_id}.\n\n\
                 \x20 client_id      {client_id}\n\
                 \x20 client_secret  {client_secret}\n\
                 \x20 audience       {audience}\n\
                 \x20 resource       {resource}\n\
                 \x20 profile        {profile}\n\n\
                 The secret is shown this once. With --json this is the credentials file of the broker's\n\
                 validator; save it so that nobody else can read it:\n\
                 \x20 (umask 077; fleetbadge-issuer broker add … --json > {client_id}.json)\n"
            ))
        })
    }
}

fn page(broker: &BrokerDocument) -> String {
    let secrets = broker.secrets.iter().map(secret::line);
    let vhost = broker.vhost.as_ref().map(|vhost| format!("vhost      {vhost}\n")).unwrap_or_default();
    format!(
        "client_id  {}\n\
         audience   {}\n\
         resource   {}\n\
         profile    {}\n\
         {vhost}\
         algorithm  {}\n\
         created    {}\n\
         secrets    {}\n",
        broker.client_id,
        broker.audience,
        broker.resource,
        broker.profile,
        broker.algorithm.as_str(),
        date(broker.created_at),
        secrets.collect::<Vec<_>>().join("\n           "),
    )
}
