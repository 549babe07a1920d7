//! What a token costs over HTTP: `cargo bench -p fleetbadge-issuer --bench
//! token_endpoint`.
//!
//! - beyond a bare handler with the same signature, for 100,000 devices;
//! - with PostgreSQL, against SQLite: two whole issuers, asked in turn, each
//!   with all its devices in memory.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::Router;
use axum::routing::post;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use fleetbadge_issuer::Issuer;
use fleetbadge_issuer::config::Options;
use fleetbadge_issuer::devices::NewDevice;
use fleetbadge_ratio::{Target, compare_runs};
use fleetbadge_tests::postgres::Postgres;
use fleetbadge_validator::time::SystemClock;
use tokio::runtime::Runtime;

use load::{CONNECTIONS, rate};

mod load;

const DEVICES: usize = 100_000;
/// How many there are when two databases are compared.
const FEWER_DEVICES: usize = 10_000;
const RUN: Duration = Duration::from_millis(400);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    println!("{CONNECTIONS} connections, client and server in one process, requests/s:");
    compare_with_bare(&runtime, folder.path());
    compare_databases(&runtime, folder.path());
}

fn compare_with_bare(runtime: &Runtime, folder: &Path) {
    let issuer = runtime.block_on(open(&folder.join("bare"), None));
    let requests = runtime.block_on(add_devices(&issuer, DEVICES));
    let token = runtime.block_on(serve(issuer.public_router()));
    let bare = runtime.block_on(serve(bare_router()));
    let run = |address| runtime.block_on(rate(address, Arc::clone(&requests), RUN));
    // Once round, so that every device is in memory.
    runtime.block_on(rate(token, Arc::clone(&requests), Duration::from_secs(15)));
    println!("{DEVICES} devices:");
    compare_runs(|| run(token), || run(bare))
        .report("token endpoint / bare handler with a signature", Target::AtLeast(0.85));
}

fn compare_databases(runtime: &Runtime, folder: &Path) {
    let postgres = Postgres::start();
    let start = |name, database| {
        runtime.block_on(async {
            let issuer = open(&folder.join(name), database).await;
            let requests = add_devices(&issuer, FEWER_DEVICES).await;
            let bound = issuer.bind().await.unwrap();
            let address = bound.public_address().unwrap();
            tokio::spawn(bound.run(std::future::pending()));
            rate(address, Arc::clone(&requests), Duration::from_secs(5)).await;
            (address, requests)
        })
    };
    let postgresql = start("postgresql", Some(postgres.database()));
    let sqlite = start("sqlite", None);
    let run = |(address, requests): &(SocketAddr, Arc<[Bytes]>)| {
        runtime.block_on(rate(*address, Arc::clone(requests), RUN))
    };
    println!("{FEWER_DEVICES} devices:");
    compare_runs(|| run(&postgresql), || run(&sqlite))
        .report("token endpoint over PostgreSQL / over SQLite", Target::AtLeast(0.9));
}

async fn open(data_dir: &Path, database: Option<String>) -> Issuer {
    let options = Options {
        data_dir: Some(data_dir.into()),
        database: database.map(Into::into),
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        issuer: Some("https://id.example".into()),
        device_cache_capacity: Some(2 * DEVICES),
        ..Options::default()
    };
    Issuer::open(options.resolve().unwrap(), Arc::new(SystemClock)).await.unwrap()
}

/// Adds devices and makes a request of each.
async fn add_devices(issuer: &Issuer, count: usize) -> Arc<[Bytes]> {
    let mut requests = Vec::with_capacity(count);
    for number in 0..count {
        let new = NewDevice { name: format!("device-{number}"), ..NewDevice::default() };
        let added = issuer.add_device(new).await.unwrap();
        requests.push(load::token_request(added.device.name.as_str(), &added.secret));
    }
    requests.into()
}

/// Signs what is as long as a token and answers JSON.
fn bare_router() -> Router {
    let pair = Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
    let handler = move |_body: Bytes| async move {
        let signature = pair.sign(&SystemRandom::new(), &[b'x'; 609]).unwrap();
        let signature = URL_SAFE_NO_PAD.encode(signature);
        axum::Json(serde_json::json!({
            "access_token": format!("{}.{signature}", "x".repeat(609)), "token_type": "Bearer",
            "expires_in": 900, "scope": "mqtt.connect mqtt.publish mqtt.subscribe",
        }))
    };
    Router::new().route("/oauth2/token", post(handler))
}

/// Serves as the issuer does, on a free port.
async fn serve(router: Router) -> SocketAddr {
    let handle = Handle::new();
    let server = axum_server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .acceptor(NoDelayAcceptor::new())
        .handle(handle.clone())
        .http1_only();
    tokio::spawn(server.serve(router.into_make_service()));
    handle.listening().await.unwrap()
}
