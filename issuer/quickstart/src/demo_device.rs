//! The device that the printed lines are about: made at the first start. Its
//! secret is kept in a file beside the issuer's data, so that a later start
//! can print the same lines, and so that no line has to show it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fleetbadge_issuer::Issuer;
use fleetbadge_issuer::devices::{DeviceError, NewDevice};
use fleetbadge_issuer::secret::ClientSecret;
use fleetbadge_issuer::store::StoreError;

/// Its name, and the MQTT client ID that it connects as.
pub(crate) const DEMO_DEVICE: &str = "demo-device";

/// The demo device cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoDeviceError {
    /// A secret can be seen only once.
    #[error(
        "{}: is missing, but {DEMO_DEVICE} exists, and nobody can see its secret again; restore the file, or \
         start with another --data-dir", path.display()
    )]
    SecretLost {
        /// Where the secret should be.
        path: PathBuf,
    },
    /// An operator removed it; no other can have its name.
    #[error("{DEMO_DEVICE} was removed from this issuer for ever; start with another --data-dir")]
    Removed,
    /// Others can read the secret.
    #[error("{0}: others can use it (its mode is {mode:o}); run: chmod 600 {0}", path.display())]
    TooOpen {
        /// Where the secret is.
        path: PathBuf,
        /// The file's mode.
        mode: u32,
    },
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Where the secret is.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The issuer cannot add it.
    #[error("{DEMO_DEVICE} cannot be added: {0}")]
    Device(#[from] DeviceError),
    /// The issuer's database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The file with the secret.
pub(crate) fn secret_file(data_dir: &Path) -> PathBuf {
    data_dir.join(DEMO_DEVICE).with_extension("secret")
}

/// Makes the device and its secret file, or finds both.
pub(crate) async fn make_or_find(issuer: &Issuer, secret_file: &Path) -> Result<(), DemoDeviceError> {
    let has_file = is_private_file(secret_file)?;
    match (issuer.device(DEMO_DEVICE).await?, has_file) {
        (Some(_), true) => Ok(()),
        (Some(_), false) => Err(DemoDeviceError::SecretLost { path: secret_file.into() }),
        (None, true) => Err(DemoDeviceError::Removed),
        (None, false) => {
            let new = NewDevice { name: DEMO_DEVICE.into(), ..NewDevice::default() };
            let added = issuer.add_device(new).await?;
            write_secret(secret_file, &added.secret).map_err(at(secret_file))
        }
    }
}

/// Whether the file is there; an error if others can use it.
fn is_private_file(path: &Path) -> Result<bool, DemoDeviceError> {
    let mode = match path.symlink_metadata() {
        Ok(metadata) => metadata.mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(at(path)(source)),
    };
    if mode & 0o077 == 0 { Ok(true) } else { Err(DemoDeviceError::TooOpen { path: path.into(), mode }) }
}

/// Whole or not at all: half a secret would be taken for one.
fn write_secret(path: &Path, secret: &ClientSecret) -> io::Result<()> {
    let new = path.with_extension("secret.new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // A new file never follows a symbolic link.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(secret.expose().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DemoDeviceError {
    |source| DemoDeviceError::File { path: path.into(), source }
}
