//! Several issuers over one PostgreSQL: what one is told, the others know, and
//! none is needed.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fleetbadge_tests::device::{Response, curl};
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::postgres::Postgres;
use fleetbadge_tests::process::run;
use fleetbadge_tests::programs::Program;
use fleetbadge_validator::test_support::TestKey;
use serde_json::Value;

use crate::assertion;
use crate::revocations::{self, Feed};

/// Within what time each node knows what another was told.
const HEARD: Duration = Duration::from_secs(1);
/// How long a node goes on that hears nothing of the database, in seconds.
const BOUND_S: u64 = 2;

/// Two nodes. The database ends last.
struct Nodes {
    a: Issuer,
    b: Issuer,
    postgres: Postgres,
    database: String,
}

impl Nodes {
    fn start() -> Self {
        let postgres = Postgres::start();
        let database = postgres.database();
        let bound = BOUND_S.to_string();
        let a = Issuer::start_with(&["--database", &database, "--propagation-bound-s", &bound]);
        let b = a.start_another();
        Self { a, b, postgres, database }
    }

    fn each(&self) -> [&Issuer; 2] {
        [&self.a, &self.b]
    }
}

/// Waits until something is so, at most so long.
#[expect(clippy::disallowed_methods, reason = "what must happen soon is measured")]
fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let (started, deadline) = (Instant::now(), Deadline::after(PATIENCE));
    while !is_so() {
        assert!(deadline.left().is_some(), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    let taken = started.elapsed();
    assert!(taken <= limit, "{what}: {taken:?}");
}

fn ask(node: &Issuer, device: &Device) -> Response {
    node.request_token(device, &[])
}

fn succeed(node: &Issuer, arguments: &[&str]) {
    let finished = node.command(arguments);
    assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn what_one_node_is_told_the_other_knows_within_a_second() {
    let Nodes { a, b, .. } = &Nodes::start();
    let device = a.add_device("pump-1");
    // It has nothing to be told: it asks.
    assert_eq!(ask(b, &device).status, 200);
    assert_eq!(ask(a, &device).status, 200);

    succeed(a, &["device", "disable", "pump-1"]);
    within(HEARD, "disabled", || ask(b, &device).status == 401);
    succeed(b, &["device", "enable", "pump-1"]);
    // Until every node has heard of it, what was issued before is taken back.
    within(Duration::from_secs(BOUND_S + 5), "enabled", || ask(a, &device).status == 200);

    succeed(a, &["group", "set", "default", "--token-lifetime-s", "60"]);
    within(HEARD, "group set", || {
        ask(b, &device).json()["expires_in"].as_u64().is_some_and(|lifetime| lifetime <= 60)
    });

    let broker = a.json(&["broker", "add", "site-1", "--audience", "mqtt", "--profile", "fleetbadge"]);
    let user = format!("site-1:{}", broker["client_secret"].as_str().unwrap());
    let introspect = b.url() + "/oauth2/introspect";
    within(HEARD, "broker added", || curl(["--user", &user, "--data", "token=x", &introspect]).status == 200);

    let keys = || [a, b].map(|node| curl([node.jwks_url()]).body);
    succeed(a, &["key", "rotate", "--now"]);
    within(HEARD, "key rotated", || {
        let [of_a, of_b] = keys();
        of_a == of_b && of_a.matches("\"kid\"").count() == 2
    });
}

/// A broker follows one node, and operators are at the other.
#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
#[expect(clippy::disallowed_methods, reason = "what must happen soon is measured")]
fn what_one_node_takes_back_the_feed_of_the_other_tells_within_a_second() {
    let Nodes { a, b, .. } = &Nodes::start();
    let user = revocations::broker(a);
    let introspect = b.url() + "/oauth2/introspect";
    within(HEARD, "broker added", || curl(["--user", &user, "--data", "token=x", &introspect]).status == 200);
    let mut feed = Feed::open(b, &user, None);
    feed.next("snapshot");
    let mut took = Vec::new();
    for n in 0..7 {
        let name = format!("pump-{n}");
        let _ = a.add_device(&name);
        succeed(a, &["device", "disable", &name]);
        let answered = Instant::now();
        assert_eq!(feed.next("revocation")["device"], name.as_str());
        took.push(answered.elapsed());
    }
    took.sort_unstable();
    println!(
        "from the answer at one node to the event at the other: median {:?}, longest {:?}",
        took[3], took[6]
    );
    assert!(took[6] < HEARD, "{took:?}");
}

/// Nobody hears the database call; each node asks.
#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn what_is_not_called_out_is_asked_for_within_a_second() {
    let nodes = Nodes::start();
    let Nodes { a, b, postgres, .. } = &nodes;
    let devices = ["pump-1", "pump-2", "pump-3"].map(|name| a.add_device(name));
    let deafen = "DO $$ BEGIN LOOP PERFORM pg_stat_clear_snapshot(); \
                  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'; \
                  PERFORM pg_sleep(0.01); END LOOP; END $$";
    let deaf = postgres.session("postgres", deafen);
    within(PATIENCE, "nobody listens", || {
        let listeners = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
        postgres.sql("postgres", listeners) == "0"
    });
    for device in &devices {
        assert_eq!(ask(b, device).status, 200);
        succeed(a, &["device", "disable", &device.client_id]);
        within(HEARD, "disabled", || ask(b, device).status == 401);
    }
    drop(deaf);
}

/// What an operator is told, and what the log says of it: once.
#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_database_that_is_gone_is_said_by_its_name_and_once() {
    let nodes = Nodes::start();
    let (node, folder) = (&nodes.a, tempfile::tempdir().unwrap());
    let backup = folder.path().join("backup");
    let complaints = || {
        let log = node.log();
        log.lines()
            .filter(|line| line.contains("ERROR") || line.contains("WARN"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = complaints().len();
    nodes.postgres.stop();
    thread::sleep(Duration::from_secs(1));
    for command in [
        &["device", "add", "pump-1"][..],
        &["device", "list"],
        &["backup", "create", backup.to_str().unwrap()],
    ] {
        let finished = node.command(command);
        assert_eq!(finished.code, Some(4), "{finished:?}");
        assert!(
            finished.stderr.contains("the database test_0 at /")
                && finished.stderr.contains("cannot be reached: "),
            "{finished:?}"
        );
    }
    let stranger = Device {
        client_id: "pump-9".into(),
        ..serde_json::from_str(
            r#"{"client_id":"x","client_secret":"x","mqtt_client_ids":[],"group":"default"}"#,
        )
        .unwrap()
    };
    for _ in 0..10 {
        assert_eq!(ask(node, &stranger).status, 503);
        thread::sleep(Duration::from_millis(500));
    }
    let said = complaints();
    assert_eq!(said.len() - before, 1, "{said:#?}");
    assert!(said.last().unwrap().contains("cannot be reached"), "{said:?}");
    nodes.postgres.resume();
    within(Duration::from_secs(5), "with the database again", || ask(node, &stranger).status == 401);
    assert!(node.log().contains("can be read again"));
    assert!(!node.log().contains("already exists, skipping"));
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn an_assertion_is_good_once_at_all_nodes_together() {
    let Nodes { a, b, .. } = &Nodes::start();
    let key = TestKey::generate();
    assertion::add_device(a, "pump-1", &key);
    let present = |node: &Issuer, jti: &str| {
        assertion::present(node, &assertion::make(a.identifier(), "pump-1", &key, jti))
    };
    assert_eq!((present(a, "1"), present(b, "1")), (200, 401));
    assert_eq!((present(b, "2"), present(a, "2")), (200, 401));
    // At the same moment, one of the two.
    for n in 0..10 {
        let jti = format!("both-{n}");
        let mut both = thread::scope(|scope| {
            let asked = [a, b].map(|node| scope.spawn(|| present(node, &jti)));
            asked.map(|one| one.join().unwrap())
        });
        both.sort_unstable();
        assert_eq!(both, [200, 401]);
    }
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_node_that_is_killed_is_not_needed() {
    let Nodes { mut a, b, postgres, .. } = Nodes::start();
    let device = a.add_device("pump-1");
    assert_eq!(ask(&b, &device).status, 200);
    a.kill();
    for name in ["pump-2", "pump-3"] {
        let added = b.add_device(name);
        assert_eq!(ask(&b, &added).status, 200);
    }
    assert_eq!(ask(&b, &device).status, 200);
    succeed(&b, &["key", "rotate", "--now"]);
    succeed(&b, &["device", "disable", "pump-1"]);
    a.restart();
    assert_eq!(ask(&a, &device).status, 401);
    assert_eq!(curl([a.jwks_url()]).body, curl([b.jwks_url()]).body);
    drop((a, b, postgres));
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn without_the_database_nothing_is_issued_and_with_it_everything_again() {
    let nodes = Nodes::start();
    let device = nodes.a.add_device("pump-1");
    let broker = nodes.a.json(&["broker", "add", "site-1", "--audience", "mqtt", "--profile", "fleetbadge"]);
    let user = format!("site-1:{}", broker["client_secret"].as_str().unwrap());
    let data = format!("token={}", nodes.a.token(&device));
    for node in nodes.each() {
        assert_eq!(ask(node, &device).status, 200);
    }
    for _ in 0..2 {
        nodes.postgres.stop();
        for node in nodes.each() {
            within(Duration::from_secs(BOUND_S + 1), "without the database", || {
                let answer = ask(node, &device);
                assert!(matches!(answer.status, 200 | 503), "{answer:?}");
                answer.status == 503 && answer.header("retry-after") == Some("1")
            });
            // Whoever is not in memory is told the same, and soon.
            let stranger = Device { client_id: "pump-9".into(), ..device.clone() };
            assert_eq!(ask(node, &stranger).status, 503);
            // Another node may have taken it back.
            let answer = curl(["--user", &user, "--data", &data, &(node.url() + "/oauth2/introspect")]);
            assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
        }
        nodes.postgres.resume();
        for node in nodes.each() {
            within(Duration::from_secs(5), "with the database again", || ask(node, &device).status == 200);
        }
        let added = nodes.b.json(&["group", "set", "pumps"]);
        assert_eq!(added["name"], "pumps");
    }
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_node_that_is_behind_says_so_to_whoever_balances_the_load() {
    let postgres = Postgres::start();
    let (database, port) = (postgres.database(), fleetbadge_tests::ports::free());
    let ops = format!("127.0.0.1:{port}");
    let bound = BOUND_S.to_string();
    let node =
        Issuer::start_with(&["--database", &database, "--propagation-bound-s", &bound, "--ops-listen", &ops]);
    let ready = || curl([format!("http://{ops}/readyz")]).status;
    assert_eq!(ready(), 200);
    postgres.stop();
    within(Duration::from_secs(BOUND_S + 3), "not ready", || ready() == 503);
    postgres.resume();
    within(Duration::from_secs(5), "ready", || ready() == 200);
    drop(node);
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn nodes_that_start_at_once_make_one_issuer() {
    let postgres = Postgres::start();
    let other = postgres.database();
    // Where the root key comes from.
    let first = Issuer::start_with(&["--database", &other]);
    let empty = ["--database".to_owned(), postgres.database()];
    let nodes: Vec<Issuer> = thread::scope(|scope| {
        let starting: Vec<_> = (0..3).map(|_| scope.spawn(|| first.start_another_with(&empty))).collect();
        starting.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let keys = nodes.iter().map(|node| curl([node.jwks_url()]).body);
    let [one, two, three] = &keys.collect::<Vec<_>>()[..] else { panic!("three nodes") };
    assert!(one == two && two == three && one.matches("\"kid\"").count() == 1, "{one} {two} {three}");
    let device = nodes[0].add_device("pump-1");
    for node in &nodes {
        assert_eq!(ask(node, &device).status, 200);
    }
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_node_without_the_root_key_does_not_start() {
    let Nodes { a, b, postgres, database } = Nodes::start();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Program::Issuer.command();
    command.arg("serve").arg("--data-dir").arg(folder.path().join("data")).args(["--database", &database]);
    let finished = run(command);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("root.key: is missing") && finished.stderr.contains("another node"));
    drop((a, b, postgres));
}

/// As README says it: `add`, the file to the other node, `use`. Devices ask both
/// nodes all the while.
#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn one_root_key_follows_another_and_neither_node_refuses_anybody() {
    let Nodes { a, b, .. } = &Nodes::start();
    let device = a.add_device("pump-1");
    let is_over = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let asking = [a, b].map(|node| {
            let (device, is_over) = (&device, &is_over);
            scope.spawn(move || {
                let mut answers = Vec::new();
                while !is_over.load(Ordering::Acquire) {
                    answers.push(ask(node, device));
                }
                answers
            })
        });
        // Also if something fails.
        let over = SetOnDrop(&is_over);
        let mut current = root_keys(a)[0].0.clone();
        for n in 0..2 {
            let next = a.json(&["root-key", "add"])["id"].as_str().unwrap().to_owned();
            copy_root_keys(a, b);
            // At once: the other node has not looked into the file yet.
            succeed(a, &["root-key", "use", &next]);
            let added = a.add_device(&format!("new-{n}"));
            within(HEARD, "the other node knows the device", || ask(b, &added).status == 200);
            let of_b = root_keys(b);
            assert_eq!(of_b[0], owned((&next, "current")));
            assert!(of_b.contains(&owned((current, "known"))), "{of_b:?}");
            current = next;
        }
        thread::sleep(Duration::from_secs(BOUND_S + 1));
        drop(over);
        asking.map(|asking| asking.join().unwrap())
    });
    for answers in answers {
        let refused: Vec<&Response> = answers.iter().filter(|answer| answer.status != 200).collect();
        assert!(refused.is_empty(), "{} of {}: {:?}", refused.len(), answers.len(), refused[0]);
        assert!(answers.len() > 20, "too few to see anything");
    }
}

/// Each node has a file of its own, and an operator forgets to copy it.
#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_node_without_the_root_key_of_the_others_neither_answers_nor_takes_over() {
    let Nodes { a, b, .. } = &Nodes::start();
    let device = a.add_device("pump-1");
    assert_eq!(ask(b, &device).status, 200);
    let first = root_keys(a)[0].0.clone();
    let of_a = a.json(&["root-key", "add"])["id"].as_str().unwrap().to_owned();
    succeed(a, &["root-key", "use", &of_a]);
    within(HEARD, "not answered", || ask(b, &device).status == 503);
    let stranger = Device { client_id: "pump-9".into(), ..device.clone() };
    assert_eq!(ask(b, &stranger).status, 503);
    assert_eq!(root_keys(b), [(of_a.as_str(), "current_missing"), (&first, "known")].map(owned));

    let of_b = b.json(&["root-key", "add"])["id"].as_str().unwrap().to_owned();
    let refused = b.command(&["root-key", "use", &of_b]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    let expected = format!("root key {of_a} is needed, and this node does not have it; copy the file");
    assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
    // Nothing of it has happened, and the other node goes on.
    assert_eq!(root_keys(a), [(of_a.as_str(), "current"), (&first, "known")].map(owned));
    assert_eq!(ask(a, &device).status, 200);
    assert_eq!(b.log().matches(&format!("root key {of_a} is current, and ")).count(), 1);

    copy_root_keys(a, b);
    within(Duration::from_secs(2), "answered again", || ask(b, &device).status == 200);
    // One that it has lost is missed as well: hashes may be under it.
    let file = b.data_dir().join("root.key");
    let lines = fs::read_to_string(&file).unwrap();
    fs::write(&file, lines.lines().last().unwrap()).unwrap();
    within(Duration::from_secs(10), "not answered", || ask(b, &device).status == 503);
    assert_eq!(root_keys(b), [(of_a.as_str(), "current"), (&first, "missing")].map(owned));
    assert_eq!(ask(a, &device).status, 200);
    // Nobody has the old one any more, and what is under it is given up.
    succeed(a, &["root-key", "remove", &first, "--yes"]);
    within(HEARD, "answered again", || ask(b, &device).status != 503);
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn copy_root_keys(from: &Issuer, to: &Issuer) {
    let [from, to] = [from, to].map(|node| node.data_dir().join("root.key"));
    // Whole: it may be read at any moment.
    let new = to.with_extension("copy");
    fs::copy(from, &new).unwrap();
    fs::rename(new, to).unwrap();
}

/// What a node says of the root keys: which, and the state.
fn root_keys(node: &Issuer) -> Vec<(String, String)> {
    let text = |key: &Value, member: &str| key[member].as_str().unwrap().to_owned();
    node.json_lines(&["root-key", "list"]).iter().map(|key| (text(key, "id"), text(key, "state"))).collect()
}

fn owned<T: ToString>((id, state): (T, &str)) -> (String, String) {
    (id.to_string(), state.into())
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn settings_that_contradict_each_other_do_not_come_in_by_two_nodes() {
    let Nodes { a, b, .. } = &Nodes::start();
    // HiveMQ takes no topics from a token, so one of the two is refused.
    for n in 0..5 {
        let (group, broker) = (format!("group-{n}"), format!("broker-{n}"));
        succeed(a, &["group", "set", &group, "--audience", &broker]);
        let set = ["group", "set", &group, "--publish", "up/+/x/#"];
        let add = ["broker", "add", &broker, "--audience", &broker, "--profile", "hivemq"];
        let codes = thread::scope(|scope| {
            let set = scope.spawn(|| a.command(&set).code);
            let add = scope.spawn(|| b.command(&add).code);
            [set.join().unwrap(), add.join().unwrap()]
        });
        assert!(codes == [Some(0), Some(1)] || codes == [Some(1), Some(0)], "{codes:?}");
    }
}
