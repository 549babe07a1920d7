//! A node is killed while tokens are being revoked.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::postgres::Postgres;
use fleetbadge_tests::process::run;
use fleetbadge_tests::programs::Program;
use serde_json::Value;

use super::{add_broker, snapshot};

/// After how many milliseconds each is killed: at any step of one of the
/// commands, which take some tens of them.
const MOMENTS: [u64; 10] = [60, 67, 73, 81, 90, 104, 121, 139, 160, 187];

#[test]
fn what_was_acknowledged_as_revoked_is_so_after_a_power_cut() {
    kill_while_revoking(&mut Issuer::start(), |_| {});
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn what_was_acknowledged_as_revoked_is_so_after_power_cuts_of_node_and_database() {
    let postgres = Postgres::start();
    let mut issuer = Issuer::start_with(&["--database", &postgres.database(), "--propagation-bound-s", "2"]);
    kill_while_revoking(&mut issuer, |round| {
        if round % 5 == 0 {
            postgres.stop();
            postgres.resume();
        }
    });
    drop((issuer, postgres));
}

fn kill_while_revoking(issuer: &mut Issuer, database: impl Fn(usize)) {
    let user = add_broker(issuer);
    for n in 0..MOMENTS.len() {
        let _ = issuer.add_device(&format!("pump-{n}"));
    }
    // Each the target, as the feed names it, and the rest of what was answered.
    let acknowledged: Mutex<Vec<Value>> = Mutex::default();
    for (round, moment) in MOMENTS.into_iter().enumerate() {
        let folder = issuer.data_dir().to_owned();
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0_u8.. {
                    let jti = URL_SAFE_NO_PAD
                        .encode([[0; 14].as_slice(), &[u8::try_from(round).unwrap(), n]].concat());
                    let device = format!("pump-{round}");
                    let target = if n % 2 == 0 { ["--device", &device] } else { ["--jti", &jti] };
                    let mut command = Program::Issuer.command();
                    command
                        .args(["revocation", "add"])
                        .args(target)
                        .arg("--json")
                        .arg("--data-dir")
                        .arg(&folder);
                    let finished = run(command);
                    if finished.code != Some(0) {
                        break;
                    }
                    acknowledged.lock().unwrap().push(serde_json::from_str(&finished.stdout).unwrap());
                }
            });
            thread::sleep(Duration::from_millis(moment));
            issuer.kill();
        });
        database(round);
        issuer.restart();
        let in_force = snapshot(issuer, &user);
        for revoked in &*acknowledged.lock().unwrap() {
            let is_named = |found: &Value| {
                found["device"] == revoked["device"]
                    && found["jti"] == revoked["jti"]
                    && found["before"].as_u64() >= revoked["before"].as_u64()
                    && found["expires_at"].as_u64() >= revoked["expires_at"].as_u64()
            };
            assert!(in_force.iter().any(is_named), "{revoked}: {in_force:?}");
        }
    }
    assert!(acknowledged.lock().unwrap().len() > 3, "all were cut off too early to see anything");
}
