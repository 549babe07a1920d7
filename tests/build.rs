//! Finds the brokers that `tests/install` has put in place, so that tests
//! with a missing one are shown as ignored instead of passed. In CI none is
//! ignored: there a missing broker is a failure.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Each broker the tests know: its name in `…_ROOT` and `no_…`, the root of the
/// Debian it lives in, relative to this package, and its program there.
const BROKERS: [(&str, &str, &str); 5] = [
    ("mosquitto_2_0_11", "/", MOSQUITTO),
    ("mosquitto_2_0_21", ".cache/roots/trixie", MOSQUITTO),
    ("mosquitto_2_1", ".cache/roots/sid", MOSQUITTO),
    ("rabbitmq_3_10", "/", RABBITMQ),
    ("rabbitmq_4_0", ".cache/roots/trixie", RABBITMQ),
];

const MOSQUITTO: &str = "usr/sbin/mosquitto";
const RABBITMQ: &str = "usr/lib/rabbitmq/bin/rabbitmq-server";

/// Where PostgreSQL is, in a folder for each version.
const POSTGRESQL: &str = "/usr/lib/postgresql";
/// Where Debian keeps what is specific to a kind of machine, in a folder for
/// each, and in it what fakes a clock.
const LIBRARIES: &str = "/usr/lib";
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";
/// Whether a file system can be made that only its maker sees.
const MOUNT: &str =
    "unshare --mount mount -t tmpfs none /mnt || unshare --map-root-user --mount mount -t tmpfs none /mnt";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CI");
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    for (broker, root, program) in BROKERS {
        let root = package.join(root);
        let program = root.join(program);
        println!("cargo:rustc-env={}_ROOT={}", broker.to_uppercase(), root.display());
        println!("cargo:rustc-check-cfg=cfg(no_{broker})");
        if program.symlink_metadata().is_ok() {
            println!("cargo:rerun-if-changed={}", program.display());
            continue;
        }
        // One that comes later may look older than this build, since packages
        // keep the times of their files: never there, always looked for again.
        println!("cargo:rerun-if-changed={}", package.join("missing-broker").display());
        if env::var_os("CI").is_none() {
            println!("cargo:rustc-cfg=no_{broker}");
            println!("cargo:warning=no {}: its tests are ignored", program.display());
        }
    }
    println!("cargo:rustc-check-cfg=cfg(no_postgresql)");
    let missing = package.join("missing-broker");
    let postgresql = PathBuf::from(POSTGRESQL);
    let watched = if postgresql.exists() { postgresql.as_path() } else { missing.as_path() };
    println!("cargo:rerun-if-changed={}", watched.display());
    if !postgresql.exists() && env::var_os("CI").is_none() {
        println!("cargo:rustc-cfg=no_postgresql");
        println!("cargo:warning=no {POSTGRESQL}: its tests are ignored");
    }
    println!("cargo:rustc-check-cfg=cfg(no_faketime)");
    let libraries = fs::read_dir(LIBRARIES).into_iter().flatten().filter_map(Result::ok);
    let faketime = libraries.map(|folder| folder.path().join(FAKETIME)).find(|library| library.exists());
    println!("cargo:rerun-if-changed={}", faketime.as_ref().unwrap_or(&missing).display());
    println!("cargo:rustc-env=FAKETIME_LIBRARY={}", faketime.as_deref().unwrap_or(Path::new("")).display());
    if faketime.is_none() && env::var_os("CI").is_none() {
        println!("cargo:rustc-cfg=no_faketime");
        println!("cargo:warning=no {FAKETIME}: its tests are ignored");
    }
    println!("cargo:rustc-check-cfg=cfg(no_mount)");
    let may_mount = Command::new("sh").args(["-c", MOUNT]).output().is_ok_and(|mount| mount.status.success());
    if !may_mount && env::var_os("CI").is_none() {
        println!("cargo:rustc-cfg=no_mount");
        println!("cargo:warning=no file system can be made: the tests of full disks are ignored");
    }
}
