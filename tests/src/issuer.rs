//! The real issuer, on an empty data directory of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::authority::Authority;
use crate::device::{Response, curl};
use crate::ports;
use crate::process::{Finished, Running, Signal, run};
use crate::programs::Program;

/// A running issuer. Dropping it ends it and removes its directory.
#[derive(Debug)]
pub struct Issuer {
    process: Running,
    data_dir: TempDir,
    port: u16,
    identifier: String,
    tls: Option<Authority>,
    options: Vec<String>,
    /// The command line that runs it.
    under: Vec<String>,
}

/// What `device add --json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Device {
    /// The device's name, its OAuth client identifier.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The MQTT client IDs that it may connect as, the default first.
    pub mqtt_client_ids: Vec<String>,
    /// Its group.
    pub group: String,
}

impl Issuer {
    /// A new issuer on a free port.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A new issuer on a free port, with more options of `serve`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_with(options: &[&str]) -> Self {
        Self::start_under(Vec::new(), options)
    }

    /// The same, run by a program like `env`, which does something and becomes
    /// what the rest of its command line says: `PROGRAM serve --data-dir DIR …`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_under(under: Vec<String>, options: &[&str]) -> Self {
        Self::start_on(None, options.iter().map(ToString::to_string).collect(), under)
    }

    /// A new issuer on a free port that speaks TLS with a certificate of
    /// `authority`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_tls(authority: Authority) -> Self {
        let files = [("--tls-certificate", authority.certificate()), ("--tls-key", authority.key())];
        let options = files.map(|(option, file)| [option.into(), file.to_string_lossy().into()]);
        Self::start_on(Some(authority), options.concat(), Vec::new())
    }

    fn start_on(tls: Option<Authority>, options: Vec<String>, under: Vec<String>) -> Self {
        let data_dir = tempfile::Builder::new().prefix("fleetbadge-issuer-").tempdir().expect("a directory");
        let port = ports::free();
        let identifier = url(port, tls.is_some());
        let process = serve(&under, data_dir.path(), port, &identifier, &options);
        Self { process, data_dir, port, identifier, tls, options, under }
    }

    /// One more node of the issuer that this one belongs to, over the same
    /// database: it has its root key, its identifier and its options.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_another(&self) -> Self {
        self.start_another_with(&self.options)
    }

    /// The same, with other options.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_another_with(&self, options: &[String]) -> Self {
        self.start_another_in(self.another_data_dir(), options)
    }

    /// The same, in a data directory with its root key.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_another_in(&self, data_dir: TempDir, options: &[String]) -> Self {
        let (port, identifier) = (ports::free(), self.identifier.clone());
        let process = serve(&[], data_dir.path(), port, &identifier, options);
        Self { process, data_dir, port, identifier, tls: None, options: options.into(), under: Vec::new() }
    }

    /// A data directory with this one's root key and nothing else.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn another_data_dir(&self) -> TempDir {
        let data_dir = tempfile::Builder::new().prefix("fleetbadge-issuer-").tempdir().expect("a directory");
        fs::set_permissions(data_dir.path(), PermissionsExt::from_mode(0o700))
            .expect("the directory is ours");
        fs::copy(self.data_dir().join("root.key"), data_dir.path().join("root.key")).expect("the root key");
        data_dir
    }

    /// Ends it, and starts it where it was with other options and, if given,
    /// another data directory.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn go_on_with(&mut self, data_dir: Option<TempDir>, options: &[&str]) {
        self.process.stop();
        if let Some(data_dir) = data_dir {
            self.data_dir = data_dir;
        }
        self.options = options.iter().map(ToString::to_string).collect();
        self.process = serve(&self.under, self.data_dir.path(), self.port, &self.identifier, &self.options);
    }

    /// The issuer identifier, which all its nodes have.
    #[must_use]
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// Where it is reached: the issuer identifier, if it is the only node.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.port, self.tls.is_some())
    }

    /// Whose certificate it has, if it speaks TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        self.tls.as_ref()
    }

    /// Where its keys are.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        self.url() + "/oauth2/jwks"
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// Its data directory, also if what it runs under has put another file
    /// system there that only it sees.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        if self.under.is_empty() {
            return self.data_dir().into();
        }
        let folder = self.data_dir().strip_prefix("/").unwrap_or(self.data_dir());
        PathBuf::from(format!("/proc/{}/root", self.pid())).join(folder)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Everything it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Ends it as a service manager does.
    pub fn stop(&mut self) -> Finished {
        self.process.stop()
    }

    /// Ends it from one moment to the next, as a power cut would.
    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }

    /// Starts it again after [`Issuer::stop`], with the same data.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.process.stop();
        self.process = serve(&self.under, self.data_dir.path(), self.port, &self.identifier, &self.options);
    }

    /// Runs an operator's command.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Finished {
        operate(&self.folder(), arguments)
    }

    /// Runs an operator's command with `--json`, and reads what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        operate_json(&self.folder(), arguments)
    }

    /// Runs an operator's command with `--json`, and reads the JSON of each line
    /// that it prints.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn json_lines(&self, arguments: &[&str]) -> Vec<Value> {
        let finished = self.command(&[arguments, &["--json"]].concat());
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
        finished.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Registers a device in the group `default`.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn add_device(&self, name: &str) -> Device {
        serde_json::from_value(self.json(&["device", "add", name])).expect("the promised object")
    }

    /// A token request of `device` with curl, `parameters` beside the grant.
    #[must_use]
    pub fn request_token(&self, device: &Device, parameters: &[&str]) -> Response {
        let (user, url) =
            (format!("{}:{}", device.client_id, device.client_secret), self.url() + "/oauth2/token");
        let ca = self.tls.as_ref().map(|tls| tls.certificate_of_authority().to_string_lossy().into_owned());
        let mut arguments = vec!["--user", &user, "--data", "grant_type=client_credentials"];
        if let Some(ca) = &ca {
            arguments.extend(["--cacert", ca]);
        }
        for parameter in parameters {
            arguments.extend(["--data", parameter]);
        }
        arguments.push(&url);
        curl(arguments)
    }

    /// A token of `device`.
    ///
    /// # Panics
    /// When it gets none.
    #[must_use]
    pub fn token(&self, device: &Device) -> String {
        let response = self.request_token(device, &[]);
        assert_eq!(response.status, 200, "{response:?}");
        response.json()["access_token"].as_str().expect("a token").to_owned()
    }
}

