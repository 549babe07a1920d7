//! What `cargo run --release` starts does what it prints.

use std::process::Command;

use fleetbadge_tests::ports;
use fleetbadge_tests::process::run;
use fleetbadge_tests::programs::Program;
use fleetbadge_tests::quickstart::Quickstart;

#[test]
fn printed_lines_work_when_pasted_and_everything_is_found_again() {
    let mut quickstart = Quickstart::start();
    let script = printed(&quickstart);
    let said = paste(&script);
    for line in ["hello\n", "connected: Success\n", "devices/demo-device/paho hello from paho\n"] {
        assert!(said.contains(line), "{line}is not in:\n{said}");
    }
    assert!(said.contains("Connection Refused"), "the refused one is refused:\n{said}");
    let ended = quickstart.process().stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for token in said.lines().filter(|line| line.starts_with("eyJ")) {
        let signature = token.rsplit('.').next().expect("a signature");
        assert!(!ended.stderr.contains(signature), "{}", ended.stderr);
    }

    quickstart.restart();
    let again = printed(&quickstart);
    assert_eq!(script, again, "the same device, the same lines");
    assert!(paste(&again).contains("connected: Success\n"));
    quickstart.process().signal(fleetbadge_tests::process::Signal::INT);
    assert_eq!(quickstart.process().wait().code, Some(0), "Ctrl-C ends it");
}

#[test]
fn taken_port_is_told_with_its_flag() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    let mut command = Program::Quickstart.command();
    command.args(["--mqtt-listen", &taken, "--listen", &format!("127.0.0.1:{}", ports::free())]);
    command.args(["--ws-listen", &format!("127.0.0.1:{}", ports::free())]);
    command.arg("--data-dir").arg(dir.path().join("data"));
    let refused = run(command);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("--mqtt-listen"), "{}", refused.stderr);
    assert!(!dir.path().join("data").exists(), "nothing was made");
}

/// The lines to paste that it has printed.
fn printed(quickstart: &Quickstart) -> String {
    let log = quickstart.log();
    let script: Vec<&str> = log.lines().skip_while(|line| !line.starts_with("# Fleetbadge")).collect();
    script.join("\n")
}

fn paste(script: &str) -> String {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/venv/bin");
    let path = format!("{python}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{script}\n")]).env("PATH", path);
    let finished = run(command);
    finished.stdout + &finished.stderr
}
