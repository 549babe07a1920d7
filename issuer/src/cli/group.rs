//! `fleetbadge-issuer group …`.

use clap::{Args, Subcommand};
use reqwest::Method;

use super::client::{Failure, Operator};
use super::table::show_list;
use super::{date, note, print, print_json};
use crate::admin::brokers::BrokerDocument;
use crate::admin::groups::GroupDocument;
use crate::groups::PolicyChange;
use crate::policy::RefreshWindow;

#[derive(Args)]
pub(super) struct Group {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a group, or change what is named of one
    ///
    /// Takes effect with the next token of each device. A new group starts
    /// without topics, with every scope, audience mqtt and 900 seconds. In
    /// filters, ${clientid}, ${device} and ${group} stand for the names, and
    /// ${attr.NAME} for an attribute of the device; a device that lacks it gets
    /// nothing from that filter. What a broker among the audiences cannot
    /// express exactly is refused.
    Set(Set),
    /// List the groups
    List {
        #[command(flatten)]
        operator: Operator,
    },
    /// Show a group
    Show {
        /// Name of the group
        name: String,
        #[command(flatten)]
        operator: Operator,
    },
}

#[derive(Args)]
struct Set {
    /// Name of the group
    name: String,
    /// Topics that devices may publish to; none after the flag: no topics
    #[arg(long, value_name = "FILTER", num_args = 0..)]
    publish: Option<Vec<String>>,
    /// Topics that devices may subscribe to; none after the flag: no topics
    #[arg(long, value_name = "FILTER", num_args = 0..)]
    subscribe: Option<Vec<String>>,
    /// How long tokens are good, in seconds; each up to a tenth less, so that
    /// a fleet does not renew in step
    #[arg(long, value_name = "N")]
    token_lifetime_s: Option<u64>,
    /// In which part of a token's life agents renew it, in percent, between 1
    /// and 95: 50-80
    #[arg(long, value_name = "FROM-TO", value_parser = refresh_window)]
    refresh_window: Option<RefreshWindow>,
    /// Which audiences the tokens may be for, the first unless a device names a
    /// broker of another
    #[arg(long, value_name = "AUDIENCE", num_args = 1..)]
    audience: Option<Vec<String>>,
    /// What tokens may be for: mqtt.connect, mqtt.publish, mqtt.subscribe
    #[arg(long, value_name = "SCOPE", num_args = 1..)]
    scope: Option<Vec<String>>,
    /// Whether devices may have static passwords, which registered brokers
    /// exchange for tokens: for clients that cannot do OAuth
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    static_passwords: Option<bool>,
    /// Whether a device may itself exchange its static password for a token:
    /// for old firmware alone, as RFC 9700 forbids this grant for users
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    device_password_grant: Option<bool>,
    #[command(flatten)]
    operator: Operator,
}

impl Group {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Set(set) => set.run(),
            Verb::List { operator } => operator.run(async |client| {
                let groups: Vec<GroupDocument> = client.get(&["groups"]).await?;
                let header = ["GROUP", "AUDIENCES", "TOKEN_LIFETIME_S", "PUBLISH", "SUBSCRIBE"];
                show_list(&groups, operator.json, header, |GroupDocument { name, policy, .. }| {
                    let lifetime_s = policy.token_lifetime_s.to_string();
                    let (publish, subscribe) = (in_short(&policy.publish), in_short(&policy.subscribe));
                    [name.clone(), policy.audiences.join(" "), lifetime_s, publish, subscribe]
                })
            }),
            Verb::Show { name, operator } => operator.run(async |client| {
                let group: GroupDocument = client.get(&["groups", &name]).await?;
                show(&group, operator.json)
            }),
        }
    }
}

impl Set {
    fn run(self) -> Result<(), Failure> {
        let change = PolicyChange {
            publish: self.publish,
            subscribe: self.subscribe,
            scope: self.scope.map(|words| words.join(" ")),
            audiences: self.audience,
            token_lifetime_s: self.token_lifetime_s,
            refresh_window: self.refresh_window,
            static_passwords: self.static_passwords,
            device_password_grant: self.device_password_grant,
        };
        let (name, operator) = (self.name, self.operator);
        operator.run(async |client| {
            let group: GroupDocument = client.send_json(Method::PATCH, &["groups", &name], &change).await?;
            show(&group, operator.json)?;
            if change.audiences.is_some() && !operator.json {
                let brokers: Vec<BrokerDocument> = client.get(&["brokers"]).await?;
                for audience in &group.policy.audiences {
                    if !brokers.iter().any(|broker| broker.audience == *audience) {
                        note(&format!(
                            "no broker has the audience {audience} yet: tokens for it are written for the profile \
                             fleetbadge"
                        ));
                    }
                }
            }
            Ok(())
        })
    }
}

fn show(group: &GroupDocument, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(group);
    }
    let policy = &group.policy;
    let RefreshWindow { from_percent, to_percent } = policy.refresh_window;
    print(&format!(
        "group                  {}\n\
         publish                {}\n\
         subscribe              {}\n\
         scope                  {}\n\
         audiences              {}\n\
         token lifetime         {} s\n\
         refresh window         {from_percent}-{to_percent} %\n\
         static passwords       {}\n\
         device password grant  {}\n\
         created                {}\n\
         updated                {}\n",
        group.name,
        policy.publish.join(" "),
        policy.subscribe.join(" "),
        policy.scope,
        policy.audiences.join(" "),
        policy.token_lifetime_s,
        policy.static_passwords,
        policy.device_password_grant,
        date(group.created_at),
        date(group.updated_at),
    ))
}

/// A filter, or how many there are.
fn in_short(filters: &[String]) -> String {
    match filters {
        [] => "nothing".into(),
        [filter] => filter.clone(),
        filters => format!("{} filters", filters.len()),
    }
}

/// Reads `50-80`. Whether it is a window is the server's to say.
fn refresh_window(text: &str) -> Result<RefreshWindow, String> {
    let parts = text.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let (from_percent, to_percent) = parts.ok_or("write two percentages with a '-' between them: 50-80")?;
    Ok(RefreshWindow { from_percent, to_percent })
}
