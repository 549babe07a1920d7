//! Who is at the other end of a connection, as far as the transport knows, and
//! what a trusted proxy says of who is behind it.
//!
//! Headers about the client are believed from a trusted proxy alone: anybody
//! else can write what he likes into them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Extensions, HeaderMap};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Who forwarded a request for whom; the last proxy writes at the right end.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// The certificate that a client showed to a proxy (RFC 9440 §2.2).
const CLIENT_CERT: &str = "client-cert";

/// Put beside every request on the public listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The address of the client: of the connection, or what a trusted proxy
    /// says. None in tests without a network.
    pub(crate) address: Option<IpAddr>,
    /// The certificate that the client proved to have in TLS, as DER; its
    /// chain leads to a trusted root.
    pub(crate) certificate: Option<Arc<[u8]>>,
}

impl Peer {
    /// The one that was put beside a request; nobody, if none was.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Who is behind a connection: whoever made it or, if that is a trusted
    /// proxy, whom it speaks for.
    pub(crate) fn behind(self, proxies: &TrustedProxies, headers: &HeaderMap) -> Self {
        let Some(proxy) = self.address.filter(|address| proxies.include(*address)) else {
            return self;
        };
        Self {
            address: Some(client_address(proxy, proxies, headers)),
            certificate: if proxies.client_certs { client_certificate(headers) } else { self.certificate },
        }
    }
}

/// The proxies whose headers are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Where they are.
    pub networks: Vec<Network>,
    /// Whether they say which certificate a client has shown. Then their own
    /// is no client's.
    pub client_certs: bool,
}

impl TrustedProxies {
    /// Whether one of them has this address.
    #[must_use]
    pub fn include(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.0.contains(&address))
    }
}

/// The right-most address that is not a trusted proxy's: what stands left of
/// it was written by somebody who is not trusted. If something else than an
/// address stands there, the last proxy that is known is the client.
fn client_address(proxy: IpAddr, proxies: &TrustedProxies, headers: &HeaderMap) -> IpAddr {
    let mut client = proxy;
    for value in headers.get_all(FORWARDED_FOR).into_iter().rev() {
        for entry in value.to_str().unwrap_or("?").rsplit(',') {
            let Some(address) = address(entry.trim()) else {
                return client;
            };
            client = address;
            if !proxies.include(client) {
                return client;
            }
        }
    }
    client
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let address: IpAddr = text.parse::<SocketAddr>().map(|address| address.ip()).ok().or_else(bare)?;
    Some(address.to_canonical())
}

/// The certificate that the one header of this name holds. None without it,
/// and if it cannot be read or stands there twice.
fn client_certificate(headers: &HeaderMap) -> Option<Arc<[u8]>> {
    let mut values = headers.get_all(CLIENT_CERT).into_iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    // A byte sequence (RFC 8941 §3.3.5).
    let encoded = value.to_str().ok()?.trim_matches(' ').strip_prefix(':')?.strip_suffix(':')?;
    let der = STANDARD.decode(encoded).ok()?;
    (!der.is_empty()).then(|| der.into())
}

