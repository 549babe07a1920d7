//! The bytes of MQTT packets, as far as tests need them (MQTT 3.1.1 and 5,
//! section 3).

use super::Protocol;

/// The packet identifier of every SUBSCRIBE and PUBLISH: one at a time waits
/// for its answer.
const PACKET_ID: u16 = 1;

/// A CONNECT packet; [`Connect::default`] has an empty client ID, a clean
/// start and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connect<'a> {
    /// Client identifier.
    pub client_id: &'a str,
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Topic and payload of the will, QoS 1.
    pub will: Option<(&'a str, &'a [u8])>,
    /// Whether to resume a session, and (MQTT 5: for 3600 s) leave one behind.
    pub keep_session: bool,
    /// Authentication method and data (MQTT 5).
    pub authentication: Option<(&'a str, &'a [u8])>,
}

/// A packet from a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK: the answer to CONNECT.
    Connack {
        /// Whether the broker had kept a session.
        session_present: bool,
        /// Reason code, in 3.1.1 return code.
        code: u8,
    },
    /// SUBACK: the answer to SUBSCRIBE.
    Suback {
        /// The granted QoS, or 0x80 and above.
        code: u8,
    },
    /// PUBACK: the answer to PUBLISH.
    Puback {
        /// Reason code, 0 in 3.1.1.
        code: u8,
    },
    /// PUBLISH: a message.
    Publish {
        /// Topic name.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
    },
    /// AUTH: a part of enhanced authentication (MQTT 5).
    Auth {
        /// Reason code.
        code: u8,
    },
    /// DISCONNECT by the broker (MQTT 5).
    Disconnect {
        /// Reason code.
        code: u8,
    },
    /// Any other.
    Other {
        /// Packet type and flags.
        first_byte: u8,
    },
}

impl Connect<'_> {
    /// The packet as it is sent.
    #[must_use]
    pub fn to_bytes(self, protocol: Protocol) -> Vec<u8> {
        let flags = [
            (!self.keep_session, 0x02),
            (self.will.is_some(), 0x04 | 0x08), // QoS 1
            (self.password.is_some(), 0x40),
            (self.username.is_some(), 0x80),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, bits)| all | bits);
        let mut body = Vec::new();
        field(&mut body, b"MQTT");
        body.extend([protocol.level(), flags, 0, 60]); // keep alive 60 s
        if protocol == Protocol::V5 {
            self.put_properties(&mut body);
        }
        field(&mut body, self.client_id.as_bytes());
        if let Some((topic, payload)) = self.will {
            put_no_properties(&mut body, protocol);
            field(&mut body, topic.as_bytes());
            field(&mut body, payload);
        }
        if let Some(username) = self.username {
            field(&mut body, username.as_bytes());
        }
        if let Some(password) = self.password {
            field(&mut body, password);
        }
        packet(0x10, &body)
    }

    fn put_properties(self, body: &mut Vec<u8>) {
        let mut properties = Vec::new();
        if self.keep_session {
            properties.push(0x11);
            properties.extend(3600_u32.to_be_bytes());
        }
        if let Some((method, data)) = self.authentication {
            put_authentication(&mut properties, method, data);
        }
        put_length(body, properties.len());
        body.extend(properties);
    }
}

pub(super) fn subscribe(protocol: Protocol, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = PACKET_ID.to_be_bytes().to_vec();
    put_no_properties(&mut body, protocol);
    field(&mut body, filter.as_bytes());
    body.push(qos);
    packet(0x82, &body)
}

/// PUBLISH with QoS 1.
pub(super) fn publish(protocol: Protocol, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    field(&mut body, topic.as_bytes());
    body.extend(PACKET_ID.to_be_bytes());
    put_no_properties(&mut body, protocol);
    body.extend(payload);
    packet(0x32, &body)
}

/// AUTH with reason code 0x19, re-authenticate.
pub(super) fn reauthenticate(method: &str, data: &[u8]) -> Vec<u8> {
    let mut properties = Vec::new();
    put_authentication(&mut properties, method, data);
    let mut body = vec![0x19];
    put_length(&mut body, properties.len());
    body.extend(properties);
    packet(0xF0, &body)
}