/// Runs an operator's command on the issuer that has this data directory.
#[must_use]
pub fn operate(data_dir: &Path, arguments: &[&str]) -> Finished {
    let mut command = Program::Issuer.command();
    command.args(arguments).arg("--data-dir").arg(data_dir);
    run(command)
}

/// Runs an operator's command with `--json` on the issuer that has this data
/// directory, and reads what it prints.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn operate_json(data_dir: &Path, arguments: &[&str]) -> Value {
    let finished = operate(data_dir, &[arguments, &["--json"]].concat());
    assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.stdout))
}

/// With TLS by name: Erlang 25 compares no certificate with an address.
fn url(port: u16, tls: bool) -> String {
    if tls { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") }
}

fn serve(under: &[String], data_dir: &Path, port: u16, identifier: &str, options: &[String]) -> Running {
    let listen = format!("127.0.0.1:{port}");
    let issuer = Program::Issuer.command();
    let mut command = match under {
        [] => issuer,
        [program, rest @ ..] => {
            let mut command = Command::new(program);
            command.args(rest).arg(issuer.get_program());
            command
        }
    };
    command.arg("serve").arg("--data-dir").arg(data_dir);
    command.args(["--listen", &listen, "--issuer", identifier]).args(options);
    let process = Running::spawn(command);
    process.wait_for(&listen);
    process
}
