//! Our own programs, as they ship: built once per test run with the profile
//! of the tests, so that a test never sees an old one.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The packages whose programs the tests run.
const PACKAGES: [&str; 5] =
    ["fleetbadge", "fleetbadge-agent", "fleetbadge-hooks", "fleetbadge-issuer", "fleetbadge-mosquitto"];

/// A program of this workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `fleetbadge-agent`, the device agent.
    Agent,
    /// `fleetbadge-issuer`, the authorization server and its operator CLI.
    Issuer,
    /// `fleetbadge`, the quickstart.
    Quickstart,
    /// `fleetbadge-validator`, the HTTP service and its `check`.
    Validator,
}

impl Program {
    /// A command that runs the program, without any `FLEETBADGE_…` variable
    /// of the environment.
    ///
    /// # Panics
    /// When the programs don't build.
    #[must_use]
    pub fn command(self) -> Command {
        let mut command = Command::new(artifact(match self {
            Self::Agent => "fleetbadge-agent",
            Self::Issuer => "fleetbadge-issuer",
            Self::Quickstart => "fleetbadge",
            Self::Validator => "fleetbadge-validator",
        }));
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("FLEETBADGE_") {
                command.env_remove(name);
            }
        }
        command
    }
}

/// The Mosquitto plugin, `libfleetbadge_mosquitto.so`.
///
/// # Panics
/// When the programs don't build.
#[must_use]
pub fn mosquitto_plugin() -> &'static Path {
    artifact("fleetbadge_mosquitto")
}

fn artifact(name: &str) -> &'static Path {
    static ARTIFACTS: OnceLock<Option<HashMap<String, PathBuf>>> = OnceLock::new();
    let artifacts = ARTIFACTS.get_or_init(build).as_ref().expect("cargo builds our programs");
    artifacts.get(name).unwrap_or_else(|| panic!("the workspace builds no {name}"))
}

/// Builds all programs and returns their paths by target name, `None` when one
/// does not build (then the next test need not try again). Cargo itself says
/// where they are, and does next to nothing when they are fresh.
fn build() -> Option<HashMap<String, PathBuf>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let built = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--locked", "--message-format=json-render-diagnostics"])
        .args(["--profile", &profile()])
        .args(PACKAGES.map(|package| format!("--package={package}")))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    let messages = String::from_utf8_lossy(&built.stdout);
    built.status.success().then(|| messages.lines().filter_map(program_in).collect())
}

/// The profile of this test run, read from where Cargo has put it:
/// `target/PROFILE/deps/TEST`.
fn profile() -> String {
    let test = env::current_exe().expect("the test knows its path");
    let directory = test.ancestors().nth(2).and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if directory == "debug" { "dev".to_owned() } else { directory.into_owned() }
}

/// Name and path from Cargo's message about a binary or a plugin.
fn program_in(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = message.get("target")?;
    let path = match target.get("kind")?.get(0)?.as_str()? {
        "bin" => message.get("executable")?.as_str()?,
        "cdylib" => message.get("filenames")?.get(0)?.as_str()?,
        _ => return None,
    };
    Some((target.get("name")?.as_str()?.to_owned(), PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_programs_are() {
        let binary = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"fleetbadge"},
            "filenames":["/t/debug/fleetbadge"],"executable":"/t/debug/fleetbadge"}"#;
        assert_eq!(program_in(binary), Some(("fleetbadge".to_owned(), PathBuf::from("/t/debug/fleetbadge"))));
        let plugin = r#"{"reason":"compiler-artifact","target":{"kind":["cdylib"],"name":"plugin"},
            "filenames":["/t/debug/libplugin.so"],"executable":null}"#;
        assert_eq!(program_in(plugin), Some(("plugin".to_owned(), PathBuf::from("/t/debug/libplugin.so"))));
        assert_eq!(program_in(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
