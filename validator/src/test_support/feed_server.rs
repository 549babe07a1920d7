//! The issuer's feed of revocations and its place for reports, as tests want
//! them: up, down, silent, or talking nonsense.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::reports::sessions::{ReportAnswer, SessionsKept};
use crate::revocations::{Heartbeat, Revocation, Snapshot};
use crate::time::{Clock as _, SystemClock};

/// A server on a free port of the loopback interface. Its threads end with
/// the test process.
#[derive(Debug)]
pub struct FeedServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What the server does.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Its duty.
    Serving,
    /// Its duty, but for heartbeats.
    Heartless,
    /// Hangs up at once.
    Down,
    /// Takes requests and never answers.
    Silent,
    /// Knows nobody: 401.
    Unauthorized,
    /// Answers every request for the feed with these bytes, then hangs up.
    Raw(String),
    /// Sends these bytes as the feed, then hangs up.
    Events(String),
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Counts what ends the connections there are.
    generation: u64,
    log: Vec<Revocation>,
    part: usize,
    heartbeat: Duration,
    last_event_ids: Vec<Option<String>>,
    reports: Vec<Value>,
    answer_sessions: Option<SessionsKept>,
}

/// Has a `-`, as real ones may.
const EPOCH: &str = "AAAAAAAAAAAAAAAAAAAA-A";
const CREDENTIALS: (&str, &str) = ("hall-1", "s3cret");

