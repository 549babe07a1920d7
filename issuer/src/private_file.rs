//! Files that are for nobody else to read.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// A file or folder that others can use, or that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Others can read or write it.
    #[error(
        "{}: others can use it (its mode is {mode:o}); run: chmod {wanted:o} {}",
        path.display(), path.display()
    )]
    TooOpen {
        /// What.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What its mode should be.
        wanted: u32,
    },
    /// It belongs to somebody else.
    #[error("{}: belongs to user {owner}, this program runs as user {user}", path.display())]
    OtherOwner {
        /// What.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
}

impl PrivateFileError {
    /// Whether there is no such file.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::TooOpen { .. } | Self::OtherOwner { .. } => false,
        }
    }
}

/// Opens a file of this user's alone, never through a symbolic link.
pub(crate) fn open(path: &Path, flags: OFlags) -> Result<File, PrivateFileError> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(|errno| PrivateFileError::Io { path: path.into(), source: errno.into() })?;
    check_owner_alone(path, &file.metadata().map_err(at(path))?, 0o600)?;
    Ok(file)
}

/// Opens a file that this user or root has put there for this program alone,
/// be it through a symbolic link, as Kubernetes makes them. What belongs to
/// root may be readable for its group: so looks an access control list that
/// names this user (systemd), or a group of its own (`fsGroup`).
pub(crate) fn open_given(path: &Path) -> Result<File, PrivateFileError> {
    let file = File::open(path).map_err(at(path))?;
    let metadata = file.metadata().map_err(at(path))?;
    let is_given_by_root = metadata.uid() == 0 && !rustix::process::geteuid().is_root();
    let mode = metadata.mode() & 0o7777;
    if !is_given_by_root {
        check_owner_alone(path, &metadata, 0o600)?;
    } else if mode & 0o027 != 0 {
        return Err(PrivateFileError::TooOpen { path: path.into(), mode, wanted: 0o640 });
    }
    Ok(file)
}

/// What stands in a file, wiped from memory afterwards.
pub(crate) fn read_to_string(path: &Path, mut file: File) -> Result<Zeroizing<String>, PrivateFileError> {
    // So much at once that no half of it is left behind in a smaller buffer.
    let length = usize::try_from(file.metadata().map_err(at(path))?.len()).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(length + 1));
    file.read_to_string(&mut text).map_err(at(path))?;
    Ok(text)
}

/// Writes a file beside its place and moves it there, so that there is never
/// half of it.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), PrivateFileError> {
    let unfinished = path.with_extension("new");
    let mut file = open(&unfinished, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
    file.write_all(text.as_bytes()).map_err(at(&unfinished))?;
    file.sync_all().map_err(at(&unfinished))?;
    std::fs::rename(&unfinished, path).map_err(at(path))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

pub(crate) fn check_owner_alone(
    path: &Path,
    metadata: &Metadata,
    wanted: u32,
) -> Result<(), PrivateFileError> {
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(PrivateFileError::OtherOwner { path: path.into(), owner: metadata.uid(), user });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::TooOpen { path: path.into(), mode, wanted });
    }
    Ok(())
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> PrivateFileError {
    move |source| PrivateFileError::Io { path: path.into(), source }
}
