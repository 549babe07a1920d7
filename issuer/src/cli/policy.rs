//! `fleetbadge-issuer policy …`.

use clap::{Args, Subcommand};

use super::client::{Failure, Operator};
use super::{print, print_json};
use crate::grants::explain::{Explanation, RuleExplanation, TokenExplanation};

#[derive(Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Say whether a device gets a token, or may publish or subscribe with it, and why
    ///
    /// Exit codes: 0 allowed, 1 denied or no such device, others as for every
    /// command.
    Explain(Explain),
}

#[derive(Args)]
struct Explain {
    /// Name of the device
    device: String,
    /// Whether it may publish to this topic
    #[arg(long, value_name = "TOPIC")]
    publish: Option<String>,
    /// Whether it may subscribe to this topic filter
    #[arg(long, value_name = "FILTER", conflicts_with = "publish")]
    subscribe: Option<String>,
    /// With a token for the broker of this URI [default: for the group's first
    /// audience]
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// Connected as this MQTT client ID [default: its first]
    #[arg(long, value_name = "ID")]
    mqtt_client_id: Option<String>,
    #[command(flatten)]
    operator: Operator,
}

impl Policy {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Explain(explain) => explain.run(),
        }
    }
}

impl Explain {
    fn run(self) -> Result<(), Failure> {
        let Self { device, publish, subscribe, resource, mqtt_client_id, operator } = self;
        operator.run(async |client| {
            let query = [
                ("publish", &publish),
                ("subscribe", &subscribe),
                ("resource", &resource),
                ("mqtt_client_id", &mqtt_client_id),
            ];
            let query: Vec<(&str, &str)> =
                query.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect();
            let answer: Explanation = client.get_with(&["devices", &device, "explain"], &query).await?;
            if operator.json {
                print_json(&answer)?;
            } else {
                print(&page(&answer))?;
            }
            if answer.allowed { Ok(()) } else { Err(Failure::Denied) }
        })
    }
}

fn page(answer: &Explanation) -> String {
    let Explanation { device, status, group, allowed, reason, token, rules } = answer;
    let word = if *allowed { "allowed" } else { "denied" };
    let mut page =
        format!("{word}: {reason}\n\ndevice           {device}, {status}\ngroup            {group}\n");
    if let Some(TokenExplanation { audience, profile, algorithm, scope, mqtt_client_id }) = token {
        page += &format!(
            "audience         {audience} ({profile}, {})\n\
             scope            {scope}\n\
             mqtt_client_id   {mqtt_client_id}\n",
            algorithm.as_str()
        );
    }
    for rule in rules {
        page += &format!("{:<17}{}\n", rule.field, line(rule));
    }
    page
}

fn line(rule: &RuleExplanation) -> String {
    let RuleExplanation { field: _, rule, filter, missing_attributes, matched } = rule;
    let filter = filter.as_ref().filter(|filter| *filter != rule).map(|filter| format!(" → {filter}"));
    let mut line = format!("{rule}{}", filter.unwrap_or_default());
    if !missing_attributes.is_empty() {
        line += &format!("  gives nothing: the device has no attribute {}", missing_attributes.join(", "));
    }
    if *matched {
        line += "  ← this one";
    }
    line
}
