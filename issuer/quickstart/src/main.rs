//! `fleetbadge`: the whole way of a badge in one process, for trying out. The
//! issuer makes tokens, and an embedded MQTT broker lets devices in with them,
//! guarded by the validator library as any other broker would be.

mod broker;
mod config;
mod demo_device;
mod guard;
mod logging;
mod ports;
mod quickstart;
mod sessions;
#[cfg(test)]
mod test_client;
mod welcome;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use config::Config;
use fleetbadge_validator::time::SystemClock;
use quickstart::Quickstart;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    logging::start(&config.log);
    match run(&config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "fleetbadge: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    // Before anything else, so that none is missed.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let quickstart = Quickstart::start(config, Arc::new(SystemClock)).await?;
    print(&quickstart.welcome())?;
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    quickstart.run(stopped).await?;
    Ok(())
}

/// Nobody listening any more is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
