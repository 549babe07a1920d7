//! Who is connected, as whoever tells it keeps it: see [`super::sessions`].

use std::collections::{BTreeSet, HashMap};

use super::sessions::{MAX_PART, Online, SessionsPart};
use crate::ids::MqttClientId;
use crate::time::UnixSeconds;

/// How long after the end of its token a client is taken for gone, whatever was
/// heard of it, in seconds.
const ENDED_FOR_S: u64 = 60;

/// What has become of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has connected.
    Online { since: UnixSeconds, until: UnixSeconds },
    /// It has another token.
    Renewed { until: UnixSeconds },
    /// It has parted.
    Gone,
}

impl Change {
    /// This one, and then another.
    pub(super) const fn then(self, later: Self) -> Self {
        match (self, later) {
            (Self::Online { since, .. }, Self::Renewed { until }) => Self::Online { since, until },
            (Self::Gone, Self::Renewed { .. }) => self,
            (_, later) => later,
        }
    }
}

/// Who is connected, and what of it was told: pure.
#[derive(Debug, Default)]
pub(super) struct SessionList {
    online: HashMap<MqttClientId, (UnixSeconds, UnixSeconds)>,
    epoch: u64,
    next: u64,
    /// Of whom there is something to tell.
    untold: BTreeSet<MqttClientId>,
    /// The part that was told last, until it is known to be kept.
    in_flight: Option<SessionsPart>,
}

impl SessionList {
    pub(super) fn len(&self) -> usize {
        self.online.len()
    }

    /// Whether there is something to tell.
    pub(super) fn has_news(&self) -> bool {
        !self.untold.is_empty() || self.in_flight.is_some()
    }

    /// Takes up what has become of a client.
    pub(super) fn apply(&mut self, client_id: MqttClientId, change: Change) {
        let is_news = match change {
            Change::Online { since, until } => {
                self.online.insert(client_id.clone(), (since, until)) != Some((since, until))
            }
            Change::Renewed { until } => match self.online.get_mut(&client_id) {
                Some((_, before)) => std::mem::replace(before, until) != until,
                None => false,
            },
            Change::Gone => self.online.remove(&client_id).is_some(),
        };
        if is_news {
            self.untold.insert(client_id);
        }
    }

    /// Lets those go whose end was missed, if there can be such.
    pub(super) fn forget_ended(&mut self, now: UnixSeconds) {
        let Self { online, untold, .. } = self;
        online.retain(|client_id, (_, until)| {
            let stays = until.plus(ENDED_FOR_S) >= now;
            if !stays {
                untold.insert(client_id.clone());
            }
            stays
        });
    }

    /// From here on everything is told anew.
    pub(super) fn begin_anew(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.next = 0;
        self.in_flight = None;
        self.untold = self.online.keys().cloned().collect();
    }

    /// The part to be told, perhaps for the second time.
    pub(super) fn part(&mut self) -> SessionsPart {
        if let Some(part) = &self.in_flight {
            return part.clone();
        }
        let mut part =
            SessionsPart { epoch: self.epoch, part: self.next, online: Vec::new(), gone: Vec::new() };
        while part.online.len() + part.gone.len() < MAX_PART
            && let Some(client_id) = self.untold.pop_first()
        {
            match self.online.get(&client_id) {
                Some(&(since, until)) => part.online.push(Online { client_id, since, until }),
                None => part.gone.push(client_id),
            }
        }
        self.in_flight = Some(part.clone());
        part
    }

    /// The part was kept.
    pub(super) fn kept(&mut self) {
        if self.in_flight.take().is_some() {
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests;
