//! What validators say of themselves: which keys they hold, how well they
//! follow the revocations, what they let in and denied, and who is connected.
//!
//! A validator posts a [`ReportDocument`] with its broker's credentials to
//! [`REPORTS_PATH`] when the keys that it holds or the clients that are connected
//! have changed, and every minute. Members that are not known are ignored; what
//! could not be understood without them has another `version`.

use std::fmt;

use serde::{Deserialize, Serialize};

use self::counters::Counters;
use self::sessions::SessionsPart;

#[cfg(feature = "remote")]
pub mod activity;
pub mod counters;
#[cfg(feature = "remote")]
pub mod remote;
#[cfg(feature = "remote")]
mod session_list;
pub mod sessions;
#[cfg(feature = "remote")]
pub mod status_file;

/// Where reports are posted, below the issuer.
pub const REPORTS_PATH: &str = "/oauth2/reports";
/// The version of [`ReportDocument`].
pub const VERSION: u64 = 1;
/// The most keys that a report names.
pub const MAX_KIDS: usize = 64;
/// The most characters of a text in a report.
const MAX_TEXT_LENGTH: usize = 128;
/// In base64url, without padding.
const INSTANCE_LENGTH: usize = 22;

/// A report as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportDocument {
    /// [`VERSION`].
    pub version: u64,
    /// Who says it.
    pub instance: InstanceId,
    /// What it says.
    #[serde(flatten)]
    pub report: Report,
    /// Who is connected: the next part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionsPart>,
}

/// One process among those of a broker: 128 random bits in base64url, made once
/// and kept in its state directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

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
    /// What it let in and denied, if it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
}

/// How far a validator has followed the revocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationsHeld {
    /// The last event that it took in.
    pub event_id: String,
    /// How long ago it last heard from the feed, in seconds.
    pub age_s: u64,
}

/// A report that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidReport {
    /// Not JSON, or a member is missing or of the wrong type.
    #[error("the report cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A version that is not known here.
    #[error("version: {found} is not known here, {VERSION} is; the validator is newer than the issuer")]
    Version {
        /// What was found.
        found: u64,
    },
    /// It holds more keys than there can be.
    #[error("kids: are {found}, at most {MAX_KIDS} are taken")]
    TooManyKids {
        /// How many there are.
        found: usize,
    },
    /// A text that could not be shown to people.
    #[error("{member}: is not 1 to {MAX_TEXT_LENGTH} visible ASCII characters")]
    Text {
        /// Where.
        member: &'static str,
    },
    /// Codes that are none, or more than there can be.
    #[error("counters.denied: is not at most {} codes of lower case, digits and _", counters::MAX_CODES)]
    Codes,
    /// A part of the sessions that nobody would have made.
    #[error(
        "sessions: is not at most {} clients, each once, with an epoch and a part up to {}",
        sessions::MAX_PART,
        sessions::MAX_NUMBER
    )]
    Sessions,
}

impl ReportDocument {
    /// What this version of this program sends.
    #[must_use]
    pub const fn new(instance: InstanceId, report: Report, sessions: Option<SessionsPart>) -> Self {
        Self { version: VERSION, instance, report, sessions }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// [`InvalidReport`].
    pub fn from_json(json: &[u8]) -> Result<Self, InvalidReport> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }

        // Of another version nothing else is known.
        let Versioned { version: found } = serde_json::from_slice(json)?;
        if found != VERSION {
            return Err(InvalidReport::Version { found });
        }
        let document: Self = serde_json::from_slice(json)?;
        document.report.check()?;
        match &document.sessions {
            Some(part) if !part.is_sound() => Err(InvalidReport::Sessions),
            Some(_) | None => Ok(document),
        }
    }
}

impl Report {
    fn check(&self) -> Result<(), InvalidReport> {
        if self.kids.len() > MAX_KIDS {
            return Err(InvalidReport::TooManyKids { found: self.kids.len() });
        }
        if let Some(Counters { denied, .. }) = &self.counters
            && (denied.len() > counters::MAX_CODES || !denied.keys().all(|code| counters::is_code(code)))
        {
            return Err(InvalidReport::Codes);
        }
        let kids = self.kids.iter().map(|kid| ("kids", kid));
        let event_id = self.revocations.iter().map(|held| ("revocations.event_id", &held.event_id));
        let mut texts = kids.chain(event_id).chain([("software", &self.software)]);
        match texts.find(|(_, text)| !is_visible(text)) {
            Some((member, _)) => Err(InvalidReport::Text { member }),
            None => Ok(()),
        }
    }
}

