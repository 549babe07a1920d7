//! `fleetbadge-issuer device secret …`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use zeroize::Zeroizing;

use super::client::Failure;
use super::secret::{self, DEVICE, Kept, New};
use super::{input, print, print_json};
use crate::admin::device_secrets::{AddSecret, AddedSecretDocument};
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
    #[command(flatten)]
    Kept(Kept),
}

#[derive(Args)]
struct Add {
    #[command(flatten)]
    new: New,
    /// Import the secret in this file, without the line end; - for stdin
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
}

impl Secret {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Add(add) => add.run(),
            Verb::Kept(kept) => kept.run(DEVICE),
        }
    }
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        let Self { new: New { name, expires, operator }, import } = self;
        let secret = import.as_deref().map(read_secret).transpose()?;
        operator.run(async |client| {
            let new = AddSecret { expires_in_s: expires, secret };
            show_added(&client.send_json(Method::POST, &DEVICE.secrets(&name), &new).await?, operator.json)
        })
    }
}

/// Shows a secret that was added to a device.
pub(super) fn show_added(added: &AddedSecretDocument, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(added);
    }
    let AddedSecretDocument { client_id, client_secret, terms, token_endpoint: _ } = added;
    let client_secret = client_secret.as_ref().map(|secret| secret.as_str());
    print(&secret::added(DEVICE, client_id, client_secret, terms))
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
