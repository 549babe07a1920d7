//! What a validator tells the issuer about itself: which keys it holds, so
//! that a new key signs when all have it, and how far it follows the feed of
//! revocations. Both sides use these types.

use serde::{Deserialize, Serialize};

#[cfg(feature = "remote")]
pub mod remote;

/// Where reports go, after the issuer identifier.
pub const REPORTS_PATH: &str = "/oauth2/reports";

/// The body of `POST /oauth2/reports`. Members that are not known are passed
/// over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`Report::VERSION`].
    pub version: u32,
    /// Which validator process this is: 22 characters of base64url, made once
    /// and kept in its state folder.
    pub instance: String,
    /// What it is, as `fleetbadge-mosquitto/0.1.0`.
    pub software: String,
    /// The `kid`s that it holds, in order.
    pub kids: Vec<String>,
    /// How far it has followed the feed; `None` if it follows none, or has
    /// heard nothing yet.
    #[serde(default)]
    pub revocations: Option<FollowedFeed>,
}

impl Report {
    /// The only version so far.
    pub const VERSION: u32 = 1;
}

/// How far a feed was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedFeed {
    /// The last event.
    pub event_id: String,
    /// How long ago the feed was last known to be current, in seconds.
    pub age_s: u64,
}
