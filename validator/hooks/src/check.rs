//! `fleetbadge-validator check`: one token, explained step by step.

use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use fleetbadge_validator::access::Action;
use fleetbadge_validator::denied::{Check, Denied};
use fleetbadge_validator::keys::{KeySet, SkippedKey};
use fleetbadge_validator::revocations::RevocationState;
use fleetbadge_validator::time::{Clock as _, SystemClock, UnixSeconds};
use fleetbadge_validator::token::MAX_TOKEN_LENGTH;
use fleetbadge_validator::verify::{VerifiedToken, Verifier};
use serde::Serialize;

use crate::key_source::{KeySource, KeySourceError};
use crate::revocation_source::{RevocationSource, RevocationSourceError};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The issuer whose tokens are accepted, exactly as it stands in `iss`
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// The audience of the broker
    #[arg(long, value_name = "A")]
    audience: String,
    /// The MQTT client ID that connects
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// Ask whether it may publish to this topic; may be repeated
    #[arg(long, value_name = "TOPIC")]
    publish: Vec<String>,
    /// Ask whether it may subscribe to this filter; may be repeated
    #[arg(long, value_name = "FILTER")]
    subscribe: Vec<String>,
    /// How far clocks may differ, in seconds
    #[arg(long, value_name = "S", default_value_t = Verifier::DEFAULT_SKEW_S,
          value_parser = clap::value_parser!(u64).range(..=Verifier::MAX_SKEW_S))]
    skew_s: u64,
    /// The longest life of a token, in seconds
    #[arg(long, value_name = "S", default_value_t = Verifier::DEFAULT_MAX_LIFETIME_S)]
    max_lifetime_s: u64,
    #[command(flatten)]
    keys: KeySource,
    #[command(flatten)]
    revocations: RevocationSource,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The question could not be answered.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("standard input: {0}")]
    Input(std::io::Error),
    #[error(
        "no token on standard input; pipe one in, as in: fleetbadge-agent token … | fleetbadge-validator check …"
    )]
    NoInput,
    #[error(transparent)]
    Keys(#[from] KeySourceError),
    #[error(transparent)]
    Revocations(#[from] RevocationSourceError),
    #[error("standard output: {0}")]
    Output(std::io::Error),
    #[error("cannot write the report: {0}")]
    Report(serde_json::Error),
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let outcome = answer(arguments).and_then(|(report, text)| {
        print(&text)?;
        Ok(report)
    });
    match outcome {
        Ok(report) => ExitCode::from(u8::from(!report.allowed)),
        Err(error) => {
            // There is nowhere else to say it.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Nobody listening any more is no failure: the exit code says it too.
fn print(text: &str) -> Result<(), CheckError> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CheckError::Output(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn answer(arguments: &Arguments) -> Result<(Report, String), CheckError> {
    let token = read_token()?;
    let (keys, skipped_keys) = arguments.keys.keys(&arguments.issuer)?;
    let token = token.trim_end_matches(['\r', '\n']);
    let now = SystemClock.now();
    let revocations = arguments.revocations.state(&arguments.issuer, &arguments.keys.network, now)?;
    let report = Report { skipped_keys, ..Report::of(arguments, token, &keys, &revocations, now) };
    let text = if arguments.json {
        serde_json::to_string(&report).map_err(CheckError::Report)?
    } else {
        report.to_string()
    };
    Ok((report, text))
}

fn read_token() -> Result<String, CheckError> {
    let mut bytes = Vec::new();
    // One more than is accepted, and a line feed, so that too much is seen.
    std::io::stdin().take(MAX_TOKEN_LENGTH as u64 + 3).read_to_end(&mut bytes).map_err(CheckError::Input)?;
    if bytes.is_empty() {
        return Err(CheckError::NoInput);
    }
    // What is not UTF-8 is no token either way.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The answer, as JSON or as text.
#[derive(Serialize)]
struct Report {
    allowed: bool,
    /// The code of the first denial.
    code: Option<&'static str>,
    reason: Option<String>,
    checks: Vec<CheckReport>,
    token: Option<TokenReport>,
    topics: Vec<TopicReport>,
    /// Keys of the issuer that cannot be used, and why.
    skipped_keys: Vec<SkippedKey>,
}

#[derive(Serialize)]
struct CheckReport {
    number: u8,
    description: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Passed,
    Failed,
    NotMade,
}

/// What a good token says; nothing of a bad one is repeated.
#[derive(Serialize)]
struct TokenReport {
    subject: String,
    mqtt_client_id: String,
    key_id: String,
    scope: String,
    expires_at: u64,
    remaining_s: u64,
    publish: Vec<String>,
    subscribe: Vec<String>,
    groups: Vec<String>,
}

#[derive(Serialize)]
struct TopicReport {
    action: String,
    topic: String,
    allowed: bool,
    code: Option<&'static str>,
    reason: Option<String>,
}

impl Report {
    fn of(
        arguments: &Arguments,
        token: &str,
        keys: &KeySet,
        revocations: &RevocationState,
        now: UnixSeconds,
    ) -> Self {
        let verifier = Verifier {
            skew_s: arguments.skew_s,
            max_lifetime_s: arguments.max_lifetime_s,
            ..Verifier::new(&arguments.issuer, &arguments.audience)
        };
        match verifier.verify(token, &arguments.client_id, keys, revocations, now) {
            Ok(token) => {
                let asked = arguments.publish.iter().map(|topic| (Action::Publish, topic));
                let asked = asked.chain(arguments.subscribe.iter().map(|filter| (Action::Subscribe, filter)));
                let topics: Vec<_> =
                    asked.map(|(action, topic)| TopicReport::of(&token, action, topic, now)).collect();
                let denied = topics.iter().find(|topic| !topic.allowed);
                Self {
                    allowed: denied.is_none(),
                    code: denied.and_then(|topic| topic.code),
                    reason: denied.and_then(|topic| topic.reason.clone()),
                    checks: checks(None, revocations),
                    token: Some(TokenReport::of(&token, now)),
                    topics,
                    skipped_keys: Vec::new(),
                }
            }
            Err(denied) => Self {
                allowed: false,
                code: Some(denied.code()),
                reason: Some(denied.to_string()),
                checks: checks(denied.check(), revocations),
                token: None,
                topics: Vec::new(),
                skipped_keys: Vec::new(),
            },
        }
    }
}

fn checks(failed: Option<Check>, revocations: &RevocationState) -> Vec<CheckReport> {
    let nobody_asked = matches!(revocations, RevocationState::NotFollowed);
    let outcome = |check: Check| match failed {
        None if check == Check::Revocation && nobody_asked => Outcome::NotMade,
        Some(failed) if check == failed => Outcome::Failed,
        Some(failed) if check > failed => Outcome::NotMade,
        _ => Outcome::Passed,
    };
    Check::ALL
        .into_iter()
        .map(|check| CheckReport {
            number: check as u8,
            description: check.description(),
            outcome: outcome(check),
        })
        .collect()
}

impl TokenReport {
    fn of(token: &VerifiedToken, now: UnixSeconds) -> Self {
        let signed = token.signed();
        Self {
            subject: token.subject().to_owned(),
            mqtt_client_id: token.mqtt_client_id().to_owned(),
            key_id: signed.key_id().to_owned(),
            scope: token.scope().to_string(),
            expires_at: token.expires_at().0,
            remaining_s: token.expires_at().since(now),
            publish: signed.publish_filters().map(|filter| filter.to_string()).collect(),
            subscribe: signed.subscribe_filters().map(|filter| filter.to_string()).collect(),
            groups: signed.groups().map(str::to_owned).collect(),
        }
    }
}

impl TopicReport {
    fn of(token: &VerifiedToken, action: Action, topic: &str, now: UnixSeconds) -> Self {
        let denied: Option<Denied> = token.allows(action, topic, now).err();
        Self {
            action: action.to_string(),
            topic: topic.to_owned(),
            allowed: denied.is_none(),
            code: denied.as_ref().map(Denied::code),
            reason: denied.as_ref().map(ToString::to_string),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let outcome = match check.outcome {
                Outcome::Passed => "ok",
                Outcome::Failed => "NO",
                Outcome::NotMade => "-",
            };
            let hint = match (check.number == Check::Revocation as u8, check.outcome) {
                (true, Outcome::NotMade) if self.code.is_none() => " (not asked: give --credentials-file)",
                _ => "",
            };
            writeln!(f, "{:>2}. {outcome:<2}  {}{hint}", check.number, check.description)?;
        }
        if let Some(token) = &self.token {
            writeln!(f, "\ndevice {}, MQTT client ID {}", token.subject, token.mqtt_client_id)?;
            writeln!(f, "scope {}, {} s left", token.scope, token.remaining_s)?;
            for filter in &token.publish {
                writeln!(f, "may publish   {filter}")?;
            }
            for filter in &token.subscribe {
                writeln!(f, "may subscribe {filter}")?;
            }
        }
        for topic in &self.topics {
            let verdict = if topic.allowed { "ok" } else { "NO" };
            writeln!(f, "{verdict}  {} {:?}", topic.action, topic.topic)?;
        }
        for SkippedKey { kid, reason } in &self.skipped_keys {
            writeln!(f, "not used: key {kid:?} of the issuer {reason}")?;
        }
        match (&self.code, &self.reason) {
            (Some(code), Some(reason)) => write!(f, "\ndeny: {code}: {reason}"),
            _ => f.write_str("\nallow"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use fleetbadge_validator::test_support::vectors;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(line: &[&str]) -> Arguments {
        Line::parse_from([&["check"], line].concat()).arguments
    }

    #[test]
    fn every_vector_has_its_verdict() {
        for (file, vectors) in vectors() {
            let (keys, _) = KeySet::from_json(&vectors.issuer, vectors.jwks.to_string().as_bytes()).unwrap();
            // Who checks a token by hand has no connection with a certificate.
            for case in vectors.cases.iter().filter(|case| case.certificate.is_none()) {
                let client_id = format!("--client-id={}", case.client_id);
                let line = ["--issuer", &vectors.issuer, "--audience", &vectors.audience, &client_id];
                let (revocations, now) = (case.revocation_state(), UnixSeconds(case.now));
                let report = Report::of(&arguments(&line), &case.token, &keys, &revocations, now);
                assert_eq!(report.code.unwrap_or("allow"), case.expect, "{file}: {}", case.name);
                assert_eq!(report.allowed, case.expect == "allow");
                let failed = report.checks.iter().filter(|check| check.outcome == Outcome::Failed).count();
                assert_eq!(failed, usize::from(!report.allowed), "{file}: {}", case.name);
                let text = report.to_string() + &serde_json::to_string(&report).unwrap();
                let signature = case.token.rsplit('.').next().unwrap();
                assert!(signature.len() < 20 || !text.contains(signature), "{file}: {}", case.name);
            }
        }
    }

    #[test]
    fn topics_count_for_the_verdict() {
        let (_, vectors) = vectors().into_iter().find(|(file, _)| file == "valid").unwrap();
        let (keys, _) = KeySet::from_json(&vectors.issuer, vectors.jwks.to_string().as_bytes()).unwrap();
        let case = &vectors.cases[0];
        let report = |line: &[&str]| {
            let line = [&["--issuer", &vectors.issuer, "--audience", "mqtt", "--client-id", "pump-1"], line]
                .concat();
            let revocations = RevocationState::NotFollowed;
            Report::of(&arguments(&line), &case.token, &keys, &revocations, UnixSeconds(case.now))
        };
        assert!(report(&["--publish", "devices/pump-1/x", "--subscribe", "devices/pump-1/#"]).allowed);
        let refused = report(&["--publish", "devices/pump-1/x", "--subscribe", "#"]);
        assert_eq!((refused.allowed, refused.code), (false, Some("topic_not_allowed")));
        assert_eq!(refused.topics.iter().map(|topic| topic.allowed).collect::<Vec<_>>(), [true, false]);
    }
}
