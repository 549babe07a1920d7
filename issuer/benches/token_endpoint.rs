//! What a token costs over HTTP beyond a bare handler with the same
//! signature, for 100,000 devices: `cargo bench -p fleetbadge-issuer --bench
//! token_endpoint`.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::Router;
use axum::routing::post;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use fleetbadge_issuer::Issuer;
use fleetbadge_issuer::config::Options;
use fleetbadge_issuer::devices::NewDevice;
use fleetbadge_ratio::{Target, compare_runs};
use fleetbadge_validator::time::SystemClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DEVICES: usize = 100_000;
const CONNECTIONS: usize = 32;
const RUN: Duration = Duration::from_millis(400);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        data_dir: Some(folder.path().join("data")),
        issuer: Some("https://id.example".into()),
        ..Options::default()
    };
    let issuer = runtime.block_on(Issuer::open(options.resolve().unwrap(), Arc::new(SystemClock))).unwrap();
    let requests: Arc<[Bytes]> = runtime.block_on(add_devices(&issuer)).into();

    let token = runtime.block_on(serve(issuer.public_router()));
    let bare = runtime.block_on(serve(bare_router()));
    let rate = |address| runtime.block_on(ask(address, Arc::clone(&requests), RUN));
    // Once round, so that every device is in memory.
    runtime.block_on(ask(token, Arc::clone(&requests), Duration::from_secs(15)));
    println!("{DEVICES} devices, {CONNECTIONS} connections, client and server in one process, requests/s:");
    compare_runs(|| rate(token), || rate(bare))
        .report("token endpoint / bare handler with a signature", Target::AtLeast(0.85));
}

/// Adds the devices and makes a request of each.
async fn add_devices(issuer: &Issuer) -> Vec<Bytes> {
    let mut requests = Vec::with_capacity(DEVICES);
    for number in 0..DEVICES {
        let new = NewDevice { name: format!("device-{number}"), ..NewDevice::default() };
        let added = issuer.add_device(new).await.unwrap();
        let pair = STANDARD.encode(format!("{}:{}", added.device.name, added.secret.expose()));
        requests.push(Bytes::from(format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: id.example\r\nAuthorization: Basic {pair}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 29\r\n\r\n\
             grant_type=client_credentials"
        )));
    }
    requests
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

/// Asks over kept connections, for other devices each time; answers per second.
async fn ask(address: SocketAddr, requests: Arc<[Bytes]>, time: Duration) -> f64 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let start = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let requests = Arc::clone(&requests);
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut answer = vec![0; 8192];
                let mut answers = 0;
                while start.elapsed() < time {
                    let request = &requests[NEXT.fetch_add(1, Ordering::Relaxed) % requests.len()];
                    stream.write_all(request).await.unwrap();
                    let length = stream.read(&mut answer).await.unwrap();
                    assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "an answer is a token");
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let mut answers = 0;
    for client in clients {
        answers += client.await.unwrap();
    }
    f64::from(answers) / start.elapsed().as_secs_f64()
}
