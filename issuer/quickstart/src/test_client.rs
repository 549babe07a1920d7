//! MQTT clients for the tests: a real one for MQTT 5, and bytes for 3.1.1.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Packet, PubAckReason,
    PublishOptions, QoS, SubscribeReasonCode,
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

fn string(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut length) = (vec![kind], body.len());
    loop {
        let low = u8::try_from(length % 128).unwrap();
        length /= 128;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return [packet, body.to_vec()].concat();
        }
    }
}
