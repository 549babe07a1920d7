//! One connection to the feed: from the request to what its events say.

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use super::sse::{Event, InvalidStream, Parser};
use crate::remote::credentials::{Credentials, CredentialsError};
use crate::remote::http::{FetchError, all_causes};
use crate::revocations::{Heartbeat, MAX_REVOCATIONS, Revocation, Snapshot};

/// Why the feed tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The credentials file cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No connection, or another answer than the feed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The issuer does not know the credentials.
    #[error(
        "the issuer does not take these credentials (401): the broker was removed or its secret has ended; get \
         a new one with fleetbadge-issuer broker rotate-secret NAME --json and put it into the credentials file"
    )]
    Unauthorized,
    /// An answer of another type.
    #[error("the answer is no stream of events")]
    NotAStream,
    /// The issuer, or what is between, hung up.
    #[error("the connection has ended")]
    Ended,
    /// Nothing, or no heartbeat, for too long.
    #[error("nothing was heard for {seconds} s")]
    Silent {
        /// For how long.
        seconds: u64,
    },
    /// Something in the feed cannot be understood, so that nobody can say what
    /// is revoked.
    #[error("the feed cannot be understood: {reason}")]
    Unusable {
        /// What.
        reason: String,
    },
}

impl From<InvalidStream> for FeedError {
    fn from(error: InvalidStream) -> Self {
        unusable(&error)
    }
}

/// What an event says.
#[derive(Debug)]
pub(super) enum Message {
    /// A part of all there is; the last one has the id of the event.
    Snapshot(Vec<Revocation>, Option<HeaderValue>),
    Revocation(Revocation, HeaderValue),
    Heartbeat(Heartbeat),
}

/// The feed, while it is connected.
#[derive(Debug)]
pub(super) struct Feed {
    response: Response,
    parser: Parser,
}

impl Feed {
    /// Asks for the feed: from after an event, or whole.
    pub(super) async fn open(
        client: &Client,
        url: &Url,
        credentials: &Credentials,
        last_event_id: Option<HeaderValue>,
    ) -> Result<Self, FeedError> {
        let mut request = client
            .get(url.clone())
            .header(ACCEPT, "text/event-stream")
            .header(AUTHORIZATION, credentials.authorization());
        if let Some(id) = last_event_id {
            request = request.header(HeaderName::from_static("last-event-id"), id);
        }
        let response = request.send().await.map_err(|error| http_error(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(FeedError::Unauthorized),
            status => return Err(FetchError::Status(status).into()),
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
        if !essence.trim().eq_ignore_ascii_case("text/event-stream") {
            return Err(FeedError::NotAStream);
        }
        Ok(Self { response, parser: Parser::default() })
    }

    /// Waits for more, and says what it tells. Whoever stops waiting misses
    /// nothing.
    pub(super) async fn next(&mut self) -> Result<Vec<Message>, FeedError> {
        let chunk =
            self.response.chunk().await.map_err(|error| http_error(&error))?.ok_or(FeedError::Ended)?;
        let mut events = Vec::new();
        self.parser.parse(&chunk, &mut events)?;
        let messages = events.into_iter().filter_map(|event| Message::of(event).transpose());
        messages.collect()
    }
}

impl Message {
    /// `None` for an event that this version does not know.
    fn of(event: Event) -> Result<Option<Self>, FeedError> {
        let Event { name, data, id } = event;
        let header = |id: String| HeaderValue::from_str(&id).ok().filter(|id| id.to_str().is_ok());
        let id = match id {
            Some(id) => Some(header(id).ok_or_else(|| unusable(&"an id cannot be sent back"))?),
            None => None,
        };
        let needed = |id: Option<HeaderValue>| id.ok_or_else(|| unusable(&format!("a {name} without id")));
        Ok(Some(match name.as_str() {
            Snapshot::EVENT => {
                let Snapshot { revocations, more } = read(&name, &data)?;
                if revocations.len() > Snapshot::MAX_LENGTH {
                    return Err(unusable(&format!("a snapshot of {}", revocations.len())));
                }
                Self::Snapshot(revocations, if more { None } else { Some(needed(id)?) })
            }
            Revocation::EVENT => Self::Revocation(read(&name, &data)?, needed(id)?),
            Heartbeat::EVENT => Self::Heartbeat(read(&name, &data)?),
            _ => return Ok(None),
        }))
    }
}

/// Puts the parts of a snapshot together.
#[derive(Debug, Default)]
pub(super) struct Assembly(Option<Vec<Revocation>>);

impl Assembly {
    /// Adds a part; what they make together, if it was the last one.
    pub(super) fn add(
        &mut self,
        part: Vec<Revocation>,
        is_last: bool,
    ) -> Result<Option<Vec<Revocation>>, FeedError> {
        let whole = self.0.get_or_insert_default();
        whole.extend(part);
        check_count(whole.len())?;
        Ok(if is_last { self.0.take() } else { None })
    }

    /// Whether parts are missing.
    pub(super) const fn is_open(&self) -> bool {
        self.0.is_some()
    }
}

pub(super) fn check_count(count: usize) -> Result<(), FeedError> {
    if count > MAX_REVOCATIONS {
        return Err(unusable(&format!("{count} revocations or more; at most {MAX_REVOCATIONS} are held")));
    }
    Ok(())
}

fn read<T: DeserializeOwned>(name: &str, data: &str) -> Result<T, FeedError> {
    serde_json::from_str(data).map_err(|error| unusable(&format!("a {name}: {error}")))
}

pub(super) fn unusable(reason: &dyn std::fmt::Display) -> FeedError {
    FeedError::Unusable { reason: reason.to_string() }
}

fn http_error(error: &reqwest::Error) -> FeedError {
    FetchError::Http(all_causes(error)).into()
}
