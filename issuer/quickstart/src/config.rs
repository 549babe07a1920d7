//! Where things listen and where data is kept.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use tracing_subscriber::filter::{EnvFilter, ParseError};

/// Fleetbadge in one process, for trying out: the issuer, and an MQTT broker
/// that lets devices in with its tokens.
#[derive(Debug, Parser)]
#[command(name = "fleetbadge", version, about)]
pub(crate) struct Config {
    /// Where the issuer listens; a loopback address
    #[arg(long, env = "FLEETBADGE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    #[arg(value_parser = loopback)]
    pub(crate) listen: SocketAddr,
    /// Where the broker listens for MQTT; a loopback address
    #[arg(long, env = "FLEETBADGE_MQTT_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:1883")]
    #[arg(value_parser = loopback)]
    pub(crate) mqtt_listen: SocketAddr,
    /// Where the broker listens for MQTT over WebSocket; a loopback address
    #[arg(long, env = "FLEETBADGE_WS_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8083")]
    #[arg(value_parser = loopback)]
    pub(crate) ws_listen: SocketAddr,
    /// Where the issuer's database and keys are kept
    /// [default: $XDG_DATA_HOME/fleetbadge or ~/.local/share/fleetbadge]
    #[arg(long, env = "FLEETBADGE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Which log lines are written: a level, or a filter as tracing's EnvFilter
    /// reads it
    #[arg(long, env = "FLEETBADGE_LOG", value_name = "FILTER", default_value = "info", value_parser = log)]
    pub(crate) log: String,
}

/// There is no place for the data.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoDataDir {
    /// Neither a flag nor a home.
    #[error("there is no home directory to keep data in; name a place with --data-dir")]
    NoHome,
    /// The printed lines could not name it.
    #[error("--data-dir {0:?} is not UTF-8; name another place")]
    NotUtf8(PathBuf),
    /// No current directory to which the path is relative.
    #[error("--data-dir {path:?} has no absolute path: {source}")]
    NotAbsolute {
        /// What was given.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Config {
    /// The folder for the data: as told, or the user's (XDG Base Directory
    /// Specification). Absolute, so that it can be pasted anywhere, and UTF-8.
    pub(crate) fn data_dir(&self) -> Result<String, NoDataDir> {
        let path = match &self.data_dir {
            Some(path) => path.clone(),
            None => {
                default_data_dir(std::env::var_os("XDG_DATA_HOME").map(PathBuf::from), std::env::home_dir())
                    .ok_or(NoDataDir::NoHome)?
            }
        };
        let path = std::path::absolute(&path).map_err(|source| NoDataDir::NotAbsolute { path, source })?;
        path.into_os_string().into_string().map_err(|path| NoDataDir::NotUtf8(path.into()))
    }
}

/// The specification says that a relative `XDG_DATA_HOME` is to be ignored.
fn default_data_dir(xdg_data_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let shared = xdg_data_home.filter(|path| path.is_absolute());
    let shared = shared.or_else(|| Some(home.filter(|home| home.is_absolute())?.join(".local/share")));
    Some(shared?.join("fleetbadge"))
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let addr: SocketAddr = text.parse().map_err(|_| "not of the form IP:PORT, like 127.0.0.1:1883")?;
    if addr.ip().is_loopback() {
        Ok(addr)
    } else {
        Err("not a loopback address; this program is for trying out on one machine".to_owned())
    }
}

fn log(text: &str) -> Result<String, ParseError> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from(["fleetbadge"].iter().chain(args))
    }

    #[test]
    fn only_loopback_addresses_are_listened_on() {
        assert_eq!(parse(&["--listen", "[::1]:1"]).unwrap().listen.port(), 1);
        for flag in ["--listen", "--mqtt-listen", "--ws-listen"] {
            for addr in ["0.0.0.0:1", "192.0.2.1:1", "[::]:1"] {
                let message = parse(&[flag, addr]).unwrap_err().to_string();
                assert!(message.contains(flag) && message.contains("loopback"), "{message}");
            }
        }
        assert!(parse(&["--listen", "localhost"]).unwrap_err().to_string().contains("IP:PORT"));
    }

    #[test]
    fn data_is_kept_where_told_or_in_the_users_own_place() {
        assert_eq!(parse(&["--data-dir", "/srv/fleet"]).unwrap().data_dir().unwrap(), "/srv/fleet");
        let relative = parse(&["--data-dir", "here"]).unwrap().data_dir().unwrap();
        assert!(relative.starts_with('/') && relative.ends_with("/here"), "{relative}");

        let default = |xdg: Option<&str>, home: Option<&str>| {
            default_data_dir(xdg.map(PathBuf::from), home.map(PathBuf::from))
        };
        assert_eq!(default(Some("/x"), Some("/home/u")), Some("/x/fleetbadge".into()));
        assert_eq!(default(Some("x"), Some("/home/u")), Some("/home/u/.local/share/fleetbadge".into()));
        assert_eq!(default(None, Some("/home/u")), Some("/home/u/.local/share/fleetbadge".into()));
        assert_eq!(default(None, None), None);
    }
}
