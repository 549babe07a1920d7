//! `fleetbadge-validator`: the validator for people and scripts.
//!
//! Exit codes: 0 allow, or a configuration without errors; 1 deny, or one with
//! errors; 2 the question could not be answered.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod check;
mod config;
mod key_source;
mod revocation_source;

#[derive(Parser)]
#[command(
    name = "fleetbadge-validator",
    version,
    about = "Says whether a token lets a device in, and why; prints and checks brokers' configurations"
)]
#[command(
    after_help = "Exit codes: 0 allow, or no errors in a configuration; 1 deny, or errors in it; 2 the question \
                        could not be answered"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the token on standard input, step by step
    Check(check::Arguments),
    /// Print a broker's configuration, or check the one there is
    Config(config::Arguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
    }
}
