//! `scripts/rotate-group.sh` as a fleet uses it: a thousand devices, some of
//! them connected, and a run that is killed half-way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use fleetbadge_tests::badges::guarded_by;
use fleetbadge_tests::broker::{Mosquitto, MosquittoVersion};
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::process::{Finished, Position, Running, run};
use fleetbadge_tests::programs::Program;
use fleetbadge_tests::wire::{Connect, Protocol, Wire};
use serde_json::{Value, json};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/rotate-group.sh");
const DEVICES: usize = 1_000;
const CONNECTED: usize = 10;
/// How long a thousand devices may take on a busy machine.
const LONG_PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn a_thousand_devices_are_rotated_over_a_crash_while_some_are_connected() {
    let issuer = Issuer::start();
    assert_eq!(
        issuer.command(&["group", "set", "pumps", "--publish", "devices/${clientid}/#"]).code,
        Some(0)
    );
    let old = add_devices(&issuer, (0..DEVICES).map(|n| format!("pump-{n:04}")));
    // Of another group; and one that proves itself otherwise.
    let other = issuer.add_device("elsewhere");
    let bare = &add_devices(&issuer, ["bare".into()])["bare"];
    let id = issuer.json(&["device", "show", "bare"])["secrets"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(issuer.command(&["device", "secret", "remove", &bare.client_id, &id]).code, Some(0));

    let broker = guarded_by(&issuer.url(), &issuer.jwks_url(), MosquittoVersion::V2_0_11).start();
    let mut connected: Vec<(&Device, Wire)> = old
        .values()
        .step_by(DEVICES / CONNECTED)
        .map(|device| (device, connect(&issuer, &broker, device)))
        .collect();
    assert_eq!(connected.len(), CONNECTED);

    let rotation = Rotation::new(&issuer);
    let killed = rotation.spawn();
    let deadline = Deadline::after(LONG_PATIENCE);
    while rotation.handed_over().len() < DEVICES / 3 {
        assert!(deadline.left().is_some(), "{}", killed.output());
        renew(&issuer, &connected);
        thread::sleep(Duration::from_millis(100));
    }
    kill_group(killed);
    let half_way = rotation.handed_over().len();
    assert!(half_way < DEVICES, "killed too late to see anything");

    // A device that is added meanwhile, and one that is removed.
    let late = add_devices(&issuer, ["late".into()]);
    assert_eq!(issuer.command(&["device", "remove", "pump-0998"]).code, Some(0));
    // Nobody answers for this one, the first time.
    fs::write(rotation.folder().join("pump-0999.unreachable"), "").unwrap();
    let resumed = rotation.run();
    assert_eq!(resumed.code, Some(1), "{}", resumed.stderr);
    assert!(resumed.stderr.ends_with("try these again:\n  pump-0999\n"), "{}", resumed.stderr);
    renew(&issuer, &connected);
    fs::remove_file(rotation.folder().join("pump-0999.unreachable")).unwrap();
    let again = rotation.run();
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("handed over: 1; without: 0"), "{}", again.stderr);

    // Connected ones have stayed so, and old secrets are still good.
    renew(&issuer, &connected);
    for (device, wire) in &mut connected {
        let topic = format!("devices/{}/x", device.client_id);
        // 0x10: nobody is subscribed.
        assert_eq!(wire.publish(&topic, b"still here"), Some(0x10), "{}", device.client_id);
    }
    let old: Vec<Device> = old.into_values().filter(|device| device.client_id != "pump-0998").collect();
    assert_eq!(statuses(&issuer, &old), [(200, DEVICES - 1)].into());

    // Each has one secret without an end: the one that was handed over.
    let new = rotation.handed_over();
    assert_eq!(new.len(), DEVICES - 1);
    let list = issuer.command(&["device", "list", "--group", "pumps", "--json"]);
    for line in list.stdout.lines() {
        let device: Value = serde_json::from_str(line).unwrap();
        let (name, secrets) = (device["client_id"].as_str().unwrap(), device["secrets"].as_array().unwrap());
        let lasting: Vec<&Value> = secrets
            .iter()
            .filter(|secret| secret["expires_at"].is_null())
            .map(|secret| &secret["id"])
            .collect();
        match name {
            "bare" => assert_eq!(lasting, [&json!(null); 0]),
            "late" => assert_eq!(lasting.len(), 1),
            _ => assert_eq!(lasting, [&new[name]["secret_id"]], "{device}"),
        }
    }
    let now: Vec<Device> = old
        .iter()
        .map(|device| Device {
            client_secret: new[&device.client_id]["client_secret"].as_str().unwrap().to_owned(),
            ..device.clone()
        })
        .collect();
    assert_eq!(statuses(&issuer, &now), [(200, DEVICES - 1)].into());
    for untouched in [&other, &late["late"]] {
        assert_eq!(issuer.request_token(untouched, &[]).status, 200);
    }

    // Nothing is left to do, and a rotation that is done stays done.
    let state = fs::read_to_string(rotation.state()).unwrap();
    let third = rotation.run();
    assert_eq!(third.code, Some(0), "{}", third.stderr);
    assert!(third.stderr.contains("0 devices to do"), "{}", third.stderr);
    assert_eq!(fs::read_to_string(rotation.state()).unwrap(), state);
    assert_eq!(rotation.handed_over(), new);
    assert_eq!(fs::metadata(rotation.state()).unwrap().permissions().mode() & 0o077, 0);

    // Secrets were in the pipe alone.
    let said = [&resumed.stderr, &resumed.stdout, &again.stderr, &third.stderr, &state, &issuer.log()];
    for device in now.iter().chain(&old) {
        for text in said {
            assert!(!text.contains(&device.client_secret), "{}", device.client_id);
        }
    }
}

