//! A backup is cut off: by the death of whoever writes it, or of the server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::postgres::SHARED;
use fleetbadge_tests::process::{Finished, Running, Signal, run};
use fleetbadge_tests::programs::Program;

/// After how many milliseconds.
const MOMENTS: [u64; 12] = [10, 20, 30, 40, 50, 65, 80, 100, 130, 170, 1_500, 1_500];

#[test]
fn a_backup_is_whole_or_there_is_none() {
    kill_while_backing_up(Issuer::start());
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_backup_of_a_shared_database_is_whole_or_there_is_none() {
    kill_while_backing_up(Issuer::start_with(&["--database", &SHARED.database()]));
}

fn kill_while_backing_up(mut issuer: Issuer) {
    // Enough to take a while.
    for n in 0..20 {
        let _ = issuer.add_device(&format!("pump-{n}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut whole, mut cut_off) = (0, 0);
    for (n, moment) in MOMENTS.into_iter().enumerate() {
        let file = folder.path().join(format!("backup-{n}"));
        let mut command = Program::Issuer.command();
        command.args(["backup", "create"]).arg(&file).arg("--data-dir").arg(issuer.data_dir());
        let mut writing = Running::spawn(command);
        thread::sleep(Duration::from_millis(moment));
        if n % 2 == 0 {
            writing.signal(Signal::KILL);
        } else {
            issuer.kill();
        }
        let is_acknowledged = writing.wait().code == Some(0);
        assert!(file.exists() || !is_acknowledged);
        if file.exists() {
            whole += 1;
            let restored = restore(&issuer, &file);
            assert_eq!(restored.code, Some(0), "{}", restored.stderr);
        } else {
            cut_off += 1;
        }
        issuer.restart();
    }
    assert!(whole > 0 && cut_off > 0, "{whole} whole, {cut_off} cut off");
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let finished = left.iter().filter(|name| !name.ends_with(".unfinished"));
    assert_eq!(finished.count(), whole, "{left:?}");
    // What was left behind is in nobody's way.
    let again = folder.path().join("again");
    assert_eq!(issuer.command(&["backup", "create", again.to_str().unwrap()]).code, Some(0));
    assert_eq!(restore(&issuer, &again).code, Some(0));
}

/// Restores a backup into an empty directory.
fn restore(issuer: &Issuer, file: &Path) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    fs::copy(issuer.data_dir().join("root.key"), folder.path().join("root.key")).unwrap();
    let mut command = Program::Issuer.command();
    command.args(["backup", "restore"]).arg(file).arg("--data-dir").arg(folder.path());
    command.args(["--issuer", issuer.identifier()]);
    run(command)
}
