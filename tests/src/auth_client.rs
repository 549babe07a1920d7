//! An MQTT 5 client that authenticates with a method, and again while it is
//! connected: Python's own sockets and nothing else (`clients/auth_client.py`
//! is its other half, and strict about every byte that the broker sends).

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::patience::PATIENCE;
use crate::process::{Position, Running, Stream};
use crate::python::PYTHON;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/auth_client.py");

/// A client that has sent CONNECT. Packets are JSON objects with `packet`, its
/// name, and its fields; `closed` and `nothing` are such names too.
#[derive(Debug)]
pub struct AuthClient {
    process: Running,
    read: Position,
    pending: Vec<Value>,
    last_id: u16,
}

impl AuthClient {
    /// Connects and returns the first packet of the broker too. `connect` has
    /// `client_id` and may have `method`, `data`, `username`, `password`,
    /// `will`, `clean_start`, `session_expiry_s`, `receive_maximum`, and for TLS
    /// `authority`, `certificate` and `key` (files), for WebSockets `websocket`.
    ///
    /// # Panics
    /// When the broker says nothing, or what it must not.
    #[must_use]
    pub fn connect(port: u16, connect: &Value) -> (Self, Value) {
        let mut command = Command::new(PYTHON);
        command.arg(SCRIPT);
        let process = Running::spawn(command);
        let mut client = Self { process, read: Position::default(), pending: Vec::new(), last_id: 0 };
        let mut step = json!({"do": "connect", "port": port});
        if let (Value::Object(step), Value::Object(connect)) = (&mut step, connect) {
            step.extend(connect.clone());
        }
        client.step(&step);
        let answer = client.receive();
        (client, answer)
    }

    /// Connects as a device with a token, by method `OAUTH2-JWT`.
    ///
    /// # Panics
    /// When it is not let in.
    #[must_use]
    pub fn admitted(port: u16, client_id: &str, token: &str) -> Self {
        let connect = json!({"client_id": client_id, "method": "OAUTH2-JWT", "data": token});
        let (client, answer) = Self::connect(port, &connect);
        assert_eq!(
            answer["packet"].as_str().zip(answer["reason"].as_u64()),
            Some(("CONNACK", 0)),
            "{answer}"
        );
        client
    }

    /// Sends AUTH 0x19 with method `OAUTH2-JWT` and returns what comes next.
    ///
    /// # Panics
    /// When nothing comes, or what must not.
    pub fn reauthenticate(&mut self, token: &str) -> Value {
        self.reauthenticate_by("OAUTH2-JWT", token)
    }

    /// Sends AUTH 0x19 and returns what comes next.
    ///
    /// # Panics
    /// When nothing comes, or what must not.
    pub fn reauthenticate_by(&mut self, method: &str, token: &str) -> Value {
        self.step(&json!({"do": "auth", "method": method, "data": token}));
        self.receive()
    }

    /// Asks for a subscription and returns the reason code.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> u64 {
        self.last_id += 1;
        self.step(&json!({"do": "subscribe", "filter": filter, "qos": qos, "id": self.last_id}));
        self.reason("SUBACK")
    }

    /// Publishes with QoS 1 and returns the reason code.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn publish(&mut self, topic: &str, payload: &str) -> u64 {
        self.last_id += 1;
        self.step(&json!({"do": "publish", "topic": topic, "payload": payload, "id": self.last_id}));
        self.reason("PUBACK")
    }

    /// Acknowledges a message with QoS 1.
    pub fn acknowledge(&mut self, message: &Value) {
        self.step(&json!({"do": "acknowledge", "id": message["id"]}));
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        let bytes: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.step(&json!({"do": "raw", "bytes": bytes}));
    }

    /// Whether the broker answers a ping.
    ///
    /// # Panics
    /// When it says what it must not.
    pub fn is_alive(&mut self) -> bool {
        self.step(&json!({"do": "ping"}));
        self.receive()["packet"] == "PINGRESP"
    }

    /// The next packet, or `closed`.
    ///
    /// # Panics
    /// When neither comes within [`PATIENCE`], or what must not.
    pub fn receive(&mut self) -> Value {
        let packet = self.receive_within(PATIENCE);
        assert_ne!(packet["packet"], "nothing", "the broker says nothing");
        packet
    }

    /// The next packet, `closed`, or `nothing` within that time.
    ///
    /// # Panics
    /// When the broker sends what it must not.
    pub fn receive_within(&mut self, wait: Duration) -> Value {
        if self.pending.is_empty() { self.next_packet(wait) } else { self.pending.remove(0) }
    }

    fn next_packet(&mut self, wait: Duration) -> Value {
        self.step(&json!({"do": "receive", "wait_s": wait.as_secs_f64()}))
    }

    /// The name and reason code of each packet until the broker hangs up.
    ///
    /// # Panics
    /// When it does not, or sends what it must not.
    pub fn last_words(&mut self) -> Vec<(String, u64)> {
        let mut words = Vec::new();
        loop {
            let packet = self.receive();
            let name = packet["packet"].as_str().unwrap_or_default().to_owned();
            if name == "closed" {
                return words;
            }
            words.push((name, packet["reason"].as_u64().unwrap_or_default()));
        }
    }

    /// The reason code of the answer to what was sent last; messages that
    /// come before it stay for later.
    fn reason(&mut self, packet: &str) -> u64 {
        loop {
            let answer = self.next_packet(PATIENCE);
            if answer["packet"] == "PUBLISH" {
                self.pending.push(answer);
                continue;
            }
            let expected = (&json!(packet), &json!(self.last_id));
            assert_eq!((&answer["packet"], &answer["id"]), expected, "{answer}");
            return answer["reason"].as_u64().unwrap_or_default();
        }
    }

    fn step(&mut self, step: &Value) -> Value {
        self.process.say(&step.to_string());
        loop {
            let line = self.process.next_line(&mut self.read, PATIENCE * 2);
            let line = line.unwrap_or_else(|| panic!("{step}: it ends: {}", self.process.output()));
            if line.stream == Stream::Stdout {
                return serde_json::from_str(&line.text)
                    .unwrap_or_else(|error| panic!("{error}: {}", line.text));
            }
        }
    }
}
