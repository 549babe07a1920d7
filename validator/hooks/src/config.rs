//! `fleetbadge-validator config BROKER`: prints a configuration for a broker,
//! or checks the one that an operator has. A file per broker.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod finding;
mod mosquitto;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    broker: Broker,
}

#[derive(Subcommand)]
enum Broker {
    /// Eclipse Mosquitto with the Fleetbadge plugin
    Mosquitto(mosquitto::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.broker {
        Broker::Mosquitto(arguments) => mosquitto::run(arguments),
    }
}
