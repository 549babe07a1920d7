//! What to find. Each rule says what is, in the broker's own terms, and what
//! to do; what stops a broker's start, who gets in and what the plugin is asked
//! was tried with Mosquitto 2.0.11, 2.0.21 and 2.1.2, the rest is its manual's.

use super::model::{Configuration, Plugin};
use crate::config::finding::Findings;

mod bridges;
mod broker;
mod doors;
mod files;
mod plugin;
mod wire;

/// Everything that is found in a configuration.
pub(super) fn check(configuration: &Configuration, found: &mut Findings) {
    let user = files::BrokerUser::of(configuration);
    doors::check(configuration, found);
    wire::check(configuration, found);
    plugin::check(configuration, user.as_ref(), found);
    broker::check(configuration, found);
    bridges::check(configuration, found);
    files::check(configuration, found);
}

impl Plugin {
    /// Whether it is Fleetbadge's, also under another name.
    fn is_ours(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.contains("fleetbadge")
            || (self.options("issuer").next().is_some() && self.options("audience").next().is_some())
    }

    /// The places and values of an option, also of those that have a prefix.
    fn options<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (&'a crate::config::finding::Place, &'a str)> {
        self.options.iter().filter_map(move |(place, given, value)| {
            let last = given.rsplit('.').next().unwrap_or_default();
            (last == name).then_some((place, value.as_str()))
        })
    }

    /// Whether clients without a token are left to whatever comes after it.
    fn hands_on(&self) -> bool {
        let is_listed = |(_, names): (_, &str)| names.split_ascii_whitespace().any(|name| name == "hand_on");
        self.options("authenticators").any(is_listed) && self.is_enabled("hand_on")
    }

    /// Whether nothing turns an authenticator off.
    fn is_enabled(&self, authenticator: &str) -> bool {
        let option = format!("{authenticator}.enabled");
        !self.options.iter().any(|(_, name, value)| *name == option && value == "false")
    }
}
