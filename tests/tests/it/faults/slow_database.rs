//! PostgreSQL that hangs, is held by others, or has no connection left.

use std::thread;
use std::time::Duration;

use fleetbadge_tests::device::curl;
use fleetbadge_tests::issuer::{Device, Issuer};
use fleetbadge_tests::ports;
use fleetbadge_tests::postgres::Postgres;
use fleetbadge_tests::process::{Finished, Running};
use fleetbadge_tests::programs::Program;

use super::{ANSWERED, BOUND_S, eventually, is_refused_for_now, soon};

struct Node {
    issuer: Issuer,
    ops: String,
    /// In memory.
    known: Device,
    database: String,
    postgres: Postgres,
}

impl Node {
    fn start(settings: &[&str]) -> Self {
        let postgres = Postgres::start_with(settings);
        let (database, ops) = (postgres.database(), format!("127.0.0.1:{}", ports::free()));
        let bound = BOUND_S.to_string();
        let issuer = Issuer::start_with(&[
            "--database",
            &database,
            "--propagation-bound-s",
            &bound,
            "--ops-listen",
            &ops,
        ]);
        let known = issuer.add_device("pump-1");
        assert_eq!(issuer.request_token(&known, &[]).status, 200);
        Self { issuer, ops, known, database, postgres }
    }

    /// Until the bound is over it may go on from memory, then it says no.
    fn refuses(&self) {
        let stranger = Device { client_id: "pump-9".into(), ..self.known.clone() };
        eventually("nothing is issued", || {
            let answer = soon(|| self.issuer.request_token(&self.known, &[]));
            assert!(answer.status == 200 || is_refused_for_now(&answer), "{answer:?}");
            answer.status == 503
        });
        for device in [&self.known, &stranger] {
            assert!(is_refused_for_now(&soon(|| self.issuer.request_token(device, &[]))));
        }
        let ready = soon(|| curl([format!("http://{}/readyz", self.ops)]));
        assert_eq!(ready.status, 503);
        assert_eq!(curl([format!("http://{}/healthz", self.ops)]).status, 200);
        assert_eq!(curl([self.issuer.jwks_url()]).status, 503, "others may know of newer keys");
    }

    /// Whoever probes waits a second.
    #[expect(clippy::disallowed_methods, reason = "what must happen soon is measured")]
    fn is_probed(&self) {
        let asked = std::time::Instant::now();
        let ready = curl([format!("http://{}/readyz", self.ops)]);
        assert!(asked.elapsed() < Duration::from_secs(1), "{ready:?}");
    }

    fn recovers(&self) {
        eventually("issued again", || soon(|| self.issuer.request_token(&self.known, &[])).status == 200);
        eventually("ready", || soon(|| curl([format!("http://{}/readyz", self.ops)])).status == 200);
        let name = format!("after-{}", self.issuer.json_lines(&["device", "list"]).len());
        let added = self.issuer.add_device(&name);
        assert_eq!(self.issuer.request_token(&added, &[]).status, 200);
    }
}

