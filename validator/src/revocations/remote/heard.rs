//! What the feed has told and is not in force yet, and how it gets there.

use std::sync::Arc;

use reqwest::header::HeaderValue;

use super::feed::{Assembly, FeedError, Message, unusable};
use crate::revocations::{Heartbeat, Revocation, Revocations};

/// What was told since the last time.
#[derive(Debug)]
pub(super) struct Heard {
    /// Whether anything was known before.
    has_base: bool,
    assembly: Assembly,
    revocations: Vec<Revocation>,
    /// The last event of these.
    event_id: Option<HeaderValue>,
    /// The last heartbeat: all that was told before is to be in force first.
    heartbeat: Option<Heartbeat>,
}

impl Heard {
    /// So many wait at most, and a snapshot more.
    const MAX_LENGTH: usize = 10_000;

    pub(super) fn new(has_base: bool) -> Self {
        Self {
            has_base,
            assembly: Assembly::default(),
            revocations: Vec::new(),
            event_id: None,
            heartbeat: None,
        }
    }

    /// Takes in what was told. Whether a heartbeat or a part of a snapshot was
    /// among it: a stream of revocations alone is no proof that none is missing.
    pub(super) fn add(&mut self, messages: Vec<Message>) -> Result<bool, FeedError> {
        let mut is_alive = false;
        for message in messages {
            is_alive |= !matches!(message, Message::Revocation(..));
            match message {
                Message::Snapshot(part, id) => {
                    if let Some(whole) = self.assembly.add(part, id.is_some())? {
                        self.revocations.extend(whole);
                        self.event_id = id;
                        self.has_base = true;
                    }
                }
                Message::Revocation(..) if self.assembly.is_open() => {
                    return Err(unusable(&"a revocation within a snapshot"));
                }
                Message::Revocation(..) if !self.has_base => {
                    return Err(unusable(&"a revocation before the first snapshot"));
                }
                Message::Revocation(revocation, id) => {
                    self.revocations.push(revocation);
                    self.event_id = Some(id);
                }
                Message::Heartbeat(_) if self.assembly.is_open() || !self.has_base => {}
                Message::Heartbeat(beat) => self.heartbeat = Some(beat),
            }
        }
        Ok(is_alive)
    }

    pub(super) const fn is_full(&self) -> bool {
        self.revocations.len() >= Self::MAX_LENGTH
    }

    /// Whether something is to be put in force.
    pub(super) const fn has_news(&self) -> bool {
        self.event_id.is_some()
    }

    /// What is to be put in force.
    pub(super) fn take_news(&mut self) -> Option<(Vec<Revocation>, HeaderValue)> {
        let event_id = self.event_id.take()?;
        Some((std::mem::take(&mut self.revocations), event_id))
    }

    /// The heartbeat, once there is nothing to be put in force before it.
    pub(super) fn take_heartbeat(&mut self) -> Option<Heartbeat> {
        if self.has_news() { None } else { self.heartbeat.take() }
    }
}

/// Makes what is in force from what was. Two copies take turns: readers have
/// one, while the other one is brought up to date; so a batch costs no more
/// than what is in it, and nobody waits.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// What was in force before what is.
    spare: Option<Arc<Revocations>>,
    /// What the spare one lacks.
    lacks: Vec<Revocation>,
}

impl Copies {
    /// `current` and a batch. It is not in force before [`Copies::keep`].
    pub(super) fn with(&mut self, current: &Arc<Revocations>, batch: &[Revocation]) -> Arc<Revocations> {
        let lacks = std::mem::take(&mut self.lacks);
        let mut next = self.spare.take().unwrap_or_else(|| Arc::clone(current));
        // Copies it where there is no other, or a reader has it still.
        let changed = Arc::make_mut(&mut next);
        lacks.iter().chain(batch).for_each(|revocation| changed.add(revocation.clone()));
        next
    }

    /// What [`Copies::with`] made has come in the place of `former`.
    pub(super) fn keep(&mut self, former: Arc<Revocations>, batch: Vec<Revocation>) {
        self.spare = Some(former);
        self.lacks = batch;
    }

    /// What is in force has come from elsewhere.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
