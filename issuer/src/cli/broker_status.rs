//! `fleetbadge-issuer broker status` and `broker sessions`.

use clap::Args;

use super::client::{AdminClient, Failure, Operator};
use super::table::show_list;
use super::{date, print, print_json};
use crate::admin::broker_status::{
    BrokerStatusDocument, Heard, InstanceDocument, SessionDocument, SessionPage,
};
use crate::admin::brokers::BrokerDocument;

#[derive(Args)]
pub(super) struct Status {
    /// Name of the broker [default: all brokers]
    name: Option<String>,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Args)]
pub(super) struct Sessions {
    /// Name of the broker
    name: String,
    #[command(flatten)]
    operator: Operator,
}

impl Status {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { name, operator } = self;
        operator.run(async |client| {
            let names = match name {
                Some(name) => vec![name],
                None => {
                    let brokers: Vec<BrokerDocument> = client.get(&["brokers"]).await?;
                    brokers.into_iter().map(|broker| broker.client_id).collect()
                }
            };
            for (n, name) in names.iter().enumerate() {
                let status: BrokerStatusDocument = client.get(&["brokers", name, "status"]).await?;
                if operator.json {
                    print_json(&status)?;
                } else {
                    print(&format!("{}{}", if n > 0 { "\n" } else { "" }, page(&status)))?;
                }
            }
            Ok(())
        })
    }
}

impl Sessions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { name, operator } = self;
        operator.run(async |client| list(&client, &name, operator.json).await)
    }
}

async fn list(client: &AdminClient, name: &str, json: bool) -> Result<(), Failure> {
    let mut query: Vec<(&str, String)> = Vec::new();
    loop {
        let given: Vec<(&str, &str)> = query.iter().map(|(key, value)| (*key, &**value)).collect();
        let page: SessionPage = client.get_with(&["brokers", name, "sessions"], &given).await?;
        show_list(&page.sessions, json, ["CLIENT_ID", "SINCE", "UNTIL", "INSTANCE", "AS OF"], |session| {
            let SessionDocument { session, instance, heard, .. } = session;
            let as_of = if heard.silent { date(heard.heard_of_at) } else { String::new() };
            let (since, until) = (date(session.since), date(session.until));
            [session.client_id.to_string(), since, until, instance.clone(), as_of]
        })?;
        let Some(after) = page.next_after else { return Ok(()) };
        query = vec![("after_instance", after.instance), ("after_client_id", after.client_id)];
    }
}

fn page(status: &BrokerStatusDocument) -> String {
    let instances = status.instances.iter().map(instance);
    let nothing = if status.instances.is_empty() { "nothing was heard of it within a day\n" } else { "" };
    format!("broker       {}\n{nothing}{}", status.client_id, instances.collect::<String>())
}

fn instance(document: &InstanceDocument) -> String {
    let InstanceDocument { instance, software, heard, kids, revocations, sessions_online, counters } =
        document;
    let Heard { heard_of_at, silent } = heard;
    let heard_of = if *silent { "not since" } else { "at" };
    let revocations = revocations.as_ref().map_or_else(
        || "not followed".into(),
        |held| format!("heard {} s before that, event {}", held.age_s, held.event_id),
    );
    let online = sessions_online.map_or_else(|| "not told".into(), |online| online.to_string());
    let (let_in, denied) = counters.as_ref().map_or_else(
        || ("not counted".into(), "not counted".into()),
        |counters| {
            let mut denied: Vec<_> = counters.denied.iter().collect();
            // The most frequent first.
            denied.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), code.as_str()));
            let denied: Vec<String> =
                denied.into_iter().map(|(code, count)| format!("{count} {code}")).collect();
            let denied = if denied.is_empty() { "0".into() } else { denied.join(BELOW) };
            (format!("{} since {}", counters.let_in, date(counters.started_at)), denied)
        },
    );
    format!(
        "\n\
         instance     {instance}\n\
         software     {software}\n\
         heard of     {heard_of} {}\n\
         keys held    {}\n\
         revocations  {revocations}\n\
         online       {online}\n\
         let in       {let_in}\n\
         denied       {denied}\n",
        date(*heard_of_at),
        kids.join(BELOW),
    )
}

/// What begins each further line of a value.
const BELOW: &str = "\n             ";

/// Where a device is connected, on a line.
pub(super) fn line(document: &SessionDocument) -> String {
    let SessionDocument { broker, instance, session, heard } = document;
    let as_of = if heard.silent {
        format!(", as of {}: not heard of since", date(heard.heard_of_at))
    } else {
        String::new()
    };
    format!(
        "{broker} as {}, since {}, until {} at most (instance {instance}{as_of})",
        session.client_id,
        date(session.since),
        date(session.until)
    )
}
