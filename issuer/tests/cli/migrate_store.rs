//! `migrate-store`, as far as it goes without PostgreSQL.

use std::fs::{self, File};

use crate::place::Place;

#[test]
fn where_to_must_be_right_and_no_password_is_repeated() {
    let place = Place::new();
    fs::create_dir(place.data_dir()).unwrap();
    assert_eq!(place.refused(&["migrate-store"]).0, 2);
    for url in [
        "mysql://u:secret@h/n",
        "u:secret",
        "postgres:///n?password=secret",
        "postgres://u:secret@db.example/n?sslmode=require",
    ] {
        let (code, said) = place.refused(&["migrate-store", "--to", url]);
        assert_eq!((code, said.contains("database: ")), (2, true), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    let nobody = "postgres://u@127.0.0.1:1/n";
    let (code, said) = place.refused(&["migrate-store", "--to", nobody]);
    assert_eq!((code, said.contains("there is no SQLite database")), (2, true), "{said}");
    assert!(!place.data_dir().join("issuer.sqlite3").exists());
}

#[test]
fn where_an_issuer_has_gone_none_begins_anew() {
    let place = Place::new();
    place.serve(&[]).stop("-TERM");
    let database = place.data_dir().join("issuer.sqlite3");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--issuer", "http://127.0.0.1:1"];
    for (name, way_out) in [
        ("issuer.sqlite3.migrated", "--database"),
        ("issuer.sqlite3.migrating", "run migrate-store again"),
        ("issuer.sqlite3.unfinished", "run it again, or remove this file"),
    ] {
        let renamed = place.data_dir().join(name);
        fs::rename(&database, &renamed).unwrap();
        let (code, said) = place.refused(&serve);
        assert_eq!((code, said.contains(name) && said.contains(way_out)), (2, true), "{said}");
        assert!(!database.exists());
        fs::rename(&renamed, &database).unwrap();
    }
    // Before anything is asked of PostgreSQL.
    File::create(place.data_dir().join("issuer.sqlite3.migrating")).unwrap();
    let (code, said) = place.refused(&[&serve[..], &["--database", "postgres://u@127.0.0.1:1/n"]].concat());
    assert_eq!((code, said.contains("run migrate-store again")), (2, true), "{said}");
}
