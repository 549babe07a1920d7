//! Looks for PostgreSQL, so that tests without it are shown as ignored instead
//! of passed. In CI none is ignored: there it must be.

use std::{env, path::Path};

const POSTGRESQL: &str = "/usr/lib/postgresql";

fn main() {
    println!("cargo:rustc-check-cfg=cfg(no_postgresql)");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CI");
    if Path::new(POSTGRESQL).exists() {
        println!("cargo:rerun-if-changed={POSTGRESQL}");
    } else if env::var_os("CI").is_none() {
        println!("cargo:rustc-cfg=no_postgresql");
    }
}
