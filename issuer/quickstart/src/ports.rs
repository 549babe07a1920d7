//! The three ports, looked at before anything starts: the broker would only
//! log that one is taken, and a developer may well have a Mosquitto on 1883.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::config::Config;

/// Addresses that could be listened on a moment ago; none has port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// The issuer's.
    pub(crate) issuer: SocketAddr,
    /// MQTT.
    pub(crate) mqtt: SocketAddr,
    /// MQTT over WebSocket.
    pub(crate) websocket: SocketAddr,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// Somebody else listens there.
    #[error("{flag} {addr} is taken by another program; {}", way_out(.flag, *.free))]
    Taken {
        /// The flag that names it.
        flag: &'static str,
        /// The address.
        addr: SocketAddr,
        /// One that is free.
        free: Option<SocketAddr>,
    },
    /// Anything else.
    #[error("{flag} {addr} cannot be listened on: {source}")]
    Unusable {
        /// The flag that names it.
        flag: &'static str,
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Ports {
    /// Takes the three ports for a moment; picks one where port 0 was asked for.
    pub(crate) fn find(config: &Config) -> Result<Self, PortError> {
        // All at the same time: no two may be the same.
        let (issuer, _issuer) = try_listen("--listen", config.listen)?;
        let (mqtt, _mqtt) = try_listen("--mqtt-listen", config.mqtt_listen)?;
        let (websocket, _websocket) = try_listen("--ws-listen", config.ws_listen)?;
        Ok(Self { issuer, mqtt, websocket })
    }
}

fn try_listen(flag: &'static str, addr: SocketAddr) -> Result<(SocketAddr, TcpListener), PortError> {
    let listen = || {
        let listener = TcpListener::bind(addr)?;
        Ok((listener.local_addr()?, listener))
    };
    listen().map_err(|source: io::Error| {
        if source.kind() == io::ErrorKind::AddrInUse {
            PortError::Taken { flag, addr, free: next_free(addr) }
        } else {
            PortError::Unusable { flag, addr, source }
        }
    })
}

/// The next port up that is free now, to suggest.
fn next_free(addr: SocketAddr) -> Option<SocketAddr> {
    let mut ports = addr.port().checked_add(1)?..=u16::MAX;
    ports.find_map(|port| {
        let addr = SocketAddr::new(addr.ip(), port);
        TcpListener::bind(addr).is_ok().then_some(addr)
    })
}

fn way_out(flag: &str, free: Option<SocketAddr>) -> String {
    match free {
        Some(free) => format!("start with {flag} {free}"),
        None => format!("end that, or choose another port with {flag}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn find(args: &[&str]) -> Result<Ports, PortError> {
        Ports::find(&Config::parse_from(["fleetbadge"].iter().chain(args)))
    }

    #[test]
    fn a_taken_port_is_told_with_its_flag_and_a_free_one() {
        let mosquitto = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = mosquitto.local_addr().unwrap();
        let error =
            find(&["--listen=127.0.0.1:0", "--ws-listen=127.0.0.1:0", &format!("--mqtt-listen={taken}")])
                .unwrap_err();
        let PortError::Taken { flag: "--mqtt-listen", addr, free: Some(free) } = error else {
            panic!("{error}");
        };
        assert_eq!(addr, taken);
        assert_eq!(
            error.to_string(),
            format!("--mqtt-listen {taken} is taken by another program; start with --mqtt-listen {free}")
        );
        assert!(TcpListener::bind(free).is_ok());
    }

    #[test]
    fn port_0_becomes_three_different_ports() {
        let ports = find(&["--listen=127.0.0.1:0", "--mqtt-listen=127.0.0.1:0", "--ws-listen=127.0.0.1:0"]);
        let Ports { issuer, mqtt, websocket } = ports.unwrap();
        assert!(issuer.port() != 0 && mqtt.port() != 0 && websocket.port() != 0);
        assert!(issuer != mqtt && mqtt != websocket && websocket != issuer);
    }

    #[test]
    fn one_port_for_two_things_is_told() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = find(&[&format!("--listen={free}"), &format!("--mqtt-listen={free}")]).unwrap_err();
        assert!(matches!(error, PortError::Taken { flag: "--mqtt-listen", .. }), "{error}");
    }
}
