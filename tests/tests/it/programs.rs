//! The programs have the names that scripts rely on.

use fleetbadge_tests::process::run;
use fleetbadge_tests::programs::{Program, mosquitto_plugin};

#[test]
fn programs_tell_name_and_version() {
    for (program, name) in [
        (Program::Agent, "fleetbadge-agent"),
        (Program::Issuer, "fleetbadge-issuer"),
        (Program::Quickstart, "fleetbadge"),
        (Program::Validator, "fleetbadge-validator"),
    ] {
        let mut command = program.command();
        command.arg("--version");
        let finished = run(command);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert_eq!(finished.stdout, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn plugin_has_the_name_in_the_manual() {
    assert_eq!(mosquitto_plugin().file_name().unwrap(), "libfleetbadge_mosquitto.so");
}
