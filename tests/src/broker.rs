//! Mosquitto, as Debian ships it, in three versions.
//!
//! Started by root, as in a system service, it gives up its rights and runs
//! as user `mosquitto`: what it must read or write belongs into its
//! [`BrokerDir`].

mod dir;
mod version;

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

pub use self::dir::BrokerDir;
pub use self::version::MosquittoVersion;
use crate::patience::PATIENCE;
use crate::ports;
use crate::process::{Finished, Position, Running, Signal, run};

/// A running Mosquitto with one listener on the loopback interface. Dropping
/// it ends it and removes its directory.
#[derive(Debug)]
pub struct Mosquitto {
    broker: MosquittoBuilder,
    process: Running,
}

/// A Mosquitto to start: its version and the lines of its `mosquitto.conf`.
#[derive(Debug)]
pub struct MosquittoBuilder {
    version: MosquittoVersion,
    dir: BrokerDir,
    port: u16,
    log_types: &'static [&'static str],
    global_lines: Vec<String>,
    lines: Vec<String>,
    /// Instead of the lines.
    whole: Option<String>,
}

impl Mosquitto {
    /// A broker that lets nobody in (Mosquitto's own default), to be
    /// configured and started.
    ///
    /// # Panics
    /// When its directory cannot be made.
    #[must_use]
    pub fn builder(version: MosquittoVersion) -> MosquittoBuilder {
        let (dir, port) = (BrokerDir::create(), ports::free());
        MosquittoBuilder {
            version,
            dir,
            port,
            log_types: &["all"],
            global_lines: Vec::new(),
            lines: Vec::new(),
            whole: None,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The port of its listener on 127.0.0.1; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.broker.port
    }

    /// The directory of its files.
    #[must_use]
    pub fn dir(&self) -> &BrokerDir {
        &self.broker.dir
    }

    /// Everything it has logged since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Where its log ends now.
    #[must_use]
    pub fn log_position(&self) -> Position {
        self.process.position()
    }

    /// Waits for a log line that contains `text`, logged at any time since
    /// the last start, and returns it.
    ///
    /// # Panics
    /// When there is none within [`PATIENCE`].
    pub fn wait_for_log(&self, text: &str) -> String {
        self.process.wait_for(text)
    }

    /// Like [`Mosquitto::wait_for_log`], for lines after `since` only.
    ///
    /// # Panics
    /// When there is none within [`PATIENCE`].
    pub fn wait_for_log_since(&self, since: Position, text: &str) -> String {
        self.process.wait_for_since(since, text)
    }

    /// Sends SIGHUP and waits until the broker has reloaded everything.
    ///
    /// # Panics
    /// When it has not within [`PATIENCE`].
    pub fn signal_hup(&mut self) {
        let before = self.log_position();
        self.process.signal(Signal::HUP);
        self.wait_for_log_since(before, "Reloading config.");
        // It says so at the beginning, and a second SIGHUP would be lost until
        // the end. Its one thread takes the next connection after that.
        let reloading = self.log_position();
        let probe = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).expect("the broker listens");
        self.wait_for_log_since(reloading, "New connection from");
        drop(probe);
    }

    /// Whether it has not ended, by itself or stopped.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Ends it with SIGTERM, as a service manager does, and returns its exit
    /// code and log; a code other than 0 is a crash.
    pub fn stop(&mut self) -> Finished {
        self.process.stop()
    }

    /// Starts it again after [`Mosquitto::stop`]: same port, configuration
    /// and files.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(&mut self) {
        self.process = self.broker.run();
    }

    /// Ends it and starts it again.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }
}

impl MosquittoBuilder {
    /// The directory of its files, which is there before the start.
    #[must_use]
    pub fn dir(&self) -> &BrokerDir {
        &self.dir
    }

    /// Has it log what concerns the broker, and nothing of single clients.
    #[must_use]
    pub fn logging_little(mut self) -> Self {
        self.log_types = &["error", "warning", "information"];
        self
    }

    /// A line of its configuration, after the one that names the listener.
    #[must_use]
    pub fn config_line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// A line that must come before the first listener, such as
    /// `per_listener_settings true`.
    #[must_use]
    pub fn global_config_line(mut self, line: &str) -> Self {
        self.global_lines.push(line.to_owned());
        self
    }

    /// Its whole configuration, instead of lines; it must log to stderr.
    #[must_use]
    pub fn configuration(mut self, text: &str) -> Self {
        self.whole = Some(text.to_owned());
        self
    }

    /// Has the broker read a configuration, and do nothing else; from 2.1 on.
    #[must_use]
    pub fn tests_configuration(&self, text: &str) -> Finished {
        let mut command = self.version.command();
        command.arg("-c").arg(self.dir.write("tested.conf", text.as_bytes())).arg("--test-config");
        run(command)
    }

    /// Loads a copy of a plugin.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    pub fn plugin(self, plugin: &Path) -> Self {
        let copy = self.dir.copy(plugin);
        self.config_line(&format!("plugin {}", copy.display()))
    }

    /// An option of the plugin named before, as `plugin_opt_KEY VALUE`.
    #[must_use]
    pub fn plugin_opt(self, key: &str, value: &str) -> Self {
        self.config_line(&format!("plugin_opt_{key} {value}"))
    }

    /// Starts the broker and waits until it listens.
    ///
    /// # Panics
    /// With its log, when it ends instead, is not of the version asked for, or
    /// takes longer than [`PATIENCE`].
    #[must_use]
    pub fn start(self) -> Mosquitto {
        let process = self.run();
        Mosquitto { broker: self, process }
    }

    /// Starts a broker that must end by itself instead of running.
    ///
    /// # Panics
    /// When it runs.
    #[must_use]
    pub fn fails_to_start(self) -> Finished {
        let mut process = self.spawn();
        let running = running_line(&process);
        assert!(running.is_none(), "it starts:\n{}", process.output());
        process.wait()
    }

    fn run(&self) -> Running {
        let process = self.spawn();
        let line =
            running_line(&process).unwrap_or_else(|| panic!("it does not start:\n{}", process.output()));
        assert!(self.version.is_named_in(&line), "wanted {:?}, but the log says: {line}", self.version);
        process
    }

    fn spawn(&self) -> Running {
        let mut command = self.version.command();
        command.arg("-c").arg(self.dir.write("mosquitto.conf", self.config().as_bytes()));
        Running::spawn(command)
    }

    fn config(&self) -> String {
        if let Some(whole) = &self.whole {
            return whole.clone();
        }
        let types = self.log_types.iter().map(|kind| format!("log_type {kind}"));
        let log: Vec<String> = ["log_dest stderr".to_owned()].into_iter().chain(types).collect();
        let listener = [format!("listener {} 127.0.0.1", self.port)];
        let lines = log.iter().chain(&self.global_lines).chain(&listener).chain(&self.lines);
        lines.flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

/// The log line that says that the broker listens, and which version it is.
fn running_line(process: &Running) -> Option<String> {
    process.find_since(Position::default(), PATIENCE, |line| {
        line.text.ends_with(" running").then(|| line.text.clone())
    })
}