/// Addresses that begin alike, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// A text is not a network that could be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// Neither an address nor a network.
    #[error("{text:?} is not an IP address or a network such as 10.0.0.0/8")]
    Form {
        /// What was given.
        text: String,
    },
    /// An address of a network with the length of its prefix.
    #[error("{text:?} has bits behind its prefix; write {network}")]
    HostBits {
        /// What was given.
        text: String,
        /// The network that it is in.
        network: IpNet,
    },
    /// Everybody.
    #[error("{text:?} is everybody; name the proxies")]
    Everybody {
        /// What was given.
        text: String,
    },
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let form = || InvalidNetwork::Form { text: text.into() };
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address.to_canonical()),
            Err(_) => text.parse().map_err(|_| form())?,
        };
        if network.prefix_len() == 0 {
            return Err(InvalidNetwork::Everybody { text: text.into() });
        }
        if network.trunc() != network {
            return Err(InvalidNetwork::HostBits { text: text.into(), network: network.trunc() });
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn proxies(client_certs: bool) -> TrustedProxies {
        let networks = ["10.0.0.0/8", "192.0.2.1", "fd00::/8"].map(|text| text.parse().unwrap()).into();
        TrustedProxies { networks, client_certs }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn behind(connection: &str, lines: &[(&'static str, &str)]) -> String {
        let peer = Peer { address: Some(connection.parse().unwrap()), certificate: None };
        peer.behind(&proxies(false), &headers(lines)).address.unwrap().to_string()
    }

    #[test]
    fn the_client_is_the_last_one_that_no_proxy_vouches_for() {
        let forwarded = |value| behind("10.0.0.1", &[(FORWARDED_FOR, value)]);
        assert_eq!(behind("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(forwarded("203.0.113.9"), "203.0.113.9");
        assert_eq!(forwarded("203.0.113.9:4711"), "203.0.113.9");
        assert_eq!(forwarded("[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(forwarded("[2001:db8::1]"), "2001:db8::1");
        assert_eq!(forwarded("::ffff:203.0.113.9"), "203.0.113.9");
        // Each proxy adds to the right; the left is what the client wrote.
        assert_eq!(forwarded("1.2.3.4, 203.0.113.9, 10.9.9.9,192.0.2.1"), "203.0.113.9");
        assert_eq!(forwarded("10.3.3.3, 10.2.2.2"), "10.3.3.3");
        let lines = [(FORWARDED_FOR, "1.2.3.4"), (FORWARDED_FOR, "203.0.113.9, fd00::7")];
        assert_eq!(behind("::ffff:10.0.0.1", &lines), "203.0.113.9");
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        for value in ["unknown", "", "1.2.3.4, _hidden", "1.2.3.4,", "203.0.113.9/8", "1.2.3"] {
            assert_eq!(behind("10.0.0.1", &[(FORWARDED_FOR, value)]), "10.0.0.1", "{value}");
        }
        assert_eq!(behind("10.0.0.1", &[(FORWARDED_FOR, "1.2.3.4, x, 10.2.2.2")]), "10.2.2.2");
        assert_eq!(behind("10.0.0.1", &[("forwarded", "for=1.2.3.4")]), "10.0.0.1");
    }

    #[test]
    fn a_stranger_can_say_what_he_likes() {
        let stranger = Peer { address: Some("203.0.113.9".parse().unwrap()), certificate: None };
        let claimed = headers(&[(FORWARDED_FOR, "10.0.0.1"), (CLIENT_CERT, ":AQID:")]);
        assert_eq!(stranger.clone().behind(&proxies(true), &claimed), stranger);
        // Not even from this machine, if it is not named.
        let local = Peer { address: Some("127.0.0.1".parse().unwrap()), certificate: None };
        assert_eq!(local.clone().behind(&proxies(true), &claimed), local);
        assert_eq!(Peer::default().behind(&proxies(true), &claimed), Peer::default());
    }

    #[test]
    fn a_certificate_is_believed_from_a_trusted_proxy_that_may_pass_it_on() {
        let own: Arc<[u8]> = [9].into();
        let proxy = Peer { address: Some("10.0.0.1".parse().unwrap()), certificate: Some(own.clone()) };
        let said = |client_certs, lines: &[(&'static str, &str)]| {
            proxy.clone().behind(&proxies(client_certs), &headers(lines)).certificate
        };
        assert_eq!(said(true, &[(CLIENT_CERT, ":AQID:")]), Some([1, 2, 3].into()));
        assert_eq!(said(false, &[(CLIENT_CERT, ":AQID:")]), Some(own));
        // The proxy's own certificate is not the client's.
        assert_eq!(said(true, &[]), None);
        for value in ["AQID", ":AQID", ":AQI:", "::", ":AQID:, :AQID:", ":A\u{20}QID:", ":AQID:;x=1", ":!:"] {
            assert_eq!(said(true, &[(CLIENT_CERT, value)]), None, "{value}");
        }
        assert_eq!(said(true, &[(CLIENT_CERT, ":AQID:"), (CLIENT_CERT, ":AQID:")]), None);
    }

    #[test]
    fn networks_are_written_in_one_way() {
        for text in ["10.0.0.0/8", "192.0.2.1", "fd00::/8", "2001:db8::1"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        let refused = |text: &str| text.parse::<Network>().unwrap_err();
        for text in ["", "proxy", "10.0.0.0/33", "10.0.0/8", "10.0.0.1:80"] {
            assert!(matches!(refused(text), InvalidNetwork::Form { .. }), "{text}");
        }
        assert!(refused("10.0.0.1/8").to_string().ends_with("write 10.0.0.0/8"));
        assert!(matches!(refused("0.0.0.0/0"), InvalidNetwork::Everybody { .. }));
        assert!(matches!(refused("::/0"), InvalidNetwork::Everybody { .. }));
    }
}
