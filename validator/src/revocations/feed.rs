//! What the feed of revocations says: server-sent events (HTML Living Standard
//! §9.2.6), whose data is JSON.
//!
//! | event | id | data |
//! |---|---|---|
//! | `snapshot` | the last part has one | [`Snapshot`]: all there is, in parts |
//! | `revocation` | yes | [`Revocation`]: one more, or the same target again, wider |
//! | `heartbeat` | no | [`Heartbeat`]: everything that was known when it was written stands before it |
//!
//! Ids are opaque: whoever sends the last one back as `Last-Event-ID` is told
//! what came after it, or everything. Many events may come at once. Events and
//! members that are not known are passed over, so that there can be more of
//! them one day.
//!
//! Nothing here takes a revocation off: each stays until it has expired, as a
//! node of the issuer that knows less must not revive what another has revoked.

use serde::{Deserialize, Serialize};

use super::Revocation;
use crate::time::UnixSeconds;

/// Where the feed is, after the issuer identifier.
pub const FEED_PATH: &str = "/oauth2/revocations";

/// A part of everything that the issuer has revoked: it is added to what is
/// held, once all parts are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Some of the revocations.
    pub revocations: Vec<Revocation>,
    /// Whether another event belongs to it.
    pub more: bool,
}

impl Snapshot {
    /// The most revocations of one event.
    pub const MAX_LENGTH: usize = 1_000;
    /// The name of the event.
    pub const EVENT: &str = "snapshot";
}

impl Revocation {
    /// The name of the event of the feed that brings one.
    pub const EVENT: &str = "revocation";
}

/// The event of the feed that says that nothing else happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The issuer's time.
    pub now: UnixSeconds,
}

impl Heartbeat {
    /// The name of the event.
    pub const EVENT: &str = "heartbeat";
    /// How often it is sent, in seconds.
    pub const EVERY_S: u64 = 5;
}