fn put_authentication(properties: &mut Vec<u8>, method: &str, data: &[u8]) {
    properties.push(0x15);
    field(properties, method.as_bytes());
    properties.push(0x16);
    field(properties, data);
}

fn put_no_properties(body: &mut Vec<u8>, protocol: Protocol) {
    if protocol == Protocol::V5 {
        body.push(0);
    }
}

fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first_byte];
    put_length(&mut packet, body.len());
    packet.extend(body);
    packet
}

fn field(to: &mut Vec<u8>, content: &[u8]) {
    to.extend(u16::try_from(content.len()).expect("a field of at most 65,535 bytes").to_be_bytes());
    to.extend(content);
}

/// A variable byte integer (MQTT 5 §1.5.5).
fn put_length(to: &mut Vec<u8>, mut length: usize) {
    while length > 0x7F {
        to.push(0x80 | u8::try_from(length & 0x7F).unwrap_or_default());
        length >>= 7;
    }
    to.push(u8::try_from(length).unwrap_or_default());
}

impl Packet {
    /// The packet at the start of `bytes` and its length, when all of it is
    /// there.
    pub(super) fn first_in(protocol: Protocol, bytes: &[u8]) -> Option<(Self, usize)> {
        let (&first_byte, rest) = bytes.split_first()?;
        let (length, rest) = take_length(rest)?;
        let body = rest.get(..length)?;
        let whole = bytes.len() - rest.len() + length;
        let packet = Self::from_body(protocol, first_byte, body);
        Some((packet.unwrap_or_else(|| panic!("not an MQTT packet: {:02x?}", bytes.get(..whole))), whole))
    }

    fn from_body(protocol: Protocol, first_byte: u8, body: &[u8]) -> Option<Self> {
        // MQTT 5 leaves out a reason code that is 0.
        let code = |index: usize| body.get(index).copied().unwrap_or(0);
        Some(match first_byte >> 4 {
            2 => Self::Connack { session_present: *body.first()? == 1, code: *body.get(1)? },
            3 => Self::message(protocol, first_byte, body)?,
            4 => Self::Puback { code: code(2) },
            9 => Self::Suback { code: *body.last()? },
            14 => Self::Disconnect { code: code(0) },
            15 => Self::Auth { code: code(0) },
            _ => Self::Other { first_byte },
        })
    }

    fn message(protocol: Protocol, first_byte: u8, body: &[u8]) -> Option<Self> {
        let (length, rest) = body.split_first_chunk()?;
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let has_packet_id = first_byte & 0x06 != 0;
        let rest = if has_packet_id { rest.get(2..)? } else { rest };
        let payload = match protocol {
            Protocol::V3_1_1 => rest,
            Protocol::V5 => {
                let (length, rest) = take_length(rest)?;
                rest.get(length..)?
            }
        };
        Some(Self::Publish { topic: String::from_utf8_lossy(topic).into_owned(), payload: payload.to_vec() })
    }
}

fn take_length(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let (&byte, rest) = bytes.split_first()?;
        length |= usize::from(byte & 0x7F) << shift;
        bytes = rest;
        if byte & 0x80 == 0 {
            return Some((length, bytes));
        }
    }
    panic!("a length of more than four bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_is_as_the_standard_says() {
        let connect = Connect { client_id: "a", username: Some("u"), ..Connect::default() };
        assert_eq!(connect.to_bytes(Protocol::V3_1_1), b"\x10\x10\0\x04MQTT\x04\x82\0\x3C\0\x01a\0\x01u");
        assert_eq!(connect.to_bytes(Protocol::V5), b"\x10\x11\0\x04MQTT\x05\x82\0\x3C\0\0\x01a\0\x01u");
    }

    #[test]
    fn long_packet_is_read_back_when_complete() {
        let sent = publish(Protocol::V5, "a/b", &[7; 300]);
        assert_eq!(Packet::first_in(Protocol::V5, &sent[..sent.len() - 1]), None);
        let expected = Packet::Publish { topic: "a/b".to_owned(), payload: vec![7; 300] };
        let length = sent.len();
        assert_eq!(Packet::first_in(Protocol::V5, &[&sent[..], b"next"].concat()), Some((expected, length)));
    }
}