#[test]
fn a_rotation_that_cannot_begin_says_why() {
    let issuer = Issuer::start();
    let rotation = Rotation::new(&issuer);
    let with = |change: &[&str]| {
        let mut command = rotation.command();
        command.args(change);
        run(command)
    };
    for (change, expected) in [
        (&["--overlap", "soon"][..], "--overlap: soon is not"),
        (&["--overlap", ""], "--overlap needs a value"),
        (&["--parallel", "0"], "--parallel: 0 is not"),
        (&["--force"], "there is no --force"),
        (&["--group", "pumsp"], "no group \"pumsp\""),
    ] {
        let refused = with(change);
        assert_eq!(refused.code, Some(2), "{change:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        assert!(!rotation.state().exists(), "{change:?}");
    }
    for missing in ["/nowhere/fleetbadge-issuer", "fleetbadge-issuer-nowhere", "/"] {
        let mut command = rotation.command();
        // The URL that `serve` takes from there is no program.
        command.env("FLEETBADGE_ISSUER_PROGRAM", missing).env("FLEETBADGE_ISSUER", issuer.url());
        let refused = run(command);
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(2), 1), "{}", refused.stderr);
        assert!(refused.stderr.contains(&format!("there is no program {missing}")), "{}", refused.stderr);
        assert!(!rotation.state().exists());
    }
    // The state of one rotation is none of another.
    assert_eq!(issuer.command(&["group", "set", "pumps"]).code, Some(0));
    assert_eq!(rotation.run().code, Some(0));
    assert_eq!(with(&["--group", "default"]).code, Some(2));
    fs::write(rotation.state(), "PRECIOUS=1\n").unwrap();
    assert_eq!(rotation.run().code, Some(4));
    assert_eq!(fs::read_to_string(rotation.state()).unwrap(), "PRECIOUS=1\n");

    let help = with(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.starts_with("Gives every device of a group a new secret"), "{}", help.stdout);
}

#[test]
fn a_device_that_gets_no_secret_is_named_with_the_reason() {
    let issuer = Issuer::start();
    assert_eq!(issuer.command(&["group", "set", "pumps"]).code, Some(0));
    add_devices(&issuer, ["full".into(), "fine".into(), "away".into()]);
    while issuer.command(&["device", "secret", "add", "full"]).code == Some(0) {}
    let rotation = Rotation::new(&issuer);
    fs::write(rotation.folder().join("away.unreachable"), "").unwrap();
    let finished = rotation.run();
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{}", finished.stderr);
    let full = finished.stderr.lines().find(|line| line.starts_with("rotate-group: full: "));
    assert!(full.is_some_and(|line| line.contains("there are 8 already")), "{}", finished.stderr);
    let away = "rotate-group: away: COMMAND ended with exit code 1\n";
    assert!(finished.stderr.contains(away), "{}", finished.stderr);
    assert_eq!(rotation.handed_over().into_keys().collect::<Vec<_>>(), ["fine"]);
}

/// A secret that arrived although the run was killed is known by its use.
#[test]
fn a_secret_that_was_used_has_arrived() {
    let issuer = Issuer::start();
    assert_eq!(issuer.command(&["group", "set", "pumps"]).code, Some(0));
    add_devices(&issuer, ["a".into(), "b".into()]);
    let rotation = Rotation::new(&issuer);
    let finished = rotation.run();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let state = fs::read_to_string(rotation.state()).unwrap();
    let begun: String =
        state.lines().filter(|line| !line.starts_with("done")).map(|line| format!("{line}\n")).collect();
    // As if both runs had been killed before they could say so, the last one
    // while it wrote that of a device bb.
    fs::write(rotation.state(), begun + "done b").unwrap();
    let before = rotation.handed_over();
    let secret = before["a"]["client_secret"].as_str().unwrap();
    let used = Device { client_secret: secret.to_owned(), ..device("a") };
    assert_eq!(issuer.request_token(&used, &[]).status, 200);
    let finished = rotation.run();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let after = rotation.handed_over();
    assert_eq!(after["a"], before["a"], "it has it");
    assert_ne!(after["b"], before["b"], "nobody knows: it gets another");
}

/// A rotation of the group `pumps`, handed over into a folder.
struct Rotation<'a> {
    issuer: &'a Issuer,
    dir: tempfile::TempDir,
}

