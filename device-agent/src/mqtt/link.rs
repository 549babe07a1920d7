//! One connection: drives the event loop from the attempt to the end.

use rumqttc::{
    AuthEvent, AuthExchangeKind, ConnectReturnCode, ConnectionError, DisconnectReasonCode, Event, EventLoop,
    Outgoing, Packet, Publish, StateError, SubscribeReasonCode,
};
use tokio::sync::{mpsc, oneshot};

/// What comes from the broker while connected.
#[derive(Debug)]
pub enum Incoming {
    /// The broker accepted the connection.
    Connected {
        /// Whether it still has the session; subscriptions are part of it.
        session_present: bool,
        /// The longest packet that it takes, in bytes, if there is a limit.
        max_packet_size: Option<u32>,
    },
    /// A message.
    Message(Publish),
    /// The broker has taken the token of a re-authentication.
    Reauthenticated,
    /// The outcome of a subscription, filter by filter.
    Subscribed(Vec<SubscribeReasonCode>),
}

/// How a connection ended. The texts are for the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// By our DISCONNECT, everything acknowledged.
    Left,
    /// The broker does not accept the token, or no more.
    Refused(String),
    /// The broker does not know the authentication method.
    MethodUnknown(String),
    /// It broke, or could not be opened.
    Lost(String),
}

/// Drives `event_loop` until its connection ends, and hands it back.
pub(super) async fn drive(
    mut event_loop: Box<EventLoop>,
    incoming: mpsc::Sender<Incoming>,
    mut aborted: oneshot::Receiver<()>,
) -> (Box<EventLoop>, Ended) {
    loop {
        // Whoever holds the other ends is gone, or wants this to end at once.
        let polled = tokio::select! {
            polled = event_loop.poll() => polled,
            _ = &mut aborted => {
                // What is in flight stays in the loop, to be sent again.
                event_loop.clean();
                return (event_loop, Ended::Lost("given up: the broker does not answer".to_owned()));
            }
        };
        match polled {
            Ok(Event::Outgoing(Outgoing::Disconnect)) => {
                // Messages that arrived before it have been acknowledged: they
                // must not be lost.
                while let Some(event) = event_loop.state.events.pop_front() {
                    report(&incoming, event).await;
                }
                return (event_loop, Ended::Left);
            }
            Ok(event) => {
                if matches!(event, Event::Incoming(Packet::ConnAck(_))) {
                    // From here on there is a session to resume.
                    event_loop.options.set_clean_start(false);
                }
                report(&incoming, event).await;
            }
            Err(error) => {
                let starts_over = matches!(
                    error,
                    ConnectionError::SessionStateMismatch { .. } | ConnectionError::SessionRestore(_)
                );
                if starts_over {
                    event_loop.options.set_clean_start(true);
                }
                return (event_loop, ended(&error));
            }
        }
    }
}

async fn report(incoming: &mpsc::Sender<Incoming>, event: Event) {
    let item = match event {
        Event::Incoming(Packet::ConnAck(connack)) => Incoming::Connected {
            session_present: connack.session_present,
            max_packet_size: connack.properties.and_then(|properties| properties.max_packet_size),
        },
        Event::Incoming(Packet::Publish(publish)) => Incoming::Message(publish),
        Event::Incoming(Packet::SubAck(suback)) => Incoming::Subscribed(suback.return_codes),
        Event::Auth(AuthEvent::Succeeded { kind: AuthExchangeKind::Reauthentication, .. }) => {
            Incoming::Reauthenticated
        }
        Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_) => return,
    };
    // An error means that nobody wants to know any more.
    let _ = incoming.send(item).await;
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's enums grow; what is new is a loss")]
fn ended(error: &ConnectionError) -> Ended {
    match error {
        ConnectionError::ConnectionRefused(
            code @ (ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::ClientIdentifierNotValid
            | ConnectReturnCode::Banned),
        ) => Ended::Refused(format!("CONNACK {code:?}")),
        ConnectionError::ConnectionRefused(code @ ConnectReturnCode::BadAuthenticationMethod) => {
            Ended::MethodUnknown(format!("CONNACK {code:?}"))
        }
        ConnectionError::ConnectionRefused(code) => Ended::Lost(format!("CONNACK {code:?}")),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let reason = reason_string.as_deref().map(|reason| format!(" ({})", reason.escape_debug()));
            let text = format!("DISCONNECT {reason_code:?}{}", reason.unwrap_or_default());
            if *reason_code == DisconnectReasonCode::NotAuthorized {
                Ended::Refused(text)
            } else {
                Ended::Lost(text)
            }
        }
        // The packet itself may be anything.
        ConnectionError::NotConnAck(_) => Ended::Lost("the answer to CONNECT is no CONNACK".to_owned()),
        error => Ended::Lost(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_losses() {
        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        assert_eq!(ended(&refused), Ended::Refused("CONNACK NotAuthorized".into()));
        let method = ConnectionError::ConnectionRefused(ConnectReturnCode::BadAuthenticationMethod);
        assert_eq!(ended(&method), Ended::MethodUnknown("CONNACK BadAuthenticationMethod".into()));
        let busy = ConnectionError::ConnectionRefused(ConnectReturnCode::ServerBusy);
        assert_eq!(ended(&busy), Ended::Lost("CONNACK ServerBusy".into()));

        let disconnect = |reason_code| {
            ended(&ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code,
                reason_string: Some("token\nexpired".into()),
            }))
        };
        let text = r"DISCONNECT NotAuthorized (token\nexpired)";
        assert_eq!(disconnect(DisconnectReasonCode::NotAuthorized), Ended::Refused(text.into()));
        assert!(matches!(disconnect(DisconnectReasonCode::SessionTakenOver), Ended::Lost(_)));
    }
}
