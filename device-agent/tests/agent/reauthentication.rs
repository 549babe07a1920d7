//! What the program does when a broker does not take a token: real ones do so
//! at the wrong time only.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::parts::{Device, Issuer, NUMBER, token};

const CONNACK_WITH_METHOD: &[u8] = b"\x20\x10\0\0\x0d\x15\0\x0aOAUTH2-JWT";
const CONNACK_METHOD_UNKNOWN: &[u8] = b"\x20\x03\0\x8c\0";
const CONNACK: &[u8] = b"\x20\x03\0\0\0";
const AUTH_SUCCESS: &[u8] = b"\xf0\x0f\0\x0d\x15\0\x0aOAUTH2-JWT";
/// The reason code alone, as most brokers write it.
const DISCONNECT_NOT_AUTHORIZED: &[u8] = b"\xe0\x01\x87";

/// A packet that presents a token.
#[derive(Debug, PartialEq, Eq)]
enum Presented {
    /// CONNECT without an authentication method.
    Basic(String),
    /// CONNECT with one.
    Enhanced(String),
    /// AUTH.
    Auth(String),
}

/// A broker that sends its `answers` to tokens one after the other; one that
/// refuses ends the connection. Returns its port and what it is presented.
fn broker(answers: &'static [&'static [u8]]) -> (u16, Receiver<Presented>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, presented) = mpsc::channel();
    std::thread::spawn(move || {
        let mut answers = answers.iter();
        for stream in listener.incoming() {
            serve(&mut stream.unwrap(), &mut answers, &sender);
        }
    });
    (port, presented)
}

fn serve<'a>(
    stream: &mut TcpStream,
    answers: &mut impl Iterator<Item = &'a &'static [u8]>,
    presented: &Sender<Presented>,
) {
    let mut buffer = [0; 4096];
    loop {
        // Small packets, and one at a time.
        let Ok(length @ 1..) = stream.read(&mut buffer) else { return };
        let packet = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let Some(start) = packet.find("t0ken-") else { continue };
        let token =
            packet.split_at(start).1.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let method = packet.contains("OAUTH2-JWT");
        let kind = match buffer[0] {
            0x10 if method => Presented::Enhanced(token),
            0x10 => Presented::Basic(token),
            0xF0 => Presented::Auth(token),
            other => panic!("a token in a packet {other:#x}"),
        };
        let Some(answer) = answers.next() else { return };
        stream.write_all(answer).unwrap();
        // An error means that the test is over.
        let _ = presented.send(kind);
        if [DISCONNECT_NOT_AUTHORIZED, CONNACK_METHOD_UNKNOWN].contains(answer) {
            return;
        }
    }
}

async fn presented(answers: &'static [&'static [u8]], arguments: &[&str], lifetime_s: u64) -> Vec<Presented> {
    let (port, presented) = broker(answers);
    let issuer = Issuer::start().await;
    issuer.answers(token(&format!("t0ken-{NUMBER}"), lifetime_s));
    let device = Device::of(&issuer);
    let broker = format!("mqtt://127.0.0.1:{port}");
    let connection = ["run", "--issuer", &issuer.url, "--broker", &broker, "--start-spread-s", "0"];
    let mut command = device.command(&[&connection, arguments].concat());
    let _agent = command.stdin(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    tokio::task::spawn_blocking(move || {
        let next = |_| presented.recv_timeout(Duration::from_secs(20)).expect("the next token in time");
        answers.iter().map(next).collect()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_refused_reauthentication_gets_one_new_token_and_a_new_connection() {
    let answers =
        &[CONNACK_WITH_METHOD, AUTH_SUCCESS, DISCONNECT_NOT_AUTHORIZED, CONNACK_WITH_METHOD, AUTH_SUCCESS];
    let enhanced = |token: &str| Presented::Enhanced(token.to_owned());
    let auth = |token: &str| Presented::Auth(token.to_owned());
    assert_eq!(
        presented(answers, &[], 3).await,
        [enhanced("t0ken-1"), auth("t0ken-2"), auth("t0ken-3"), enhanced("t0ken-4"), auth("t0ken-5")]
    );
}

#[tokio::test]
async fn a_broker_that_does_not_know_the_method_is_asked_once() {
    let answers = &[CONNACK_METHOD_UNKNOWN, CONNACK, CONNACK];
    let [one, two] = ["t0ken-1", "t0ken-2"].map(str::to_owned);
    assert_eq!(
        presented(answers, &[], 3).await,
        [Presented::Enhanced(one.clone()), Presented::Basic(one.clone()), Presented::Basic(two)]
    );
    assert_eq!(presented(&[CONNACK], &["--auth", "basic"], 900).await, [Presented::Basic(one)]);
}

#[tokio::test]
async fn a_broker_that_must_know_the_method_and_does_not_is_named_as_the_reason() {
    let (port, _presented) = broker(&[CONNACK_METHOD_UNKNOWN; 100]);
    let issuer = Issuer::start().await;
    let broker = format!("mqtt://127.0.0.1:{port}");
    let arguments = ["run", "--issuer", &issuer.url, "--broker", &broker, "--start-spread-s", "0"];
    let enhanced = ["--auth", "enhanced", "--give-up-after-s", "1"];
    let device = Device::of(&issuer);
    let mut command = device.command(&[&arguments[..], &enhanced].concat());
    let output = command.stdin(Stdio::piped()).output().await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("does not know OAUTH2-JWT") && !stderr.contains("t0ken"), "{stderr}");
}
