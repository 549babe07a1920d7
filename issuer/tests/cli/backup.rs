//! `backup …`.

use std::fs;

use crate::place::{ISSUER, Place, mode};

#[test]
fn a_backup_fills_an_empty_place_and_no_other() {
    let place = Place::new();
    let file = place.path("backup");
    let file = file.to_str().unwrap();
    let (code, said) = place.refused(&["backup", "create", file]);
    assert_eq!((code, said.contains("no server runs with")), (3, true), "{said}");
    let server = place.serve(&[]);
    let device = place.json(&["device", "add", "pump-1"]);
    let created = place.json(&["backup", "create", file]);
    assert_eq!(created["bytes"], fs::metadata(file).unwrap().len());
    assert_eq!(mode(file.as_ref()), 0o600);
    let (code, said) = place.refused(&["backup", "create", file]);
    assert_eq!((code, said.contains("exists; give another name")), (2, true), "{said}");
    let restore = ["backup", "restore", file, "--issuer", ISSUER];
    let (code, said) = place.refused(&restore);
    assert_eq!((code, said.contains("another fleetbadge-issuer uses")), (4, true), "{said}");
    server.stop("-TERM");
    let (code, said) = place.refused(&restore);
    assert_eq!((code, said.contains("issuer.sqlite3: is there already")), (2, true), "{said}");
    fs::rename(place.data_dir().join("issuer.sqlite3"), place.path("old")).unwrap();
    let (code, said) = place.refused(&["backup", "restore", file, "--issuer", "http://127.0.0.1:2"]);
    assert_eq!((code, said.contains(&format!("give --issuer {ISSUER}"))), (2, true), "{said}");
    let restored = place.json(&restore);
    assert!(restored["rows"].as_u64().unwrap() > 2 && restored["made_at"].is_u64(), "{restored}");
    assert_eq!(mode(&place.data_dir().join("issuer.sqlite3")), 0o600);
    let server = place.serve(&[]);
    let answers = std::iter::repeat_with(|| server.token(&device).0);
    assert_eq!(answers.take(10_000).find(|status| *status != 503), Some(200));
}

#[test]
fn help_shows_what_is_of_use() {
    let help = Place::new().text(&["backup", "restore", "--help"]);
    for shown in ["--data-dir", "--database", "--issuer", "--config"] {
        assert!(help.contains(shown), "{shown}");
    }
    for hidden in ["--listen", "--tls-key", "--key-rotation-s"] {
        assert!(!help.contains(hidden), "{hidden}");
    }
}

#[test]
fn what_is_said_names_the_file_that_is_wrong() {
    let place = Place::new();
    let server = place.serve(&[]);
    let (code, said) = place.refused(&["backup", "create", "/nonexistent/backup"]);
    assert_eq!(
        (code, said.as_str()),
        (2, "fleetbadge-issuer: /nonexistent/backup: No such file or directory (os error 2)\n")
    );
    if fs::exists("/dev/full").unwrap() {
        // What cannot be written whole has the name that was given.
        let folder = place.path("full");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("backup");
        let script = "ulimit -f 1; trap '' XFSZ; exec \"$@\"";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_fleetbadge-issuer"), "backup", "create"]);
        let output = command.arg(&file).arg("--data-dir").arg(place.data_dir()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.starts_with(&format!("fleetbadge-issuer: {}: File too large", file.display())),
            "{said}"
        );
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
    let file = place.path("backup");
    let file = file.to_str().unwrap();
    place.json(&["backup", "create", file]);
    server.stop("-TERM");
    fs::remove_file(place.data_dir().join("issuer.sqlite3")).unwrap();
    let root_key = place.data_dir().join("root.key");
    let restore = ["backup", "restore", file, "--issuer", ISSUER];
    fs::set_permissions(&root_key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (code, said) = place.refused(&restore);
    assert!(
        said.starts_with(&format!("fleetbadge-issuer: {}: others can use it", root_key.display())),
        "{said}"
    );
    assert_eq!(code, 2);
    fs::set_permissions(&root_key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut broken = fs::read(file).unwrap();
    broken.pop();
    fs::write(file, broken).unwrap();
    let (code, said) = place.refused(&restore);
    assert!(
        code == 2 && said.starts_with(&format!("fleetbadge-issuer: {file}: it cannot be opened")),
        "{said}"
    );
}
