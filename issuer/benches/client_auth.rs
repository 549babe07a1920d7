//! What a token costs over HTTP when the device proves itself with
//! `private_key_jwt`, against the cryptography that it cannot do without:
//! `cargo bench -p fleetbadge-issuer --bench client_auth`.
//!
//! Each of 10,000 devices has a key of its own; every assertion is new, and
//! was made before the time is taken. The bare handler is served the same
//! requests by the same server and does, without reading them:
//!
//! - one ES256 verification, with a parsed key, of what is as long as an
//!   assertion;
//! - one ES256 signature over what is as long as a token;
//! - in the first comparison, one durable insert into an SQLite file of its
//!   own, batched as the issuer batches the `jti`s. The second one has none.

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
use std::time::Instant;

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
use fleetbadge_issuer::device_keys::DeviceKey;
use fleetbadge_issuer::devices::NewDevice;
use fleetbadge_issuer::store::sqlite::SqliteStore;
use fleetbadge_issuer::used_jtis::{StatementKind, UsedJtis};
use fleetbadge_ratio::{Target, compare_runs};
use fleetbadge_validator::jws::Jws;
use fleetbadge_validator::keys::VerifyingKey;
use fleetbadge_validator::test_support::TestKey;
use fleetbadge_validator::time::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ISSUER: &str = "https://id.example";
const DEVICES: usize = 10_000;
const CONNECTIONS: usize = 32;
const REQUESTS: usize = 4_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        data_dir: Some(folder.path().join("data")),
        issuer: Some(ISSUER.into()),
        ..Options::default()
    };
    let issuer = runtime.block_on(Issuer::open(options.resolve().unwrap(), Arc::new(SystemClock))).unwrap();
    let fleet = runtime.block_on(Fleet::register(&issuer));
    let jtis = runtime.block_on(async {
        let store = SqliteStore::open(&folder.path().join("bare.sqlite3")).await.unwrap();
        Arc::new(UsedJtis::new(Arc::new(store)))
    });

    let token = runtime.block_on(serve(issuer.public_router()));
    let with_insert = runtime.block_on(serve(bare_router(Some(jtis))));
    let bare = runtime.block_on(serve(bare_router(None)));
    let rate = |address| {
        let requests = fleet.requests(REQUESTS);
        runtime.block_on(ask(address, requests))
    };
    // Once round, so that every device and its key are in memory.
    runtime.block_on(ask(token, fleet.requests(DEVICES)));
    println!("{DEVICES} devices, {CONNECTIONS} connections, client and server in one process, requests/s:");
    compare_runs(|| rate(token), || rate(with_insert))
        .report("private_key_jwt / verify, sign, batched insert", Target::AtLeast(0.80));
    compare_runs(|| rate(token), || rate(bare))
        .report("private_key_jwt / verify, sign", Target::AtLeast(0.50));
}

/// Devices that can ask for tokens.
struct Fleet {
    keys: Vec<TestKey>,
    next: AtomicUsize,
}

impl Fleet {
    async fn register(issuer: &Issuer) -> Self {
        let keys: Vec<TestKey> = (0..DEVICES).map(|_| TestKey::generate()).collect();
        for (number, key) in keys.iter().enumerate() {
            let keys = DeviceKey::read_set(&json!({ "keys": [key.public().to_jwk()] })).unwrap();
            let new = NewDevice { name: format!("device-{number}"), keys, ..NewDevice::default() };
            issuer.add_device_without_secret(new).await.unwrap();
        }
        Self { keys, next: AtomicUsize::new(0) }
    }

    /// Requests of one device after the other, none of which was made before.
    fn requests(&self, count: usize) -> Arc<[Bytes]> {
        let request = |_| {
            let serial = self.next.fetch_add(1, Ordering::Relaxed);
            let body = format!(
                "grant_type=client_credentials&client_assertion_type=\
                 urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion={}",
                self.assertion(serial)
            );
            Bytes::from(format!(
                "POST /oauth2/token HTTP/1.1\r\nHost: id.example\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
        };
        (0..count).map(request).collect()
    }

    fn assertion(&self, serial: usize) -> String {
        let (number, now) = (serial % DEVICES, SystemClock.now().0);
        let (name, key) = (format!("device-{number}"), &self.keys[number]);
        let header = json!({"alg": "ES256", "typ": "client-authentication+jwt", "kid": key.kid()});
        let claims = json!({"iss": name, "sub": name, "aud": ISSUER, "iat": now, "exp": now + 300,
                            "jti": format!("{serial:032}")});
        key.token_of(header.to_string(), claims.to_string())
    }
}

/// Does what no implementation can do without, and answers JSON.
fn bare_router(jtis: Option<Arc<UsedJtis>>) -> Router {
    let device = TestKey::generate();
    let verifying = Arc::new(VerifyingKey::new(&device.public()).unwrap());
    let header = json!({"alg": "ES256", "typ": "client-authentication+jwt", "kid": device.kid()});
    let assertion: Arc<str> =
        device.token_of(header.to_string(), [&b"{\"a\":\""[..], &[b'x'; 180], b"\"}"].concat()).into();
    let pair = Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
    let next = Arc::new(AtomicUsize::new(0));
    let handler = move |_body: Bytes| async move {
        assert!(Jws::read(&assertion).unwrap().claims::<Value>(&verifying).is_ok(), "it is signed");
        if let Some(jtis) = jtis {
            let jti = format!("{:032}", next.fetch_add(1, Ordering::Relaxed));
            let ends_at = SystemClock.now().plus(330);
            jtis.use_once(StatementKind::ClientAssertion, "device", &jti, ends_at).await.unwrap();
        }
        let signature = pair.sign(&SystemRandom::new(), &[b'x'; 609]).unwrap();
        let signature = URL_SAFE_NO_PAD.encode(signature);
        axum::Json(json!({
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

/// Sends the requests over kept connections; answers per second.
async fn ask(address: SocketAddr, requests: Arc<[Bytes]>) -> f64 {
    let (start, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut answer = vec![0; 8192];
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    stream.write_all(request).await.unwrap();
                    let length = stream.read(&mut answer).await.unwrap();
                    assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "an answer is a token");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    requests.len() as f64 / start.elapsed().as_secs_f64()
}
