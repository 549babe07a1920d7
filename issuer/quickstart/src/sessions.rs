//! Who is connected with which token, and what follows from it. Pure: the
//! time is an argument, and nothing here knows the broker.
//!
//! A session belongs to an MQTT client ID, not to a connection. The broker's
//! events name only the client ID, and at a takeover the old connection ends
//! after the new one began; so the latest token of a client ID decides for
//! all its connections, and a session is forgotten by time, never by an event.

use std::collections::HashMap;

use fleetbadge_validator::access::Action;
use fleetbadge_validator::denied::Denied;
use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::memory::Memory;
use fleetbadge_validator::revocations::{RevocationState, RevocationTarget, Revocations};
use fleetbadge_validator::time::UnixSeconds;
use fleetbadge_validator::verify::{VerifiedToken, Verifier};

/// For how long an ended session is told by [`Sessions::ended`], in seconds
/// from the first time, whenever that is: the machine may have slept. A client that was admitted in the last moment may not have been
/// registered when its session ended; the broker gives a CONNECT 10 s.
const ENDED_FOR_S: u64 = 15;

/// A CONNECT packet, as far as it decides whether the client may come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connect<'a> {
    pub(crate) client_id: &'a str,
    /// The token; devices send it as the user name.
    pub(crate) token: Option<&'a str>,
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
    version: Version,
    /// When [`Sessions::ended`] told it first.
    told_at: Option<UnixSeconds>,
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
        let session = Session { token, will_topic: will_topic.map(str::to_owned), version, told_at: None };
        self.by_client_id.insert(client_id.to_owned(), session);
        Ok(device)
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
        session.token.signed().check_not_revoked(revoked)?;
        session.token.allows(action, topic, now)
    }

    /// What has taken back the token of a client, if anything has.
    pub(crate) fn revoked_by(&self, client_id: &str, revoked: &Revocations) -> Option<RevocationTarget> {
        let session = self.by_client_id.get(client_id)?;
        revoked.find_signed(session.token.signed()).map(|revocation| revocation.target)
    }

    /// Whether `topic` is that of the will that the client was let in with.
    pub(crate) fn is_will(&self, client_id: &str, topic: &str) -> bool {
        self.by_client_id.get(client_id).is_some_and(|session| session.will_topic.as_deref() == Some(topic))
    }

    /// The protocol version that the client speaks.
    pub(crate) fn version(&self, client_id: &str) -> Option<Version> {
        self.by_client_id.get(client_id).map(|session| session.version)
    }

    /// The clients whose latest token has ended or was taken back: none of their connections may
    /// go on. They are told again and again, see [`ENDED_FOR_S`].
    pub(crate) fn ended(&mut self, revoked: &Revocations, now: UnixSeconds) -> Vec<String> {
        self.memory.forget_expired(now);
        let mut ended = Vec::new();
        self.by_client_id.retain(|client_id, session| {
            if now < session.token.ends_at() && revoked.find_signed(session.token.signed()).is_none() {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleetbadge_validator::freshness::Freshness;
    use fleetbadge_validator::revocations::Revocation;
    use fleetbadge_validator::test_support::{TestKey, claims, vectors};
    use serde_json::json;

    use super::*;

    const IAT: u64 = 1_000_000;
    /// `exp` plus the default skew.
    const ENDS_AT: UnixSeconds = UnixSeconds(IAT + 60 + Verifier::DEFAULT_SKEW_S);
    const NOW: UnixSeconds = UnixSeconds(IAT + 1);

    fn sessions() -> (Sessions, TestKey, KeySet) {
        let key = TestKey::generate();
        let (keys, _) = KeySet::from_json("https://id.example", key.jwks().as_bytes()).unwrap();
        (Sessions::new(Verifier::new("https://id.example", "mqtt")), key, keys)
    }

    fn connect<'a>(client_id: &'a str, token: &'a str) -> Connect<'a> {
        Connect { client_id, token: Some(token), will_topic: None, version: Version::V5 }
    }

    fn none() -> Revocations {
        Revocations::default()
    }

    fn known(revocations: Revocations) -> RevocationState {
        let freshness = Freshness { confirmed_at: NOW, max_staleness_s: 0 };
        RevocationState::Known { revocations: Arc::new(revocations), freshness }
    }

    #[test]
    fn a_client_is_let_in_with_its_own_token_and_does_what_that_allows() {
        let (mut sessions, key, keys) = sessions();
        let token = key.token(&claims("pump-1", IAT, IAT + 60));

        assert_eq!(
            sessions.admit(connect("pump-1", &token), &keys, &known(none()), NOW),
            Ok("pump-1".to_owned())
        );
        assert_eq!(sessions.allows("pump-1", Action::Publish, "devices/pump-1/state", &none(), NOW), Ok(()));
        assert_eq!(
            sessions.allows("pump-1", Action::Subscribe, "$share/g/devices/pump-1/+", &none(), NOW),
            Ok(())
        );
        let denied =
            |action, topic| sessions.allows("pump-1", action, topic, &none(), NOW).unwrap_err().code();
        assert_eq!(denied(Action::Publish, "devices/pump-2/state"), "topic_not_allowed");
        assert_eq!(denied(Action::Subscribe, "#"), "topic_not_allowed");
        assert_eq!(denied(Action::Subscribe, "$SYS/#"), "topic_not_allowed");
    }

    #[test]
    fn nobody_is_let_in_without_a_token_or_with_that_of_another() {
        let (mut sessions, key, keys) = sessions();
        let token = key.token(&claims("pump-1", IAT, IAT + 60));
        let forged = TestKey::generate().token(&claims("pump-1", IAT, IAT + 60));
        let without = Connect { token: None, ..connect("pump-1", "") };

        let mut denied = |connect| sessions.admit(connect, &keys, &known(none()), NOW).unwrap_err().code();
        assert_eq!(denied(without), "token_missing");
        assert_eq!(denied(connect("pump-2", &token)), "client_id_differs");
        assert_eq!(denied(connect("pump-1", &forged)), "key_unknown");
        let unknown = sessions.allows("pump-1", Action::Publish, "devices/pump-1/state", &none(), NOW);
        assert_eq!(unknown, Err(Denied::TokenMissing));
    }

    #[test]
    fn every_vector_has_its_verdict() {
        for (file, vectors) in vectors() {
            let (keys, _) = KeySet::from_json(&vectors.issuer, vectors.jwks.to_string().as_bytes()).unwrap();
            let mut sessions = Sessions::new(Verifier::new(&vectors.issuer, &vectors.audience));
            // The embedded broker has no TLS, and so no certificates.
            for case in vectors.cases.iter().filter(|case| case.certificate.is_none()) {
                let (connect, now) = (connect(&case.client_id, &case.token), UnixSeconds(case.now));
                let admitted = sessions.admit(connect, &keys, &case.revocation_state(), now);
                let verdict = admitted.as_ref().map_or_else(Denied::code, |_| "allow");
                assert_eq!(verdict, case.expect, "{file}: {}", case.name);
            }
        }
    }

    #[test]
    fn a_will_is_judged_at_the_connect() {
        let (mut sessions, key, keys) = sessions();
        let token = key.token(&claims("pump-1", IAT, IAT + 60));
        let with_will = |will_topic| Connect { will_topic: Some(will_topic), ..connect("pump-1", &token) };

        let denied =
            sessions.admit(with_will("devices/pump-2/gone"), &keys, &known(none()), NOW).unwrap_err();
        assert_eq!(denied.code(), "topic_not_allowed");
        assert!(!sessions.is_will("pump-1", "devices/pump-2/gone"));
        assert!(sessions.admit(with_will("devices/pump-1/gone"), &keys, &known(none()), NOW).is_ok());
        assert!(sessions.is_will("pump-1", "devices/pump-1/gone"));
    }

    #[test]
    fn the_latest_token_decides() {
        let (mut sessions, key, keys) = sessions();
        let wide = key.token(&claims("pump-1", IAT, IAT + 60));
        let mut narrow = claims("pump-1", IAT, IAT + 120);
        narrow["scope"] = json!("mqtt.connect mqtt.publish");
        let narrow = key.token(&narrow);

        sessions.admit(connect("pump-1", &wide), &keys, &known(none()), NOW).unwrap();
        sessions
            .admit(Connect { version: Version::V3, ..connect("pump-1", &narrow) }, &keys, &known(none()), NOW)
            .unwrap();
        let denied =
            sessions.allows("pump-1", Action::Subscribe, "devices/pump-1/#", &none(), NOW).unwrap_err();
        assert_eq!(denied.code(), "scope_missing");
        assert_eq!(sessions.version("pump-1"), Some(Version::V3));
        assert!(sessions.ended(&none(), ENDS_AT).is_empty(), "the new token has not ended");
    }

    #[test]
    fn an_ended_session_is_told_until_nobody_can_come_in_with_it_any_more() {
        let (mut sessions, key, keys) = sessions();
        let token = key.token(&claims("pump-1", IAT, IAT + 60));
        sessions.admit(connect("pump-1", &token), &keys, &known(none()), NOW).unwrap();

        assert!(sessions.ended(&none(), ENDS_AT.minus(1)).is_empty());
        let denied = sessions.allows("pump-1", Action::Publish, "devices/pump-1/state", &none(), ENDS_AT);
        assert_eq!(denied.unwrap_err().code(), "expired");
        // The first that is heard of the time after a long sleep.
        let awake = ENDS_AT.plus(3_600);
        assert_eq!(sessions.ended(&none(), awake), ["pump-1"]);
        assert_eq!(sessions.ended(&none(), awake.plus(ENDED_FOR_S - 1)), ["pump-1"]);
        assert!(sessions.ended(&none(), awake.plus(ENDED_FOR_S)).is_empty());
    }

    #[test]
    fn what_was_taken_back_lets_nobody_in_and_ends_who_is_in() {
        let (mut sessions, key, keys) = sessions();
        let token = key.token(&claims("pump-1", IAT, IAT + 60));
        sessions.admit(connect("pump-1", &token), &keys, &known(none()), NOW).unwrap();
        let other = Revocation::of_device("pump-2", NOW, ENDS_AT);
        assert!(sessions.ended(&[other].into_iter().collect(), NOW).is_empty());

        let revoked: Revocations = [Revocation::of_device("pump-1", NOW, ENDS_AT)].into_iter().collect();
        assert_eq!(sessions.ended(&revoked, NOW), ["pump-1"]);
        let refused = sessions.allows("pump-1", Action::Publish, "devices/pump-1/state", &revoked, NOW);
        assert_eq!(refused.unwrap_err().code(), "revoked");
        assert_eq!(
            sessions
                .admit(connect("pump-1", &token), &keys, &known(revoked.clone()), NOW)
                .unwrap_err()
                .code(),
            "revoked"
        );
        // With a token that was issued later it is in again.
        let later = key.token(&claims("pump-1", NOW.0, NOW.0 + 60));
        assert!(sessions.admit(connect("pump-1", &later), &keys, &known(revoked.clone()), NOW).is_ok());
        assert!(sessions.ended(&revoked, NOW).is_empty());
    }
}
