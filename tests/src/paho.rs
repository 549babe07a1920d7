//! A device on paho-mqtt, the client that most people know, led by a test
//! step by step (`clients/paho_client.py` is its other half).

use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::patience::{Deadline, PATIENCE};
use crate::process::{Position, Running, Signal, Stream};
use crate::python::PYTHON;
use crate::wire::Protocol;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/paho_client.py");

/// A device that has tried to connect. Codes are those of MQTT 5 always: paho
/// translates what a 3.1.1 broker says ([`wire`](crate::wire) does not).
#[derive(Debug)]
pub struct Paho {
    process: Running,
    read: Position,
    pending: Vec<Event>,
    connack: Option<u8>,
}

/// How a device will connect.
#[derive(Debug, Clone)]
pub struct PahoBuilder {
    port: u16,
    protocol: Protocol,
    client_id: String,
    username: Option<String>,
    password: Option<String>,
    will: Option<Value>,
    will_delay_s: u32,
    session_expiry_s: u32,
    keep_alive_s: u16,
    transport: &'static str,
}

/// A message that a device has got.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Message {
    /// Topic name.
    pub topic: String,
    /// Payload; not UTF-8 becomes U+FFFD.
    pub payload: String,
    /// Quality of service of the delivery.
    pub qos: u8,
    /// Whether it was a retained message.
    pub retain: bool,
}

/// How the broker has ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disconnected {
    /// With a DISCONNECT (MQTT 5). Paho overlooks the reason code of one
    /// without properties; [`wire`](crate::wire) sees it.
    Packet,
    /// By closing the socket, without a word.
    Closed,
}

/// What the script tells.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Connack { code: u8 },
    Disconnect { by_packet: bool },
    Subscribe { mid: u16 },
    Suback { mid: u16, code: u8 },
    Publish { mid: u16 },
    Puback { mid: u16, code: u8 },
    Message(Message),
}

impl Paho {
    /// A device for a broker on 127.0.0.1.
    #[must_use]
    pub fn builder(protocol: Protocol, port: u16) -> PahoBuilder {
        PahoBuilder {
            port,
            protocol,
            client_id: "device".to_owned(),
            username: None,
            password: None,
            will: None,
            will_delay_s: 0,
            session_expiry_s: 0,
            keep_alive_s: 60,
            transport: "tcp",
        }
    }

    /// The code of the CONNACK, `None` when the socket was closed instead.
    #[must_use]
    pub fn connack(&self) -> Option<u8> {
        self.connack
    }

    /// Subscribes, and returns the code of the SUBACK.
    ///
    /// # Panics
    /// When none comes.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        self.process.say(&json!({"step": "subscribe", "filter": filter, "qos": qos}).to_string());
        let sent = self.expect(|event| if let Event::Subscribe { mid } = event { Some(*mid) } else { None });
        self.expect(|event| {
            if let Event::Suback { mid, code } = event
                && *mid == sent
            {
                Some(*code)
            } else {
                None
            }
        })
    }

    /// Publishes, and returns the code of the PUBACK; with QoS 0, 0 once it is
    /// sent.
    ///
    /// # Panics
    /// When none comes.
    pub fn publish(&mut self, topic: &str, payload: &str, qos: u8) -> u8 {
        let step = json!({"step": "publish", "topic": topic, "payload": payload, "qos": qos});
        self.process.say(&step.to_string());
        let sent = self.expect(|event| if let Event::Publish { mid } = event { Some(*mid) } else { None });
        self.expect(|event| {
            if let Event::Puback { mid, code } = event
                && *mid == sent
            {
                Some(*code)
            } else {
                None
            }
        })
    }

    /// The next message.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`].
    pub fn message(&mut self) -> Message {
        self.expect(message_in)
    }

    /// The next message, if it comes within `wait`.
    pub fn message_within(&mut self, wait: Duration) -> Option<Message> {
        self.find_within(wait, message_in)
    }

    /// How the connection ended, if it does within `wait`.
    pub fn disconnected_within(&mut self, wait: Duration) -> Option<Disconnected> {
        let by_packet = self.find_within(wait, disconnect_in)?;
        Some(if by_packet { Disconnected::Packet } else { Disconnected::Closed })
    }

    /// Ends the connection with an orderly DISCONNECT.
    ///
    /// # Panics
    /// When the device does not end.
    pub fn disconnect(mut self) {
        self.process.end_of_input();
        let finished = self.process.wait();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }

    /// Ends the connection as a power cut does: no DISCONNECT, so the broker
    /// publishes the will.
    pub fn vanish(mut self) {
        self.process.signal(Signal::KILL);
    }

    fn expect<T>(&mut self, find: impl Fn(&Event) -> Option<T>) -> T {
        self.find_within(PATIENCE, find)
            .unwrap_or_else(|| panic!("that does not happen; paho said:\n{}", self.process.output()))
    }

    /// Takes the first event of which `find` makes something; others stay for
    /// later.
    fn find_within<T>(&mut self, wait: Duration, find: impl Fn(&Event) -> Option<T>) -> Option<T> {
        let early = self.pending.iter().enumerate().find_map(|(index, event)| Some((index, find(event)?)));
        if let Some((index, found)) = early {
            self.pending.remove(index);
            return Some(found);
        }
        let deadline = Deadline::after(wait);
        loop {
            let line = self.process.next_line(&mut self.read, deadline.left()?)?;
            if line.stream == Stream::Stderr {
                continue;
            }
            let event = serde_json::from_str(&line.text)
                .unwrap_or_else(|error| panic!("paho told {:?}: {error}", line.text));
            if let Some(found) = find(&event) {
                return Some(found);
            }
            self.pending.push(event);
        }
    }
}

