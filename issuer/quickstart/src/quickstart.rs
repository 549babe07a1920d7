//! Everything in one process: the issuer, the broker, and a device to try.
//!
//! 1. Look at the ports, so that a taken one is told before anything is made.
//! 2. Open the issuer; at the first start it makes its database and keys.
//! 3. Make the demo device, or find it.
//! 4. Listen. The guard takes keys and revocations from the issuer itself, each
//!    time that it needs them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleetbadge_issuer::config::{InvalidConfig, Options};
use fleetbadge_issuer::serve::{BoundIssuer, ServeError};
use fleetbadge_issuer::{Issuer, OpenError, config};
use fleetbadge_validator::time::Clock;
use fleetbadge_validator::verify::Verifier;
use tokio::sync::watch;

use crate::broker::{Broker, BrokerError};
use crate::config::{Config, NoDataDir};
use crate::demo_device::{self, DemoDeviceError};
use crate::guard::Guard;
use crate::ports::{PortError, Ports};
use crate::welcome::Welcome;

/// The audience of the group `default`, and so of the demo device.
const AUDIENCE: &str = "mqtt";
/// How long HTTP requests under way may take at the end, in seconds.
const SHUTDOWN_TIMEOUT_S: u64 = 2;

/// Issuer and broker, listening.
pub(crate) struct Quickstart {
    issuer: BoundIssuer,
    broker: Broker,
    ports: Ports,
    secret_file: PathBuf,
}

/// The quickstart cannot start, or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuickstartError {
    #[error(transparent)]
    DataDir(#[from] NoDataDir),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Issuer(#[from] OpenError),
    #[error(transparent)]
    DemoDevice(#[from] DemoDeviceError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl Quickstart {
    /// Opens or makes everything, and listens.
    pub(crate) async fn start(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, QuickstartError> {
        let data_dir = config.data_dir()?;
        let ports = Ports::find(config)?;
        let options = Options {
            data_dir: Some(data_dir.clone().into()),
            listen: Some(ports.issuer),
            shutdown_timeout_s: Some(SHUTDOWN_TIMEOUT_S),
            ..Options::default()
        };
        // Its port is another one at times.
        let config = options.resolve()?.that_prevails();
        let issuer = Issuer::open(config, Arc::clone(&clock)).await?;
        let secret_file = demo_device::secret_file(Path::new(&data_dir));
        demo_device::make_or_find(&issuer, &secret_file).await?;
        let (keys, revocations) = (issuer.key_source(), issuer.revocation_source());
        let (keys, revoked) = (Box::new(move || keys.current()), Box::new(move || revocations.current()));
        let guard = Guard::new(verifier(issuer.config()), keys, revoked, clock);
        let issuer = issuer.bind().await?;
        let broker = Broker::bind(ports.mqtt, ports.websocket, Arc::new(guard)).await?;
        Ok(Self { issuer, broker, ports, secret_file })
    }

    /// What to tell the person who started it.
    pub(crate) fn welcome(&self) -> String {
        let config = self.issuer.issuer().config();
        let welcome = Welcome {
            ports: self.ports,
            issuer: config.issuer.as_str(),
            data_dir: &config.data_dir.to_string_lossy(),
            secret_file: &self.secret_file.to_string_lossy(),
        };
        welcome.text()
    }

    /// Serves until `shutdown`, or until a part fails.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), QuickstartError> {
        let (stop, stopped) = watch::channel(());
        let until_stopped = |mut stopped: watch::Receiver<()>| async move {
            // Nothing is ever sent: the end of the sender is the message.
            while stopped.changed().await.is_ok() {}
        };
        let issuer = async { Ok(self.issuer.run(until_stopped(stopped.clone())).await?) };
        let broker = async { Ok(self.broker.serve(until_stopped(stopped.clone())).await?) };
        let stopping = async {
            shutdown.await;
            drop(stop);
            Ok(())
        };
        tokio::try_join!(issuer, broker, stopping).map(|((), (), ())| ())
    }
}

fn verifier(config: &config::Config) -> Verifier {
    Verifier {
        issuer: config.issuer.as_str().into(),
        audience: AUDIENCE.into(),
        skew_s: config.skew_s,
        max_lifetime_s: config.max_token_lifetime_s,
    }
}

#[cfg(test)]
mod tests;
