//! The quickstart: issuer and embedded broker in one process.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::ports;
use crate::process::Running;
use crate::programs::Program;

/// A running quickstart on free ports. Dropping it ends it and removes its
/// directory.
#[derive(Debug)]
pub struct Quickstart {
    process: Running,
    dir: TempDir,
    issuer: u16,
    mqtt: u16,
    websocket: u16,
}

impl Quickstart {
    /// A new one, in a directory whose name is hard to quote.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("fleetbadge quick'start-").tempdir().expect("a directory");
        let [issuer, mqtt, websocket] = [(); 3].map(|()| ports::free());
        Self { process: run(dir.path(), issuer, mqtt, websocket), dir, issuer, mqtt, websocket }
    }

    /// Ends it, if it is running, and starts it again where it was.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.process.stop();
        self.process = run(self.dir.path(), self.issuer, self.mqtt, self.websocket);
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    /// Everything it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// The issuer identifier.
    #[must_use]
    pub fn issuer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.issuer)
    }

    /// The port of the embedded broker on 127.0.0.1.
    #[must_use]
    pub fn mqtt_port(&self) -> u16 {
        self.mqtt
    }

    /// Its issuer's data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.dir.path())
    }
}

fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn run(dir: &Path, issuer: u16, mqtt: u16, websocket: u16) -> Running {
    let mut command = Program::Quickstart.command();
    for (option, port) in [("--listen", issuer), ("--mqtt-listen", mqtt), ("--ws-listen", websocket)] {
        command.args([option, &format!("127.0.0.1:{port}")]);
    }
    command.arg("--data-dir").arg(data_dir(dir));
    let process = Running::spawn(command);
    process.wait_for("Ctrl-C ends it");
    process
}
