//! MQTT clients for the tests: a real one for MQTT 5, and bytes for 3.1.1 and
//! for what no real one would send.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rumqttc::{
    AsyncClient, AuthEvent, AuthExchangeKind, AuthProperties, ConnectReturnCode, ConnectionError, Event,
    EventLoop, MqttOptions, Packet, PubAckReason, PublishOptions, QoS, SubscribeReasonCode,
};

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited for something that must not happen.
const SILENCE: Duration = Duration::from_millis(500);

/// A connected MQTT 5 client.
pub(crate) struct Client {
    client: AsyncClient,
    events: EventLoop,
}

/// What an MQTT 5 client connects with.
pub(crate) fn options(broker: SocketAddr, client_id: &str, token: &str) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, (broker.ip().to_string(), broker.port()));
    options.set_username(token).set_clean_start(true);
    options
}

/// What an MQTT 5 client connects with in an enhanced authentication.
pub(crate) fn enhanced(broker: SocketAddr, client_id: &str, method: &str, token: &str) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, (broker.ip().to_string(), broker.port()));
    options.set_authentication_method(Some(method.into()));
    options.set_authentication_data(Some(token.to_owned().into())).set_clean_start(true);
    options
}

impl Client {
    /// Connects, or says with which code that was refused.
    pub(crate) async fn connect(options: MqttOptions) -> Result<Self, ConnectReturnCode> {
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        loop {
            match tokio::time::timeout(PATIENCE, events.poll()).await.expect("CONNACK in time") {
                Ok(Event::Incoming(Packet::ConnAck(_))) => return Ok(Self { client, events }),
                Ok(_) => {}
                Err(ConnectionError::ConnectionRefused(code)) => return Err(code),
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let suback =
            self.wait(|packet| if let Packet::SubAck(suback) = packet { Some(suback) } else { None });
        suback.await.return_codes[0]
    }

    pub(crate) async fn publish(&mut self, topic: &str, payload: &'static str) -> PubAckReason {
        self.client.publish(topic, payload, PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
        let puback =
            self.wait(|packet| if let Packet::PubAck(puback) = packet { Some(puback) } else { None });
        puback.await.reason
    }

    /// Sends a token with AUTH, and waits until the broker has taken it.
    pub(crate) async fn reauthenticate(&mut self, token: &str) {
        let data = Some(token.to_owned().into());
        self.client.reauth(Some(AuthProperties { data, ..AuthProperties::default() })).await.unwrap();
        let answer = async {
            loop {
                let event = self.events.poll().await.expect("the connection stands");
                if let Event::Auth(AuthEvent::Succeeded {
                    kind: AuthExchangeKind::Reauthentication, ..
                }) = event
                {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time");
    }

    /// The next message: its topic, payload and user properties.
    pub(crate) async fn message(&mut self) -> (String, String, Vec<(String, String)>) {
        let publish =
            self.wait(|packet| if let Packet::Publish(publish) = packet { Some(publish) } else { None });
        let publish = publish.await;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let properties = publish.properties.map(|properties| properties.user_properties).unwrap_or_default();
        (text(&publish.topic), text(&publish.payload), properties)
    }

    /// Whether a while passes without a message and without an end.
    pub(crate) async fn hears_nothing(&mut self) -> bool {
        let something = self.wait_for(SILENCE, |packet| matches!(packet, Packet::Publish(_)).then_some(()));
        something.await.is_none()
    }

    /// Waits until the broker ends the connection.
    pub(crate) async fn is_disconnected(&mut self) {
        let end = async { while self.events.poll().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, end).await.expect("the connection ends in time");
    }

    async fn wait<T>(&mut self, pick: impl Fn(Packet) -> Option<T>) -> T {
        self.wait_for(PATIENCE, pick).await.expect("the packet comes in time")
    }

    async fn wait_for<T>(&mut self, patience: Duration, pick: impl Fn(Packet) -> Option<T>) -> Option<T> {
        let picked = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await.expect("the connection stands")
                    && let Some(picked) = pick(packet)
                {
                    return picked;
                }
            }
        };
        tokio::time::timeout(patience, picked).await.ok()
    }
}

/// An MQTT 3.1.1 connection, byte by byte.
pub(crate) struct V3(TcpStream);

impl V3 {
    /// Sends a CONNECT and returns the CONNACK's return code too.
    pub(crate) fn connect(broker: SocketAddr, client_id: &str, token: &str) -> (Self, u8) {
        let mut stream = TcpStream::connect(broker).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Protocol level 4; user name and clean session; keep alive 60 s.
        let fixed = b"\x00\x04MQTT\x04\x82\x00\x3c".to_vec();
        stream.write_all(&packet(0x10, &[fixed, string(client_id), string(token)].concat())).unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!(connack[..3], [0x20, 2, 0]);
        (Self(stream), connack[3])
    }

    /// Publishes with QoS 1 and returns the whole PUBACK.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str) -> [u8; 4] {
        let body = [string(topic), vec![0, 1], payload.as_bytes().to_vec()].concat();
        self.exchange(&packet(0x32, &body))
    }

    /// Subscribes with QoS 0 and returns the return code of the SUBACK.
    pub(crate) fn subscribe(&mut self, filter: &str) -> u8 {
        let body = [vec![0, 2], string(filter), vec![0]].concat();
        let suback: [u8; 5] = self.exchange(&packet(0x82, &body));
        assert_eq!(suback[..4], [0x90, 3, 0, 2]);
        suback[4]
    }

    fn exchange<const N: usize>(&mut self, packet: &[u8]) -> [u8; N] {
        self.0.write_all(packet).unwrap();
        let mut answer = [0; N];
        self.0.read_exact(&mut answer).unwrap();
        answer
    }
}

/// An MQTT 5 connection, byte by byte.
pub(crate) struct V5(TcpStream);

impl V5 {
    /// Sends a CONNECT, the token as authentication data if there is a
    /// method, else as user name.
    pub(crate) fn connect(broker: SocketAddr, client_id: &str, method: Option<&str>, token: &str) -> Self {
        let mut stream = TcpStream::connect(broker).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let properties = method.map(|method| authentication(method, token)).unwrap_or_default();
        let (flags, username) = if method.is_some() { (2, vec![]) } else { (0x82, string(token)) };
        // Protocol level 5; clean start; keep alive 60 s.
        let fixed = [b"\x00\x04MQTT\x05".as_slice(), &[flags, 0, 60]].concat();
        let body = [fixed, sized(&properties), string(client_id), username].concat();
        stream.write_all(&packet(0x10, &body)).unwrap();
        let mut connection = Self(stream);
        let (kind, connack) = connection.packet().expect("a CONNACK");
        assert_eq!((kind, connack[1]), (0x20, 0), "let in");
        connection
    }

    /// Sends an AUTH and returns the type of the answer and its reason code, if
    /// there is an answer.
    pub(crate) fn auth(&mut self, reason: u8, method: &str, token: &str) -> Option<(u8, u8)> {
        let body = [vec![reason], sized(&authentication(method, token))].concat();
        self.0.write_all(&packet(0xF0, &body)).unwrap();
        self.packet().map(|(kind, body)| (kind, body.first().copied().unwrap_or(0)))
    }

    /// Subscribes with QoS 1 and returns the reason code of the SUBACK.
    pub(crate) fn subscribe(&mut self, filter: &str) -> u8 {
        let body = [vec![0, 2, 0], string(filter), vec![1]].concat();
        self.0.write_all(&packet(0x82, &body)).unwrap();
        let (kind, suback) = self.packet().expect("a SUBACK");
        assert_eq!(kind, 0x90);
        *suback.last().unwrap()
    }

    /// The next packet: its first byte and what comes after its length. `None`
    /// is the end of the connection.
    pub(crate) fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut read = |bytes: &mut [u8]| match self.0.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                None
            }
            Err(error) => panic!("neither a packet nor the end: {error}"),
        };
        let mut byte = || {
            let mut byte = [0];
            read(&mut byte).map(|()| byte[0])
        };
        let kind = byte()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let low = byte()?;
            length |= usize::from(low & 0x7F) << shift;
            shift += 7;
            if low < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        read(&mut body)?;
        Some((kind, body))
    }
}

/// The properties Authentication Method and Authentication Data.
fn authentication(method: &str, token: &str) -> Vec<u8> {
    [vec![0x15], string(method), vec![0x16], string(token)].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    [vec![kind], sized(body)].concat()
}

/// The body behind its length, a Variable Byte Integer.
fn sized(body: &[u8]) -> Vec<u8> {
    let (mut sized, mut length) = (vec![], body.len());
    loop {
        let low = u8::try_from(length % 128).unwrap();
        length /= 128;
        sized.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return [sized, body.to_vec()].concat();
        }
    }
}
