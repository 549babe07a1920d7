//! `fleetbadge-issuer device secret …` and `device rotate-secret`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use zeroize::Zeroizing;

use super::client::{Failure, Operator};
use super::{date, device, duration, input, print, print_json};
use crate::admin::secrets::{
    AddSecret, AddedSecretDocument, RemovedSecretDocument, RotateSecret, SecretDocument,
};
use crate::secret::imported::MAX_IMPORTED_LENGTH;

/// Make, list and remove the secrets of a device.
#[derive(Args)]
pub(super) struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make one more secret and print it, once; or import one
    ///
    /// The others stay good. An imported secret, one that somebody chose, has
    /// 16 to 256 visible ASCII characters.
    Add(Add),
    /// List the secrets: id, when made, when they end, when last used
    List {
        /// Name of the device
        name: String,
        #[command(flatten)]
        operator: Operator,
    },
    /// Remove a secret; it is no longer good at once
    Remove {
        /// Name of the device
        name: String,
        /// Id of the secret, as `list` shows it
        id: String,
        #[command(flatten)]
        operator: Operator,
    },
}

#[derive(Args)]
struct Add {
    /// Name of the device
    name: String,
    /// For how long it is good: 30s, 15m, 24h, 30d [default: no end]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expires: Option<u64>,
    /// Import the secret in this file, without the line end; - for stdin
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Args)]
pub(super) struct Rotate {
    /// Name of the device
    name: String,
    /// For how long the secrets that it has stay good: 30s, 15m, 24h, 7d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    overlap: u64,
    #[command(flatten)]
    operator: Operator,
}

impl Secret {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Add(add) => add.run(),
            Verb::List { name, operator } => operator.run(async |client| {
                let secrets: Vec<SecretDocument> = client.get(&["devices", &name, "secrets"]).await?;
                if operator.json {
                    return secrets.iter().try_for_each(print_json);
                }
                secrets.iter().try_for_each(|secret| print(&(line(secret) + "\n")))
            }),
            Verb::Remove { name, id, operator } => operator.run(async |client| {
                let path = ["devices", &name, "secrets", &id];
                let removed: RemovedSecretDocument = client.delete_with_answer(&path).await?;
                if operator.json {
                    return print_json(&removed);
                }
                let left = device::what_is_left(removed.has_credentials);
                print(&format!("Removed secret {id} of device {name}.{left}\n"))
            }),
        }
    }
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        let Self { name, expires, import, operator } = self;
        let secret = import.as_deref().map(read_secret).transpose()?;
        operator.run(async |client| {
            let new = AddSecret { expires_in_s: expires, secret };
            let path = ["devices", &name, "secrets"];
            let added: AddedSecretDocument = client.send_json(Method::POST, &path, &new).await?;
            show_added(&added, operator.json)
        })
    }
}

impl Rotate {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { name, overlap, operator } = self;
        operator.run(async |client| {
            let path = ["devices", &name, "rotate-secret"];
            let rotate = RotateSecret { overlap_s: overlap };
            let added: AddedSecretDocument = client.send_json(Method::POST, &path, &rotate).await?;
            show_added(&added, operator.json)
        })
    }
}

/// A secret on a line.
pub(super) fn line(secret: &SecretDocument) -> String {
    let SecretDocument { id, imported, created_at, expires_at, last_used_at } = secret;
    let made = if *imported { "imported" } else { "made" };
    let end = expires_at.map_or_else(|| "no end".into(), |end| format!("ends {}", date(end)));
    let used = last_used_at.map_or_else(|| "never used".into(), |at| format!("last used {}", date(at)));
    format!("{id}  {made} {}  {end}  {used}", date(*created_at))
}

fn show_added(added: &AddedSecretDocument, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(added);
    }
    let AddedSecretDocument { client_id, client_secret, secret_id, expires_at, others_end_at, .. } = added;
    let end = expires_at.map_or_else(|| "without an end".into(), |end| format!("good until {}", date(end)));
    let others = others_end_at
        .map(|end| format!("The other secrets are good until {} at the latest.\n", date(end)))
        .unwrap_or_default();
    match client_secret {
        Some(client_secret) => print(&format!(
            "Made secret {secret_id} for device {client_id}, {end}.\n\n\
             \x20 client_id        {client_id}\n\
             \x20 client_secret    {}\n\n\
             The secret is shown this once.\n{others}",
            client_secret.as_str(),
        )),
        None => print(&format!("Imported secret {secret_id} for device {client_id}, {end}.\n{others}")),
    }
}

/// Reads the secret in a file or from stdin; not from an argument, which
/// everybody on the machine could see.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = input::read(path, |from| {
        // Longer ones are refused by the server, with the reason.
        let mut text = Zeroizing::new(String::new());
        from.take(4 * MAX_IMPORTED_LENGTH as u64).read_to_string(&mut text).map(|_| text)
    })?;
    let length =
        text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).unwrap_or(&text).len();
    text.truncate(length);
    Ok(text)
}
