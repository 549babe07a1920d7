//! Who is at the other end of a connection, as far as the transport knows.

use std::net::IpAddr;
use std::sync::Arc;

/// Put beside every request on the public listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// The address of the client: of the connection, or what a trusted proxy
    /// says. None in tests without a network.
    pub(crate) address: Option<IpAddr>,
    /// The certificate that the client proved to have in TLS, as DER; its
    /// chain leads to a trusted root.
    pub(crate) certificate: Option<Arc<[u8]>>,
}
