//! What becomes of the signing keys by themselves, with time and with what
//! brokers report. Every node does it; the revision of the keys decides who was
//! first.

use std::sync::atomic::Ordering;

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;

use super::change::{Draft, Making, planned};
use super::{KeyError, Keys};
use crate::date::date;
use crate::signing_keys::holders::{holders, some_of, waited_for};
use crate::signing_keys::plan::{is_rotation_due, plan_promotion, plan_rotation, unconfirmed};
use crate::signing_keys::{KeyState, Planned, ScheduledKey};
use crate::store::SigningKeyRecord;

impl Keys {
    /// Does what is due:
    ///
    /// 1. publishes what the time has changed, and deletes keys that are
    ///    dropped;
    /// 2. announces successors;
    /// 3. lets an announced key sign early that everybody holds;
    /// 4. says who does not hold a key that has begun to sign.
    ///
    /// # Errors
    /// [`KeyError`]; what was not done is done the next time.
    pub async fn turn(&self, now: UnixSeconds) -> Result<(), KeyError> {
        self.refresh(now).await?;
        self.announce_due(now).await?;
        self.promote_confirmed(now).await?;
        self.tell_of_activations(now).await
    }

    async fn announce_due(&self, now: UnixSeconds) -> Result<(), KeyError> {
        let due = |keys: &[Planned]| -> Vec<Algorithm> {
            let is_due =
                |of: &Algorithm| is_rotation_due(keys, *of, &self.timing, self.brokers.key_fetch(*of), now);
            Algorithm::ALL.into_iter().filter(is_due).collect()
        };
        // Of what is in memory, so that the database is asked only if need be.
        let ring = self.current().ring.clone();
        let due_now = due(&ring.schedules());
        for algorithm in Algorithm::ALL {
            // Another node was faster.
            if ring.has(algorithm) && !due_now.contains(&algorithm) {
                self.workshop.give_up(algorithm);
            }
        }
        for algorithm in due_now {
            let announced = self.carry_out(now, Making::Background, |records| {
                let keys = planned(records);
                if !due(&keys).contains(&algorithm) {
                    return Ok(Draft::default());
                }
                let fetch = self.brokers.key_fetch(algorithm);
                let plan = plan_rotation(&keys, algorithm, &self.timing, fetch, false, now)?;
                Ok(Draft::of(algorithm, plan))
            });
            if announced.await? {
                self.tell_of_announced(|of| *of == algorithm, now);
            }
        }
        Ok(())
    }

    /// Says which keys are announced, of these algorithms.
    pub(crate) fn tell_of_announced(&self, is_one: impl Fn(&Algorithm) -> bool, now: UnixSeconds) {
        let current = self.current();
        let is_announced = |key: &&ScheduledKey| {
            is_one(&key.key.algorithm()) && key.schedule.state(now) == KeyState::Announced
        };
        for ScheduledKey { key, schedule } in current.ring.keys().iter().filter(is_announced) {
            tracing::info!(
                alg = key.algorithm().as_str(),
                kid = key.kid(),
                latest = date(schedule.active_at),
                "the next signing key is announced"
            );
        }
    }

    async fn promote_confirmed(&self, now: UnixSeconds) -> Result<(), KeyError> {
        let waiting = |keys: &[Planned], algorithm| {
            unconfirmed(keys, algorithm, &self.timing, self.brokers.key_fetch(algorithm), now)
        };
        let schedules = self.current().ring.schedules();
        if Algorithm::ALL.into_iter().all(|algorithm| waiting(&schedules, algorithm).is_none()) {
            return Ok(());
        }
        let reports = self.heard_of(now).await?;
        for algorithm in Algorithm::ALL {
            let promoted = self.carry_out(now, Making::Background, |records: &[SigningKeyRecord]| {
                let keys = planned(records);
                let waiting = waiting(&keys, algorithm).and_then(|position| records.get(position));
                let is_held = |key: &SigningKeyRecord| {
                    let since = self.timing.heard_everywhere_at(&key.schedule);
                    waited_for(&key.kid, &reports, since).is_empty()
                };
                if !waiting.is_some_and(is_held) {
                    return Ok(Draft::default());
                }
                let fetch = self.brokers.key_fetch(algorithm);
                let plan = plan_promotion(&keys, algorithm, &self.timing, fetch, now);
                Ok(plan.map(|plan| Draft::of(algorithm, plan)).unwrap_or_default())
            });
            if promoted.await? {
                let (alg, from) = (algorithm.as_str(), date(now.plus(self.timing.propagation_bound_s)));
                match reports.len() {
                    0 => tracing::info!(alg, from, "no validator reports; the next signing key signs soon"),
                    instances => tracing::info!(
                        alg,
                        instances,
                        from,
                        "every instance that is heard of holds the next signing key, which signs soon"
                    ),
                }
            }
        }
        Ok(())
    }

    /// Devices whose tokens are denied are to find the reason in this log.
    async fn tell_of_activations(&self, now: UnixSeconds) -> Result<(), KeyError> {
        let since = UnixSeconds(self.looked_until.load(Ordering::Acquire));
        let has_begun = |ScheduledKey { schedule, .. }: &&ScheduledKey| {
            // The first of its algorithm is announced to nobody.
            schedule.announced_at < schedule.active_at
                && schedule.active_at > since
                && schedule.state(now) == KeyState::Active
        };
        let begun: Vec<ScheduledKey> = self.current().ring.keys().iter().filter(has_begun).cloned().collect();
        if !begun.is_empty() {
            let reports = self.heard_of(now).await?;
            for ScheduledKey { key, schedule } in begun {
                for broker in holders(key.kid(), &reports).iter().filter(|broker| !broker.missing.is_empty())
                {
                    tracing::warn!(
                        kid = key.kid(), alg = key.algorithm().as_str(), since = date(schedule.active_at),
                        broker = %broker.broker, missing = some_of(&broker.missing),
                        "a key signs that not every instance of a broker holds ({broker}); those deny its \
                         tokens until they fetch it"
                    );
                }
            }
        }
        self.looked_until.fetch_max(now.0, Ordering::AcqRel);
        Ok(())
    }
}
