//! The load: MQTT 5 clients on a core of their own.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fleetbadge_tests::broker::Mosquitto;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::{Domain, Socket, Type};

/// The core of the broker, and that of the load.
const BROKER_CORE: usize = 0;
const LOAD_CORE: usize = 1;
/// How many clients connect at once.
const CLIENTS: u8 = 8;
/// Messages in one write, and writes in one turn.
const AT_ONCE: usize = 100;
const WRITES: usize = 400;
/// How often somebody asks whether the broker is there.
const PING_EVERY: Duration = Duration::from_millis(2);
const PINGREQ: [u8; 2] = [0xC0, 0];

/// Keeps this process, and what it starts from here on, off the broker's core.
pub(crate) fn stay_off_the_brokers_core() {
    pin(None, LOAD_CORE);
}

/// Gives a broker the other core. Threads that it has already stay where they
/// are: its plugin's, which do nothing here.
pub(crate) fn give_core(broker: &Mosquitto) {
    pin(Pid::from_raw(broker.pid().try_into().unwrap()), BROKER_CORE);
}

fn pin(process: Option<Pid>, core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(process, &cores).unwrap();
}

/// Connects with each of these CONNECTs once, and hangs up; how many a second.
pub(crate) fn connect_rate(port: u16, connects: &[Vec<u8>]) -> f64 {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let next = &next;
            scope.spawn(move || {
                while let Some(connect) = connects.get(next.fetch_add(1, Ordering::Relaxed)) {
                    drop(connected(port, client, connect));
                }
            });
        }
    });
    rate(connects.len(), began)
}

/// Connects with each of these CONNECTs, and stays.
pub(crate) fn connect_all(port: u16, connects: &[Vec<u8>]) -> Vec<TcpStream> {
    (0..CLIENTS).cycle().zip(connects).map(|(client, connect)| connected(port, client, connect)).collect()
}

/// A connection that the broker has accepted, from an address of the client's
/// own, as each has 28,000 ports. Whoever drops it leaves no port behind that
/// has to wait.
fn connected(port: u16, client: u8, connect: &[u8]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2 + client], 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(connect).unwrap();
    let mut connack = [0; 256];
    let length = stream.read(&mut connack).unwrap();
    assert!(matches!(connack[..length], [0x20, _, _, 0, ..]), "not let in: {:x?}", &connack[..length]);
    stream
}

/// Publishes to one topic with QoS 0 for a turn; how many messages a second.
pub(crate) fn publish_rate(port: u16, connect: &[u8], topic: &str) -> f64 {
    let mut stream = connected(port, 0, connect);
    let (topic, payload) = (topic.as_bytes(), [b'x'; 64]);
    let length = 2 + topic.len() + 1 + payload.len();
    let head = [0x30, length.try_into().unwrap(), 0, topic.len().try_into().unwrap()];
    let message = [&head[..], topic, &[0], &payload].concat();
    let messages = message.repeat(AT_ONCE);
    let began = Instant::now();
    for _ in 0..WRITES {
        stream.write_all(&messages).unwrap();
    }
    ping(&mut stream);
    rate(AT_ONCE * WRITES, began)
}

fn rate(count: usize, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}

fn ping(stream: &mut TcpStream) {
    stream.write_all(&PINGREQ).unwrap();
    let mut pingresp = [0; 2];
    stream.read_exact(&mut pingresp).unwrap();
    assert_eq!(pingresp, [0xD0, 0]);
}

/// How long the answers to a client's pings take while `event` goes on, in
/// milliseconds, in order. A ping that comes late since the last one was
/// answered late is as late.
pub(crate) fn pings_during(port: u16, connect: &[u8], event: impl FnOnce()) -> Vec<f64> {
    let mut stream = connected(port, 0, connect);
    let is_over = AtomicBool::new(false);
    let mut taken = thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let (mut taken, mut due) = (Vec::new(), Instant::now());
            loop {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                ping(&mut stream);
                taken.push(due.elapsed().as_secs_f64() * 1e3);
                due += PING_EVERY;
                if is_over.load(Ordering::Relaxed) {
                    return taken;
                }
            }
        });
        event();
        is_over.store(true, Ordering::Relaxed);
        pings.join().unwrap()
    });
    taken.sort_by(f64::total_cmp);
    taken
}

/// Waits until the broker has ended all of these connections.
pub(crate) fn wait_for_the_end_of(fleet: &[TcpStream]) {
    let mut goodbye = [0; 64];
    for stream in fleet {
        let mut stream = stream;
        while stream.read(&mut goodbye).is_ok_and(|length| length > 0) {}
    }
}
