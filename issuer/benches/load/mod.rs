//! Devices that ask for tokens over kept connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fleetbadge_issuer::secret::ClientSecret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const CONNECTIONS: usize = 32;
/// How what is answered to a request that gets its token begins.
pub(crate) const OK: &[u8] = b"HTTP/1.1 200";

/// A request for a token with `client_secret_basic`.
pub(crate) fn token_request(name: &str, secret: &ClientSecret) -> Bytes {
    let pair = STANDARD.encode(format!("{name}:{}", secret.expose()));
    Bytes::from(format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: id.example\r\nAuthorization: Basic {pair}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 29\r\n\r\n\
         grant_type=client_credentials"
    ))
}

/// The next of these requests, whoever asks.
pub(crate) fn next(requests: &[Bytes]) -> &Bytes {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    &requests[NEXT.fetch_add(1, Ordering::Relaxed) % requests.len()]
}

/// Makes one request after the other, as fast as they are answered; answers
/// per second.
pub(crate) async fn rate(address: SocketAddr, requests: Arc<[Bytes]>, time: Duration) -> f64 {
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
                    stream.write_all(next(&requests)).await.unwrap();
                    let length = stream.read(&mut answer).await.unwrap();
                    assert!(answer[..length].starts_with(OK), "an answer is a token");
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
