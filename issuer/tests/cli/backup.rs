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
    assert_eq!((code, said.contains("issuer.sqlite3: is there already")), (4, true), "{said}");
    fs::rename(place.data_dir().join("issuer.sqlite3"), place.path("old")).unwrap();
    let (code, said) = place.refused(&["backup", "restore", file, "--issuer", "http://127.0.0.1:2"]);
    assert_eq!((code, said.contains(&format!("give --issuer {ISSUER}"))), (4, true), "{said}");
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
