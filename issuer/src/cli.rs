//! The command line: `serve`, and what operators say to a server that runs.
//!
//! Exit codes do not change: 0 done, 1 refused (what the server said no to, or
//! there is no such thing), 2 wrong usage or configuration, which will never
//! work, 3 no server runs with this data directory, 4 anything else, which may
//! work later; see `exit_code`.
//!
//! With `--json` a command prints one object, a list one object per line.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use fleetbadge_validator::time::UnixSeconds;

mod backup;
mod broker;
mod broker_secret;
mod broker_status;
mod change_terms;
mod client;
mod clock;
mod device;
mod device_certificate;
mod device_key;
mod device_secret;
mod duration;
mod enrolment;
mod environment;
mod exit_code;
mod group;
mod input;
mod key;
mod migrate_store;
mod policy;
mod revocation;
mod root_key;
mod secret;
mod serve;
mod static_password;
mod table;

use client::Failure;

use crate::date::date;

/// The OAuth 2.0 authorization server of a fleet of MQTT devices.
#[derive(Parser)]
#[command(version, name = "fleetbadge-issuer", max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 refused, 2 wrong usage, configuration, files or credentials of the database: \
                  trying again will never help, 3 no server runs with this data directory, 4 anything else, such as \
                  a database that is away or a data directory in use: try again"
)]
struct Cli {
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Subcommand)]
enum Noun {
    /// Run the server
    Serve(Box<serve::Serve>),
    /// Add, look at, approve, disable, enable and remove devices
    Device(device::Device),
    /// Make, look at and remove enrolment tokens
    Enrolment(enrolment::Enrolment),
    /// Set and look at groups: which topics, which scope, how long
    Group(group::Group),
    /// Say what a device may do, and why
    Policy(policy::Policy),
    /// Register, look at and remove brokers, and rotate their secrets
    Broker(broker::Broker),
    /// Look at and rotate the signing keys
    Key(key::Key),
    /// Save everything that is kept, and restore it
    Backup(backup::Backup),
    /// Move an issuer that does not run from SQLite to PostgreSQL
    ///
    /// Everything goes as it is: tokens and keys stay good, and brokers go on
    /// following the revocations. At the end both databases are compared, and
    /// the SQLite one gets another name. If it is interrupted, run it again.
    MigrateStore(migrate_store::MigrateStore),
    /// Change what all nodes have in common, the issuer and the propagation
    /// bound, when none runs
    ///
    /// What is not given stays as it is. Nodes that run all the same issue nothing
    /// from then on. Takes the options, the environment and the TOML file of
    /// `serve`.
    ChangeTerms(change_terms::ChangeTerms),
    /// Look at the server's clock, and say that it is right
    Clock(clock::Clock),
    /// Take back tokens before their time, and list what is taken back
    Revocation(revocation::Revocation),
    /// Add, use, look at and remove root keys, which everything else is under
    RootKey(root_key::RootKey),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    if let Err(error) = environment::check(&Cli::command(), names.iter().map(|name| &**name)) {
        return fail(&Failure::Usage(error.to_string()));
    }
    if std::env::args().any(|argument| shows_password(&argument)) {
        note(
            "every user of this machine can read the database's password in the command line; put it into \
             FLEETBADGE_DATABASE, the TOML file, ~/.pgpass, or the file that PGPASSFILE names",
        );
    }
    let result = match cli.noun {
        Noun::Serve(serve) => serve.run(),
        Noun::Device(device) => device.run(),
        Noun::Enrolment(enrolment) => enrolment.run(),
        Noun::Group(group) => group.run(),
        Noun::Policy(policy) => policy.run(),
        Noun::Broker(broker) => broker.run(),
        Noun::Key(key) => key.run(),
        Noun::Backup(backup) => backup.run(),
        Noun::MigrateStore(migrate_store) => migrate_store.run(),
        Noun::ChangeTerms(change_terms) => change_terms.run(),
        Noun::Clock(clock) => clock.run(),
        Noun::Revocation(revocation) => revocation.run(),
        Noun::RootKey(root_key) => root_key.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The answer was printed.
        Err(Failure::Denied) => ExitCode::from(Failure::Denied.exit_code()),
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    let _ = writeln!(io::stderr(), "fleetbadge-issuer: {failure}");
    ExitCode::from(failure.exit_code())
}

/// Whether it is, or ends with, the URL of a database with a password.
fn shows_password(argument: &str) -> bool {
    let begin = ["postgres://", "postgresql://"].iter().find_map(|scheme| argument.find(scheme));
    let url = begin.and_then(|begin| argument.get(begin..)?.parse::<url::Url>().ok());
    url.is_some_and(|url| url.password().is_some())
}

/// When a credential was last used, as people read it.
fn last_used(at: Option<UnixSeconds>) -> String {
    at.map_or_else(|| "never used".into(), |at| format!("last used {}", date(at)))
}

/// Writes what a command has to say. Nobody listening any more is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes what whoever reads should know beside the answer.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "note: {text}");
}

/// Tells a person from time to time how far something is.
fn tell(rows: u64, what: &str) {
    if rows.is_multiple_of(10_000) && io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r{rows} rows {what}");
    }
}

/// Ends what [`tell`] said.
fn told() {
    if io::stderr().is_terminal() {
        // Back to the start of the line, and nothing on it.
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

/// Writes one object on a line of its own.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print(&(serde_json::to_string(value)? + "\n"))
}
