//! `fleetbadge-issuer clock …`.

use clap::{Args, Subcommand};
use reqwest::Method;

use super::client::{Failure, Operator};
use super::{date, print, print_json};
use crate::admin::clock::{ClockDocument, HeldUp};

#[derive(Args)]
pub(super) struct Clock {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the server's clock, and the latest time at which it has worked
    Show {
        #[command(flatten)]
        operator: Operator,
    },
    /// Say that the server's clock is right, though it has worked at a later
    /// time
    ///
    /// If anything was done at that later time, what was taken back may have
    /// been forgotten by it. So all tokens are taken back and all signing keys
    /// replaced, as after a restore: keys that are carried to a broker by hand
    /// have to be carried again. For minutes no device gets a token with a
    /// signed statement (an assertion, a proof of possession): it may have been
    /// used before.
    Accept {
        /// That it is right, without being asked again
        #[arg(long, required = true)]
        yes: bool,
        #[command(flatten)]
        operator: Operator,
    },
}

impl Clock {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Show { operator } => operator
                .run(async |client| show(&client.get::<ClockDocument>(&["clock"]).await?, operator.json)),
            Verb::Accept { yes: _, operator } => operator.run(async |client| {
                let accepted: ClockDocument =
                    client.send_json(Method::POST, &["clock", "accept"], &serde_json::json!({})).await?;
                show(&accepted, operator.json)
            }),
        }
    }
}

fn show(clock: &ClockDocument, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(clock);
    }
    let refused = clock.refused.as_ref().map(|reason| format!("tokens  none: {reason}\n"));
    let held_up = clock.held_up.iter().map(|HeldUp { target, until }| {
        format!(
            "none for {target} until {}: it was revoked while the clock was ahead; if it is right now, \
                 clock accept --yes\n",
            date(*until)
        )
    });
    print(&format!(
        "now     {}\nlatest  {}\n{}{}",
        date(clock.now),
        date(clock.latest),
        refused.unwrap_or_default(),
        held_up.collect::<String>()
    ))
}
