//! What a stranger can take: not much, and not for long.

use std::io;

use tokio::net::TcpStream;

use super::*;

async fn server(options: Options) -> Server {
    let own = Options { request_timeout_s: Some(1), ..Options::default() };
    Server::start(tempfile::tempdir().unwrap(), options.over(own)).await
}

/// All that comes until the server ends the connection.
async fn until_the_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

/// Sends a byte at a time until the server has enough of it.
async fn drip(stream: TcpStream, beginning: &str) -> Vec<u8> {
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(beginning.as_bytes()).await.unwrap();
    let drip = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)).await.unwrap();
    drip.abort();
    answer
}

#[tokio::test]
async fn a_request_that_drips_in_is_cut_off() {
    let server = server(Options::default()).await;
    for beginning in [
        "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=",
    ] {
        let answer = drip(TcpStream::connect(server.address).await.unwrap(), beginning).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{beginning}");
    }
}

#[tokio::test]
async fn whoever_asks_and_never_reads_is_cut_off() {
    let server = server(Options::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let flood = async {
        loop {
            if let Err(error) = stream.write_all(&request).await {
                return error.kind();
            }
        }
    };
    let end = tokio::time::timeout(PATIENCE, flood).await.unwrap();
    assert!(matches!(end, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{end}");
    assert_eq!(
        ask(&mut TcpStream::connect(server.address).await.unwrap(), &server.secret_request("")).await.0,
        200
    );
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let server = server(Options::default()).await;
    let request = |length: usize| {
        let padding = "x".repeat(length);
        format!("GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: {padding}\r\n\r\n")
    };
    for (length, status) in [(60_000, "200"), (66_000, "431")] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // The server may end before it has read all.
        let _ = stream.write_all(request(length).as_bytes()).await;
        let answer = until_the_end(&mut stream).await;
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(expected.as_bytes()), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let server = server(Options::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let answer = until_the_end(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_flood_of_connections_ends_at_the_cap_and_operators_get_through() {
    let options = Options { max_connections: Some(8), request_timeout_s: Some(60), ..Options::default() };
    let server = server(options).await;
    let mut kept = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(ask(&mut stream, &server.secret_request("")).await.0, 200);
        kept.push(stream);
    }
    for _ in 0..100 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(until_the_end(&mut stream).await, b"");
    }
    let (code, said) = server.operator(&["device", "list"]).await;
    assert_eq!(code, Some(0), "{said}");
    // Who had a place keeps it, and one that is given up is somebody else's.
    assert_eq!(ask(&mut kept[0], &server.secret_request("")).await.0, 200);
    kept.pop();
    let admitted = async {
        loop {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let request = "GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let sent = stream.write_all(request.as_bytes()).await;
            if sent.is_ok() && until_the_end(&mut stream).await.starts_with(b"HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, admitted).await.unwrap();
}
