//! TLS, and devices that prove themselves with a certificate.

use std::process::Output;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::authority::{Authority, Pair};

/// A server with TLS that takes the certificates of `devices`.
struct TlsServer {
    server: Server,
    root: Authority,
    devices: Authority,
}

impl std::ops::Deref for TlsServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl TlsServer {
    async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    async fn start_with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, devices) = (Authority::new("root"), Authority::new("devices"));
        let path = |name: &str| folder.path().join(name);
        write_pair(folder.path(), &root.server());
        std::fs::write(path("devices.pem"), devices.pem()).unwrap();
        std::fs::write(path("root.pem"), root.pem()).unwrap();
        let own = Options {
            tls_certificate: Some(path("server.pem")),
            tls_key: Some(path("server.key")),
            tls_client_ca: Some(path("devices.pem")),
            ..Options::default()
        };
        let server = Server::start(folder, options.over(own)).await;
        server.know_pump_by(&["--subject-dn", "CN=pump"]).await;
        Self { server, root, devices }
    }

    /// What a client connects with, again and again: it keeps its tickets.
    fn client(&self, pair: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der()).unwrap();
        let builder = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match pair {
            Some(pair) => builder.with_client_auth_cert(pair.chain(), pair.key_der()).unwrap().into(),
            None => builder.with_no_client_auth().into(),
        }
    }

    async fn connect(&self, client: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::clone(client)).connect(name, stream).await
    }

    /// Asks for a token over a new connection.
    async fn token(&self, client: &Arc<ClientConfig>) -> (u16, Value) {
        ask(&mut self.connect(client).await.unwrap(), &certificate_request("")).await
    }

    /// Asks for a token with the program `curl`.
    async fn curl(&self, pair: Option<&Pair>, more: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]).arg(self.path("root.pem"));
        if let Some(pair) = pair {
            let (certificate, key) = (self.path("curl.pem"), self.path("curl.key"));
            std::fs::write(&certificate, pair.certificate.pem()).unwrap();
            write_private(&key, &pair.key.serialize_pem());
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        command.args(["-d", "grant_type=client_credentials", "-d", "client_id=pump"]).args(more);
        command.arg(format!("https://{}/oauth2/token", self.address));
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }
}

fn write_pair(folder: &Path, pair: &Pair) {
    std::fs::write(folder.join("server.pem"), pair.certificate.pem()).unwrap();
    write_private(&folder.join("server.key"), &pair.key.serialize_pem());
}

fn claims(token: &Value) -> Value {
    let token = token["access_token"].as_str().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn shown_by(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap().first().unwrap().clone().into_owned()
}

#[tokio::test]
async fn curl_gets_a_token_that_is_bound_to_its_certificate() {
    let server = TlsServer::start().await;
    server.know_pump_by(&["--subject-dn", "CN=pump", "--bound-access-tokens"]).await;
    let pump = server.devices.client("pump", 2100);
    let output = server.curl(Some(&pump), &[]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["token_type"], "Bearer", "{answer}");
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pump.certificate.der());
    assert_eq!(claims(&answer)["cnf"]["x5t#S256"], URL_SAFE_NO_PAD.encode(sum));

    let metadata = "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: x\r\n\r\n";
    let (_, metadata) = ask(&mut server.connect(&server.client(None)).await.unwrap(), metadata).await;
    let methods = metadata["token_endpoint_auth_methods_supported"].as_array().unwrap();
    assert!(methods.contains(&"tls_client_auth".into()), "{metadata}");
    assert_eq!(metadata["tls_client_certificate_bound_access_tokens"], true);
    let (_, shown) = server.operator(&["device", "show", "pump"]).await;
    assert!(shown.contains("tls_client_auth_subject_dn = CN=pump"), "{shown}");
}

#[tokio::test]
async fn no_other_certificate_is_the_devices() {
    let server = TlsServer::start().await;
    let pump = server.devices.client("pump", 2100);
    assert_eq!(server.token(&server.client(Some(&pump))).await.0, 200);
    // Trusted, but somebody else's; and none at all: the same answer.
    let other = server.token(&server.client(Some(&server.devices.client("other", 2100)))).await;
    assert_eq!((other.0, &other.1["error"]), (401, &"invalid_client".into()));
    assert_eq!(server.token(&server.client(None)).await, other);
    // Not trusted: TLS ends it, whatever name it has.
    for stranger in [
        Authority::new("devices").client("pump", 2100),
        Pair::self_signed("pump"),
        server.devices.client("pump", 2021),
    ] {
        let output = server.curl(Some(&stranger), &[]).await;
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.stdout, b"");
    }
    // A secret needs no certificate.
    let mut plain = server.connect(&server.client(None)).await.unwrap();
    assert_eq!(ask(&mut plain, &server.secret_request("")).await.0, 200);
}

