//! Mosquitto: a configuration to paste, and a lint for the one there is.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use self::model::Configuration;
use super::finding::{Finding, Findings, Severity};

mod lines;
mod model;
mod print;
mod rules;
mod settings;

#[derive(Args)]
#[command(
    after_help = "Exit codes with --lint: 0 nothing that must be mended, 1 findings of severity error (with \
                        --strict, or warning), 2 wrong usage or an unreadable file"
)]
pub(crate) struct Arguments {
    /// The broker's version; 2.0 stands for all of 2.0.11 and later
    #[arg(long, value_name = "VERSION", value_enum, default_value = "2.0")]
    mosquitto: Version,
    /// Check this configuration, and what it includes, instead of printing one
    #[arg(long, value_name = "FILE", conflicts_with = "print")]
    lint: Option<PathBuf>,
    /// Warnings fail too
    #[arg(long, requires = "lint")]
    strict: bool,
    /// Print the findings as one JSON object
    #[arg(long, requires = "lint")]
    json: bool,
    #[command(flatten)]
    print: print::Arguments,
}

/// The broker's version, as far as configurations differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    #[value(name = "2.0")]
    V2_0,
    #[value(name = "2.1")]
    V2_1,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    errors: usize,
    warnings: usize,
    notes: usize,
    findings: &'a [Finding],
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Some(path) = &arguments.lint else {
        return say(&arguments.print.configuration(arguments.mosquitto), ExitCode::SUCCESS);
    };
    let findings = match lint(path, arguments.mosquitto) {
        Ok(findings) => findings,
        Err(error) => {
            // There is nowhere else to say it.
            let _ = writeln!(std::io::stderr(), "error: {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    let count = |severity| findings.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let text = if arguments.json {
        let report = Report { errors, warnings, notes: count(Severity::Note), findings: &findings };
        serde_json::to_string(&report).unwrap_or_default()
    } else if findings.is_empty() {
        "nothing found".into()
    } else {
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    say(&text, ExitCode::from(u8::from(errors > 0 || arguments.strict && warnings > 0)))
}

/// What is found in a configuration, in the order of its lines.
fn lint(path: &Path, version: Version) -> std::io::Result<Vec<Finding>> {
    let mut found = Findings::default();
    let configuration = Configuration::read(path, version, &mut found)?;
    rules::check(&configuration, &mut found);
    Ok(found.into_sorted())
}

fn say(text: &str, outcome: ExitCode) -> ExitCode {
    match writeln!(std::io::stdout(), "{}", text.trim_end_matches('\n')) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(std::io::stderr(), "error: standard output: {error}");
            ExitCode::from(2)
        }
        Ok(()) | Err(_) => outcome,
    }
}

#[cfg(test)]
mod tests;
