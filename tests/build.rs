//! Finds the brokers that `tests/install` has put in place, so that tests
//! with a missing one are shown as ignored instead of passed. In CI none is
//! ignored: there a missing broker is a failure.

use std::{env, path::PathBuf};

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
}
