//! Which clients are connected, told in parts.
//!
//! 1. A list has an *epoch*, a number that was drawn for it, and parts that are
//!    counted from 0. Part 0 begins it: whoever keeps it forgets what the same
//!    instance told before.
//! 2. Each further part names what has changed since: who is online, and who is
//!    gone. A list that is long comes in many parts.
//! 3. The answer says whether the part was kept. One whose answer was lost is
//!    told again, and is then known already.
//! 4. Whoever does not have all parts before says so, and the list begins anew
//!    in another epoch. So nothing that was lost, at either side, lasts.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::ids::MqttClientId;
use crate::time::UnixSeconds;

/// The most clients that a part names: with it a report stays below 64 KiB.
pub const MAX_PART: usize = 400;
/// The highest epoch and number of a part: every reader of JSON has it exactly.
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// A client that is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Online {
    /// As which client.
    pub client_id: MqttClientId,
    /// Since when it is connected.
    pub since: UnixSeconds,
    /// Until when it may be, with the token that it has now.
    pub until: UnixSeconds,
}

/// One part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsPart {
    /// Of which list.
    pub epoch: u64,
    /// Which part.
    pub part: u64,
    /// Who is connected, or has a new token.
    #[serde(default)]
    pub online: Vec<Online>,
    /// Who is so no longer.
    #[serde(default)]
    pub gone: Vec<MqttClientId>,
}

/// What becomes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionsKept {
    /// It was kept, now or before.
    Kept,
    /// Parts before it are missing: the list has to begin anew.
    BeginAnew,
    /// There is no room for so many.
    Full,
}

/// What is answered to a report that has a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// What becomes of the part.
    pub sessions: SessionsKept,
}

impl SessionsPart {
    /// Whether it keeps to the limits and names each client once.
    pub(super) fn is_sound(&self) -> bool {
        let named = || self.online.iter().map(|online| &online.client_id).chain(&self.gone);
        let count = self.online.len() + self.gone.len();
        self.epoch <= MAX_NUMBER
            && self.part < MAX_NUMBER
            && count <= MAX_PART
            && named().collect::<HashSet<_>>().len() == count
    }
}
