//! Who tries passwords: what guesses are counted by.

use std::net::IpAddr;
use std::time::Duration;

use fleetbadge_validator::rate_limit::{RateLimit, network};

/// Slows down whoever tries passwords, without ever standing in the way of the
/// right one: asked only after a password has proved wrong. Ten failures at
/// once, then one each six seconds, for each [`Attempt`].
pub(crate) fn failure_limit() -> RateLimit {
    RateLimit::new(10, Duration::from_secs(6))
}

/// Who tried what where. IPv6 addresses count by their /64, which one client
/// has whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt<'a> {
    /// The broker that asks for its client; none if the device itself asks.
    broker: Option<&'a str>,
    /// What was given as the device's name.
    device: &'a str,
    /// Where the client is, as far as that is known.
    network: Option<IpAddr>,
}

impl<'a> Attempt<'a> {
    /// An attempt from this address.
    pub(crate) fn new(broker: Option<&'a str>, device: &'a str, address: Option<IpAddr>) -> Self {
        Self { broker, device, network: address.map(network) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pump<'a>(address: &str) -> Attempt<'a> {
        Attempt::new(Some("north"), "pump", Some(address.parse().unwrap()))
    }

    #[test]
    fn each_broker_device_and_address_counts_alone() {
        let address = "192.0.2.1".parse().ok();
        for other in [
            pump("192.0.2.2"),
            Attempt::new(Some("south"), "pump", address),
            Attempt::new(None, "pump", address),
            Attempt::new(Some("north"), "pumps", address),
            Attempt::new(Some("north"), "pump", None),
        ] {
            assert_ne!(other, pump("192.0.2.1"));
        }
    }

    #[test]
    fn a_client_is_its_network() {
        assert_eq!(pump("::ffff:192.0.2.1"), pump("192.0.2.1"));
        assert_eq!(pump("2001:db8:1:2::1"), pump("2001:db8:1:2:ffff::9"));
        assert_ne!(pump("2001:db8:1:2::1"), pump("2001:db8:1:3::1"));
        assert_ne!(pump("192.0.2.1"), pump("192.0.2.2"));
    }
}
