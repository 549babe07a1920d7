//! What an authenticator has done since the broker's start.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use fleetbadge_validator::reports::activity::Activity;

/// Counted on the broker's one thread.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    let_in: Cell<u64>,
    /// By code: there are few, whatever is sent.
    denied: RefCell<BTreeMap<&'static str, u64>>,
    handed_on: Cell<u64>,
    errors: Cell<u64>,
    /// Where others are told of what is denied.
    activity: Option<Arc<Activity>>,
}

/// What was counted until now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections that were let in.
    pub(crate) let_in: u64,
    /// Connections that were denied, by the code of the reason.
    pub(crate) denied: BTreeMap<&'static str, u64>,
    /// Connections that were left to who comes next in the broker.
    pub(crate) handed_on: u64,
    /// How many of those that were denied could not be judged: what there was
    /// to judge by was missing or too old.
    pub(crate) errors: u64,
}

impl Counters {
    /// Counters that also tell of what they count.
    pub(crate) fn telling(activity: Arc<Activity>) -> Self {
        Self { activity: Some(activity), ..Self::default() }
    }

    pub(crate) fn let_in(&self) {
        self.let_in.set(self.let_in.get() + 1);
    }

    pub(crate) fn denied(&self, code: &'static str) {
        *self.denied.borrow_mut().entry(code).or_default() += 1;
        if matches!(code, "stale" | "revocations_missing" | "exchange_failed" | "exchange_busy") {
            self.errors.set(self.errors.get() + 1);
        }
        if let Some(activity) = &self.activity {
            activity.denied(code);
        }
    }

    pub(crate) fn handed_on(&self) {
        self.handed_on.set(self.handed_on.get() + 1);
    }

    /// What was counted until now.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            let_in: self.let_in.get(),
            denied: self.denied.borrow().clone(),
            handed_on: self.handed_on.get(),
            errors: self.errors.get(),
        }
    }
}
