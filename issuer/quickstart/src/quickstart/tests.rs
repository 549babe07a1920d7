use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;

use clap::Parser as _;
use fleetbadge_validator::time::{ManualClock, UnixSeconds};
use rumqttc::{ConnectReturnCode, PubAckReason, QoS, SubscribeReasonCode};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::demo_device::DEMO_DEVICE;
use crate::test_client::{Client, options};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
/// The life of a token in the group `default`, skew included.
const TOKEN_ENDS_S: u64 = 900 + Verifier::DEFAULT_SKEW_S;

/// A quickstart that runs.
struct Running {
    ports: Ports,
    secret_file: PathBuf,
    clock: ManualClock,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), QuickstartError>>,
}

async fn start(data_dir: &TempDir, clock: &ManualClock) -> Result<Running, QuickstartError> {
    start_at("127.0.0.1:0".parse().unwrap(), data_dir, clock).await
}

async fn start_at(
    listen: SocketAddr,
    data_dir: &TempDir,
    clock: &ManualClock,
) -> Result<Running, QuickstartError> {
    let config = config(&data_dir.path().join("data"), listen, "127.0.0.1:0".parse().unwrap());
    let quickstart = Quickstart::start(&config, Arc::new(clock.clone())).await?;
    let (ports, secret_file) = (quickstart.ports, quickstart.secret_file.clone());
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(quickstart.run(async { stopped.await.unwrap() }));
    Ok(Running { ports, secret_file, clock: clock.clone(), stop, running })
}

impl Running {
    async fn token(&self) -> String {
        let response = reqwest::Client::new()
            .post(format!("http://{}/oauth2/token", self.ports.issuer))
            .basic_auth(DEMO_DEVICE, Some(fs::read_to_string(&self.secret_file).unwrap()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let body: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    }

    async fn connect(&self, client_id: &str, token: &str) -> Result<Client, ConnectReturnCode> {
        Client::connect(options(self.ports.mqtt, client_id, token)).await
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
    }
}

fn config(data_dir: &Path, listen: SocketAddr, mqtt_listen: SocketAddr) -> Config {
    Config::parse_from([
        "fleetbadge".to_owned(),
        format!("--data-dir={}", data_dir.display()),
        format!("--listen={listen}"),
        format!("--mqtt-listen={mqtt_listen}"),
        "--ws-listen=127.0.0.1:0".to_owned(),
    ])
}

fn new_data_dir() -> (TempDir, ManualClock) {
    (tempfile::tempdir().unwrap(), ManualClock::at(NOW))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_way_of_a_badge() {
    let (data_dir, clock) = new_data_dir();
    let quickstart = start(&data_dir, &clock).await.unwrap();
    let token = quickstart.token().await;
    assert_eq!(
        quickstart.connect("somebody-else", &token).await.err(),
        Some(ConnectReturnCode::NotAuthorized)
    );

    let mut device = quickstart.connect(DEMO_DEVICE, &token).await.unwrap();
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    assert_eq!(device.subscribe("devices/demo-device/#").await, granted);
    assert_eq!(device.subscribe("devices/#").await, SubscribeReasonCode::NotAuthorized);
    assert_eq!(device.publish("devices/pump-1/state", "no").await, PubAckReason::NotAuthorized);
    assert_eq!(device.publish("devices/demo-device/state", "yes").await, PubAckReason::Success);
    assert_eq!(device.message().await.1, "yes");

    quickstart.clock.advance(TOKEN_ENDS_S);
    device.is_disconnected().await;
    assert_eq!(quickstart.connect(DEMO_DEVICE, &token).await.err(), Some(ConnectReturnCode::NotAuthorized));
    quickstart.connect(DEMO_DEVICE, &quickstart.token().await).await.unwrap();
    quickstart.stop().await;
}

/// What an operator does on the machine is heard in the same process.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "measures")]
async fn the_session_of_a_disabled_device_ends_within_a_second() {
    let (data_dir, clock) = new_data_dir();
    let quickstart = start(&data_dir, &clock).await.unwrap();
    let socket = data_dir.path().join("data/admin.sock");
    let operator = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    let change = async |verb: &str| {
        let url = format!("http://localhost/admin/v1/devices/{DEMO_DEVICE}/{verb}");
        assert_eq!(operator.post(url).send().await.unwrap().status(), 200);
    };
    let token = quickstart.token().await;
    let mut device = quickstart.connect(DEMO_DEVICE, &token).await.unwrap();
    change("disable").await;
    let disabled = std::time::Instant::now();
    device.is_disconnected().await;
    let took = disabled.elapsed();
    println!("from the answer to the end of the session: {took:?}");
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
    assert_eq!(quickstart.connect(DEMO_DEVICE, &token).await.err(), Some(ConnectReturnCode::NotAuthorized));
    change("enable").await;
    quickstart.clock.advance(1);
    assert_eq!(quickstart.connect(DEMO_DEVICE, &token).await.err(), Some(ConnectReturnCode::NotAuthorized));
    quickstart.connect(DEMO_DEVICE, &quickstart.token().await).await.unwrap();
    quickstart.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn started_again_it_finds_everything_again() {
    let (data_dir, clock) = new_data_dir();
    let first = start(&data_dir, &clock).await.unwrap();
    let (token, secret_file) = (first.token().await, first.secret_file.clone());
    let secret = fs::read_to_string(&secret_file).unwrap();
    assert_eq!(fs::metadata(&secret_file).unwrap().permissions().mode() & 0o777, 0o600);
    let issuer = first.ports.issuer;
    first.stop().await;

    let second = start_at(issuer, &data_dir, &clock).await.unwrap();
    assert_eq!(fs::read_to_string(&secret_file).unwrap(), secret);
    second.connect(DEMO_DEVICE, &token).await.expect("the signing key is the same");
    second.connect(DEMO_DEVICE, &second.token().await).await.expect("the secret is the same");
    second.stop().await;
}

#[tokio::test]
async fn a_secret_that_others_can_read_or_that_is_lost_is_told() {
    let (data_dir, clock) = new_data_dir();
    let quickstart = start(&data_dir, &clock).await.unwrap();
    let secret_file = quickstart.secret_file.clone();
    quickstart.stop().await;

    fs::set_permissions(&secret_file, Permissions::from_mode(0o640)).unwrap();
    let message = start(&data_dir, &clock).await.err().unwrap().to_string();
    assert!(message.contains("chmod 600"), "{message}");
    fs::remove_file(&secret_file).unwrap();
    let message = start(&data_dir, &clock).await.err().unwrap().to_string();
    assert!(message.contains("demo-device.secret") && message.contains("--data-dir"), "{message}");
}

#[tokio::test]
async fn a_taken_port_is_told_before_anything_is_made() {
    let (folder, clock) = new_data_dir();
    let data_dir = folder.path().join("data");
    let mosquitto = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = mosquitto.local_addr().unwrap();
    let config = config(&data_dir, "127.0.0.1:0".parse().unwrap(), taken);
    let error = Quickstart::start(&config, Arc::new(clock)).await.err();
    assert!(
        matches!(error, Some(QuickstartError::Port(PortError::Taken { addr, .. })) if addr == taken),
        "{error:?}"
    );
    assert!(!data_dir.exists());
}
