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

use axum::middleware::{from_fn, from_fn_with_state};
use axum_server::{Address, Handle, Server};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, UnixListener};

use crate::Issuer;
use crate::app::App;
use crate::data_dir::DataDirError;
use crate::open_files::{MAX_ADMIN_CONNECTIONS, MAX_OPS_CONNECTIONS};
use crate::root_keys::REFRESH_S;
use crate::router;
use crate::tls::{Tls, TlsError};

mod accept;
mod connection;
mod headers;

use accept::{Identity, identify};
use connection::Limits;
use headers::{MAX_HEADER_LENGTH, limit_headers};

/// How often what depends on the time is brought up to date.
const TICK: Duration = Duration::from_secs(1);
/// After how many ticks it is looked whether files have changed.
const TICKS_PER_RELOAD: u64 = REFRESH_S;

/// An issuer whose listeners are bound; it answers once it [runs](Self::run).
pub struct BoundIssuer {
    issuer: Issuer,
    public: TcpListener,
    ops: Option<TcpListener>,
    admin: UnixListener,
    socket: PathBuf,
    tls: Option<Arc<Tls>>,
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
    /// The public listener cannot speak TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener has failed.
    #[error("a listener failed: {0}")]
    Failed(#[from] io::Error),
}

impl BoundIssuer {
    pub(crate) async fn bind(issuer: Issuer) -> Result<Self, ServeError> {
        let config = issuer.config();
        let tls = match config.transport.tls_files() {
            Some(files) => Some(Arc::new(Tls::open(files, Arc::clone(&issuer.app.clock))?)),
            None => None,
        };
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
        Ok(Self { issuer, public, ops, admin, socket, tls })
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

    /// What makes the server take up changed files at once: those of TLS and
    /// that of the root keys. It also does so by itself, every few seconds.
    #[must_use]
    pub fn reload(&self) -> Reload {
        Reload { app: Arc::clone(&self.issuer.app), tls: self.tls.clone() }
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
        let transport = &self.issuer.config().transport;
        let limits = |max_connections| Limits::new(max_connections, request_timeout);
        let proxies = transport.trusted_proxies();
        let is_for_proxies_alone = self.tls.is_none() && !self.public.local_addr()?.ip().is_loopback();
        let acceptor = accept::Public {
            limits: limits(transport.max_connections),
            handshake_timeout: request_timeout,
            tls: self.tls.clone(),
            only: is_for_proxies_alone.then(|| Arc::new(proxies.clone())),
            refused: app.metrics.connections_refused.clone(),
        };
        let identity = Arc::new(Identity { tls: self.tls.clone(), proxies });
        let router = router::public(Arc::clone(&app))
            .layer(from_fn_with_state(identity, identify))
            .layer(from_fn(limit_headers));
        let public = with_limits(Server::from_listener(self.public).acceptor(acceptor), request_timeout)
            .handle(tcp.clone())
            .serve(router.into_make_service());
        let ops = self.ops.map(|listener| {
            let acceptor = accept::Ops { limits: limits(MAX_OPS_CONNECTIONS) };
            with_limits(Server::from_listener(listener).acceptor(acceptor), request_timeout)
                .handle(tcp.clone())
                .serve(router::ops(Arc::clone(&app)).layer(from_fn(limit_headers)).into_make_service())
        });
        let ops = async {
            match ops {
                Some(ops) => ops.await,
                None => Ok(()),
            }
        };
        let acceptor = accept::OwnerOnly { limits: limits(MAX_ADMIN_CONNECTIONS) };
        let admin = Server::<UnixSocketAddr>::from_listener(self.admin).acceptor(acceptor);
        let admin = with_limits(admin, request_timeout)
            .handle(unix.clone())
            .serve(router::admin(Arc::clone(&app)).layer(from_fn(limit_headers)).into_make_service());
        let ending = async {
            tokio::select! {
                () = shutdown => {}
                () = tick(&app, self.tls.as_ref()) => {}
            }
            // They would last as long as they are let.
            app.feeds.end();
            tcp.graceful_shutdown(Some(grace));
            unix.graceful_shutdown(Some(grace));
            Ok(())
        };
        let ended = tokio::try_join!(public, ops, admin, ending);
        app.flush().await;
        // The next server would remove it too; clients see sooner that it ended.
        let _ = std::fs::remove_file(&self.socket);
        ended?;
        Ok(())
    }
}

/// Makes the server take up changed files.
#[derive(Clone)]
pub struct Reload {
    app: Arc<App>,
    tls: Option<Arc<Tls>>,
}

impl Reload {
    /// Takes up the files if they have changed. Those that cannot be used are
    /// logged, and the former ones stay in force.
    pub async fn now(&self) {
        if let Some(tls) = self.tls.clone() {
            // Fails only when the server ends.
            let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
        }
        self.app.refresh_root_keys().await;
    }
}

async fn tick(app: &Arc<App>, tls: Option<&Arc<Tls>>) {
    let reload = Reload { app: Arc::clone(app), tls: tls.cloned() };
    let mut ticks: u64 = 0;
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        app.tick().await;
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(TICKS_PER_RELOAD) {
            reload.now().await;
        }
    }
}

/// HTTP/1.1 alone: nothing here needs more, and looking for HTTP/2 would have
/// no time limit. A client that sends no request in time is cut off, also
/// between two requests.
fn with_limits<A: Address, C>(mut server: Server<A, C>, timeout: Duration) -> Server<A, C> {
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(MAX_HEADER_LENGTH);
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
