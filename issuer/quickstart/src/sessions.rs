//! Who is connected with which token, and what follows from it. Pure: the
//! time is an argument, and nothing here knows the broker.
//!
//! A session belongs to an MQTT client ID, not to a connection. The broker's
//! events name only the client ID, and at a takeover the old connection ends
//! after the new one began; so the latest token of a client ID decides for
//! all its connections, and a session is forgotten by time, never by an event.
//!
//! A token is followed by another in two ways: by a CONNECT, which begins with
//! nothing ([`Sessions::admit`]), and on the open connection
//! ([`Sessions::renew`]), which keeps what the new token allows too.

use std::collections::HashMap;

use fleetbadge_validator::access::Action;
use fleetbadge_validator::denied::{Denied, Excerpt};
use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::memory::Memory;
use fleetbadge_validator::revocations::{RevocationState, RevocationTarget, Revocations};
use fleetbadge_validator::time::UnixSeconds;
use fleetbadge_validator::topic::TopicFilter;
use fleetbadge_validator::verify::{VerifiedToken, Verifier};

/// For how long an ended session is told by [`Sessions::ended`], in seconds
/// from the first time, whenever that is: the machine may have slept. A client
/// that was admitted in the last moment may not have been registered when its
/// session ended; the broker gives a CONNECT 10 s.
const ENDED_FOR_S: u64 = 15;

/// A CONNECT packet, as far as it decides whether the client may come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connect<'a> {
    pub(crate) client_id: &'a str,
    /// The token: the user name or, in an enhanced authentication, its data.
    pub(crate) token: Option<&'a str>,
    /// In an enhanced authentication it is shown later, see
    /// [`Sessions::connected`].
    pub(crate) will_topic: Option<&'a str>,
    pub(crate) version: Version,
}

/// The protocol version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3,
    V5,
}

/// The clients that were let in.
#[derive(Debug)]
pub(crate) struct Sessions {
    verifier: Verifier,
    memory: Memory,
    by_client_id: HashMap<String, Session>,
}

#[derive(Debug)]
struct Session {
    token: VerifiedToken,
    will_topic: Option<String>,
    /// Whether the connection was ever allowed to subscribe to anything.
    subscribed: bool,
    version: Version,
    /// Why the client may do nothing more, whatever its token says.
    dismissed: Option<Denied>,
    /// When [`Sessions::ended`] told it first.
    told_at: Option<UnixSeconds>,
}

/// Why a connection cannot go on with the token of a re-authentication.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRenewed {
    /// The token is not good for this client.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The token is good, but for another device.
    #[error("the token is for device {found}, the connection belongs to {connected}")]
    SubjectDiffers { found: Excerpt, connected: Excerpt },
    /// The token is good, but allows less to a connection that has subscribed.
    /// What it may no longer have can be on its way already, even if it has
    /// unsubscribed since.
    #[error("the new token allows no longer to subscribe to {filter}")]
    SubscribesToLess { filter: Excerpt },
}

impl NotRenewed {
    /// For machines; never changes its meaning.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Denied(denied) => denied.code(),
            Self::SubjectDiffers { .. } => "subject_differs",
            Self::SubscribesToLess { .. } => "subscribes_to_less",
        }
    }
}

impl Sessions {
    /// No client yet.
    pub(crate) fn new(verifier: Verifier) -> Self {
        Self { verifier, memory: Memory::default(), by_client_id: HashMap::new() }
    }

    /// Lets a client in and returns the name of its device. A will is a
    /// publication that the client asks for now, so it is judged now.
    pub(crate) fn admit(
        &mut self,
        connect: Connect<'_>,
        keys: &KeySet,
        revocations: &RevocationState,
        now: UnixSeconds,
    ) -> Result<String, Denied> {
        let Connect { client_id, token, will_topic, version } = connect;
        let token = token.ok_or(Denied::TokenMissing)?;
        let memory = &mut self.memory;
        let token = self.verifier.verify_remembered(token, client_id, keys, revocations, memory, now)?;
        if let Some(will_topic) = will_topic {
            token.allows(Action::Publish, will_topic, now)?;
        }
        let device = token.subject().to_owned();
        let session = Session {
            token,
            will_topic: will_topic.map(str::to_owned),
            subscribed: false,
            version,
            dismissed: None,
            told_at: None,
        };
        self.by_client_id.insert(client_id.to_owned(), session);
        Ok(device)
    }

    /// The client is connected, with this will. One that the token does not
    /// allow is the end of the session; at a CONNECT whose will was seen it was
    /// refused already.
    pub(crate) fn connected(
        &mut self,
        client_id: &str,
        will_topic: Option<&str>,
        now: UnixSeconds,
    ) -> Result<(), Denied> {
        let Some(will_topic) = will_topic.filter(|topic| !self.is_will(client_id, topic)) else {
            return Ok(());
        };
        let session = self.by_client_id.get_mut(client_id).ok_or(Denied::TokenMissing)?;
        match session.token.allows(Action::Publish, will_topic, now) {
            Ok(()) => session.will_topic = Some(will_topic.to_owned()),
            Err(denied) => {
                session.will_topic = None;
                session.dismissed = Some(denied.clone());
                return Err(denied);
            }
        }
        Ok(())
    }

