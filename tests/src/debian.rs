//! Programs of other Debian releases, which `tests/install` keeps in private
//! roots. They run with their own loader and libraries: unlike after `chroot`,
//! paths mean the same inside and outside, and no privilege is needed.

use std::env::consts::ARCH;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command that runs a program of the Debian in `root`; `/` is the machine's
/// own.
///
/// # Panics
/// When the root has no dynamic loader.
pub(crate) fn command(root: &Path, program: &Path) -> Command {
    let mut words = words(root, program).into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Writes a shell script that runs a program of the Debian in `root` with the
/// script's arguments, for programs that start others by their path.
///
/// # Panics
/// When it cannot be written.
pub(crate) fn write_wrapper(script: &Path, root: &Path, program: &Path, environment: &[(&str, &Path)]) {
    let exports: String = environment
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quoted(&value.to_string_lossy())))
        .collect();
    let words: Vec<_> = words(root, program).iter().map(|word| quoted(&word.to_string_lossy())).collect();
    fs::write(script, format!("#!/bin/sh\n{exports}exec {} \"$@\"\n", words.join(" ")))
        .and_then(|()| fs::set_permissions(script, PermissionsExt::from_mode(0o755)))
        .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
}

fn words(root: &Path, program: &Path) -> Vec<OsString> {
    assert!(program.exists(), "no {}: tests/install gets it", program.display());
    if root == Path::new("/") {
        return vec![program.into()];
    }
    let libraries = root.join(format!("usr/lib/{ARCH}-linux-gnu"));
    let loader = loader_in(&libraries).into();
    vec![loader, "--inhibit-cache".into(), "--library-path".into(), libraries.into(), program.into()]
}

fn loader_in(libraries: &Path) -> PathBuf {
    only_entry(libraries, "ld-linux-")
}

/// The entry of a directory whose name starts with `prefix`.
///
/// # Panics
/// When there is none.
pub(crate) fn only_entry(directory: &Path, prefix: &str) -> PathBuf {
    fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .unwrap_or_else(|| panic!("{} has no {prefix}…: tests/install gets it", directory.display()))
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
