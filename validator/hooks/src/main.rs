//! `fleetbadge-validator`: the validator for people and scripts.
//!
//! Exit codes: 0 allow, 1 deny, 2 the question could not be answered.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod check;
mod key_source;
mod revocation_source;

#[derive(Parser)]
#[command(name = "fleetbadge-validator", version, about = "Says whether a token lets a device in, and why")]
#[command(after_help = "Exit codes: 0 allow, 1 deny, 2 the question could not be answered")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the token on standard input, step by step
    Check(check::Arguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(arguments) => check::run(&arguments),
    }
}
