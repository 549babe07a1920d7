//! Changes of the signing keys that somebody asks for: rotations, revocations,
//! and corrections after the clock was wrong. Each is one write, made of the
//! newest state; if somebody else was faster, it is made anew.

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::time::UnixSeconds;

use super::{CurrentKeys, KeyError, Keys, workshop};
use crate::signing_keys::plan::{Plan, plan_correction, plan_revocation, plan_rotation};
use crate::signing_keys::{KeyState, Planned};
use crate::store::{SigningKeyChange, SigningKeyRecord, SigningKeySet};

/// Whether somebody waits for keys that a change needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Making {
    /// A person, for a while.
    Awaited,
    /// Nobody: it is made in the background, and the change is tried again.
    Background,
}

/// What is to become of the keys.
#[derive(Default)]
pub(super) struct Draft {
    /// The plans, at most one for each algorithm.
    plans: Vec<(Algorithm, Plan)>,
    /// The key that is deleted and what it signed taken back.
    revoked: Option<(SigningKeyRecord, Revocation)>,
}

impl Draft {
    /// That the keys of one algorithm change.
    pub(super) fn of(algorithm: Algorithm, plan: Plan) -> Self {
        Self { plans: vec![(algorithm, plan)], revoked: None }
    }
}

impl Keys {
    /// Replaces the active key of an algorithm, or of every algorithm that has
    /// one: by a new key that is announced first, or `at_once`. All or none. An
    /// algorithm whose first key is only being made is left out; it is new
    /// anyway.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn rotate(
        &self,
        algorithm: Option<Algorithm>,
        at_once: bool,
        now: UnixSeconds,
    ) -> Result<(), KeyError> {
        self.carry_out(now, Making::Awaited, |records| {
            let keys = planned(records);
            let mut plans = Vec::new();
            // Those of one algorithm are made room for before the next.
            let mut then = keys.clone();
            for algorithm in rotated(&keys, algorithm, now) {
                let fetch = self.brokers.key_fetch(algorithm);
                let plan = plan_rotation(&then, algorithm, &self.timing, fetch, at_once, now)?;
                then.extend(plan.new.map(|schedule| (algorithm, schedule)));
                plans.push((algorithm, plan));
            }
            Ok(Draft { plans, revoked: None })
        })
        .await
        .map(drop)
    }

    /// Deletes a key and takes back what it signed, at once and in one write.
    /// If it was the active one, the announced one takes its place, or a new
    /// one that no broker has.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn revoke(&self, kid: &str, revocation: &Revocation, now: UnixSeconds) -> Result<(), KeyError> {
        self.carry_out(now, Making::Awaited, |records| {
            let mut numbered = records.iter().enumerate();
            let (position, record) = numbered
                .find(|(_, record)| record.kid == kid)
                .ok_or_else(|| KeyError::NoSuchKey { kid: kid.into() })?;
            let plan = plan_revocation(&planned(records), position, now);
            let revoked = Some((record.clone(), revocation.clone()));
            Ok(Draft { plans: vec![(record.algorithm, plan)], revoked })
        })
        .await
        .map(drop)
    }

    /// Takes back times of the schedules that were made while the clock was
    /// ahead, now that it is put right.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn correct(&self, now: UnixSeconds) -> Result<(), KeyError> {
        self.carry_out(now, Making::Awaited, |records| {
            let keys = planned(records);
            let plans = Algorithm::ALL.map(|algorithm| {
                let fetch = self.brokers.key_fetch(algorithm);
                (algorithm, plan_correction(&keys, algorithm, &self.timing, fetch, now))
            });
            let plans = plans.into_iter().filter(|(_, plan)| *plan != Plan::default()).collect();
            Ok(Draft { plans, revoked: None })
        })
        .await
        .map(drop)
    }

    /// Does what `draft` makes of the stored keys; whether that was anything.
    pub(super) async fn carry_out(
        &self,
        now: UnixSeconds,
        making: Making,
        draft: impl Fn(&[SigningKeyRecord]) -> Result<Draft, KeyError>,
    ) -> Result<bool, KeyError> {
        let mut made: Vec<workshop::NewKey> = Vec::new();
        // Nobody else is kept from a change while a key is made; what they
        // have changed is seen in the next round.
        loop {
            let one_at_a_time = self.change.lock().await;
            let SigningKeySet { revision, keys } = self.store.signing_keys().await?;
            let Draft { plans, revoked } = draft(&keys)?;
            if plans.is_empty() {
                return Ok(false);
            }
            let (mut set, mut missing) = (Vec::new(), None);
            for (algorithm, Plan { changed, new }) in plans {
                set.extend(changed.into_iter().filter_map(|(position, schedule)| {
                    keys.get(position).map(|record| SigningKeyRecord { schedule, ..record.clone() })
                }));
                if let Some(schedule) = new {
                    match made.iter().find(|key| key.algorithm() == algorithm) {
                        Some(key) => set.push(key.scheduled(schedule)),
                        None => missing = Some(algorithm),
                    }
                }
            }
            if let Some(algorithm) = missing {
                drop(one_at_a_time);
                let key = match making {
                    Making::Awaited => Some(workshop::make(algorithm, &self.keepers).await?),
                    Making::Background => self.workshop.collect(algorithm, &self.keepers).await?,
                };
                match key {
                    Some(key) => made.push(key),
                    None => return Ok(false),
                }
                continue;
            }
            let (delete, revoke): (Vec<_>, Vec<_>) = revoked.into_iter().unzip();
            for record in &delete {
                self.withhold(&record.kid);
            }
            let kids: Vec<&str> = delete.iter().map(|record| record.kid.as_str()).collect();
            let change = SigningKeyChange { revision, set: &set, delete: &kids, revoke: &revoke };
            for key in &mut made {
                key.set_may_be_stored(set.iter().any(|record| record.kid == key.kid()));
            }
            if self.write(&change).await? {
                self.load(now).await?;
                for SigningKeyRecord { kid, private, .. } in delete {
                    workshop::destroy_in_background(&self.keepers, kid, private);
                }
                return Ok(true);
            }
            // Another node was faster; it is seen in the next round.
            made.iter_mut().for_each(|key| key.set_may_be_stored(false));
        }
    }

    /// Signs nothing more with a key until the stored keys are taken up: no
    /// token of it is issued once it is written that they are worth nothing.
    fn withhold(&self, kid: &str) {
        let current = self.current();
        let withheld = CurrentKeys { ring: current.ring.without(kid), ..CurrentKeys::clone(&current) };
        self.current.store(withheld.into());
    }
}

/// Of which algorithms the keys are rotated.
fn rotated(keys: &[Planned], algorithm: Option<Algorithm>, now: UnixSeconds) -> Vec<Algorithm> {
    let has_key = |candidate: Algorithm, is_in_use: fn(KeyState) -> bool| {
        keys.iter().any(|(of, schedule)| *of == candidate && is_in_use(schedule.state(now)))
    };
    // Without any active key at all the clock went back, and that is said. A
    // first key that came while others were made signs from a moment after
    // `now`.
    let has_active = |candidate| has_key(candidate, |state| state == KeyState::Active);
    let is_clock_right = Algorithm::ALL.into_iter().any(has_active);
    match algorithm {
        Some(algorithm) => vec![algorithm],
        None if is_clock_right => Algorithm::ALL.into_iter().filter(|of| has_active(*of)).collect(),
        None => Algorithm::ALL.into_iter().filter(|of| has_key(*of, |_| true)).collect(),
    }
}

pub(super) fn planned(records: &[SigningKeyRecord]) -> Vec<Planned> {
    records.iter().map(|record| (record.algorithm, record.schedule)).collect()
}
