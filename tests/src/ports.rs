//! Free ports on the loopback interface.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::process;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range (32768 and up) from which the kernel takes the ports of
/// outgoing connections: one of those could take a port between two starts of
/// a broker.
const RANGE: std::ops::Range<u32> = 10_000..32_000;

/// Where this test run starts to look. Runs at the same time start apart.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(process::id().wrapping_mul(191)));

/// A TCP port of 127.0.0.1 on which nothing listens, not given to anybody
/// else in this test run.
#[must_use]
pub fn free() -> u16 {
    RANGE
        .filter_map(|_| {
            let port = RANGE.start + NEXT.fetch_add(1, Ordering::Relaxed) % (RANGE.end - RANGE.start);
            u16::try_from(port).ok()
        })
        .find(|&port| is_free(port))
        .expect("one of 22,000 ports is free")
}

/// Whether nobody answers. To bind the port would ask more exactly, but a
/// program that another test starts at that moment inherits the socket, and
/// keeps the port until it is fully started.
fn is_free(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn free_ports_can_be_bound_and_are_given_once() {
        let (one, two) = (free(), free());
        assert_ne!(one, two);
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, one)).unwrap();
        assert!(!is_free(one));
        assert!(is_free(two));
    }
}
