//! An issuer of 1,000,000 devices over SQLite, most of which it does not have
//! in memory: `cargo bench -p fleetbadge-issuer --bench million`.
//!
//! The issuer is a process of its own, with its defaults. Devices are drawn at
//! random, all of them equally often: the worst case for a cache. The latency
//! is that of an open loop at half of the rate that the same devices reach
//! when they ask as fast as they are answered: requests come at random moments,
//! whether or not those before them have been answered, and their time is
//! counted from the moment at which they were to come.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench"
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fleetbadge_issuer::Issuer;
use fleetbadge_issuer::config::Options;
use fleetbadge_issuer::data_dir::DataDir;
use fleetbadge_issuer::devices::NewDevice;
use fleetbadge_issuer::secret::{ClientSecret, SecretHasher};
use fleetbadge_issuer::store::Store as _;
use fleetbadge_issuer::store::sqlite::SqliteStore;
use fleetbadge_issuer::store::tables::{Cell, ImportedRow, Row};
use fleetbadge_ratio::{Target, report};
use fleetbadge_tests::ports;
use fleetbadge_tests::process::Running;
use fleetbadge_validator::time::SystemClock;
use serde_json::Value;
use tokio::sync::mpsc;

use load::{CONNECTIONS, OK};

mod load;

const DEVICES: u64 = 1_000_000;
/// The device that all others are like.
const TEMPLATE: &str = "device";
/// How long the cache is filled, the most is measured, and the latency is.
const TURN: Duration = Duration::from_secs(15);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let began = Instant::now();
    let secret = runtime.block_on(fill(&folder.path().join("template"), &data_dir));
    println!("{DEVICES} devices filled in within {:.0} s", began.elapsed().as_secs_f64());

    let (address, ops) = (local(ports::free()), local(ports::free()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetbadge-issuer"));
    command.args(["serve", "--issuer", "https://id.example", "--listen", &address.to_string()]);
    command.args(["--ops-listen", &ops.to_string(), "--data-dir"]).arg(&data_dir);
    let began = Instant::now();
    let issuer = Running::spawn(command);
    issuer.wait_for("is ready");
    report("start in s", began.elapsed().as_secs_f64(), Target::AtMost(5.0));

    let mut random = Random(1);
    let requests: Arc<[Bytes]> =
        (0..DEVICES).map(|_| load::token_request(&name(random.below(DEVICES)), &secret)).collect();
    runtime.block_on(load::rate(address, Arc::clone(&requests), TURN));
    let misses = counted(ops, "fleetbadge_device_cache_misses_total");
    let most = runtime.block_on(load::rate(address, Arc::clone(&requests), TURN));
    let misses = counted(ops, "fleetbadge_device_cache_misses_total") - misses;
    println!("{CONNECTIONS} connections, {most:.0} tokens/s at most");
    report("cache misses / tokens", misses / (most * TURN.as_secs_f64()), Target::AtLeast(0.5));
    let mut latencies = latencies(address, &requests, most / 2.0);
    latencies.sort_unstable();
    let ms = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies[index].as_secs_f64() * 1e3
    };
    println!("at half of that: {} tokens, p50 {:.2} ms, p90 {:.2} ms", latencies.len(), ms(0.5), ms(0.9));
    report("p99 of a token in ms at half of the most", ms(0.99), Target::AtMost(5.0));
    report("most resident memory in MB", resident_mb(&issuer), Target::AtMost(150.0));
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn name(number: u64) -> String {
    format!("{TEMPLATE}-{number:07}")
}

/// Makes an issuer with one device, and from it one with many that all have
/// the same secret.
async fn fill(template: &Path, data_dir: &Path) -> ClientSecret {
    let options = Options {
        data_dir: Some(template.into()),
        issuer: Some("https://id.example".into()),
        ..Options::default()
    };
    let issuer = Issuer::open(options.resolve().unwrap(), Arc::new(SystemClock)).await.unwrap();
    let secret =
        issuer.add_device(NewDevice { name: TEMPLATE.into(), ..NewDevice::default() }).await.unwrap().secret;
    drop(issuer);

    let data_dir = DataDir::open(data_dir).unwrap();
    let root_key = "root.key";
    let database = data_dir.database().unwrap();
    fs::copy(template.join(root_key), database.with_file_name(root_key)).unwrap();
    let hasher = data_dir.root_key_file().read().unwrap()[0].secret_hasher();
    let template = SqliteStore::open(&template.join(database.file_name().unwrap())).await.unwrap();
    let store = SqliteStore::open(&database).await.unwrap();
    let (export, mut exported) = mpsc::channel::<Row>(1_000);
    let (import, imported) = mpsc::channel(1_000);
    let multiply = async {
        while let Some(row) = exported.recv().await {
            match row.table.name {
                "devices" | "names" => {
                    for number in 0..DEVICES {
                        let row = like(&row, &name(number), &hasher, &secret);
                        import.send(ImportedRow::Row(row)).await.unwrap();
                    }
                }
                _ => import.send(ImportedRow::Row(row)).await.unwrap(),
            }
        }
        import.send(ImportedRow::End).await.unwrap();
    };
    let (exported, imported, ()) =
        tokio::join!(template.export(export), store.import(imported, None), multiply);
    exported.unwrap();
    imported.unwrap();
    secret
}

/// The template's row as that of another device.
fn like(row: &Row, name: &str, hasher: &SecretHasher, secret: &ClientSecret) -> Row {
    let mut row = row.clone();
    for cell in &mut row.cells {
        match cell {
            Cell::Text(text) if text == TEMPLATE => name.clone_into(text),
            Cell::Json(document) => {
                document["mqtt_client_ids"] = Value::from(vec![name]);
                document["credentials"]["secrets"][0]["verifier"]["made"] =
                    serde_json::to_value(hasher.hash(name, secret)).unwrap();
            }
            Cell::Text(_) | Cell::Integer(_) | Cell::Bytes(_) => {}
        }
    }
    row
}

/// How long each of so many requests a second took.
fn latencies(address: SocketAddr, requests: &Arc<[Bytes]>, rate: f64) -> Vec<Duration> {
    let start = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|client| {
            let requests = Arc::clone(requests);
            let mut random = Random(client as u64 + 2);
            let mean = CONNECTIONS as f64 / rate;
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut answer = vec![0; 8192];
                let mut taken = Vec::new();
                let mut due = Duration::ZERO;
                loop {
                    due += Duration::from_secs_f64(-random.share().ln() * mean);
                    if due > TURN {
                        return taken;
                    }
                    thread::sleep(due.saturating_sub(start.elapsed()));
                    stream.write_all(load::next(&requests)).unwrap();
                    let length = stream.read(&mut answer).unwrap();
                    assert!(answer[..length].starts_with(OK), "an answer is a token");
                    taken.push(start.elapsed().saturating_sub(due));
                }
            })
        })
        .collect();
    clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
}

/// What the issuer has counted.
fn counted(ops: SocketAddr, metric: &str) -> f64 {
    let mut stream = TcpStream::connect(ops).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let value = answer.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
    value.unwrap()
}

/// The most memory that the process ever had resident.
fn resident_mb(issuer: &Running) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", issuer.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
}

/// `SplitMix64`: repeatable, and good enough to draw devices.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Above 0, at most 1.
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}
