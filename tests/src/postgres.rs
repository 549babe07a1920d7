//! A PostgreSQL of one's own: the machine's programs on an empty cluster in a
//! folder under /tmp, reached by a socket in it. It ends with whoever started
//! it, however that ends.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::Running;

/// Where Debian keeps the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// As whom everybody who reaches the socket is let in.
const USER: &str = "fleetbadge";
/// What `initdb` must be told, and what makes tests quick: nothing here must
/// survive a power cut.
const SETTINGS: [&str; 7] = [
    "listen_addresses=",
    "max_connections=300",
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=16MB",
    "unix_socket_permissions=0777",
    "max_wal_size=128MB",
];

/// Starts `$4 …` as user `$3` with a disk of size `$1` at `$2`, which only it
/// sees.
const WITH_SMALL_DISK: &str = r#"
    size=$1 disk=$2 user=$3; shift 3
    if [ "$(id -u)" = 0 ]; then map= owner=$user become="setpriv --reuid=$user"; else
        map=--map-root-user owner=0 become="unshare --user --map-user=$user"; fi
    mount='mount -t tmpfs -o "$0" none "$1" && shift && exec "$@"'
    exec unshare $map --mount sh -c "$mount" "size=$size,uid=$owner,mode=700" "$disk" $become "$@"
"#;

/// A PostgreSQL server. Dropping it ends it and removes its files.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    next_database: AtomicU32,
    /// More than [`SETTINGS`], which win over those.
    settings: Vec<String>,
    /// The size of the disk on which its databases are.
    disk: Option<&'static str>,
    /// Ends the server when nobody holds its standard input any more.
    guard: Child,
}

/// The one that the tests of a process share, each with a database of its own.
pub static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);

impl Postgres {
    /// A new, empty server.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with settings like `max_connections=8`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_on(None, settings)
    }

    /// The same with databases on a disk of their own, of a size like `32m`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_on_small_disk(size: &'static str) -> Self {
        Self::start_on(Some(size), &[])
    }

    fn start_on(disk: Option<&'static str>, settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("fleetbadge-postgres-").tempdir().expect("a directory");
        let programs = programs();
        for path in [folder.path(), &folder.path().join("data"), &folder.path().join("disk")] {
            fs::create_dir_all(path).expect("a directory");
            // PostgreSQL refuses to run as root.
            if let Some(user) = other_user() {
                chown(path, Some(user), None).expect("the directory is ours");
            }
        }
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("the directory is ours");
        let stop_and_remove = r#"read -r _; "$1/pg_ctl" -D "$2/data" stop -m immediate; rm -rf "$2""#;
        let mut guard = as_user(OsStr::new("/bin/sh"));
        guard.args(["-c", stop_and_remove, "guard"]).arg(&programs).arg(folder.path()).stdin(Stdio::piped());
        let guard = quiet(&mut guard).spawn().expect("a shell");
        let settings = settings.iter().map(ToString::to_string).collect();
        let server = Self { folder, programs, next_database: AtomicU32::new(0), settings, disk, guard };
        let mut initdb = server.program("initdb");
        initdb.args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--username", USER]);
        succeed(initdb.arg("-D").arg(server.data()));
        server.resume();
        if disk.is_some() {
            let _ = server
                .sql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", server.disk().display()));
        }
        server
    }

    /// A new, empty database, as a URL.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.next_database.fetch_add(1, Ordering::Relaxed));
        let place = if self.disk.is_some() { " TABLESPACE small" } else { "" };
        let _ = self.sql("postgres", &format!("CREATE DATABASE {name}{place}"));
        let socket = self.folder.path().to_string_lossy().replace('/', "%2F");
        format!("postgres://{USER}@{socket}/{name}")
    }

    /// Runs SQL in a database, by its name or URL, and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        succeed(&mut self.psql(database, sql))
    }

    /// Runs SQL that takes long. A test ends it by dropping it.
    #[must_use]
    pub fn session(&self, database: &str, sql: &str) -> Running {
        Running::spawn(self.psql(database, sql))
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let name = database.rsplit('/').next().unwrap_or_default();
        let mut psql = self.program("psql");
        psql.arg("-h")
            .arg(self.folder.path())
            .args(["-U", USER, "-d", name, "-X", "-q", "-t", "-A", "-c", sql]);
        psql
    }

    /// Stops all its processes in the middle of what they do, until what is
    /// returned is dropped.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        let server = self.pid();
        // First the one that starts others.
        let mut frozen = Frozen(vec![server]);
        let _ = kill_process(server, Signal::STOP);
        for child in children_of(server) {
            let _ = kill_process(child, Signal::STOP);
            frozen.0.push(child);
        }
        frozen
    }

    /// Ends it at once, all connections included, as a crash would.
    ///
    /// # Panics
    /// When it runs on.
    pub fn stop(&self) {
        succeed(self.program("pg_ctl").arg("-D").arg(self.data()).args(["stop", "-w", "-m", "immediate"]));
    }

    /// Starts it again after [`Postgres::stop`], with the same data.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn resume(&self) {
        let settings = SETTINGS.iter().copied().chain(self.settings.iter().map(String::as_str));
        let settings = settings.flat_map(|setting| [" -c ", setting]).collect::<String>();
        let folder = self.folder.path();
        let options = format!("-k {}{settings}", folder.display());
        let mut start = self.program("pg_ctl");
        if let Some(size) = self.disk {
            let mut with_disk = Command::new("sh");
            with_disk.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
            with_disk.args(["-c", WITH_SMALL_DISK, "sh", size]).arg(self.disk());
            with_disk.arg(other_user().unwrap_or(65_534).to_string()).arg(start.get_program());
            start = with_disk;
        }
        start.arg("-D").arg(self.data()).arg("-l").arg(folder.join("log"));
        succeed(start.arg("-o").arg(options).args(["start", "-w", "-t", "60"]));
    }

    /// A file on the disk of its databases, as others see it.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn file_on_disk(&self, name: &str) -> PathBuf {
        let disk = self.disk().join(name);
        let seen_by_it = PathBuf::from(format!("/proc/{}/root", self.pid().as_raw_nonzero()));
        seen_by_it.join(disk.strip_prefix("/").expect("from the root"))
    }

    fn pid(&self) -> Pid {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).expect("it runs");
        let pid = pid.lines().next().and_then(|line| line.parse().ok()).and_then(Pid::from_raw);
        pid.expect("a process id")
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = as_user(self.programs.join(name).as_os_str());
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8");
        command
    }
}

