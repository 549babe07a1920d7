//! What is believed from whom about the client.

use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::authority::Authority;

async fn server(trusted: &str, client_certs: bool) -> Server {
    let options = Options {
        trusted_proxy: Some(vec![trusted.parse().unwrap()]),
        trusted_proxy_client_certs: Some(client_certs),
        ..Options::default()
    };
    let server = Server::start(tempfile::tempdir().unwrap(), options).await;
    server.know_pump_by(&["--subject-dn", "CN=pump"]).await;
    server
}

async fn from(source: &str, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[tokio::test]
async fn a_certificate_in_a_header_is_believed_from_the_trusted_proxy_alone() {
    let pump = Authority::new("devices").client("pump", 2100);
    let header = format!("Client-Cert: :{}:\r\n", STANDARD.encode(pump.certificate.der()));
    let believing = server("127.0.0.2", true).await;
    let ask_from = async |server: &Server, source: &str, header: &str| {
        ask(&mut from(source, server).await, &certificate_request(header)).await
    };
    assert_eq!(ask_from(&believing, "127.0.0.2", &header).await.0, 200);
    let refused = ask_from(&believing, "127.0.0.2", "").await;
    assert_eq!((refused.0, &refused.1["error"]), (401, &"invalid_client".into()));
    // A stranger, although on the same machine.
    assert_eq!(ask_from(&believing, "127.0.0.3", &header).await, refused);
    // Twice: one of them could be the client's own.
    assert_eq!(ask_from(&believing, "127.0.0.2", &(header.clone() + &header)).await, refused);
    // A proxy that is trusted with addresses alone.
    assert_eq!(ask_from(&server("127.0.0.2", false).await, "127.0.0.2", &header).await, refused);
    // The dates are still this server's business.
    believing.clock.set(UnixSeconds(5_000_000_000));
    assert_eq!(ask_from(&believing, "127.0.0.2", &header).await, refused);
}
