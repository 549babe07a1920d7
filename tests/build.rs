//! Finds the brokers that `tests/install` has put in place, so that tests
//! with a missing one are shown as ignored instead of passed. In CI none is
//! ignored: there a missing broker is a failure.

use std::{env, path::PathBuf};

/// Each Mosquitto the tests know, and the root of the Debian it lives in,
/// relative to this package.
const MOSQUITTO_ROOTS: [(&str, &str); 3] =
    [("2_0_11", "/"), ("2_0_21", ".cache/roots/trixie"), ("2_1", ".cache/roots/sid")];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CI");
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    for (version, root) in MOSQUITTO_ROOTS {
        let root = package.join(root);
        let mosquitto = root.join("usr/sbin/mosquitto");
        println!("cargo:rustc-env=MOSQUITTO_{version}_ROOT={}", root.display());
        println!("cargo:rustc-check-cfg=cfg(no_mosquitto_{version})");
        if mosquitto.exists() {
            println!("cargo:rerun-if-changed={}", mosquitto.display());
            continue;
        }
        // One that comes later may look older than this build, since packages
        // keep the times of their files: never there, always looked for again.
        println!("cargo:rerun-if-changed={}", package.join("missing-broker").display());
        if env::var_os("CI").is_none() {
            println!("cargo:rustc-cfg=no_mosquitto_{version}");
            println!("cargo:warning=no {}: its tests are ignored", mosquitto.display());
        }
    }
}