impl<'a> Rotation<'a> {
    fn new(issuer: &'a Issuer) -> Self {
        let dir = tempfile::Builder::new().prefix("fleetbadge-rotation-").tempdir().expect("a directory");
        fs::create_dir(dir.path().join("devices")).expect("a directory");
        Self { issuer, dir }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("devices")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn command(&self) -> Command {
        let issuer = Program::Issuer.command();
        let mut command = Command::new(SCRIPT);
        command.env("FLEETBADGE_ISSUER_PROGRAM", issuer.get_program()).env("FOLDER", self.folder());
        command.args(["--group", "pumps", "--overlap", "1h", "--parallel", "4"]);
        command.arg("--data-dir").arg(self.issuer.data_dir()).arg("--state").arg(self.state());
        let each = "to=$FOLDER/$FLEETBADGE_CLIENT_ID && [[ ! -e $to.unreachable ]] && \
                    cat >\"$to.part\" && mv \"$to.part\" \"$to.json\"";
        command.args(["--each", each]);
        command
    }

    /// Starts it in a process group of its own.
    fn spawn(&self) -> Running {
        let mut command = self.command();
        command.process_group(0);
        Running::spawn(command)
    }

    fn run(&self) -> Finished {
        let mut running = self.spawn();
        // Until it has nothing more to say.
        running.find_since(Position::default(), LONG_PATIENCE, |_| None::<()>);
        running.wait()
    }

    /// What devices were handed, by name.
    fn handed_over(&self) -> BTreeMap<String, Value> {
        let mut handed_over = BTreeMap::new();
        for entry in fs::read_dir(self.folder()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let object: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                handed_over.insert(object["client_id"].as_str().unwrap().to_owned(), object);
            }
        }
        handed_over
    }
}

/// Ends the script and everything that it has started, at once.
fn kill_group(running: Running) {
    let group = format!("-{}", running.pid());
    let mut kill = Command::new("kill");
    kill.args(["-KILL", "--", &group]);
    assert_eq!(run(kill).code, Some(0));
    drop(running);
}

fn device(name: &str) -> Device {
    Device {
        client_id: name.to_owned(),
        client_secret: String::new(),
        mqtt_client_ids: vec![name.to_owned()],
        group: "pumps".to_owned(),
    }
}

/// Adds devices to the group `pumps`, with one curl for all.
fn add_devices(issuer: &Issuer, names: impl IntoIterator<Item = String>) -> BTreeMap<String, Device> {
    let mut config = String::new();
    for name in names {
        let body = json!({"name": name, "group": "pumps"}).to_string().replace('"', "\\\"");
        let _ = writeln!(
            config,
            "url = \"http://localhost/admin/v1/devices\"\nunix-socket = \"{}\"\nsilent\nfail\n\
             header = \"Content-Type: application/json\"\nwrite-out = \"\\n\"\ndata = \"{body}\"\nnext",
            issuer.data_dir().join("admin.sock").display()
        );
    }
    let answers = curl_all(&config);
    answers
        .lines()
        .map(|line| serde_json::from_str(line).expect("a device"))
        .map(|d: Device| (d.client_id.clone(), d))
        .collect()
}

/// How many devices get which answer to a token request.
fn statuses(issuer: &Issuer, devices: &[Device]) -> BTreeMap<u16, usize> {
    let mut config = String::new();
    for Device { client_id, client_secret, .. } in devices {
        let _ = writeln!(
            config,
            "url = \"{}/oauth2/token\"\nuser = \"{client_id}:{client_secret}\"\nsilent\nnoproxy = \"*\"\n\
             data = \"grant_type=client_credentials\"\noutput = \"/dev/null\"\nwrite-out = \"%{{http_code}}\\n\"\nnext",
            issuer.url()
        );
    }
    let mut counts = BTreeMap::new();
    for status in curl_all(&config).lines() {
        *counts.entry(status.parse().expect("a status")).or_default() += 1;
    }
    counts
}

/// Runs curl with what would be its arguments in a file.
fn curl_all(config: &str) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), config.trim_end_matches("next\n")).expect("a file");
    let mut curl = Command::new("curl");
    curl.arg("--config").arg(file.path());
    let finished = run(curl);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout
}

/// Connects a device with a token of its own. Tries until the broker has
/// fetched the keys.
fn connect(issuer: &Issuer, broker: &Mosquitto, device: &Device) -> Wire {
    let token = issuer.token(device);
    let deadline = Deadline::after(PATIENCE);
    loop {
        let mut wire = Wire::open(Protocol::V5, broker.port());
        let connect = Connect { client_id: &device.client_id, username: Some(&token), ..Connect::default() };
        if wire.connect(&connect) == Some(0) {
            return wire;
        }
        assert!(deadline.left().is_some(), "never let in:\n{}", broker.log());
        thread::sleep(Duration::from_millis(100));
    }
}

/// Gets new tokens with the secrets that the devices have had all the time.
fn renew(issuer: &Issuer, connected: &[(&Device, Wire)]) {
    let devices: Vec<Device> = connected.iter().map(|(device, _)| (*device).clone()).collect();
    assert_eq!(statuses(issuer, &devices), [(200, devices.len())].into());
}
