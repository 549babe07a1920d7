//! Which brokers hold a key, by what their validators have reported: pure.

use std::collections::BTreeMap;
use std::fmt;

use fleetbadge_validator::ids::BrokerName;
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::store::ReportRecord;

/// For how long a report stands, in seconds: who has not been heard of for
/// longer is taken for gone.
const HEARD_OF_S: u64 = 86_400;

/// Since when whoever has reported is heard of.
#[must_use]
pub const fn heard_of_since(now: UnixSeconds) -> UnixSeconds {
    now.minus(HEARD_OF_S)
}

/// The instances of one broker that are heard of, and which of them hold a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holders {
    /// The broker.
    pub broker: BrokerName,
    /// How many instances are heard of.
    pub instances: usize,
    /// How many of them hold the key.
    pub holding: usize,
    /// Those that do not.
    pub missing: Vec<Box<str>>,
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broker, instances, holding, .. } = self;
        write!(f, "{broker}: {holding} of {instances} instances")
    }
}

/// Who holds the key, of all that are heard of; by broker.
#[must_use]
pub fn holders(kid: &str, reports: &[ReportRecord]) -> Vec<Holders> {
    let mut by_broker: BTreeMap<&BrokerName, Holders> = BTreeMap::new();
    for ReportRecord { broker, instance, report, .. } in reports {
        let holders = by_broker.entry(broker).or_insert_with(|| Holders {
            broker: broker.clone(),
            instances: 0,
            holding: 0,
            missing: Vec::new(),
        });
        holders.instances += 1;
        if report.kids.iter().any(|held| held == kid) {
            holders.holding += 1;
        } else {
            holders.missing.push(instance.clone());
        }
    }
    by_broker.into_values().collect()
}

/// Instances of a broker that a key waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitedFor {
    /// The broker.
    pub broker: BrokerName,
    /// Which.
    pub instances: Vec<Box<str>>,
}

/// Who has not said, at `since` or later, that they hold the key: since then no
/// node gives out keys without it. Nobody, if nobody is heard of.
#[must_use]
pub fn waited_for(kid: &str, reports: &[ReportRecord], since: UnixSeconds) -> Vec<WaitedFor> {
    let mut by_broker: BTreeMap<&BrokerName, Vec<Box<str>>> = BTreeMap::new();
    for ReportRecord { broker, instance, report, reported_at, .. } in reports {
        if *reported_at < since || !report.kids.iter().any(|held| held == kid) {
            by_broker.entry(broker).or_default().push(instance.clone());
        }
    }
    let by_broker = by_broker.into_iter();
    by_broker.map(|(broker, instances)| WaitedFor { broker: broker.clone(), instances }).collect()
}

/// So many instances as are named where people read.
const NAMED: usize = 3;

/// Some instances by name, and how many more there are.
#[must_use]
pub fn some_of(instances: &[Box<str>]) -> String {
    let named: Vec<&str> = instances.iter().take(NAMED).map(|name| &**name).collect();
    let named = named.join(", ");
    match instances.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::CredentialId;
    use fleetbadge_validator::reports::Report;

    fn said(broker: &str, instance: &str, kids: &[&str]) -> ReportRecord {
        let kids = kids.iter().map(|kid| (*kid).into()).collect();
        ReportRecord {
            broker: broker.parse().unwrap(),
            instance: instance.into(),
            secret: CredentialId::from_text("1"),
            report: Report { software: "x/1".into(), kids, revocations: None, counters: None },
            reported_at: UnixSeconds(1),
        }
    }

    #[test]
    fn every_instance_of_every_broker_counts() {
        let reports = [
            said("mqtt-1", "a", &["old", "new"]),
            said("mqtt-1", "b", &["old", "foreign"]),
            said("mqtt-2", "a", &["new"]),
        ];
        let texts = |kid| holders(kid, &reports).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts("new"), ["mqtt-1: 1 of 2 instances", "mqtt-2: 1 of 1 instances"]);
        assert_eq!(holders("new", &reports)[0].missing, ["b".into()]);
        let waited_for = |kid, reports, since| {
            let waited_for = waited_for(kid, reports, UnixSeconds(since)).into_iter();
            waited_for.map(|of| format!("{} {}", of.broker, some_of(&of.instances))).collect::<Vec<_>>()
        };
        assert_eq!(waited_for("new", &reports[..], 1), ["mqtt-1 b"]);
        assert_eq!(waited_for("old", &reports[..], 1), ["mqtt-2 a"]);
        assert!(waited_for("new", &reports[..1], 1).is_empty() && waited_for("new", &[], 1).is_empty());
        // Said before every node gave it out: the next fetch may be without it.
        assert_eq!(waited_for("new", &reports[..1], 2), ["mqtt-1 a"]);
    }

    #[test]
    fn few_are_named_and_the_others_counted() {
        let names: Vec<Box<str>> = (0..64).map(|n| n.to_string().into()).collect();
        let named = [0, 1, 3, 4, 64].map(|n| some_of(&names[..n]));
        assert_eq!(named, ["", "0", "0, 1, 2", "0, 1, 2 and 1 more", "0, 1, 2 and 61 more"]);
    }
}
