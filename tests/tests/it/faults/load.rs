//! Two nodes over one PostgreSQL, devices that ask for tokens all the time,
//! operators who change their minds, and nodes and a database that die again and
//! again.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::postgres::Postgres;
use fleetbadge_tests::process::run;
use fleetbadge_tests::programs::Program;
use serde_json::Value;

use super::{ANSWERED, BOUND_S, add_broker, is_active, snapshot};

const DEVICES: usize = 20;
const KILLS: u32 = 6;

/// What a device was given.
struct Given {
    device: usize,
    /// When it was asked for and when it came.
    asked: Instant,
    answered: Instant,
    token: String,
}

/// What an operator has done to a device.
struct Done {
    device: usize,
    /// Whether the device is to have tokens.
    enable: bool,
    began: Instant,
    ended: Instant,
    is_acknowledged: bool,
}

#[expect(clippy::disallowed_methods, reason = "before and after, in real time")]
fn now() -> Instant {
    Instant::now()
}

/// A token request, which nobody may answer: nothing, or status and body.
fn ask(address: &str, device: &Device) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(ANSWERED)).ok()?;
    let user = STANDARD.encode(format!("{}:{}", device.client_id, device.client_secret));
    let body = "grant_type=client_credentials";
    let request = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {user}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn iat(token: &str) -> u64 {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["iat"].as_u64().unwrap()
}

/// Asks for a token of one device after another.
fn ask_for_tokens(address: &str, devices: &[Device], is_over: &AtomicBool) -> Vec<Given> {
    let mut given = Vec::new();
    for device in (0..devices.len()).cycle() {
        if is_over.load(Ordering::Acquire) {
            break;
        }
        let asked = now();
        let answer = ask(address, &devices[device]);
        let answered = now();
        assert!(answered - asked < ANSWERED, "nobody waits so long");
        match answer {
            Some((200, body)) => {
                let body: Value = serde_json::from_str(&body).unwrap();
                let token = body["access_token"].as_str().unwrap().to_owned();
                given.push(Given { device, asked, answered, token });
            }
            Some((401 | 503, _)) | None => {}
            Some(other) => panic!("{other:?}"),
        }
        thread::sleep(Duration::from_millis(2));
    }
    given
}