fn message_in(event: &Event) -> Option<Message> {
    if let Event::Message(message) = event { Some(message.clone()) } else { None }
}

/// Whether the broker has said DISCONNECT, in the event that a connection has
/// ended.
fn disconnect_in(event: &Event) -> Option<bool> {
    if let Event::Disconnect { by_packet } = event { Some(*by_packet) } else { None }
}

impl PahoBuilder {
    /// The client identifier; `device` otherwise.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Self {
        client_id.clone_into(&mut self.client_id);
        self
    }

    /// The user name.
    #[must_use]
    pub fn username(mut self, username: &str) -> Self {
        self.username = Some(username.to_owned());
        self
    }

    /// The password. Paho sends it only with a user name.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// The will, published by the broker when the device vanishes.
    #[must_use]
    pub fn will(mut self, topic: &str, payload: &str, qos: u8) -> Self {
        self.will = Some(json!({"topic": topic, "payload": payload, "qos": qos}));
        self
    }

    /// How long after the end of the connection the will is published, if the
    /// session lasts longer (MQTT 5).
    #[must_use]
    pub fn will_delay_s(mut self, seconds: u32) -> Self {
        self.will_delay_s = seconds;
        self
    }

    /// Keeps the session for this long after the connection (3.1.1: for ever),
    /// and resumes one; otherwise there is a clean start and nothing is kept.
    #[must_use]
    pub fn session_expiry_s(mut self, seconds: u32) -> Self {
        self.session_expiry_s = seconds;
        self
    }

    /// The keep alive; 60 s otherwise.
    #[must_use]
    pub fn keep_alive_s(mut self, seconds: u16) -> Self {
        self.keep_alive_s = seconds;
        self
    }

    /// Connects over WebSockets.
    #[must_use]
    pub fn websockets(mut self) -> Self {
        self.transport = "websockets";
        self
    }

    /// Connects, and waits until the broker has said yes, no, or hung up.
    ///
    /// # Panics
    /// When it does nothing of the kind.
    #[must_use]
    pub fn connect(self) -> Paho {
        let mut command = Command::new(PYTHON);
        command.arg(SCRIPT);
        let mut process = Running::spawn(command);
        process.say(
            &json!({
                "port": self.port,
                "protocol": self.protocol.level(),
                "client_id": self.client_id,
                "username": self.username,
                "password": self.password,
                "will": self.will,
                "will_delay_s": self.will_delay_s,
                "session_expiry_s": self.session_expiry_s,
                "keep_alive_s": self.keep_alive_s,
                "transport": self.transport,
            })
            .to_string(),
        );
        let mut paho = Paho { process, read: Position::default(), pending: Vec::new(), connack: None };
        paho.connack = paho.expect(|event| {
            if let Event::Connack { code } = event {
                Some(Some(*code))
            } else {
                disconnect_in(event).map(|_| None)
            }
        });
        paho
    }
}
