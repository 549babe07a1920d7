//! `fleetbadge-issuer device password …`.

use clap::{Args, Subcommand};
use reqwest::Method;

use super::client::{Failure, Operator};
use super::{date, duration, last_used, print, print_json};
use crate::admin::static_password::{PasswordDocument, SetPassword, SetPasswordDocument};

#[derive(Args)]
pub(super) struct Password {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a device's static password and print it, once
    ///
    /// For MQTT clients that cannot do OAuth. The broker exchanges it for a
    /// token; it is never good as a client secret. A device has one: setting
    /// it replaces the one before, at once. Its group must allow it: group set
    /// NAME --static-passwords.
    Set {
        /// Name of the device
        name: String,
        /// For how long it is good: 30s, 15m, 24h, 30d [default: no end]
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        expires: Option<u64>,
        #[command(flatten)]
        operator: Operator,
    },
    /// Remove a device's static password
    Remove {
        /// Name of the device
        name: String,
        #[command(flatten)]
        operator: Operator,
    },
}

impl Password {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Set { name, expires, operator } => set(&name, expires, &operator),
            Verb::Remove { name, operator } => operator.run(async |client| {
                client.delete(&["devices", &name, "password"]).await?;
                if operator.json {
                    return print_json(&serde_json::json!({ "client_id": name, "removed": true }));
                }
                print(&format!(
                    "Removed the static password of device {name}. Tokens it was exchanged for stay good to \
                     their end.\n"
                ))
            }),
        }
    }
}

fn set(name: &str, expires_in_s: Option<u64>, operator: &Operator) -> Result<(), Failure> {
    let request = SetPassword { expires_in_s };
    operator.run(async |client| {
        let set: SetPasswordDocument =
            client.send_json(Method::PUT, &["devices", name, "password"], &request).await?;
        if operator.json {
            return print_json(&set);
        }
        let SetPasswordDocument { username, password, expires_at, .. } = set;
        print(&format!(
            "Set the static password of device {username}; one it had before is no longer good.\n\n\
             \x20 user name  {username}\n\
             \x20 password   {password}\n\
             \x20 ends       {}\n\n\
             It is shown this once. Type both into the MQTT client. Its broker has to exchange them for a token:\n\
             grant_type=password at the token endpoint.\n",
            expires_at.map_or("never".into(), date),
        ))
    })
}

/// A password on a line of `device show`.
pub(super) fn line(password: Option<&PasswordDocument>) -> String {
    let Some(PasswordDocument { created_at, expires_at, last_used_at, .. }) = password else {
        return "none".into();
    };
    let made = format!("made {}", date(*created_at));
    let ends = expires_at.map(|end| format!(", ends {}", date(end))).unwrap_or_default();
    format!("{made}{ends}, {}", last_used(*last_used_at))
}
