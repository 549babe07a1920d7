//! OAuth by Python's Authlib and PyJWT: clients that know nothing of ours
//! (`clients/oauth_client.py` is the other half), and the device of
//! `scripts/device-key.py`.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::Value;

use crate::process::{Finished, Running, run};

/// The interpreter with everything of `clients/requirements.txt`.
pub(crate) const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/venv/bin/python");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/oauth_client.py");
const DEVICE_KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/device-key.py");

/// Takes one step, an object with `do` and the step's arguments, and returns
/// what came of it.
///
/// # Panics
/// With what Python says, when that is neither a result nor an OAuth error.
#[must_use]
pub fn oauth(step: &Value) -> Value {
    let mut command = Command::new(PYTHON);
    // Authlib wants https otherwise; RFC 8252 §8.3 has plain HTTP for loopback.
    command.arg(SCRIPT).env("AUTHLIB_INSECURE_TRANSPORT", "1").env("NO_PROXY", "127.0.0.1");
    let mut python = Running::spawn(command);
    python.say(&step.to_string());
    python.end_of_input();
    let finished = python.wait();
    assert_eq!(finished.code, Some(0), "{step}: {}", finished.stderr);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.stdout))
}

/// Runs `scripts/device-key.py`.
///
/// # Panics
/// When it takes too long.
pub fn device_key<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Finished {
    let mut command = Command::new(PYTHON);
    command.arg(DEVICE_KEY).args(arguments).env("NO_PROXY", "127.0.0.1");
    run(command)
}
