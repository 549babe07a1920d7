//! The connections to PostgreSQL. Nothing waits for it for ever: not the
//! server for a lock, not this process for the server, and no connection for
//! whoever gave up.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tokio::time::{sleep, timeout};

use super::MIGRATIONS;
use crate::started::Started;
use crate::store::error::bare;
use crate::store::{StoreError, migrations};

/// How long a server is waited for that is not there, or starts, when the
/// issuer does. Longer than the time in which systemd counts failed starts, so
/// that a unit with `Restart=on-failure` is tried for ever.
const START: Duration = Duration::from_secs(10);
const START_PAUSE: Duration = Duration::from_millis(250);
/// How long a connection, a free one or a new one, is waited for.
const ACQUIRE: Duration = Duration::from_secs(2);
/// How long a statement may take, as the server sees it, in milliseconds.
const STATEMENT_MS: &str = "3000";
/// How long a statement waits for another transaction.
const LOCK_MS: &str = "2000";
/// How long a transaction is kept open for a node that says nothing more.
const IDLE_IN_TRANSACTION_MS: &str = "5000";
/// How long a node waits for an answer in all, also if nothing comes back at
/// all.
const OPERATION: Duration = Duration::from_secs(4);
/// A connection that was used so recently is taken for a living one.
const FRESH: Duration = Duration::from_millis(100);
const PING: Duration = Duration::from_secs(1);
/// How long a change of the schema waits for another node that makes it.
const MIGRATION_LOCK_MS: &str = "60000";
const MAX_CONNECTIONS: u32 = 10;

/// Waits for the server, and brings the schema up to date.
pub(super) async fn prepare(options: &PgConnectOptions) -> Result<(), StoreError> {
    let patient = options.clone().options([("lock_timeout", MIGRATION_LOCK_MS)]);
    let mut connection = connect_at_start(&patient).await?;
    require_primary(&mut connection).await?;
    // The lock of a migration that fails ends with the connection.
    let migrated = migrations::run(&mut connection, &MIGRATIONS).await;
    let _ = connection.close().await;
    migrated
}

async fn connect_at_start(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let started = Started::now();
    let mut is_told = false;
    loop {
        let reason = match connect(options).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let tried = started.elapsed();
        if !may_pass(&reason) || tried > START {
            let address = address(options);
            return Err(StoreError::Unreachable { address, reason: reason.into(), tried_s: tried.as_secs() });
        }
        if !std::mem::replace(&mut is_told, true) {
            let wait_s = START.as_secs();
            tracing::warn!(
                database = address(options),
                reason = bare(&reason),
                wait_s,
                "waiting for the database"
            );
        }
        sleep(START_PAUSE).await;
    }
}

/// Makes a new connection, if that does not take too long.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    match timeout(ACQUIRE, options.connect()).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(StoreError::TooSlow(ACQUIRE)),
    }
}

/// Where a database is, for people.
pub(super) fn address(options: &PgConnectOptions) -> String {
    let place = options.get_socket().map_or_else(
        || format!("{}:{}", options.get_host(), options.get_port()),
        |socket| socket.display().to_string(),
    );
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("{database} at {place} as {}", options.get_username())
}

pub(super) fn pool(options: PgConnectOptions) -> PgPool {
    let options = options.options([
        ("statement_timeout", STATEMENT_MS),
        ("lock_timeout", LOCK_MS),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS),
        ("default_transaction_isolation", "read committed"),
    ]);
    PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // What an operator was told is done must survive a power cut.
                let durable = "SELECT set_config('synchronous_commit', 'on', false) \
                               WHERE current_setting('synchronous_commit') = 'off'";
                connection.execute(durable).await?;
                Ok(())
            })
        })
        .before_acquire(|connection, usage| {
            Box::pin(async move { Ok(usage.idle_for < FRESH || is_alive(connection).await) })
        })
        // sqlx asks too, but would wait for ever.
        .after_release(|connection, _| Box::pin(async move { Ok(is_alive(connection).await) }))
        .connect_lazy_with(options)
}

async fn is_alive(connection: &mut PgConnection) -> bool {
    timeout(PING, connection.ping()).await.is_ok_and(|answer| answer.is_ok())
}

/// A standby may be behind, and would prove nothing.
async fn require_primary(connection: &mut PgConnection) -> Result<(), StoreError> {
    let is_standby: bool =
        sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut *connection).await?;
    if is_standby { Err(StoreError::Standby) } else { Ok(()) }
}

/// Does something, and gives up when it takes too long.
pub(super) async fn bounded<T, E: From<StoreError>>(
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match timeout(OPERATION, operation).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StoreError::TooSlow(OPERATION).into()),
    }
}

/// Does something that may be done twice; once more if the connection proves to
/// be lost. By then every other one that was lost with it is found out.
pub(super) async fn again_if_lost<T, F>(operation: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    match bounded(operation()).await {
        Err(error) if is_lost(&error) => {
            sleep(FRESH).await;
            bounded(operation()).await
        }
        outcome => outcome,
    }
}

/// Whether the server has ended the connection.
pub(super) fn is_lost(error: &StoreError) -> bool {
    has_code(error, &["57P", "08"])
}

/// Whether it may be otherwise soon, with the same configuration: the server is
/// not there, starts, or has no connection left.
fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::TooSlow(_)) || has_code(error, &["57P", "08", "53"])
}

/// Whether the connection itself failed, or PostgreSQL's code for the error
/// begins with one of these.
fn has_code(error: &StoreError, prefixes: &[&str]) -> bool {
    let StoreError::Database(error) = error else { return false };
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(error, sqlx::Error::Io(_))
        || code.is_some_and(|code| prefixes.iter().any(|prefix| code.starts_with(prefix)))
}