/// The handshake is only one moment.
#[tokio::test]
async fn a_certificate_ends_on_a_kept_connection_and_in_a_resumed_session() {
    let server = TlsServer::start().await;
    // The clock stands at January 2027.
    let client = server.client(Some(&server.devices.client("pump", 2028)));
    let mut kept = server.connect(&client).await.unwrap();
    assert_eq!(ask(&mut kept, &certificate_request("")).await.0, 200);
    let mut resumed = server.connect(&client).await.unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(ask(&mut resumed, &certificate_request("")).await.0, 200);
    server.clock.advance(400 * 86_400);
    for stream in [&mut kept, &mut resumed] {
        assert_eq!(ask(stream, &certificate_request("")).await.1["error"], "invalid_client");
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_without_disturbing_anybody() {
    let server = TlsServer::start().await;
    let client = server.client(Some(&server.devices.client("pump", 2100)));
    let mut kept = server.connect(&client).await.unwrap();
    assert_eq!(ask(&mut kept, &certificate_request("")).await.0, 200);
    let former = shown_by(&kept);

    // Half of a change, and nonsense: what was in force stays so.
    let renewed = server.root.server();
    std::fs::write(server.path("server.pem"), renewed.certificate.pem()).unwrap();
    server.reload.now().await;
    assert_eq!(shown_by(&server.connect(&server.client(None)).await.unwrap()), former);
    std::fs::write(server.path("server.pem"), "nonsense").unwrap();
    server.reload.now().await;
    assert_eq!(shown_by(&server.connect(&server.client(None)).await.unwrap()), former);

    write_pair(server.folder.path(), &renewed);
    server.reload.now().await;
    let fresh = server.connect(&server.client(None)).await.unwrap();
    assert_eq!(shown_by(&fresh), *renewed.certificate.der());
    assert_eq!(ask(&mut kept, &certificate_request("")).await.0, 200);
    // Tickets are still good: the clients' root is the same.
    let mut resumed = server.connect(&client).await.unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(ask(&mut resumed, &certificate_request("")).await.0, 200);
}

#[tokio::test]
async fn changed_files_are_noticed_without_a_word() {
    let server = TlsServer::start().await;
    let renewed = server.root.server();
    write_pair(server.folder.path(), &renewed);
    let noticed = async {
        while shown_by(&server.connect(&server.client(None)).await.unwrap()) != *renewed.certificate.der() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.unwrap();
}

/// Whoever stole the key of a device authority must be out with its root.
#[tokio::test]
async fn without_its_root_a_certificate_is_worth_nothing_anywhere() {
    let server = TlsServer::start().await;
    let client = server.client(Some(&server.devices.client("pump", 2100)));
    let mut kept = server.connect(&client).await.unwrap();
    assert_eq!(ask(&mut kept, &certificate_request("")).await.0, 200);
    // One more root: who was trusted still is.
    let successor = Authority::new("successor");
    std::fs::write(server.path("devices.pem"), server.devices.pem() + &successor.pem()).unwrap();
    server.reload.now().await;
    assert_eq!(ask(&mut kept, &certificate_request("")).await.0, 200);
    let mut both = server.connect(&client).await.unwrap();
    assert_eq!(both.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(ask(&mut both, &certificate_request("")).await.0, 200);

    std::fs::write(server.path("devices.pem"), successor.pem()).unwrap();
    server.reload.now().await;
    for stream in [&mut kept, &mut both] {
        assert_eq!(ask(stream, &certificate_request("")).await.1["error"], "invalid_client");
    }
    // Nor does a ticket get round it: in TLS 1.3 the no comes after the client
    // has finished.
    if let Ok(mut stream) = server.connect(&client).await {
        assert_ne!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        assert!(stream.read_u8().await.is_err());
    }
    assert_eq!(server.token(&server.client(Some(&successor.client("pump", 2100)))).await.0, 200);
}

#[tokio::test]
async fn old_versions_and_other_protocols_are_refused() {
    let server = TlsServer::start().await;
    // A ClientHello of TLS 1.1, with one cipher suite and signature_algorithms.
    let mut hello = vec![0x16, 3, 1, 0, 55, 1, 0, 0, 51, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut alert = [0; 7];
    stream.read_exact(&mut alert).await.unwrap();
    // A fatal alert: protocol_version (RFC 8446 §6).
    assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 70));

    let protocols = async |names: &[&[u8]]| {
        let mut client = (*server.client(None)).clone();
        client.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
        let stream = server.connect(&Arc::new(client)).await;
        stream.map(|stream| stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(protocols(&[b"h2", b"http/1.1"]).await.unwrap(), Some(b"http/1.1".to_vec()));
    assert!(protocols(&[b"h2"]).await.is_err());
    // Nor does plain HTTP get an answer that looks like one.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(server.secret_request("").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn whoever_never_finishes_the_handshake_is_cut_off() {
    let server = TlsServer::start_with(Options { request_timeout_s: Some(1), ..Options::default() }).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(&[0x16, 3, 1]).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, silent.read_u8()).await.unwrap();
    assert!(end.is_err());
}

#[tokio::test]
async fn a_server_does_not_start_with_files_that_it_cannot_use() {
    let root = Authority::new("root");
    let refused = async |spoil: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        write_pair(folder.path(), &root.server());
        std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
        spoil(folder.path());
        let path = |name: &str| Some(folder.path().join(name));
        let options = Options {
            tls_certificate: path("server.pem"),
            tls_key: path("server.key"),
            tls_client_ca: path("ca.pem"),
            ..Options::default()
        };
        Server::try_start(folder, options).await.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let open = |mode| {
        move |folder: &Path| {
            let open = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(folder.join("server.key"), open).unwrap();
        }
    };
    for mode in [0o604, 0o640, 0o602] {
        let said = refused(&open(mode)).await;
        assert!(said.starts_with("tls_key: ") && said.contains("chmod 600"), "{said}");
    }
    let said = refused(&|folder| write_private(&folder.join("server.key"), "nonsense")).await;
    assert!(said.starts_with("tls_key: "), "{said}");
    let said = refused(&|folder| std::fs::remove_file(folder.join("server.pem")).unwrap()).await;
    assert!(said.starts_with("tls_certificate: "), "{said}");
    let said = refused(&|folder| std::fs::write(folder.join("ca.pem"), "").unwrap()).await;
    assert!(said.starts_with("tls_client_ca: "), "{said}");
    let other = root.server().certificate.pem();
    let said = refused(&|folder| std::fs::write(folder.join("server.pem"), &other).unwrap()).await;
    assert!(said.starts_with("tls_certificate, tls_key: "), "{said}");
    assert_eq!(refused(&|_| {}).await, "");
}
