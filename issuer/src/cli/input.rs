//! What operators hand over in a file or on stdin.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::client::Failure;

/// Reads a file, or stdin for `-`.
///
/// # Errors
/// [`Failure::Input`] names the file and says what `read` does.
pub(super) fn read<T>(path: &Path, read: impl Fn(&mut dyn Read) -> io::Result<T>) -> Result<T, Failure> {
    let found = if path == Path::new("-") {
        read(&mut io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| read(&mut file))
    };
    found.map_err(|error| Failure::Input { path: path.into(), error })
}
