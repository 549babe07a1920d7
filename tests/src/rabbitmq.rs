//! RabbitMQ, as Debian ships it, in two versions, with its own MQTT and
//! OAuth 2 plugins: a broker without any part of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::debian;
use crate::ports;
use crate::process::{Position, Running};

/// How long a start may take: on a busy machine far more than of anything else
/// here.
const START: Duration = Duration::from_secs(120);

/// The RabbitMQ versions that tests run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RabbitMqVersion {
    /// Debian 12, the machine's own: MQTT 3.1.1 alone.
    V3_10,
    /// Debian 13, from a private root: also MQTT 5.
    V4_0,
}

/// A running RabbitMQ with one MQTT listener on the loopback interface, which
/// lets in whom the OAuth 2 plugin knows. Dropping it ends it and removes its
/// directory.
#[derive(Debug)]
pub struct RabbitMq {
    // Dropped in this order.
    server: Running,
    _epmd: Running,
    dir: TempDir,
    port: u16,
}

impl RabbitMqVersion {
    fn root(self) -> &'static Path {
        Path::new(match self {
            Self::V3_10 => env!("RABBITMQ_3_10_ROOT"),
            Self::V4_0 => env!("RABBITMQ_4_0_ROOT"),
        })
    }

    fn is_named_in(self, log_line: &str) -> bool {
        log_line.contains(match self {
            Self::V3_10 => " RabbitMQ 3.10.",
            Self::V4_0 => " RabbitMQ 4.0.",
        })
    }
}

impl RabbitMq {
    /// Starts a RabbitMQ whose only authority is the OAuth 2 plugin, with these
    /// lines about it in `rabbitmq.conf`, and waits until it answers.
    ///
    /// # Panics
    /// With its log, when it does not come up or is not of the version asked
    /// for.
    #[must_use]
    pub fn start(version: RabbitMqVersion, oauth2: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("fleetbadge-rabbitmq-").tempdir().expect("a directory");
        let node = Node { version, dir: dir.path(), epmd_port: ports::free() };
        let port = ports::free();
        node.write("enabled_plugins", "[rabbitmq_mqtt,rabbitmq_auth_backend_oauth2].\n");
        node.write("rabbitmq.conf", &configuration(port, oauth2));
        node.write_erlang();

        let epmd = Running::spawn(node.epmd());
        let server = Running::spawn(node.server());
        let this = Self { server, _epmd: epmd, dir, port };
        let started = this.find_log(START, "Server startup complete");
        assert!(started.is_some(), "RabbitMQ does not start:\n{}", this.log());
        let line = this.find_log(START, " Starting RabbitMQ ").unwrap_or_default();
        assert!(version.is_named_in(&line), "wanted {version:?}, but the log says: {line}");
        this
    }

    /// The port of its MQTT listener on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.output()
    }

    /// The directory of its files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn find_log(&self, wait: Duration, text: &str) -> Option<String> {
        let wanted = |text: &str, line: &str| line.contains(text).then(|| line.to_owned());
        self.server.find_since(Position::default(), wait, |line| wanted(text, &line.text))
    }
}

/// Where one Erlang node lives.
struct Node<'a> {
    version: RabbitMqVersion,
    dir: &'a Path,
    epmd_port: u16,
}

impl Node<'_> {
    fn write(&self, name: &str, contents: &str) {
        let path = self.dir.join(name);
        fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Where Erlang's programs are, for RabbitMQ.
    fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// Erlang starts its helpers from one directory: each gets a wrapper there
    /// that knows the loader and the libraries of its Debian. `erl` is itself
    /// a script, which would look for everything below `/usr/lib/erlang`.
    fn write_erlang(&self) {
        let (root, bin) = (self.version.root(), self.bin());
        let erlang = root.join("usr/lib/erlang");
        let programs = debian::only_entry(&erlang, "erts-").join("bin");
        fs::create_dir(&bin).expect("a directory for Erlang's programs");
        for name in ["beam.smp", "epmd", "erl_child_setup", "inet_gethost"] {
            debian::write_wrapper(&bin.join(name), root, &programs.join(name), &[]);
        }
        let found = [("ROOTDIR", &*erlang), ("BINDIR", &*bin), ("EMU", "beam".as_ref())];
        let environment = [&found[..], &[("PROGNAME", "erl".as_ref())]].concat();
        debian::write_wrapper(&bin.join("erl"), root, &programs.join("erlexec"), &environment);
    }

    /// The register of nodes. Erlang would start one in the background, to
    /// stay for ever; this one ends with the test.
    fn epmd(&self) -> Command {
        self.command(&self.bin().join("epmd"))
    }

    fn server(&self) -> Command {
        let mut command = self.command(&self.version.root().join("usr/lib/rabbitmq/bin/rabbitmq-server"));
        let path = |name: &str| self.dir.join(name);
        command
            .env("RABBITMQ_NODENAME", "rabbit@localhost")
            .env("RABBITMQ_DIST_PORT", ports::free().to_string())
            .env("RABBITMQ_CONF_ENV_FILE", path("none"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("none"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            // The script becomes the server instead of watching over it: one
            // process to end.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            // The watchers of the machine are programs that are started without
            // a wrapper.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} \
                 -os_mon start_cpu_sup false -os_mon start_disksup false -os_mon start_memsup false",
            );
        command
    }

    /// With nothing of this process's environment, and a home of its own,
    /// where Erlang keeps its cookie.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.bin().display()))
            .env("HOME", self.dir)
            .env("LANG", "C.UTF-8")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .current_dir(self.dir);
        command
    }
}

/// What README.md shows, and what a test needs: loopback and its output. 3.10
/// does not know `oauth2` as a short name, and would let nobody in.
fn configuration(port: u16, oauth2: &str) -> String {
    format!(
        "auth_backends.1 = rabbit_auth_backend_oauth2\n\
         mqtt.allow_anonymous = false\n\
         {oauth2}\n\
         listeners.tcp = none\n\
         mqtt.listeners.tcp.1 = 127.0.0.1:{port}\n\
         log.console = true\n\
         log.file = false\n"
    )
}

/// Makes a `#[test]` for each RabbitMQ version from functions that take a
/// [`RabbitMqVersion`]. Where a version is missing, its tests are ignored, and
/// say so.
#[macro_export]
macro_rules! on_every_rabbitmq {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use $crate::rabbitmq::RabbitMqVersion;

            #[test]
            #[cfg_attr(no_rabbitmq_3_10, ignore = "SKIPPED, no RabbitMQ 3.10 here: see tests/install")]
            fn rabbitmq_3_10() {
                super::$test(RabbitMqVersion::V3_10);
            }

            #[test]
            #[cfg_attr(no_rabbitmq_4_0, ignore = "SKIPPED, no RabbitMQ 4.0 here: see tests/install")]
            fn rabbitmq_4_0() {
                super::$test(RabbitMqVersion::V4_0);
            }
        }
    )+};
}
