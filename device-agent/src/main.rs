//! The program; everything is in the library.

use std::process::ExitCode;

use clap::Parser;
use fleetbadge_agent::cli::Cli;
use fleetbadge_agent::exit::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    fleetbadge_agent::tls::install_provider();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            fleetbadge_agent::cli::report(&format!("cannot start: {error}"));
            return Exit::Usage.into();
        }
    };
    let exit = runtime.block_on(cli.run());
    // Reading from stdin is a thread that cannot be interrupted; it ends with
    // the process.
    runtime.shutdown_background();
    exit.into()
}
