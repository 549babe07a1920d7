//! Hears PostgreSQL say that something was changed. Nothing depends on it but
//! how soon: whoever follows asks from time to time as well.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Executor as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::changes::CHANNEL;
use super::connection;
use super::reach::Reach;
use crate::store::StoreError;
use crate::store::error::bare;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// After what silence it is asked whether the connection still is one.
const SILENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// Listens until it is dropped.
pub(super) struct Listener(JoinHandle<()>);

impl Listener {
    /// Starts to listen, on a connection of its own.
    pub(super) fn start(options: &PgConnectOptions, changed: Arc<Notify>, reach: Arc<Reach>) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT)
            .connect_lazy_with(options.clone());
        let options = options.clone();
        Self(tokio::spawn(async move {
            loop {
                if try_to_connect(&options, &reach).await
                    && let Err(error) = listen(&pool, &changed).await
                {
                    tracing::debug!(%error, "changes are no longer heard of, only asked for");
                }
                sleep(PAUSE).await;
            }
        }))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether a connection can be made: the pool would not say why not.
async fn try_to_connect(options: &PgConnectOptions, reach: &Reach) -> bool {
    match connection::connect(options).await {
        Ok(connection) => {
            reach.reached();
            let _ = connection.close().await;
            true
        }
        Err(error) => {
            let is_away = connection::is_lost(&error) || matches!(error, StoreError::TooSlow(_));
            reach.failed(bare(&error), is_away);
            false
        }
    }
}

async fn listen(pool: &PgPool, changed: &Notify) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    // There may have been something before.
    changed.notify_one();
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => changed.notify_one(),
            // The connection was lost.
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let alive = timeout(CONNECT, listener.execute("SELECT 1")).await;
                alive.map_err(|_| sqlx::Error::PoolTimedOut)??;
            }
        }
    }
}
