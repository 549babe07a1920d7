//! The public listener as clients on the network meet it: a real server, real
//! sockets, real TLS, curl.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleetbadge_issuer::Issuer;
use fleetbadge_issuer::config::Options;
use fleetbadge_issuer::devices::NewDevice;
use fleetbadge_issuer::serve::{Reload, ServeError};
use fleetbadge_validator::time::{ManualClock, UnixSeconds};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

mod authority;
mod limits;
mod proxy;
mod tls;

/// Time enough for whatever must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

/// A server that runs until it is dropped, with the device `pump`.
struct Server {
    folder: tempfile::TempDir,
    clock: ManualClock,
    address: SocketAddr,
    /// `pump`'s.
    secret: String,
    reload: Reload,
    _stop: oneshot::Sender<()>,
    _task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start(folder: tempfile::TempDir, options: Options) -> Self {
        Self::try_start(folder, options).await.unwrap()
    }

    async fn try_start(folder: tempfile::TempDir, options: Options) -> Result<Self, ServeError> {
        let clock = ManualClock::at(NOW);
        let own = Options {
            data_dir: Some(folder.path().join("data")),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            issuer: Some("https://id.example".into()),
            ..Options::default()
        };
        let issuer =
            Issuer::open(options.over(own).resolve().unwrap(), Arc::new(clock.clone())).await.unwrap();
        let added =
            issuer.add_device(NewDevice { name: "pump".into(), ..NewDevice::default() }).await.unwrap();
        let bound = issuer.bind().await?;
        let (address, reload) = (bound.public_address().unwrap(), bound.reload());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(bound.run(async {
            let _ = stopped.await;
        }));
        let secret = added.secret.expose().to_owned();
        Ok(Self { folder, clock, address, secret, reload, _stop: stop, _task: task })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs an operator's command; its exit code and what it says.
    async fn operator(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetbadge-issuer"));
        command.args(arguments).env("FLEETBADGE_DATA_DIR", self.path("data"));
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    /// Makes the device `pump` known by a subject.
    async fn know_pump_by(&self, arguments: &[&str]) {
        let (code, said) =
            self.operator(&[&["device", "certificate", "set", "pump"], arguments].concat()).await;
        assert_eq!(code, Some(0), "{said}");
    }

    /// A request for a token with the secret of `pump`.
    fn secret_request(&self, headers: &str) -> String {
        let pair = STANDARD.encode(format!("pump:{}", self.secret));
        token_request(&format!("{headers}Authorization: Basic {pair}\r\n"), "grant_type=client_credentials")
    }
}

/// A request for a token with nothing but a name.
fn certificate_request(headers: &str) -> String {
    token_request(headers, "grant_type=client_credentials&client_id=pump")
}

fn token_request(headers: &str, body: &str) -> String {
    format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: x\r\n{headers}Content-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends a request on a connection that stays open; the status and the body.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> (u16, Value) {
    let exchange = async {
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        loop {
            assert_ne!(
                stream.read_buf(&mut answer).await.unwrap(),
                0,
                "{}",
                String::from_utf8_lossy(&answer)
            );
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
            });
            if body.len() == length.unwrap_or(0) {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return (status, serde_json::from_str(body).unwrap_or_default());
            }
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap()
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