/// A server that is held. Dropping this lets it go on.
#[derive(Debug)]
pub struct Frozen(Vec<Pid>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for &process in &self.0 {
            let _ = kill_process(process, Signal::CONT);
        }
    }
}

/// The processes that this one has started.
fn children_of(parent: Pid) -> Vec<Pid> {
    let parent = format!("PPid:\t{}", parent.as_raw_nonzero());
    let is_child = |status: &Path| {
        fs::read_to_string(status).is_ok_and(|status| status.lines().any(|line| line == parent))
    };
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    processes
        .filter(|process| is_child(&process.path().join("status")))
        .filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
        .collect()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The programs of the newest version.
fn programs() -> PathBuf {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().filter_map(Result::ok);
    let programs = versions.map(|version| version.path().join("bin"));
    programs
        .filter(|programs| programs.join("postgres").exists())
        .max_by_key(|programs| version_of(programs))
        .unwrap_or_else(|| panic!("no PostgreSQL in {VERSIONS}: tests/install gets it"))
}

fn version_of(programs: &Path) -> Option<u32> {
    programs.parent()?.file_name()?.to_str()?.parse().ok()
}

/// Whom to run it as: Debian's user for it, or nobody, if this is root.
fn other_user() -> Option<u32> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    is_root.then(|| {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let postgres = users.lines().find_map(|line| line.strip_prefix("postgres:"));
        postgres.and_then(|line| line.split(':').nth(1)?.parse().ok()).unwrap_or(65_534)
    })
}

fn as_user(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = other_user() {
        command.uid(user);
    }
    command
}

/// A server keeps what it was started with: no pipe of a test.
fn quiet(command: &mut Command) -> &mut Command {
    command.stdout(Stdio::null()).stderr(Stdio::null())
}

fn succeed(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    // Files, as a server that is started holds pipes open.
    let (mut out, mut err) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
    let status = command
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a file"))
        .stderr(err.try_clone().expect("a file"))
        .status()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let (said, complained) = (text(&mut out), text(&mut err));
    assert!(status.success(), "{name} failed:\n{said}{complained}");
    said.trim_end().to_owned()
}

fn text(file: &mut fs::File) -> String {
    use std::io::{Read as _, Seek as _};
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    text
}
