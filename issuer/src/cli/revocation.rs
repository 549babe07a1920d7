//! `fleetbadge-issuer revocation …`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use fleetbadge_validator::revocations::{Revocation as Entry, RevocationTarget};
use reqwest::Method;

use super::client::{AdminClient, Failure, Operator};
use super::table::show_list;
use super::{date, input, print, print_json};
use crate::admin::revocations::{RevocationPage, Revoke};
use crate::store::target_key;

/// More than a token has that is accepted anywhere.
const MAX_TOKEN_FILE_LENGTH: u64 = 64 * 1024;

#[derive(Args)]
pub(super) struct Revocation {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Take back tokens before their time
    ///
    /// Validators that follow the issuer end the sessions of these tokens
    /// within a second; other brokers go on until the tokens end. A device that
    /// may have tokens gets new ones: to give it none, disable it.
    Add(Add),
    /// List what is taken back and still matters, the oldest first
    List {
        #[command(flatten)]
        operator: Operator,
    },
}

#[derive(Args)]
#[command(group = ArgGroup::new("target").required(true))]
struct Add {
    /// What this device has; also one that was removed
    #[arg(long, value_name = "NAME", group = "target")]
    device: Option<String>,
    /// What the devices have that are in this group
    #[arg(long, value_name = "NAME", group = "target")]
    group: Option<String>,
    /// The token in this file; - for stdin
    #[arg(long, value_name = "FILE", group = "target")]
    token_file: Option<PathBuf>,
    /// The token with this jti
    #[arg(long, value_name = "JTI", group = "target")]
    jti: Option<String>,
    /// What every device has
    #[arg(long, group = "target")]
    all: bool,
    /// That --all is meant
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    operator: Operator,
}

impl Revocation {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Add(add) => add.run(),
            Verb::List { operator } => operator.run(async |client| list(&client, operator.json).await),
        }
    }
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        let Self { device, group, token_file, jti, all, yes, operator } = self;
        if all && !yes {
            return Err(Failure::Usage(
                "--all takes back every token of the whole fleet, and all devices ask for new ones at once; to do \
                 that, say --yes, too"
                    .into(),
            ));
        }
        let token = token_file.as_deref().map(read_token).transpose()?;
        let revoke = Revoke { device, group, token, jti, all };
        operator.run(async |client| {
            let added: Entry = client.send_json(Method::POST, &["revocations"], &revoke).await?;
            if operator.json { print_json(&added) } else { print(&said(&added)) }
        })
    }
}

fn read_token(path: &Path) -> Result<String, Failure> {
    input::read(path, |file| {
        let mut token = String::new();
        file.take(MAX_TOKEN_FILE_LENGTH).read_to_string(&mut token)?;
        Ok(token.trim().to_owned())
    })
}

/// What happens, for people.
fn said(added: &Entry) -> String {
    let until = date(added.expires_at);
    let tokens = match &added.target {
        RevocationTarget::Token(jti) => format!("Token {jti} is"),
        RevocationTarget::Key(kid) => format!("Tokens that key {kid} signed are"),
        RevocationTarget::Device(name) => format!("Tokens of device {name}"),
        RevocationTarget::Group(name) => format!("Tokens of the devices in group {name}"),
        RevocationTarget::All => "Tokens of all devices".into(),
    };
    match added.before() {
        None => format!("{tokens} taken back. Kept until {until}, when it has died everywhere.\n"),
        Some(before) => format!(
            "{tokens} issued before {before} are taken back; new ones are issued from then on.\n\
             Kept until {until}, when the last of them has died everywhere.\n",
            before = date(before),
        ),
    }
}

async fn list(client: &AdminClient, json: bool) -> Result<(), Failure> {
    let mut after: Option<u64> = None;
    loop {
        let number = after.unwrap_or_default().to_string();
        let page: RevocationPage = client.get_with(&["revocations"], &[("after", &number)]).await?;
        let header = ["WHAT", "ISSUED_BEFORE", "KEPT_UNTIL"];
        show_list(&page.revocations, json, header, |entry| {
            let before = entry.before().map_or_else(|| "any time".into(), date);
            [target_key(&entry.target), before, date(entry.expires_at)]
        })?;
        after = page.next_after;
        if after.is_none() {
            return Ok(());
        }
    }
}
