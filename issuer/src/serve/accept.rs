//! From an accepted connection to one that HTTP is spoken on, a listener each.
//!
//! The public one, plain or TLS:
//!
//! 1. who may connect at all: with plain HTTP beyond loopback, trusted proxies;
//! 2. a place, if there is one left;
//! 3. the handshake, in time;
//! 4. who the client is, put beside each of its requests.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{AddExtension, Next};
use axum::response::Response;
use axum_server::accept::Accept;
use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::Layer as _;

use super::connection::{Guarded, Limits};
use crate::peer::{Peer, TrustedProxies};
use crate::tls::{ClientChain, Tls};

/// What an acceptor makes of a connection.
type Accepted<I, S> = Pin<Box<dyn Future<Output = io::Result<(I, S)>> + Send>>;

/// Lets in devices, brokers and proxies.
#[derive(Clone)]
pub(super) struct Public {
    pub(super) limits: Limits,
    pub(super) handshake_timeout: Duration,
    pub(super) tls: Option<Arc<Tls>>,
    /// If set, these and this machine alone may connect.
    pub(super) only: Option<Arc<TrustedProxies>>,
    pub(super) refused: Counter,
}

/// Who made a connection. Put beside each request by the acceptor.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    address: IpAddr,
    chain: Option<ClientChain>,
}

impl Public {
    fn admit(&self, stream: TcpStream) -> io::Result<(Guarded<TcpStream>, IpAddr)> {
        let address = stream.peer_addr()?.ip().to_canonical();
        if !may_connect(self.only.as_deref(), address) {
            tracing::debug!(%address, "closed: plain HTTP is for trusted proxies");
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        stream.set_nodelay(true)?;
        Ok((self.limits.admit(stream)?, address))
    }
}

/// Plain HTTP from other machines is for trusted proxies.
fn may_connect(only: Option<&TrustedProxies>, address: IpAddr) -> bool {
    only.is_none_or(|only| address.is_loopback() || only.include(address))
}

impl<S: Send + 'static> Accept<TcpStream, S> for Public {
    type Stream = PublicStream;
    type Service = AddExtension<S, Connection>;
    type Future = Accepted<Self::Stream, Self::Service>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let admitted = self.admit(stream).inspect_err(|_| self.refused.increment(1));
        let (tls, timeout) = (self.tls.clone(), self.handshake_timeout);
        Box::pin(async move {
            let (stream, address) = admitted?;
            let (stream, chain) = match tls {
                None => (PublicStream::Plain(stream), None),
                Some(tls) => {
                    let session = tls.session();
                    let handshake = TlsAcceptor::from(Arc::clone(&session.config)).accept(stream);
                    let stream = tokio::time::timeout(timeout, handshake)
                        .await
                        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                        .inspect_err(|error| tracing::debug!(%address, %error, "no TLS handshake"))?;
                    let chain = session.client_chain(stream.get_ref().1);
                    (PublicStream::Tls(Box::new(stream)), chain)
                }
            };
            Ok((stream, axum::Extension(Connection { address, chain }).layer(service)))
        })
    }
}

/// What [`identify`] needs to know.
pub(super) struct Identity {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) proxies: TrustedProxies,
}

/// Puts a [`Peer`] beside a request.
pub(super) async fn identify(
    State(identity): State<Arc<Identity>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = match request.extensions().get::<Connection>() {
        Some(Connection { address, chain }) => Peer {
            address: Some(*address),
            certificate: chain
                .as_ref()
                .and_then(|chain| identity.tls.as_ref().and_then(|tls| tls.still_trusted(chain))),
        },
        None => Peer::default(),
    };
    let peer = peer.behind(&identity.proxies, request.headers());
    request.extensions_mut().insert(peer);
    next.run(request).await
}

/// Lets in probes and Prometheus.
#[derive(Clone)]
pub(super) struct Ops {
    pub(super) limits: Limits,
}

impl<S> Accept<TcpStream, S> for Ops {
    type Stream = Guarded<TcpStream>;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let ready = stream.set_nodelay(true).and_then(|()| self.limits.admit(stream));
        std::future::ready(ready.map(|stream| (stream, service)))
    }
}

/// Lets in the user that the server runs as, and root.
#[derive(Clone)]
pub(super) struct OwnerOnly {
    pub(super) limits: Limits,
}

impl<S> Accept<UnixStream, S> for OwnerOnly {
    type Stream = Guarded<UnixStream>;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: UnixStream, service: S) -> Self::Future {
        let own = rustix::process::geteuid().as_raw();
        std::future::ready(stream.peer_cred().and_then(|peer| {
            if may_administer(peer.uid(), own) {
                return Ok((self.limits.admit(stream)?, service));
            }
            tracing::warn!(uid = peer.uid(), "a user who may not was turned away at the admin socket");
            Err(io::ErrorKind::PermissionDenied.into())
        }))
    }
}

const fn may_administer(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// A connection of the public listener.
pub(super) enum PublicStream {
    Plain(Guarded<TcpStream>),
    Tls(Box<TlsStream<Guarded<TcpStream>>>),
}

impl AsyncRead for PublicStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for PublicStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_beyond_loopback_is_for_trusted_proxies_alone() {
        let networks = vec!["10.0.0.0/8".parse().unwrap()];
        let only = TrustedProxies { networks, client_certs: false };
        let may = |only, address: &str| may_connect(only, address.parse().unwrap());
        for address in ["10.1.2.3", "127.0.0.1", "::1"] {
            assert!(may(Some(&only), address), "{address}");
        }
        for address in ["203.0.113.9", "192.168.0.1", "2001:db8::1"] {
            assert!(!may(Some(&only), address), "{address}");
            assert!(may(None, address), "{address}");
        }
    }

    #[test]
    fn the_owner_and_root_alone() {
        assert!(may_administer(1000, 1000));
        assert!(may_administer(0, 1000));
        assert!(!may_administer(1001, 1000));
        assert!(!may_administer(1000, 0));
    }
}
