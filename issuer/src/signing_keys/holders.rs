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

/// Whether all that are heard of hold the key, and said so at `since` or later:
/// since then no node gives out keys without it. So they do if there are none.
#[must_use]
pub fn is_held_by_all(kid: &str, reports: &[ReportRecord], since: UnixSeconds) -> bool {
    let holds = |record: &ReportRecord| {
        record.reported_at >= since && record.report.kids.iter().any(|held| held == kid)
    };
    reports.iter().all(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetbadge_validator::reports::Report;

    fn said(broker: &str, instance: &str, kids: &[&str]) -> ReportRecord {
        let kids = kids.iter().map(|kid| (*kid).into()).collect();
        ReportRecord {
            broker: broker.parse().unwrap(),
            instance: instance.into(),
            report: Report { software: "x/1".into(), kids, revocations: None },
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
        let is_held = |kid, reports| is_held_by_all(kid, reports, UnixSeconds(1));
        assert!(!is_held("new", &reports[..]) && !is_held("old", &reports[..]));
        assert!(is_held("new", &reports[..1]) && is_held("new", &[]));
        // Said before every node gave it out: the next fetch may be without it.
        assert!(!is_held_by_all("new", &reports[..1], UnixSeconds(2)));
    }
}
