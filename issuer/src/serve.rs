//! The listeners: public, ops, and the admin socket; and how they end.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::{Address, Handle, Server};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::Issuer;
use crate::app::App;
use crate::data_dir::DataDirError;
use crate::router;

/// How often what depends on the time is brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// An issuer whose listeners are bound; it answers once it [runs](Self::run).
pub struct BoundIssuer {
    issuer: Issuer,
    public: TcpListener,
    ops: Option<TcpListener>,
    admin: UnixListener,
    socket: PathBuf,
}

/// A listener cannot be bound or has failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("{field}: {address}: {source}{}", way_out(source))]
    Bind {
        /// Which listener.
        field: &'static str,
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The place of the admin socket cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A listener has failed.
    #[error("a listener failed: {0}")]
    Failed(#[from] io::Error),
}

impl BoundIssuer {
    pub(crate) async fn bind(issuer: Issuer) -> Result<Self, ServeError> {
        let config = issuer.config();
        let public = bind_tcp("listen", config.listen).await?;
        let ops = match config.ops_listen {
            Some(address) => Some(bind_tcp("ops_listen", address).await?),
            None => None,
        };
        let socket = issuer.data_dir.free_socket()?;
        // Nobody else can reach into the folder between these two.
        let admin = UnixListener::bind(&socket)
            .and_then(|listener| {
                std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
                Ok(listener)
            })
            .map_err(|source| bind_error("data_dir", &socket.display(), source))?;
        Ok(Self { issuer, public, ops, admin, socket })
    }

    /// The issuer.
    #[must_use]
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Where devices and brokers reach it.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn public_address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where `/metrics` and the like are.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn ops_address(&self) -> io::Result<Option<SocketAddr>> {
        self.ops.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Answers until `shutdown` is done, then lets requests under way end.
    ///
    /// # Errors
    /// [`ServeError::Failed`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let app = Arc::clone(&self.issuer.app);
        let request_timeout = app.request_timeout;
        let grace = Duration::from_secs(self.issuer.config().shutdown_timeout_s);
        let (tcp, unix) = (Handle::<SocketAddr>::new(), Handle::<UnixSocketAddr>::new());
        let serve_tcp = |listener, router: Router| {
            let server = Server::from_listener(listener).acceptor(NoDelayAcceptor::new());
            with_limits(server, request_timeout).handle(tcp.clone()).serve(router.into_make_service())
        };
        let public = serve_tcp(self.public, router::public(Arc::clone(&app)));
        let ops = self.ops.map(|listener| serve_tcp(listener, router::ops(Arc::clone(&app))));
        let ops = async {
            match ops {
                Some(ops) => ops.await,
                None => Ok(()),
            }
        };
        let admin = Server::<UnixSocketAddr>::from_listener(self.admin).acceptor(OwnerOnly);
        let admin = with_limits(admin, request_timeout)
            .handle(unix.clone())
            .serve(router::admin(Arc::clone(&app)).into_make_service());
        let ending = async {
            tokio::select! {
                () = shutdown => {}
                () = tick(&app) => {}
            }
            tcp.graceful_shutdown(Some(grace));
            unix.graceful_shutdown(Some(grace));
            Ok(())
        };
        let ended = tokio::try_join!(public, ops, admin, ending);
        // The next server would remove it too; clients see sooner that it ended.
        let _ = std::fs::remove_file(&self.socket);
        ended?;
        Ok(())
    }
}

async fn tick(app: &App) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        app.tick().await;
    }
}

/// Without TLS there is nothing to negotiate HTTP/2 with, and looking for it
/// would have no time limit. A client that sends no request in time is cut
/// off, also between two requests.
fn with_limits<A: Address, C>(mut server: Server<A, C>, timeout: Duration) -> Server<A, C> {
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(timeout);
    server.http1_only()
}

async fn bind_tcp(field: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| bind_error(field, &address, source))
}

fn bind_error(field: &'static str, address: &dyn Display, source: io::Error) -> ServeError {
    ServeError::Bind { field, address: address.to_string(), source }
}

fn way_out(source: &io::Error) -> &'static str {
    let kind = source.kind();
    if kind == io::ErrorKind::AddrInUse {
        "; end the program that listens there, or give another port"
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "; give an address of this machine"
    } else if kind == io::ErrorKind::PermissionDenied {
        "; give a port from 1024 on, or run with CAP_NET_BIND_SERVICE"
    } else {
        ""
    }
}

/// Lets in the user that the server runs as, and root.
#[derive(Clone, Copy, Debug)]
struct OwnerOnly;

impl<S> Accept<UnixStream, S> for OwnerOnly {
    type Stream = UnixStream;
    type Service = S;
    type Future = std::future::Ready<io::Result<(UnixStream, S)>>;

    fn accept(&self, stream: UnixStream, service: S) -> Self::Future {
        let own = rustix::process::geteuid().as_raw();
        std::future::ready(stream.peer_cred().and_then(|peer| {
            if may_administer(peer.uid(), own) {
                return Ok((stream, service));
            }
            tracing::warn!(uid = peer.uid(), "a user who may not was turned away at the admin socket");
            Err(io::ErrorKind::PermissionDenied.into())
        }))
    }
}

const fn may_administer(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_and_root_alone() {
        assert!(may_administer(1000, 1000));
        assert!(may_administer(0, 1000));
        assert!(!may_administer(1001, 1000));
        assert!(!may_administer(1000, 0));
    }
}
