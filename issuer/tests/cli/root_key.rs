//! `root-key`: from one root key to the next while the server runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::place::{ISSUER, Place, mode};

#[test]
fn one_root_key_follows_another_without_a_restart() {
    let place = Place::new();
    let server = place.serve(&[]);
    let device = place.json(&["device", "add", "pump-1"]);
    let first = place.json(&["root-key", "list"])["id"].as_str().unwrap().to_owned();
    let second = place.json(&["root-key", "add"])["id"].as_str().unwrap().to_owned();
    let (code, said) = place.refused(&["root-key", "remove", &first]);
    assert_eq!((code, said.contains("is current")), (1, true), "{said}");
    let listed = place.text(&["root-key", "use", &second]);
    let row = |line: usize| listed.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row(1), [&second, "current", "1", "0", "0"]);
    assert_eq!(row(2), [&first, "known", "0", "1", "0"]);
    let (code, said) = place.refused(&["root-key", "remove", &first]);
    assert_eq!((code, said.contains("one of pump-1")), (1, true), "{said}");
    assert_eq!(server.token(&device).0, 200);
    let rewritten = || place.json_lines(&["root-key", "list"])[1]["secrets"] == 0;
    while !rewritten() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(place.run(&["root-key", "remove", &first]).status.success());
    assert_eq!(server.token(&device).0, 200);
    assert_eq!(mode(&place.data_dir().join("root.key")), 0o600);
    assert!(server.stop("-TERM").success());
    let server = place.serve(&[]);
    assert_eq!(server.token(&device).0, 200);
    assert!(server.stop("-TERM").success());
    let key = fs::read_to_string(place.data_dir().join("root.key")).unwrap();
    place.assert_keeps_none_of(&[key.split_once(':').unwrap().1.trim()]);
}

#[test]
fn a_file_from_elsewhere_is_taken_up_again_at_a_hang_up() {
    let place = Place::new();
    let path = place.path("shared");
    let file = path.to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--issuer", ISSUER, "--root-key-file", file];
    let (code, said) = place.refused(&serve);
    assert_eq!((code, said.contains(&format!("root-key new {file}"))), (2, true), "{said}");
    let first = place.text(&["root-key", "new", file]);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(place.refused(&["root-key", "new", file]).0, 2);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let (code, said) = place.refused(&serve);
    assert_eq!((code, said.contains("chmod 600")), (2, true), "{said}");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();

    let server = place.serve(&["--root-key-file", file]);
    assert!(!place.data_dir().join("root.key").exists());
    let other = place.path("other");
    let second = place.text(&["root-key", "new", other.to_str().unwrap()]);
    fs::write(&path, [&path, &other].map(|path| fs::read_to_string(path).unwrap()).concat()).unwrap();
    let id = server.process.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    while place.json_lines(&["root-key", "list"]).len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    place.json_lines(&["root-key", "use", second.trim()]);
    // The same by systemd's credential, without a name.
    assert!(server.stop("-TERM").success());
    fs::rename(&path, place.path("fleetbadge-root-key")).unwrap();
    let (code, said) = place.refused(&serve[..5]);
    assert_eq!((code, said.contains("root.key: is missing")), (2, true), "{said}");
    let config = place
        .command(&["serve", "--print-config"])
        .env("CREDENTIALS_DIRECTORY", place.path(""))
        .output()
        .unwrap();
    let config = String::from_utf8(config.stdout).unwrap();
    assert!(config.contains("fleetbadge-root-key\""), "{config}");
    assert_ne!(first, second);
}
