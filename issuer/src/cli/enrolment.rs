//! `fleetbadge-issuer enrolment …`.

use clap::{Args, Subcommand};
use reqwest::Method;

use super::client::{Failure, Operator};
use super::table::show_list;
use super::{date, duration, print, print_json};
use crate::admin::enrolments::{CreateEnrolment, CreatedEnrolmentDocument, EnrolmentDocument};

#[derive(Args)]
pub(super) struct Enrolment {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a token that enrols devices into a group, and print it, once
    ///
    /// A device that has the token posts its public key with a proof that it
    /// has the private half, and becomes a private_key_jwt device of the group.
    Create(Create),
    /// List the enrolments, the oldest first
    List {
        #[command(flatten)]
        operator: Operator,
    },
    /// Remove an enrolment: its token enrols nobody any more; its devices stay
    Remove {
        /// What the enrolment is named by, as `enrolment list` shows it
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        operator: Operator,
    },
}

#[derive(Args)]
struct Create {
    /// Group that the devices come into
    #[arg(long, value_name = "NAME")]
    group: String,
    /// Names that devices may have: a name, or one with a * in it. A device
    /// that wishes for none gets random characters in its place
    #[arg(long, value_name = "PATTERN")]
    name_pattern: String,
    /// How many devices it can enrol
    #[arg(long, value_name = "N")]
    uses: u32,
    /// How long it is good: 30s, 15m, 24h, 7d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expires: u64,
    /// Let no device have tokens before `device approve`
    #[arg(long)]
    approval: bool,
    #[command(flatten)]
    operator: Operator,
}

impl Enrolment {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Create(create) => create.run(),
            Verb::List { operator } => operator.run(async |client| {
                let enrolments: Vec<EnrolmentDocument> = client.get(&["enrolments"]).await?;
                let header = ["ID", "GROUP", "NAME_PATTERN", "USES_LEFT", "ENDS", "APPROVAL"];
                show_list(&enrolments, operator.json, header, |enrolment| {
                    let EnrolmentDocument { id, group, name_pattern, uses, uses_left, .. } = enrolment;
                    let approval = if enrolment.approval { "each device" } else { "none" };
                    [
                        id.to_string(),
                        group.clone(),
                        name_pattern.clone(),
                        format!("{uses_left} of {uses}"),
                        date(enrolment.expires_at),
                        approval.into(),
                    ]
                })
            }),
            Verb::Remove { id, operator } => operator.run(async |client| {
                client.delete(&["enrolments", &id]).await?;
                if operator.json {
                    return print_json(&serde_json::json!({ "id": id, "removed": true }));
                }
                print(&format!(
                    "Removed enrolment {id}: its token enrols nobody any more. Its devices stay.\n"
                ))
            }),
        }
    }
}

impl Create {
    fn run(self) -> Result<(), Failure> {
        let Self { group, name_pattern, uses, expires, approval, operator } = self;
        operator.run(async |client| {
            let new = CreateEnrolment { group, name_pattern, uses, expires_in_s: expires, approval };
            let created: CreatedEnrolmentDocument =
                client.send_json(Method::POST, &["enrolments"], &new).await?;
            if operator.json {
                return print_json(&created);
            }
            let CreatedEnrolmentDocument { enrolment, enrolment_token, registration_endpoint } = created;
            print(&format!(
                "Made enrolment {}: {} device(s) named {} into group {} until {}{}.\n\n\
                 \x20 enrolment_token        {enrolment_token}\n\
                 \x20 registration_endpoint  {registration_endpoint}\n\n\
                 The token is shown this once. Whoever has it can enrol devices until then.\n",
                enrolment.id,
                enrolment.uses,
                enrolment.name_pattern,
                enrolment.group,
                date(enrolment.expires_at),
                if enrolment.approval { ", each to be approved" } else { "" },
            ))
        })
    }
}
