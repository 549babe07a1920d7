//! MQTT 3.1.1 and 5 by hand, over a socket: a test sees the exact codes that
//! the broker sends, and can send what no client library would.

mod packet;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

pub use self::packet::{Connect, Packet};
use crate::patience::{Deadline, PATIENCE};

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V3_1_1,
    /// MQTT 5.
    V5,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V3_1_1, Self::V5];

    /// The protocol level in CONNECT.
    #[must_use]
    pub fn level(self) -> u8 {
        match self {
            Self::V3_1_1 => 4,
            Self::V5 => 5,
        }
    }

    /// The code of a CONNACK that says "not authorized".
    #[must_use]
    pub fn not_authorized(self) -> u8 {
        match self {
            Self::V3_1_1 => 5,
            Self::V5 => 0x87,
        }
    }
}

/// One connection to a broker. It acknowledges nothing, so a session that is
/// kept gets its QoS 1 messages again.
#[derive(Debug)]
pub struct Wire {
    protocol: Protocol,
    stream: TcpStream,
    received: Vec<u8>,
    pending: Vec<Packet>,
}

impl Wire {
    /// Opens a connection to 127.0.0.1 and sends nothing yet.
    ///
    /// # Panics
    /// When nobody listens there.
    #[must_use]
    pub fn open(protocol: Protocol, port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the broker listens");
        stream.set_nodelay(true).expect("a TCP option");
        Self { protocol, stream, received: Vec::new(), pending: Vec::new() }
    }

    /// Sends CONNECT, and returns the code of the CONNACK, `None` when the
    /// broker hangs up instead. Refusals have codes of their own in 3.1.1: 5
    /// is "not authorized", which is 0x87 in MQTT 5.
    ///
    /// # Panics
    /// When the broker does neither.
    pub fn connect(&mut self, connect: &Connect<'_>) -> Option<u8> {
        self.send_connect(connect);
        self.answer(|packet| if let Packet::Connack { code, .. } = packet { Some(*code) } else { None })
    }

    /// Sends CONNECT and does not wait for the answer.
    ///
    /// # Panics
    /// When the connection is broken.
    pub fn send_connect(&mut self, connect: &Connect<'_>) {
        self.send(&connect.to_bytes(self.protocol));
    }

    /// Sends SUBSCRIBE for one filter, and returns the code of the SUBACK,
    /// `None` when the broker hangs up.
    ///
    /// # Panics
    /// When the broker does neither.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> Option<u8> {
        self.send(&packet::subscribe(self.protocol, filter, qos));
        self.answer(|packet| if let Packet::Suback { code } = packet { Some(*code) } else { None })
    }

    /// Sends PUBLISH with QoS 1, and returns the code of the PUBACK (0 always
    /// in 3.1.1), `None` when the broker hangs up.
    ///
    /// # Panics
    /// When the broker does neither.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Option<u8> {
        self.send(&packet::publish(self.protocol, topic, payload));
        self.answer(|packet| if let Packet::Puback { code } = packet { Some(*code) } else { None })
    }

    /// Sends AUTH with reason 0x19, re-authenticate (MQTT 5).
    ///
    /// # Panics
    /// When the connection is broken.
    pub fn reauthenticate(&mut self, method: &str, data: &[u8]) {
        self.send(&packet::reauthenticate(method, data));
    }

    /// Sends any bytes.
    ///
    /// # Panics
    /// When the connection is broken.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
    }

    /// The next packet from the broker, `None` when it has hung up.
    ///
    /// # Panics
    /// When neither happens within [`PATIENCE`].
    pub fn packet(&mut self) -> Option<Packet> {
        match self.packet_within(PATIENCE) {
            Received::Packet(packet) => Some(packet),
            Received::Closed => None,
            Received::Nothing => panic!("the broker says nothing"),
        }
    }

    /// What comes from the broker within `wait`.
    ///
    /// # Panics
    /// When the broker breaks the protocol.
    pub fn packet_within(&mut self, wait: Duration) -> Received {
        if !self.pending.is_empty() {
            return Received::Packet(self.pending.remove(0));
        }
        self.receive(wait)
    }

    /// Whether the broker ends the connection within `wait`. What else it
    /// says until then is lost.
    ///
    /// # Panics
    /// When the broker breaks the protocol.
    pub fn ended_within(&mut self, wait: Duration) -> bool {
        let deadline = Deadline::after(wait);
        while let Some(left) = deadline.left() {
            match self.packet_within(left) {
                Received::Closed | Received::Packet(Packet::Disconnect { .. }) => return true,
                Received::Packet(_) | Received::Nothing => {}
            }
        }
        false
    }

    /// The first packet that `wanted` takes; others stay for later.
    fn answer<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> Option<T> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            match self.receive(deadline.left().unwrap_or_default()) {
                Received::Packet(packet) => match wanted(&packet) {
                    Some(answer) => return Some(answer),
                    None => self.pending.push(packet),
                },
                Received::Closed => return None,
                Received::Nothing => panic!("no answer from the broker; it said {:?}", self.pending),
            }
        }
    }

    fn receive(&mut self, wait: Duration) -> Received {
        let deadline = Deadline::after(wait);
        loop {
            if let Some((packet, length)) = Packet::first_in(self.protocol, &self.received) {
                self.received.drain(..length);
                return Received::Packet(packet);
            }
            let Some(left) = deadline.left() else { return Received::Nothing };
            self.stream.set_read_timeout(Some(left)).expect("a TCP option");
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Received::Closed,
                Ok(length) => self.received.extend(buffer.iter().take(length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Received::Nothing,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Received::Closed,
                Err(error) => panic!("the connection to the broker: {error}"),
            }
        }
    }
}

/// What has come from a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A packet.
    Packet(Packet),
    /// The broker has hung up.
    Closed,
    /// Nothing, in the time there was.
    Nothing,
}
