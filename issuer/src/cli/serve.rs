//! `fleetbadge-issuer serve`.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, Args};
use fleetbadge_validator::time::SystemClock;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::client::Failure;
use super::print;
use crate::Issuer;
use crate::config::{Config, LogFormat, Options};
use crate::router::{JWKS_PATH, TOKEN_PATH};
use crate::serve::BoundIssuer;

/// How long the end waits for threads that something else keeps, like an
/// external signer that hangs.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(2);

/// What the server runs with: flags win over environment variables, those over
/// the file, that over the defaults.
#[derive(Args)]
pub(super) struct Configuration {
    /// TOML file with the same options, in `snake_case`
    #[arg(long, env = "FLEETBADGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

impl Configuration {
    pub(super) fn resolve(self) -> Result<Config, Failure> {
        let file = self.config.as_deref().map(Options::from_file).transpose()?.unwrap_or_default();
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
        Ok(self.options.over(file).with_credentials(directory.as_deref()).resolve()?)
    }
}

/// Hides the options that mean nothing to a command which takes those of `serve`;
/// they are understood all the same.
pub(super) fn hide_unless(of_use: &[&str], argument: Arg) -> Arg {
    let is_of_use = of_use.contains(&argument.get_id().as_str());
    argument.hide(!is_of_use)
}

#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    configuration: Configuration,
    /// Print the configuration that is in force, as TOML, and end
    #[arg(long)]
    print_config: bool,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Without the limit that it could have, it only takes fewer clients.
        let _ = crate::open_files::raise_limit();
        let config = self.configuration.resolve()?;
        if self.print_config {
            return print(&config.to_toml()?);
        }
        start_log(&config);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let served = runtime.block_on(serve(config));
        runtime.shutdown_timeout(LEFT_TO_OTHERS);
        served
    }
}

async fn serve(config: Config) -> Result<(), Failure> {
    // Before anything is made, so that no signal is missed.
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hung_up = signal(SignalKind::hangup())?;
    let bound = Issuer::open(config, Arc::new(SystemClock)).await?.bind().await?;
    print(&welcome(&bound)?)?;
    let reload = bound.reload();
    tokio::spawn(async move {
        while hung_up.recv().await.is_some() {
            reload.now().await;
        }
    });
    bound
        .run(async {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
            tracing::info!("ending: requests under way are still answered");
        })
        .await?;
    Ok(())
}

fn welcome(bound: &BoundIssuer) -> Result<String, Failure> {
    let config = bound.issuer().config();
    let (issuer, data_dir) = (&config.issuer, config.data_dir.display());
    let mut text = format!(
        "fleetbadge-issuer is ready.\n\
         \x20 listening on  {}\n\
         \x20 issuer        {issuer}\n\
         \x20 tokens        {}\n\
         \x20 keys          {}\n",
        bound.public_address()?,
        issuer.endpoint(TOKEN_PATH),
        issuer.endpoint(JWKS_PATH),
    );
    if let Some(address) = bound.ops_address()? {
        let _ = writeln!(text, "  operations    http://{address}/healthz, /readyz, /metrics");
    }
    if let Some(database) = &config.database {
        let _ = writeln!(text, "  database      {database}");
    }
    let _ = write!(
        text,
        "  data          {data_dir}\n\n\
         Add a device, in another terminal:\n\
         \x20 fleetbadge-issuer device add pump-1 --data-dir {data_dir}\n"
    );
    Ok(text)
}

/// PostgreSQL's notices, that a table is there already or that it ends, are no
/// news: what follows from them is said.
fn log_filter(filter: &str) -> EnvFilter {
    let without_notices = "sqlx::postgres::notice=off".parse();
    let filter = EnvFilter::new(filter);
    match without_notices {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

fn start_log(config: &Config) {
    let log = tracing_subscriber::fmt().with_env_filter(log_filter(&config.log)).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