    /// Replaces the token of a connected client, and with it every right, and
    /// returns the name of its device. The new token must be for the same
    /// device. A will that it does not allow is dropped. After an error the
    /// connection must end.
    pub(crate) fn renew(
        &mut self,
        client_id: &str,
        token: Option<&str>,
        keys: &KeySet,
        revocations: &RevocationState,
        now: UnixSeconds,
    ) -> Result<String, NotRenewed> {
        let token = token.ok_or(Denied::TokenMissing)?;
        let memory = &mut self.memory;
        let token = self.verifier.verify_remembered(token, client_id, keys, revocations, memory, now)?;
        let session = self.by_client_id.get_mut(client_id).ok_or(Denied::TokenMissing)?;
        if let Some(denied) = &session.dismissed {
            return Err(denied.clone().into());
        }
        if token.subject() != session.token.subject() {
            return Err(NotRenewed::SubjectDiffers {
                found: Excerpt::of(token.subject()),
                connected: Excerpt::of(session.token.subject()),
            });
        }
        let device = token.subject().to_owned();
        session.will_topic.take_if(|topic| token.allows(Action::Publish, topic, now).is_err());
        let lost = if session.subscribed { not_covered(&session.token, &token, now) } else { None };
        session.token = token;
        session.told_at = None;
        match lost {
            None => Ok(device),
            Some(filter) => Err(NotRenewed::SubscribesToLess { filter }),
        }
    }

    /// Whether a client may subscribe now; that it did is kept in mind for
    /// [`Sessions::renew`].
    pub(crate) fn subscribe(
        &mut self,
        client_id: &str,
        filter: &str,
        revoked: &Revocations,
        now: UnixSeconds,
    ) -> Result<(), Denied> {
        self.allows(client_id, Action::Subscribe, filter, revoked, now)?;
        if let Some(session) = self.by_client_id.get_mut(client_id) {
            session.subscribed = true;
        }
        Ok(())
    }

    /// Whether a client may do this now.
    pub(crate) fn allows(
        &self,
        client_id: &str,
        action: Action,
        topic: &str,
        revoked: &Revocations,
        now: UnixSeconds,
    ) -> Result<(), Denied> {
        let session = self.by_client_id.get(client_id).ok_or(Denied::TokenMissing)?;
        if let Some(denied) = &session.dismissed {
            return Err(denied.clone());
        }
        session.token.signed().check_not_revoked(revoked)?;
        session.token.allows(action, topic, now)
    }

    /// What has taken back the token of a client, if anything has.
    pub(crate) fn revoked_by(&self, client_id: &str, revoked: &Revocations) -> Option<RevocationTarget> {
        let session = self.by_client_id.get(client_id)?;
        revoked.find_signed(session.token.signed()).map(|revocation| revocation.target)
    }

    /// Whether `topic` is that of the client's will, and was allowed.
    pub(crate) fn is_will(&self, client_id: &str, topic: &str) -> bool {
        self.by_client_id.get(client_id).is_some_and(|session| session.will_topic.as_deref() == Some(topic))
    }

    /// The protocol version that the client speaks.
    pub(crate) fn version(&self, client_id: &str) -> Option<Version> {
        self.by_client_id.get(client_id).map(|session| session.version)
    }

    /// The clients whose latest token has ended or was taken back, or who were
    /// dismissed: none of their connections may go on. They are told again and
    /// again, see [`ENDED_FOR_S`].
    pub(crate) fn ended(&mut self, revoked: &Revocations, now: UnixSeconds) -> Vec<String> {
        self.memory.forget_expired(now);
        let mut ended = Vec::new();
        self.by_client_id.retain(|client_id, session| {
            let is_good =
                now < session.token.ends_at() && revoked.find_signed(session.token.signed()).is_none();
            if is_good && session.dismissed.is_none() {
                return true;
            }
            let is_told = now < session.told_at.get_or_insert(now).plus(ENDED_FOR_S);
            if is_told {
                ended.push(client_id.clone());
            }
            is_told
        });
        ended
    }
}

/// What a client could subscribe to with the `older` token and cannot with the
/// `newer` one.
fn not_covered(older: &VerifiedToken, newer: &VerifiedToken, now: UnixSeconds) -> Option<Excerpt> {
    let mut filters = older.signed().subscribe_filters().map(TopicFilter::as_str);
    filters.find(|filter| newer.allows(Action::Subscribe, filter, now).is_err()).map(Excerpt::of)
}

#[cfg(test)]
mod tests;
