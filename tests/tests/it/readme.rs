//! The tour in README.md works as it is written.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fleetbadge_tests::patience::Deadline;
use fleetbadge_tests::ports;
use fleetbadge_tests::postgres::SHARED;
use fleetbadge_tests::process::Running;

/// Runs every command of the tour, in one shell, and looks for everything that
/// the README shows of their output. Only ports and the folder are others, so
/// that what runs on this machine is not disturbed.
#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn tour_works_word_for_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let dir = tempfile::Builder::new().prefix("fleetbadge-tour-").tempdir().expect("a directory");
    let tour = dir.path().join("tour").to_string_lossy().into_owned();
    let [http, mqtt, tls, node_1, node_2, node_3] = [(); 6].map(|()| ports::free().to_string());
    let moved = |text: &str| {
        text.replace("$PWD/tour", &tour)
            .replace(" tour/", &format!(" {tour}/"))
            .replace("(cat tour/", &format!("(cat {tour}/"))
            .replace(" tour\n", &format!(" {tour}\n"))
            .replace(" tour ", &format!(" {tour} "))
            .replace("8080", &http)
            .replace("8443", &tls)
            .replace("8081", &node_1)
            .replace("8082", &node_2)
            .replace("8083", &node_3)
            .replace("1883", &mqtt)
            .replace("mosquitto_pub ", &format!("mosquitto_pub -p {mqtt} "))
            .replace("mqtt://127.0.0.1", &format!("mqtt://127.0.0.1:{mqtt}"))
            .replace("serve --data-dir", &format!("serve --listen 127.0.0.1:{http} --data-dir"))
    };

    let script: String = blocks(&readme, "sh tour").map(|block| moved(&block)).collect();
    assert!(script.matches("fleetbadge-").count() > 8, "the tour is there:\n{script}");
    let mut command = Command::new("bash");
    // Job control, as in the terminal of a person; each command must succeed.
    command
        .args(["-e", "-m", "-o", "pipefail", "-c", &script])
        .current_dir(root)
        .env("HOME", dir.path())
        .env("DATABASE", SHARED.database());
    let mut shell = Running::spawn(command);
    shell.end_of_input();
    // It builds a release, which takes longer than anything else here.
    let deadline = Deadline::after(Duration::from_secs(45 * 60));
    while shell.is_running() {
        assert!(deadline.left().is_some(), "the tour does not end:\n{}", shell.output());
        std::thread::sleep(Duration::from_millis(100));
    }
    let ended = shell.wait();
    let said = shell.output();
    assert_eq!(ended.code, Some(0), "{script}\n{said}");

    let said: Vec<String> = said.lines().map(without_numbers).collect();
    for line in blocks(&readme, "text").chain(blocks(&readme, "json")).collect::<String>().lines() {
        let wanted = without_numbers(&moved(line));
        assert!(said.iter().any(|line| line.contains(&wanted)), "{line}\nis not in:\n{}", said.join("\n"));
    }
}

/// The fenced blocks of this kind.
fn blocks<'a>(markdown: &'a str, kind: &'a str) -> impl Iterator<Item = String> + 'a {
    markdown.split("\n```").skip(1).step_by(2).filter_map(move |block| {
        let (found, content) = block.split_once('\n')?;
        (found == kind).then(|| format!("{content}\n"))
    })
}

fn without_numbers(line: &str) -> String {
    let mut text = line.trim().to_owned();
    text.retain(|c| !c.is_ascii_digit());
    text
}
