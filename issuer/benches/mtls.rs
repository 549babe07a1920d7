//! What a token costs a device with a certificate, as a ratio to the raw
//! cryptography in it: `cargo bench -p fleetbadge-issuer --bench mtls`.
//!
//! One connection, one request at a time, client and server in one process, so
//! that both ends' work is in the measured time and in the baselines:
//!
//! - over a kept connection: against one ES256 signature, the token's;
//! - with a full TLS 1.3 handshake (X25519 with ML-KEM-768, certificates of
//!   P-256 on both sides): against the three signatures, the four verifications
//!   and the key exchange that handshake and token consist of.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, reason = "a bench")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use fleetbadge_issuer::Issuer;
use fleetbadge_issuer::config::Options;
use fleetbadge_issuer::devices::NewDevice;
use fleetbadge_ratio::{Target, compare};
use fleetbadge_validator::time::SystemClock;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, SanType,
};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group::X25519MLKEM768};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const REQUEST: &[u8] = b"POST /oauth2/token HTTP/1.1\r\nHost: id.example\r\n\
    Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 44\r\n\r\n\
    grant_type=client_credentials&client_id=pump";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let (address, client) = runtime.block_on(serve(folder.path(), &authority));
    let (sign, verify) = raw_signature();

    let mut kept = runtime.block_on(connect(address, &client));
    let token = || runtime.block_on(ask(&mut kept));
    compare(token, &sign).report("token over a kept mTLS connection / one signature", Target::AtMost(4.0));
    let handshake = || {
        runtime.block_on(async {
            let mut stream = connect(address, &client).await;
            ask(&mut stream).await;
        });
    };
    let raw = || {
        for _ in 0..3 {
            sign();
        }
        for _ in 0..4 {
            verify();
        }
        let ours = X25519MLKEM768.start().unwrap();
        let theirs = X25519MLKEM768.start_and_complete(ours.pub_key()).unwrap();
        ours.complete(&theirs.pub_key).unwrap().secret_bytes().len()
    };
    compare(handshake, raw).report("full mTLS handshake and token / their cryptography", Target::AtMost(3.0));
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority() -> Authority {
    let mut params = params("root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An issuer with the device `pump`, known by its certificate; and what that
/// connects with.
async fn serve(folder: &Path, authority: &Authority) -> (SocketAddr, Arc<ClientConfig>) {
    let path = |name: &str| folder.join(name);
    let mut server = params("server");
    server.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
    let key = KeyPair::generate().unwrap();
    std::fs::write(path("server.pem"), server.signed_by(&key, authority).unwrap().pem()).unwrap();
    std::fs::write(path("server.key"), key.serialize_pem()).unwrap();
    std::fs::set_permissions(path("server.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path("root.pem"), authority.pem()).unwrap();
    let options = Options {
        data_dir: Some(path("data")),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        issuer: Some("https://id.example".into()),
        tls_certificate: Some(path("server.pem")),
        tls_key: Some(path("server.key")),
        tls_client_ca: Some(path("root.pem")),
        ..Options::default()
    };
    let issuer = Issuer::open(options.resolve().unwrap(), Arc::new(SystemClock)).await.unwrap();
    issuer.add_device(NewDevice { name: "pump".into(), ..NewDevice::default() }).await.unwrap();
    let bound = issuer.bind().await.unwrap();
    let address = bound.public_address().unwrap();
    tokio::spawn(bound.run(std::future::pending()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetbadge-issuer"));
    command.args([
        "device",
        "certificate",
        "set",
        "pump",
        "--subject-dn",
        "CN=pump",
        "--bound-access-tokens",
    ]);
    command.arg("--data-dir").arg(path("data")).arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let mut pump = params("pump");
    pump.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let chain = vec![pump.signed_by(&key, authority).unwrap().der().clone()];
    let mut client = ClientConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    client.resumption = Resumption::disabled();
    (address, Arc::new(client))
}

async fn connect(address: SocketAddr, client: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::clone(client)).connect(name, stream).await.unwrap()
}

async fn ask(stream: &mut TlsStream<TcpStream>) -> usize {
    let mut answer = vec![0; 8192];
    stream.write_all(REQUEST).await.unwrap();
    stream.flush().await.unwrap();
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
    length
}

/// To sign what is as long as a token, and to verify it.
fn raw_signature() -> (impl Fn(), impl Fn()) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let message = [b'x'; 609];
    let signature = pair.sign(&SystemRandom::new(), &message).unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref().to_vec());
    let sign = move || {
        std::hint::black_box(pair.sign(&SystemRandom::new(), &message).unwrap());
    };
    let verify = move || public.verify(&message, signature.as_ref()).unwrap();
    (sign, verify)
}