/// They are shown to operators, and written into logs.
fn is_visible(text: &str) -> bool {
    (1..=MAX_TEXT_LENGTH).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

impl InstanceId {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for InstanceId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_base64url = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if text.len() == INSTANCE_LENGTH && text.bytes().all(is_base64url) {
            Ok(Self(text))
        } else {
            Err("instance: is not 22 characters of base64url")
        }
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report() -> Value {
        json!({
            "version": 1, "instance": "AAAAAAAAAAAAAAAAAAAA-_", "software": "fleetbadge-mosquitto/0.1.0",
            "kids": ["a", "b"], "revocations": {"event_id": "x-1", "age_s": 1},
        })
    }

    fn read(change: impl FnOnce(&mut Value)) -> Result<ReportDocument, String> {
        let mut value = report();
        change(&mut value);
        ReportDocument::from_json(value.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_and_unknown_members_are_ignored() {
        let read_back = read(|_| ()).unwrap();
        assert_eq!(serde_json::to_value(&read_back).unwrap(), report());
        let again = read_back.clone();
        assert_eq!(ReportDocument::new(again.instance, again.report, again.sessions), read_back);
        assert_eq!(read(|value| value["uptime_s"] = 5.into()).unwrap(), read_back);
        for none in [Value::Null, json!([])] {
            let without = read(|value| {
                value["revocations"] = Value::Null;
                value["kids"] = json!([]);
                if none.is_null() {
                    value.as_object_mut().unwrap().remove("revocations");
                }
            });
            assert_eq!(without.unwrap().report.revocations, None);
        }
    }

    #[test]
    fn what_an_older_validator_does_not_say_is_not_missed() {
        let older = read(|_| ()).unwrap();
        assert_eq!((older.report.counters, older.sessions), (None, None));
        let newer = read(|value| {
            value["counters"] = json!({"started_at": 1, "let_in": 2, "denied": {"expired": 3}, "new": []});
            value["sessions"] = json!({"epoch": 1, "part": 0, "gone": ["a"], "new": 1,
                "online": [{"client_id": "b", "since": 1, "until": 2, "new": 1}]});
        });
        let newer = newer.unwrap();
        let part = newer.sessions.as_ref().unwrap();
        assert_eq!((part.online.len(), part.gone.len()), (1, 1));
        assert_eq!(newer.report.counters.unwrap().denied, [("expired".to_owned(), 3)].into());
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        fn denied(value: &mut Value, denied: &Value) {
            value["counters"] = json!({"started_at": 1, "let_in": 0, "denied": denied});
        }
        fn named(value: &mut Value, client_id: &str) {
            let online = json!({"client_id": client_id, "since": 1, "until": 2});
            value["sessions"] = json!({"epoch": 1, "part": 0, "online": [online], "gone": ["a"]});
        }

        let refused = |change: fn(&mut Value), expected: &str| {
            let error = read(change).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        // Whatever else it has.
        refused(|value| *value = json!({"version": 2, "instances": []}), "version: 2 is not known here");
        refused(|value| value["version"] = "1".into(), "cannot be read");
        refused(|value| value["instance"] = "short".into(), "instance: is not 22 characters");
        refused(|value| value["instance"] = "AAAAAAAAAAAAAAAAAAAA+/".into(), "instance: is not 22");
        refused(|value| value["kids"] = vec!["k"; 65].into(), "kids: are 65, at most 64");
        refused(|value| value["kids"] = vec!["k".repeat(129)].into(), "kids: is not 1 to 128 visible");
        refused(|value| value["kids"] = "k".into(), "cannot be read");
        refused(|value| value["software"] = "\u{1b}[2J".into(), "software: is not");
        refused(|value| value["revocations"]["event_id"] = "".into(), "revocations.event_id: is not");
        refused(|value| *value = json!([]), "cannot be read");

        refused(|value| denied(value, &json!({"\u{1b}[2J": 1})), "counters.denied: is not");
        refused(|value| denied(value, &json!({"Expired": 1})), "counters.denied: is not");
        refused(|value| denied(value, &json!({"": 1})), "counters.denied: is not");
        refused(
            |value| denied(value, &(0..65).map(|n| (format!("c{n}"), json!(1))).collect()),
            "counters.denied: is not at most 64",
        );
        refused(|value| denied(value, &json!({"expired": -1})), "cannot be read");
        refused(|value| named(value, "pump\n1"), "cannot be read");
        refused(|value| named(value, "a"), "sessions: is not");
        refused(
            |value| value["sessions"] = json!({"epoch": 1, "part": 1_u64 << 53, "online": [], "gone": []}),
            "sessions: is not",
        );
    }
}