/// Runs an operator's command, which must come to an end.
#[expect(clippy::disallowed_methods, reason = "no command may hang")]
fn command(issuer: &Issuer, arguments: &[&str]) -> Finished {
    let asked = std::time::Instant::now();
    let finished = issuer.command(arguments);
    let taken = asked.elapsed();
    assert!(taken < ANSWERED + Duration::from_secs(6), "{arguments:?}: {taken:?}");
    finished
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_database_that_hangs_holds_nobody_up() {
    let node = Node::start(&[]);
    for _ in 0..2 {
        let frozen = node.postgres.freeze();
        for _ in 0..20 {
            node.is_probed();
        }
        node.refuses();
        let adding = command(&node.issuer, &["device", "add", "pump-2"]);
        assert_eq!(adding.code, Some(4), "{adding:?}");
        assert!(adding.stderr.contains("the database"), "{}", adding.stderr);
        drop(frozen);
        node.recovers();
        let log = node.issuer.log();
        assert!(log.contains("soon no token is issued") && log.contains("can be read again"), "{log}");
    }
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_database_that_others_hold_holds_nobody_up() {
    let node = Node::start(&[]);
    // An operator's maintenance, for instance: nothing can be read or written.
    let hold = "BEGIN; LOCK TABLE state, devices IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)";
    let held = node.postgres.session(&node.database, hold);
    node.refuses();
    let disabling = command(&node.issuer, &["device", "disable", "pump-1"]);
    assert_eq!(disabling.code, Some(4), "{disabling:?}");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'";
    let _ = node.postgres.sql("postgres", end);
    drop(held);
    node.recovers();
}

/// A change takes longer than is waited for: it is not done, and said so.
#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_database_that_is_slow_to_write_refuses_what_it_does_not_do() {
    let node = Node::start(&[]);
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN PERFORM pg_sleep(20); RETURN NEW; END $$; \
                CREATE TRIGGER slow BEFORE INSERT ON changes FOR EACH ROW EXECUTE FUNCTION slow()";
    let _ = node.postgres.sql(&node.database, slow);
    let ops = format!("http://{}/readyz", node.ops);
    thread::scope(|scope| {
        let disabling = scope.spawn(|| command(&node.issuer, &["device", "disable", "pump-1"]));
        // Whoever only reads is not held up.
        while !disabling.is_finished() {
            assert_eq!(soon(|| node.issuer.request_token(&node.known, &[])).status, 200);
            assert_eq!(soon(|| curl([&ops])).status, 200);
            thread::sleep(Duration::from_millis(50));
        }
        let disabling = disabling.join().unwrap();
        assert_eq!(disabling.code, Some(4), "{disabling:?}");
    });
    assert_eq!(node.issuer.request_token(&node.known, &[]).status, 200);
    assert_eq!(node.issuer.json(&["device", "show", "pump-1"])["status"], "enabled");
    let _ = node.postgres.sql(&node.database, "DROP TRIGGER slow ON changes");
    node.recovers();
    assert_eq!(command(&node.issuer, &["device", "disable", "pump-1"]).code, Some(0));
    assert_eq!(node.issuer.request_token(&node.known, &[]).status, 401);
}

/// Every connection that there is, held by others.
struct Occupied(Vec<Running>);

impl Occupied {
    /// The last one makes it notice soon whose client is gone.
    const SETTINGS: [&str; 4] = [
        "max_connections=8",
        "superuser_reserved_connections=0",
        "max_wal_senders=0",
        "client_connection_check_interval=200",
    ];

    /// Throws out the node, and whoever comes instead.
    fn take(postgres: &Postgres) -> Self {
        let throw_out = "DO $$ BEGIN LOOP PERFORM pg_stat_clear_snapshot(); \
                         PERFORM pg_terminate_backend(pid) FROM pg_stat_activity \
                         WHERE application_name <> 'psql' AND backend_type = 'client backend'; \
                         PERFORM pg_sleep(0.02); END LOOP; END $$";
        let mut held = vec![postgres.session("postgres", throw_out)];
        eventually("all connections are taken", || {
            held.retain_mut(Running::is_running);
            let new = postgres.session("postgres", "SELECT pg_sleep(60)");
            thread::sleep(Duration::from_millis(100));
            held.push(new);
            held.iter_mut().map(Running::is_running).filter(|running| *running).count() == 8
        });
        Self(held)
    }
}

#[test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
fn a_database_without_a_connection_left_holds_nobody_up() {
    let node = Node::start(&Occupied::SETTINGS);
    let held = Occupied::take(&node.postgres);
    node.refuses();
    let adding = command(&node.issuer, &["device", "add", "pump-2"]);
    assert_eq!(adding.code, Some(4), "{adding:?}");
    // A node that starts waits, and says what it waited for.
    let folder = tempfile::tempdir().unwrap();
    let mut serve = Program::Issuer.command();
    serve.arg("serve").arg("--data-dir").arg(folder.path().join("data"));
    serve.args(["--database", &node.database, "--listen", &format!("127.0.0.1:{}", ports::free())]);
    let finished = fleetbadge_tests::process::run(serve);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.stderr.contains("too many clients"), "{}", finished.stderr);
    for session in held.0 {
        drop(session);
    }
    node.recovers();
}
