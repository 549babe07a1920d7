//! What validators say of themselves: which keys they hold, and how well they
//! follow the revocations.

use serde::{Deserialize, Serialize};

/// What a validator says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The program and its version.
    pub software: String,
    /// The `kid`s that it verifies with.
    pub kids: Vec<String>,
    /// What it knows of revocations; `None` if it follows none.
    #[serde(default)]
    pub revocations: Option<RevocationsHeld>,
}

/// How far a validator has followed the revocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationsHeld {
    /// The last event that it took in.
    pub event_id: String,
    /// How long ago it last heard from the feed, in seconds.
    pub age_s: u64,
}
