//! Where the issuer and the broker are, and that the way there is protected.

use std::fmt;
use std::net::IpAddr;

use url::Url;

use super::{ConfigError, invalid_url};

/// An issuer identifier (RFC 8414 §2): compared byte for byte with what the
/// issuer's metadata states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    identifier: String,
    url: Url,
    /// Whether plain HTTP to another machine is allowed, here and at the
    /// endpoints that the issuer names.
    pub allow_insecure_http: bool,
}

impl Issuer {
    /// Parses an issuer identifier.
    ///
    /// # Errors
    /// [`ConfigError`]: not such a URL, or plain HTTP to another machine.
    pub fn parse(identifier: &str, allow_insecure_http: bool) -> Result<Self, ConfigError> {
        const FIELD: &str = "issuer";
        let url = Url::parse(identifier).map_err(|e| invalid_url(FIELD, identifier, &e))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(invalid_url(FIELD, identifier, &"must be an https URL"));
        }
        if url.query().is_some() || url.fragment().is_some() || has_credentials(&url) {
            let reason = "must have no query, no fragment and no user name (RFC 8414 section 2)";
            return Err(invalid_url(FIELD, identifier, &reason));
        }
        require_secure_http(FIELD, &url, allow_insecure_http)?;
        Ok(Self { identifier: identifier.to_owned(), url, allow_insecure_http })
    }

    /// The identifier as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.identifier
    }

    /// Where its metadata is: the well-known segment goes before the path
    /// (RFC 8414 §3.1).
    #[must_use]
    pub fn metadata_url(&self) -> Url {
        let mut url = self.url.clone();
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
        url
    }
}

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Whether the connection is protected by TLS.
    pub tls: bool,
    /// A name or an address; an IPv6 address stands in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Broker {
    /// Parses `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`.
    ///
    /// # Errors
    /// [`ConfigError`]: not such a URL, or plain MQTT to another machine.
    pub fn parse(url: &str, allow_insecure_mqtt: bool) -> Result<Self, ConfigError> {
        const FIELD: &str = "mqtt.broker";
        let parsed = Url::parse(url).map_err(|e| invalid_url(FIELD, url, &e))?;
        let (tls, default_port) = match parsed.scheme() {
            "mqtts" => (true, 8883),
            "mqtt" => (false, 1883),
            _ => return Err(invalid_url(FIELD, url, &"must be mqtts://HOST or mqtt://HOST")),
        };
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| invalid_url(FIELD, url, &"has no host"))?.to_owned();
        let bare =
            matches!(parsed.path(), "" | "/") && parsed.query().is_none() && parsed.fragment().is_none();
        if !bare || has_credentials(&parsed) {
            return Err(invalid_url(FIELD, url, &"must be a host and a port, nothing else"));
        }
        if !tls && !allow_insecure_mqtt && !is_loopback(&host) {
            return Err(ConfigError::Insecure {
                field: FIELD,
                url: url.to_owned(),
                secure: "mqtts",
                flag: "--allow-insecure-mqtt",
            });
        }
        Ok(Self { tls, host, port: parsed.port().unwrap_or(default_port) })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Refuses plain HTTP to another machine unless it is allowed.
///
/// # Errors
/// [`ConfigError::Insecure`] with the name of the field.
pub fn require_secure_http(
    field: &'static str,
    url: &Url,
    allow_insecure_http: bool,
) -> Result<(), ConfigError> {
    let loopback = url.host_str().is_some_and(is_loopback);
    if url.scheme() == "https" || (url.scheme() == "http" && (allow_insecure_http || loopback)) {
        return Ok(());
    }
    Err(ConfigError::Insecure { field, url: url.to_string(), secure: "https", flag: "--allow-insecure-http" })
}

/// Loopback addresses and the name `localhost`. Other names are not looked up:
/// what they mean can change.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_segment_goes_before_the_path() {
        for (issuer, metadata) in [
            ("https://id.example", "https://id.example/.well-known/oauth-authorization-server"),
            ("https://id.example/", "https://id.example/.well-known/oauth-authorization-server"),
            ("https://id.example/a/b", "https://id.example/.well-known/oauth-authorization-server/a/b"),
            (
                "https://id.example:8443/a/",
                "https://id.example:8443/.well-known/oauth-authorization-server/a",
            ),
        ] {
            assert_eq!(Issuer::parse(issuer, false).unwrap().metadata_url().as_str(), metadata);
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for issuer in ["http://localhost:8080", "http://127.0.0.1", "http://127.9.9.9", "http://[::1]:80"] {
            assert!(Issuer::parse(issuer, false).is_ok(), "{issuer}");
        }
        for issuer in ["http://id.example", "http://localhost.example", "http://10.0.0.1", "http://0.0.0.0"] {
            let error = Issuer::parse(issuer, false).unwrap_err().to_string();
            assert!(error.contains("--allow-insecure-http"), "{error}");
            assert!(Issuer::parse(issuer, true).is_ok());
        }
    }

    #[test]
    fn other_urls_are_no_issuer() {
        for issuer in ["", "id.example", "ftp://id.example", "https://id.example?a", "https://u@id.example"] {
            assert!(matches!(Issuer::parse(issuer, true), Err(ConfigError::Invalid { .. })), "{issuer}");
        }
        let error = Issuer::parse("https://u:s3cret@id.example", true).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn plain_mqtt_stays_on_this_machine() {
        for broker in ["mqtt://localhost", "mqtt://127.0.0.1:1884", "mqtt://[::1]:1883"] {
            assert!(!Broker::parse(broker, false).unwrap().tls, "{broker}");
        }
        for broker in ["mqtt://broker.example", "mqtt://127.0.0.1.example", "mqtt://192.168.0.2"] {
            let error = Broker::parse(broker, false).unwrap_err().to_string();
            assert!(error.contains("--allow-insecure-mqtt"), "{error}");
            assert!(Broker::parse(broker, true).is_ok());
        }
    }

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        let broker = Broker::parse("mqtts://broker.example", false).unwrap();
        assert_eq!(broker.to_string(), "mqtts://broker.example:8883");
        assert_eq!(Broker::parse("mqtt://localhost", false).unwrap().port, 1883);
        for url in
            ["broker.example:1883", "https://b", "mqtts://", "mqtts://b/path", "mqtts://u@b", "mqtts://b?x"]
        {
            assert!(matches!(Broker::parse(url, true), Err(ConfigError::Invalid { .. })), "{url}");
        }
    }
}
