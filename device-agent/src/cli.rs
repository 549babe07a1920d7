//! The commands.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry};

use crate::config::{ConfigError, Surroundings, TokenConfig};
use crate::exit::Exit;
use crate::keeper::GaveUp;
use crate::machine::Machine;
use crate::options::{LogFormat, LogLevel, MqttOptions, Options, OptionsError};
use crate::tls::TlsError;
use crate::token_client::TokenError;

mod run;
mod subscribe;
mod token;

/// Gets a device its access tokens in time and keeps its MQTT connection alive
/// over their renewals.
#[derive(Parser)]
#[command(name = "fleetbadge-agent", version, after_help = Exit::HELP)]
pub struct Cli {
    /// The configuration file (TOML). Flags win over variables, those over the file.
    #[arg(long, global = true, env = "FLEETBADGE_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print what is in force, without secrets, and end.
    #[arg(long, global = true)]
    print_config: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print an access token: the kept one until its refresh point, then a new
    /// one; the kept one again while it lasts if the issuer cannot be reached.
    #[command(after_help = Exit::HELP)]
    Token {
        #[command(flatten)]
        options: Options,
        /// Print a JSON object that also says how long the token is good.
        #[arg(long)]
        json: bool,
    },
    /// Publish the lines of stdin, one message each, over however many tokens
    /// and connections that takes. Ends when stdin ends and the broker has
    /// acknowledged everything, or on SIGTERM.
    #[command(after_help = Exit::HELP)]
    Run {
        #[command(flatten)]
        connection: ConnectionArgs,
        /// The topic name to publish to [default: devices/MQTT_CLIENT_ID/out].
        #[arg(long, env = "FLEETBADGE_AGENT_MQTT_TOPIC", value_name = "TOPIC")]
        topic: Option<String>,
    },
    /// Print the messages of some topics, one line each, until SIGTERM.
    #[command(after_help = Exit::HELP)]
    Subscribe {
        #[command(flatten)]
        connection: ConnectionArgs,
        /// Topic filters (MQTT 5 section 4.7).
        #[arg(required = true, value_name = "FILTER")]
        filters: Vec<String>,
        /// Print the topic name before each message.
        #[arg(long, short)]
        verbose: bool,
    },
}

#[derive(Args)]
struct ConnectionArgs {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    mqtt: MqttOptions,
}

/// Why a command ended before its work was done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    #[error("{0}")]
    Mqtt(#[from] rumqttc::ClientError),
    #[error("the broker refused the subscription of {filter:?}: {reason}")]
    SubscriptionRefused { filter: String, reason: String },
    #[error("the broker refused {refused} of {published} messages")]
    MessagesRefused { refused: u64, published: u64 },
    #[error("{count} lines were read but not acknowledged")]
    Unacknowledged { count: usize },
    #[error("{stream}: {error}")]
    Stream { stream: &'static str, error: std::io::Error },
}

impl Error {
    const fn exit(&self) -> Exit {
        match self {
            Self::Options(_) | Self::Config(_) | Self::Tls(_) | Self::Mqtt(_) | Self::Stream { .. } => {
                Exit::Usage
            }
            Self::Token(error) => error.exit(),
            Self::GaveUp(gave_up) => gave_up.exit,
            Self::SubscriptionRefused { .. } | Self::MessagesRefused { .. } => Exit::Refused,
            Self::Unacknowledged { .. } => Exit::Unacknowledged,
        }
    }
}

impl Cli {
    /// Runs the command to its end.
    pub async fn run(self) -> Exit {
        match self.execute().await {
            Ok(()) => Exit::Done,
            Err(error) => {
                report(&error.to_string());
                error.exit()
            }
        }
    }

    async fn execute(self) -> Result<(), Error> {
        let (flags, action) = self.command.split();
        let file = self.config.as_deref().map(Options::from_file).transpose()?.unwrap_or_default();
        let mut options = Options::defaults().overlaid(&file)?.overlaid(&flags)?;
        let surroundings = Surroundings::of_process();
        if self.print_config {
            options.state_dir = options.state_dir.or_else(|| surroundings.state_dir());
            return print(options.to_toml()?.as_bytes());
        }
        start_log(&options);
        let config = TokenConfig::new(&options, surroundings)?;
        let machine = Machine::start();
        match action {
            Action::Token { json } => token::run(&config, json, machine).await,
            Action::Run => run::run(&config, &options, machine).await,
            Action::Subscribe { filters, verbose } => {
                subscribe::run(&config, &options, &filters, verbose, machine).await
            }
        }
    }
}

/// What to do, without how.
enum Action {
    Token { json: bool },
    Run,
    Subscribe { filters: Vec<String>, verbose: bool },
}

impl Command {
    fn split(self) -> (Options, Action) {
        match self {
            Self::Token { options, json } => (options, Action::Token { json }),
            Self::Run { connection, topic } => {
                let mut options = connection.into_options();
                options.mqtt.topic = topic;
                (options, Action::Run)
            }
            Self::Subscribe { connection, filters, verbose } => {
                (connection.into_options(), Action::Subscribe { filters, verbose })
            }
        }
    }
}

impl ConnectionArgs {
    fn into_options(self) -> Options {
        Options { mqtt: self.mqtt, ..self.options }
    }
}

/// Says on stderr why the program ends: in the log once there is one.
pub fn report(reason: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!("{reason}");
    } else {
        // Nobody is left to tell that stderr is gone.
        let _ = writeln!(std::io::stderr(), "error: {reason}");
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(|error| Error::Stream { stream: "signals", error });
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits until somebody asks the program to end.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn print(text: &[u8]) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text)
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::Stream { stream: "stdout", error })
}

fn start_log(options: &Options) {
    let level = match options.log_level {
        Some(LogLevel::Error) => LevelFilter::ERROR,
        Some(LogLevel::Warn) => LevelFilter::WARN,
        Some(LogLevel::Info) | None => LevelFilter::INFO,
        Some(LogLevel::Debug) => LevelFilter::DEBUG,
    };
    // Below this the MQTT library writes down what it sends, tokens too.
    let targets = Targets::new().with_default(level).with_target("rumqttc", level.min(LevelFilter::INFO));
    let terminal = std::io::stderr().is_terminal();
    let text = match options.log_format {
        Some(LogFormat::Text) => true,
        Some(LogFormat::Json) => false,
        Some(LogFormat::Auto) | None => terminal,
    };
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    if text {
        registry().with(lines.with_ansi(terminal)).with(targets).init();
    } else {
        registry().with(lines.json().flatten_event(true)).with(targets).init();
    }
}
