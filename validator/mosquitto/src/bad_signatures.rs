//! What strangers may cost: a signature takes the broker's one thread longer
//! than all else, and a bad one is easily made.
//!
//! For each network so many bad signatures are looked at in a second. Beyond
//! that, a token from there that was not seen before is refused unlooked at,
//! but for one for a client ID that has been here before: so somebody who
//! sends bad ones from behind the same router as a fleet does not shut it out.
//! Such client IDs may be guessed, and have a small number each. A good
//! signature is never counted, and tokens seen before need none.

use std::net::IpAddr;
use std::time::Duration;

use fleetbadge_validator::denied::Denied;
use fleetbadge_validator::rate_limit::{RateLimit, network};
use fleetbadge_validator::time::UnixSeconds;

/// Where a token comes from.
pub(crate) struct Origin<'a> {
    /// The MQTT client identifier of who brings it.
    pub(crate) id: &'a str,
    /// The address of that client, without a port.
    pub(crate) address: Option<&'a str>,
    /// Whether there is a session under its client ID.
    pub(crate) is_known: bool,
}

/// Counts bad signatures.
#[derive(Debug)]
pub(crate) struct BadSignatures {
    of_network: RateLimit,
    of_client: RateLimit,
}

impl BadSignatures {
    /// How many are looked at at once from one network, and then in a second.
    const OF_NETWORK: u64 = 200;

    /// Whether one more signature may be looked at.
    pub(crate) fn admit(&self, client: &Origin<'_>, now: UnixSeconds) -> Result<(), Denied> {
        let network = client.network();
        let may = self.of_network.has_room(&network, now)
            || client.is_known && self.of_client.has_room(&(network, client.id), now);
        if may { Ok(()) } else { Err(Denied::SignatureUnchecked) }
    }

    /// One was not good.
    pub(crate) fn count(&self, client: &Origin<'_>, now: UnixSeconds) {
        let network = client.network();
        if self.of_network.count(&network, now).is_err() && client.is_known {
            // One too many is one all the same.
            let _ = self.of_client.count(&(network, client.id), now);
        }
    }
}

impl Default for BadSignatures {
    fn default() -> Self {
        Self {
            of_network: RateLimit::new(Self::OF_NETWORK, Duration::from_millis(1_000 / Self::OF_NETWORK)),
            of_client: RateLimit::new(3, Duration::from_secs(2)),
        }
    }
}

impl Origin<'_> {
    fn network(&self) -> Option<IpAddr> {
        self.address.and_then(|address| address.parse().ok()).map(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_000);

    fn client<'a>(id: &'a str, address: &'a str, is_known: bool) -> Origin<'a> {
        Origin { id, address: Some(address), is_known }
    }

    /// How many bad ones are looked at.
    fn flood(bad: &BadSignatures, client: &Origin<'_>, now: UnixSeconds) -> usize {
        let looked_at = |_: &u32| bad.admit(client, now).is_ok().then(|| bad.count(client, now)).is_some();
        (0..1_000).filter(looked_at).count()
    }

    #[test]
    fn a_flood_is_looked_at_so_often_in_a_second_and_shuts_out_nobody_else() {
        let bad = BadSignatures::default();
        let flooder = client("x", "192.0.2.1", false);
        assert_eq!(flood(&bad, &flooder, NOW), 200);
        assert_eq!(flood(&bad, &flooder, NOW.plus(1)), 200);
        assert!(bad.admit(&client("pump-1", "192.0.2.2", false), NOW.plus(1)).is_ok(), "elsewhere");
        let neighbour = client("pump-1", "192.0.2.1", true);
        for _ in 0..100 {
            assert!(bad.admit(&neighbour, NOW.plus(1)).is_ok(), "a fleet behind the same router");
        }
        let new = client("pump-2", "192.0.2.1", false);
        assert_eq!(bad.admit(&new, NOW.plus(1)), Err(Denied::SignatureUnchecked));
        assert!(bad.admit(&new, NOW.plus(2)).is_ok(), "it may try again");
    }

    #[test]
    fn who_knows_a_client_id_can_flood_with_it_no_more() {
        let bad = BadSignatures::default();
        flood(&bad, &client("x", "192.0.2.1", false), NOW);
        assert_eq!(flood(&bad, &client("pump-1", "192.0.2.1", true), NOW), 3);
        assert!(bad.admit(&client("pump-2", "192.0.2.1", true), NOW).is_ok());
    }

    #[test]
    fn ipv6_addresses_of_one_network_are_one() {
        let bad = BadSignatures::default();
        flood(&bad, &client("x", "2001:db8:1:2::1", false), NOW);
        assert!(bad.admit(&client("y", "2001:db8:1:2:ffff::9", false), NOW).is_err());
        assert!(bad.admit(&client("y", "2001:db8:1:3::1", false), NOW).is_ok());
    }
}