/// Changes devices, and adds new ones; returns also the names of those.
fn operate(folder: &Path, who: usize, is_over: &AtomicBool) -> (Vec<Done>, Vec<String>) {
    let command = |arguments: &[&str]| {
        let mut command = Program::Issuer.command();
        command.args(arguments).arg("--data-dir").arg(folder);
        run(command).code == Some(0)
    };
    let (mut done, mut added) = (Vec::new(), Vec::new());
    for n in 0.. {
        if is_over.load(Ordering::Acquire) {
            break;
        }
        let name = format!("added-{who}-{n}");
        if command(&["device", "add", &name]) {
            added.push(name);
        }
        // Each has devices of its own, so that what is so at last is known.
        let device = (n * 2 + who) % DEVICES;
        let enable = (n * 2 / DEVICES) % 2 == 1;
        let (verb, began) = (if enable { "enable" } else { "disable" }, now());
        let is_acknowledged = command(&["device", verb, &format!("pump-{device}")]);
        done.push(Done { device, enable, began, ended: now(), is_acknowledged });
        // A node that is dead answers at once.
        thread::sleep(Duration::from_millis(30));
    }
    (done, added)
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn nothing_acknowledged_is_lost_and_no_token_outlives_a_disabling_while_nodes_and_the_database_die() {
    let postgres = Postgres::start();
    let bound = BOUND_S.to_string();
    let database = postgres.database();
    let mut a = Issuer::start_with(&["--database", &database, "--propagation-bound-s", &bound]);
    let mut b = a.start_another();
    let user = add_broker(&a);
    let devices: Vec<Device> = (0..DEVICES).map(|n| b.add_device(&format!("pump-{n}"))).collect();
    let addresses = [&a, &b].map(|node| node.url().trim_start_matches("http://").to_owned());
    let folders: [PathBuf; 2] = [&b, &a].map(|node| node.data_dir().to_owned());

    let is_over = AtomicBool::new(false);
    let given: Mutex<Vec<Given>> = Mutex::default();
    let (done, added) = thread::scope(|scope| {
        for n in 0..4 {
            let (address, devices, is_over, given) = (&addresses[n % 2], &devices, &is_over, &given);
            scope.spawn(move || {
                let tokens = ask_for_tokens(address, devices, is_over);
                given.lock().unwrap().extend(tokens);
            });
        }
        let operators: Vec<_> = folders
            .iter()
            .enumerate()
            .map(|(who, folder)| {
                let is_over = &is_over;
                scope.spawn(move || operate(folder, who, is_over))
            })
            .collect();
        for n in 0..KILLS {
            thread::sleep(Duration::from_millis(700 + u64::from(n) * 130));
            let node = if n % 3 == 2 { &mut b } else { &mut a };
            node.kill();
            thread::sleep(Duration::from_millis(u64::from(n % 3) * 200));
            node.restart();
        }
        for pause_ms in [0, 500] {
            postgres.stop();
            thread::sleep(Duration::from_millis(pause_ms));
            postgres.resume();
            thread::sleep(Duration::from_secs(1));
        }
        thread::sleep(Duration::from_secs(1));
        is_over.store(true, Ordering::Release);
        let (mut done, mut added) = (Vec::new(), Vec::new());
        for operator in operators {
            let (of_one, new) = operator.join().unwrap();
            done.extend(of_one);
            added.extend(new);
        }
        (done, added)
    });
    let given = given.into_inner().unwrap();
    let acknowledged = done.iter().filter(|done| done.is_acknowledged).count();
    eprintln!("{} tokens, {acknowledged} of {} changes, {} added", given.len(), done.len(), added.len());
    assert!(given.len() > 200 && acknowledged > 10 && added.len() > 10, "too few to see anything");
    // Whoever has not heard by then mints nothing.
    thread::sleep(Duration::from_secs(BOUND_S + 1));

    for node in [&a, &b] {
        // What was acknowledged is there.
        let listed = node.json_lines(&["device", "list"]);
        let status: BTreeMap<&str, &str> = listed
            .iter()
            .map(|device| (device["client_id"].as_str().unwrap(), device["status"].as_str().unwrap()))
            .collect();
        for name in &added {
            assert_eq!(status.get(name.as_str()), Some(&"enabled"), "{name}");
        }
        let feed = snapshot(node, &user);
        for (n, device) in devices.iter().enumerate() {
            let name = format!("pump-{n}");
            let of_device: Vec<&Done> = done.iter().filter(|done| done.device == n).collect();
            if let Some(last) = of_device.last().filter(|last| last.is_acknowledged) {
                let expected = if last.enable { "enabled" } else { "disabled" };
                assert_eq!(status[name.as_str()], expected, "{name}");
                if !last.enable {
                    let answer = ask(node.url().trim_start_matches("http://"), device);
                    assert_eq!(answer.map(|(status, _)| status), Some(401), "{name}");
                }
            }
            // From each disabling to the next attempt to enable: everything that
            // was given then, or before, is taken back.
            let last_disabled = of_device.iter().rposition(|done| !done.enable && done.is_acknowledged);
            let Some(at) = last_disabled else { continue };
            let enabled = of_device[at + 1..].iter().find(|done| done.enable).map(|done| done.began);
            let entry = feed.iter().find(|found| found["device"] == name.as_str());
            let before =
                entry.unwrap_or_else(|| panic!("{name} is not in {feed:?}"))["before"].as_u64().unwrap();
            let taken_back = given
                .iter()
                .filter(|given| given.device == n && enabled.is_none_or(|enabled| given.answered < enabled));
            let mut newest: Option<&Given> = None;
            for given in taken_back {
                assert!(iat(&given.token) < before, "{name}: {} is not before {before}", iat(&given.token));
                newest = Some(given);
                let hears = of_device[at].ended + Duration::from_secs(BOUND_S + 1);
                assert!(given.asked < hears, "{name}: a node has not heard");
            }
            if let Some(newest) = newest {
                assert!(!is_active(node, &user, &newest.token), "{name}");
            }
        }
    }
}
