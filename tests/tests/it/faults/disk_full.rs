//! The disk of the database is full for a while.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use fleetbadge_tests::device::curl;
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::ports;
use fleetbadge_tests::postgres::Postgres;
use fleetbadge_validator::time::{Clock as _, SystemClock};
use serde_json::Value;

use super::{
    add_broker, add_signer, assertion, eventually, is_active, is_refused_for_now, present, snapshot, soon,
};

/// Makes a disk that only the server sees its data directory: `$4` is that of
/// `PROGRAM serve --data-dir DIR …`. Only who is not root has to become it.
const ON_SMALL_DISK: &str = r#"
    if [ "$(id -u)" = 0 ]; then map=; else map=--map-root-user; fi
    mount='mount -t tmpfs -o size=8m,mode=700 none "$4" && exec "$@"'
    exec unshare $map --mount sh -c "$mount" sh "$@"
"#;
/// More changes than fit into what the database has already taken of the disk.
const TRIES: usize = 500;

/// Fills the disk with a file, to the last byte.
fn fill(filler: &Path) {
    let mut filler = File::options().append(true).create(true).open(filler).unwrap();
    while filler.write_all(&[0; 4_096]).is_ok() {}
    while filler.write_all(&[0]).is_ok() {}
}

#[test]
#[cfg_attr(no_mount, ignore = "no file system can be made")]
fn a_full_disk_takes_no_change_and_loses_none() {
    let ops = format!("127.0.0.1:{}", ports::free());
    let under = ["sh", "-c", ON_SMALL_DISK, "sh"].map(str::to_owned).into();
    let issuer = Issuer::start_under(under, &["--ops-listen", &ops]);
    fill_twice(&issuer, &ops, &issuer.folder().join("filler"));
}

#[test]
#[cfg_attr(any(no_mount, no_postgresql), ignore = "no file system can be made, or no PostgreSQL")]
fn a_full_disk_of_postgresql_takes_no_change_and_loses_none() {
    let postgres = Postgres::start_on_small_disk("24m");
    let ops = format!("127.0.0.1:{}", ports::free());
    let issuer = Issuer::start_with(&["--database", &postgres.database(), "--ops-listen", &ops]);
    fill_twice(&issuer, &ops, &postgres.file_on_disk("filler"));
}

fn fill_twice(issuer: &Issuer, ops: &str, filler: &Path) {
    let ready = || curl([format!("http://{ops}/readyz")]).status;
    let user = add_broker(issuer);
    let (known, revoked) = (issuer.add_device("pump-1"), issuer.add_device("pump-2"));
    let key = add_signer(issuer);
    let ask = |jti: &str| present(issuer, &assertion(issuer, &key, jti, SystemClock.now().0));
    assert_eq!(ask("1").status, 200);
    let tokens = [&known, &revoked].map(|device| issuer.token(device));

    for round in 0..2 {
        let lamp = issuer.add_device(&format!("lamp-{round}"));
        let light = issuer.token(&lamp);
        fill(filler);
        let mut acknowledged: Vec<Device> = Vec::new();
        let refused = (0..TRIES).find_map(|n| {
            let name = format!("device-{round}-{n}");
            let finished = issuer.command(&["device", "add", &name, "--json"]);
            if finished.code == Some(0) {
                acknowledged.push(serde_json::from_str(&finished.stdout).unwrap());
                return None;
            }
            Some((name, finished))
        });
        let (refused, finished) = refused.expect("the disk is full");
        assert_eq!(finished.code, Some(4), "{finished:?}");
        let tells = |text| finished.stderr.contains(text);
        assert!(tells("full") || tells("No space left"), "{}", finished.stderr);
        // What is refused is not half done.
        let disabling = issuer.command(&["device", "disable", &lamp.client_id]);
        let asked = soon(|| issuer.request_token(&lamp, &[]));
        match disabling.code {
            Some(4) => assert!(asked.status == 200 || is_refused_for_now(&asked), "{asked:?}"),
            // PostgreSQL may have room left in what it has taken of the disk.
            Some(0) => assert_eq!((asked.status, is_active(issuer, &user, &light)), (401, false)),
            _ => panic!("{disabling:?}"),
        }
        assert!(is_active(issuer, &user, &tokens[0]));
        let entries = snapshot(issuer, &user).len();
        let revoking = issuer.command(&["revocation", "add", "--device", "pump-2"]);
        match revoking.code {
            Some(4) => assert_eq!(snapshot(issuer, &user).len(), entries, "{revoking:?}"),
            Some(0) => assert!(!is_active(issuer, &user, &tokens[1])),
            _ => panic!("{revoking:?}"),
        }
        // Nobody could say later that it was used.
        let jti = format!("full-{round}");
        let answer = ask(&jti);
        assert!(is_refused_for_now(&answer) || ask(&jti).status == 401, "{answer:?}");
        for device in &acknowledged {
            assert_eq!(soon(|| issuer.request_token(device, &[])).status, 200);
        }

        fs::remove_file(filler).unwrap();
        eventually("ready", || ready() == 200);
        assert_eq!(issuer.command(&["device", "add", &refused]).code, Some(0));
        assert_eq!(ask(&format!("room-{round}")).status, 200);
        assert_eq!(issuer.command(&["revocation", "add", "--device", "pump-2"]).code, Some(0));
        assert!(!is_active(issuer, &user, &tokens[1]));
        assert_eq!(soon(|| issuer.request_token(&known, &[])).status, 200);
        let listed: Vec<Value> = issuer.json_lines(&["device", "list"]);
        for device in &acknowledged {
            assert!(listed.iter().any(|found| found["client_id"] == device.client_id.as_str()));
        }
    }
}
