//! The embedded broker: `mqtt5`, set up so that only the guard decides.
//!
//! It is for trying out. No session outlives its connection (a Session Expiry
//! Interval of 0 is what every client is granted), so that no subscription is
//! ever older than the connection; nothing is written to disk.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mqtt5::broker::config::{BrokerConfig, StorageConfig, WebSocketConfig};
use mqtt5::broker::server::MqttBroker;

use crate::guard::Guard;

/// The path of MQTT over WebSocket.
pub(crate) const WEBSOCKET_PATH: &str = "/mqtt";
/// The largest packet, in bytes. The default of `mqtt5` is more than MQTT has,
/// and paho refuses it.
const MAX_PACKET_SIZE: usize = 1024 * 1024;
/// How long the broker may take to end. It would wait for clients that have
/// not sent their CONNECT yet.
const GOODBYE: Duration = Duration::from_secs(1);
/// How often clients whose token has ended are looked for.
const SEND_AWAY_EVERY: Duration = Duration::from_millis(250);

/// A broker that listens, but does not serve yet.
pub(crate) struct Broker {
    broker: MqttBroker,
    guard: Arc<Guard>,
}

/// The embedded broker cannot start, or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    /// `mqtt5` says so.
    #[error("the embedded broker failed: {0}")]
    Mqtt(#[from] mqtt5::MqttError),
    /// `mqtt5` only logs that it has no WebSocket listener.
    #[error("the embedded broker cannot listen on {0} for MQTT over WebSocket")]
    WebSocket(SocketAddr),
}

impl Broker {
    /// Listens on both addresses.
    pub(crate) async fn bind(
        mqtt: SocketAddr,
        websocket: SocketAddr,
        guard: Arc<Guard>,
    ) -> Result<Self, BrokerError> {
        let mut config = BrokerConfig::default()
            .with_bind_address(mqtt)
            .with_max_packet_size(MAX_PACKET_SIZE)
            .with_session_expiry(Duration::ZERO)
            .with_storage(StorageConfig::default().with_persistence(false))
            .with_sys_topics_enabled(false)
            .with_event_handler(Arc::clone(&guard) as _);
        config.websocket_config =
            Some(WebSocketConfig::default().with_bind_address(websocket).with_path(WEBSOCKET_PATH));
        let broker = MqttBroker::with_config(config).await?.with_auth_provider(Arc::clone(&guard) as _);
        broker.ws_local_addr().ok_or(BrokerError::WebSocket(websocket))?;
        guard.watch(&broker.router());
        Ok(Self { broker, guard })
    }

    /// Serves until `shutdown`, then says goodbye to the clients.
    pub(crate) async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), BrokerError> {
        let Self { mut broker, guard } = self;
        let (handle, mut ready) = (broker.shutdown_handle(), broker.ready_receiver());
        let shutdown = async {
            // Before it is ready, the broker does not hear of a shutdown; that it
            // never will be, `run` says.
            drop(ready.wait_for(|ready| *ready).await);
            shutdown.await;
        };
        let mut running = std::pin::pin!(broker.run());
        tokio::select! {
            result = &mut running => return Ok(result?),
            never = send_away_in_time(&guard) => match never {},
            () = shutdown => {}
        }
        handle.shutdown();
        match tokio::time::timeout(GOODBYE, running).await {
            Ok(result) => Ok(result?),
            Err(_late) => Ok(()),
        }
    }
}

async fn send_away_in_time(guard: &Guard) -> Infallible {
    let mut interval = tokio::time::interval(SEND_AWAY_EVERY);
    loop {
        interval.tick().await;
        guard.send_away().await;
    }
}

#[cfg(test)]
mod tests;
