//! What is counted, for `/metrics`.
//!
//! The handles are made once: counting is an atomic addition.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;
use metrics::{Counter, Gauge, Histogram, with_local_recorder};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use crate::error::TokenError;
use crate::started::Started;

const REQUESTS: &str = "fleetbadge_token_requests_total";
const DURATION: &str = "fleetbadge_token_request_duration_seconds";
const CACHE_MISSES: &str = "fleetbadge_device_cache_misses_total";
const STORE_ERRORS: &str = "fleetbadge_store_errors_total";
const KEY_MISSING: &str = "fleetbadge_signing_key_missing";
const NODE_CURRENT: &str = "fleetbadge_node_current";
const CLOCK_REFUSED: &str = "fleetbadge_clock_refused";
const FEEDS: &str = "fleetbadge_revocation_feeds";
const REVOCATIONS: &str = "fleetbadge_revocations";
const LAST_BACKUP: &str = "fleetbadge_last_backup_timestamp_seconds";
const CONNECTIONS_REFUSED: &str = "fleetbadge_connections_refused_total";
/// From half of what a token costs to the time after which clients give up.
const BUCKETS_S: [f64; 10] = [0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];

/// What a node is at a moment.
pub(crate) struct NodeState {
    /// Whether it knows what the others know.
    pub(crate) is_current: bool,
    /// Whether it issues nothing for a clock.
    pub(crate) is_clock_refused: bool,
    /// How many follow its revocations.
    pub(crate) feeds: usize,
    /// How many are in force.
    pub(crate) revocations: usize,
}

/// The metrics of an issuer.
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    issued: Counter,
    refused: [(&'static str, Counter); TokenError::CODES.len()],
    duration: Histogram,
    key_missing: [(Algorithm, Gauge); Algorithm::ALL.len()],
    node_current: Gauge,
    clock_refused: Gauge,
    feeds: Gauge,
    revocations: Gauge,
    last_backup: Gauge,
    /// How often a device was not in memory.
    pub(crate) device_cache_misses: Counter,
    /// How often the database failed a token request or a probe.
    pub(crate) store_errors: Counter,
    /// How often a connection was closed at once.
    pub(crate) connections_refused: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS_S)?.build_recorder();
        Ok(with_local_recorder(&recorder, || {
            metrics::describe_counter!(REQUESTS, "Token requests by result: issued, or the OAuth error.");
            metrics::describe_histogram!(DURATION, "From a token request to its answer.");
            metrics::describe_counter!(CACHE_MISSES, "Devices that were read from the database.");
            metrics::describe_counter!(
                STORE_ERRORS,
                "Failures of the database in token requests and probes."
            );
            metrics::describe_gauge!(
                KEY_MISSING,
                "1 while a broker wants tokens of this algorithm and no key of it signs yet."
            );
            metrics::describe_gauge!(
                NODE_CURRENT,
                "1 while this node knows what the others know; else it issues nothing."
            );
            metrics::describe_gauge!(
                CLOCK_REFUSED,
                "1 while nothing is issued as a clock is wrong: this node's or the database's."
            );
            metrics::describe_gauge!(FEEDS, "Validators that follow the revocations at this node.");
            metrics::describe_gauge!(REVOCATIONS, "Revocations in force; validators hold 500000.");
            metrics::describe_gauge!(
                LAST_BACKUP,
                "When this node last gave out a whole backup; 0 if not since it was started."
            );
            metrics::describe_counter!(
                CONNECTIONS_REFUSED,
                "Connections that were closed at once: too many, or plain HTTP from no trusted proxy."
            );
            Self {
                handle: recorder.handle(),
                issued: metrics::counter!(REQUESTS, "result" => "issued"),
                refused: TokenError::CODES.map(|code| (code, metrics::counter!(REQUESTS, "result" => code))),
                duration: metrics::histogram!(DURATION),
                key_missing: Algorithm::ALL
                    .map(|algorithm| (algorithm, metrics::gauge!(KEY_MISSING, "alg" => algorithm.as_str()))),
                node_current: metrics::gauge!(NODE_CURRENT),
                clock_refused: metrics::gauge!(CLOCK_REFUSED),
                feeds: metrics::gauge!(FEEDS),
                revocations: metrics::gauge!(REVOCATIONS),
                last_backup: metrics::gauge!(LAST_BACKUP),
                device_cache_misses: metrics::counter!(CACHE_MISSES),
                store_errors: metrics::counter!(STORE_ERRORS),
                connections_refused: metrics::counter!(CONNECTIONS_REFUSED),
            }
        }))
    }

    /// Counts the answer to a token request that came in at `started`.
    pub(crate) fn token_request(&self, started: Started, result: Result<(), &TokenError>) {
        match result {
            Ok(()) => self.issued.increment(1),
            Err(error) => {
                let counter = self.refused.iter().find(|(code, _)| *code == error.code());
                if let Some((_, counter)) = counter {
                    counter.increment(1);
                }
            }
        }
        self.duration.record(started.elapsed());
    }

    /// Says of which algorithms there should be a signing key and is none.
    pub(crate) fn signing_keys_missing(&self, missing: &[Algorithm]) {
        for (algorithm, gauge) in &self.key_missing {
            gauge.set(f64::from(u8::from(missing.contains(algorithm))));
        }
    }

    /// A whole backup was given out.
    pub(crate) fn backed_up(&self, now: UnixSeconds) {
        #[expect(clippy::cast_precision_loss, reason = "exact for some hundred million years")]
        self.last_backup.set(now.0 as f64);
    }

    /// What a node is at this moment.
    pub(crate) fn node(&self, node: &NodeState) {
        #[expect(clippy::cast_precision_loss, reason = "there are not so many")]
        let count = |gauge: &Gauge, count: usize| gauge.set(count as f64);
        count(&self.node_current, node.is_current.into());
        count(&self.clock_refused, node.is_clock_refused.into());
        count(&self.feeds, node.feeds);
        count(&self.revocations, node.revocations);
    }

    /// Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }

    /// Sums up what was recorded; without it memory would grow.
    pub(crate) fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}