#[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "for tests only")]
impl FeedServer {
    /// A server with a heartbeat so often.
    #[must_use]
    pub fn start(heartbeat: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = State {
            mode: Mode::Serving,
            generation: 0,
            log: Vec::new(),
            part: Snapshot::MAX_LENGTH,
            heartbeat,
            last_event_ids: Vec::new(),
            reports: Vec::new(),
            answer_sessions: Some(SessionsKept::Kept),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let server = Self { address, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // Whoever hangs up is no failure of the server.
                thread::spawn(move || shared.serve(stream).ok());
            }
        });
        server
    }

    /// Where the feed is.
    #[must_use]
    pub fn feed_url(&self) -> String {
        format!("http://{}/oauth2/revocations", self.address)
    }

    /// Where reports go.
    #[must_use]
    pub fn reports_url(&self) -> String {
        format!("http://{}/oauth2/reports", self.address)
    }

    /// What a credentials file must say.
    #[must_use]
    pub fn credentials() -> String {
        let (client_id, client_secret) = CREDENTIALS;
        json!({"client_id": client_id, "client_secret": client_secret, "audience": "mqtt"}).to_string()
    }

    /// Changes what the server does, and ends the connections there are.
    pub fn set_mode(&self, mode: Mode) {
        let mut state = self.shared.state();
        state.mode = mode;
        state.generation += 1;
        self.shared.changed.notify_all();
    }

    /// How many revocations an event of a snapshot has at most.
    pub fn set_part(&self, part: usize) {
        self.shared.state().part = part;
    }

    /// Revokes something, and tells all who listen.
    pub fn revoke(&self, revocation: Revocation) {
        self.shared.state().log.push(revocation);
        self.shared.changed.notify_all();
    }

    /// The `Last-Event-ID` of each request for the feed so far.
    #[must_use]
    pub fn last_event_ids(&self) -> Vec<Option<String>> {
        self.shared.state().last_event_ids.clone()
    }

    /// The id of the last event.
    #[must_use]
    pub fn event_id(&self) -> String {
        id(self.shared.state().log.len())
    }

    /// What is said to reports that have sessions.
    pub fn answer_sessions(&self, answer: Option<SessionsKept>) {
        self.shared.state().answer_sessions = answer;
    }

    /// The reports so far.
    #[must_use]
    pub fn reports(&self) -> Vec<Value> {
        self.shared.state().reports.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (head, body) = read_request(&mut stream)?;
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let (client_id, secret) = CREDENTIALS;
        let expected = format!("Basic {}", STANDARD.encode(format!("{client_id}:{secret}")));
        let is_known = header("authorization").as_deref() == Some(&*expected);
        let is_report = head.starts_with("POST ");
        let (mode, generation) = {
            let mut state = self.state();
            if !is_report {
                state.last_event_ids.push(header("last-event-id"));
            }
            (state.mode.clone(), state.generation)
        };
        match mode {
            Mode::Down => Ok(()),
            Mode::Silent => self.until_changed(generation),
            Mode::Raw(answer) => stream.write_all(answer.as_bytes()),
            Mode::Unauthorized => refuse(&mut stream),
            Mode::Serving | Mode::Heartless | Mode::Events(_) if !is_known => refuse(&mut stream),
            Mode::Serving | Mode::Heartless | Mode::Events(_) if is_report => {
                let answer = {
                    let mut state = self.state();
                    state.reports.push(serde_json::from_slice(&body)?);
                    state.answer_sessions
                };
                match answer {
                    Some(sessions) => {
                        let body = json!(ReportAnswer { sessions }).to_string();
                        let length = body.len();
                        let head = format!("content-length: {length}\r\nconnection: close");
                        stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").as_bytes())
                    }
                    None => stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"),
                }
            }
            Mode::Events(events) => {
                start_events(&mut stream)?;
                write_chunk(&mut stream, &events)?;
                write_chunk(&mut stream, "")
            }
            Mode::Serving => self.tell(stream, generation, header("last-event-id"), true),
            Mode::Heartless => self.tell(stream, generation, header("last-event-id"), false),
        }
    }

    fn until_changed(&self, generation: u64) -> io::Result<()> {
        let mut state = self.state();
        while state.generation == generation {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn tell(
        &self,
        mut stream: TcpStream,
        generation: u64,
        last_event_id: Option<String>,
        has_heart: bool,
    ) -> io::Result<()> {
        start_events(&mut stream)?;
        let known = last_event_id.and_then(|id| id.strip_prefix(EPOCH)?.strip_prefix('-')?.parse().ok());
        let mut told: usize = match known {
            Some(known) => known,
            None => {
                let (log, part) = {
                    let state = self.state();
                    (state.log.clone(), state.part)
                };
                write_chunk(&mut stream, &snapshot(&log, part))?;
                log.len()
            }
        };
        // The first is at once.
        let mut is_due = true;
        loop {
            let news = {
                let state = self.state();
                let wait = if is_due { Duration::ZERO } else { state.heartbeat };
                let quiet = |state: &mut State| state.log.len() <= told && state.generation == generation;
                let (state, waited) = self
                    .changed
                    .wait_timeout_while(state, wait, quiet)
                    .unwrap_or_else(PoisonError::into_inner);
                if state.generation != generation {
                    return write_chunk(&mut stream, "");
                }
                is_due |= waited.timed_out();
                state.log.iter().skip(told).cloned().collect::<Vec<_>>()
            };
            // Each is a chunk, as the least capable issuer would write it.
            for revocation in &news {
                told += 1;
                write_chunk(&mut stream, &event(Revocation::EVENT, Some(&id(told)), &json!(revocation)))?;
            }
            if std::mem::take(&mut is_due) && has_heart {
                let beat = Heartbeat { now: SystemClock.now() };
                write_chunk(&mut stream, &event(Heartbeat::EVENT, None, &json!(beat)))?;
            }
        }
    }
}

fn id(n: usize) -> String {
    format!("{EPOCH}-{n}")
}

/// The events of a snapshot.
#[must_use]
pub fn snapshot(revocations: &[Revocation], part: usize) -> String {
    let mut parts: Vec<&[Revocation]> = revocations.chunks(part).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let last = parts.len() - 1;
    let parts = parts.into_iter().enumerate().map(|(n, part)| {
        let more = n < last;
        let data = json!(Snapshot { revocations: part.to_vec(), more });
        event(Snapshot::EVENT, (!more).then(|| id(revocations.len())).as_deref(), &data)
    });
    parts.collect()
}

/// An event of the feed.
#[must_use]
pub fn event(name: &str, id: Option<&str>, data: &Value) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {name}\n{id}data: {data}\n\n")
}

fn start_events(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\
          transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
    )
}

/// An empty one is the last.
fn write_chunk(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    let length = text.len();
    stream.write_all(format!("{length:x}\r\n{text}\r\n").as_bytes())
}

fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    let body = r#"{"error":"invalid_client"}"#;
    let length = body.len();
    stream.write_all(
        format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
            .as_bytes(),
    )
}

fn read_request(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}
