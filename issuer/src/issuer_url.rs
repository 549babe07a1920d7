//! The issuer identifier (RFC 8414 §2): who a token says it is from.
//!
//! Everybody compares it byte for byte, so it is kept as it was given, and
//! only accepted in the one form that no URL library rewrites.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};
use url::{Host, Url};

/// An issuer identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUrl {
    text: Box<str>,
    path: Box<str>,
}

/// A string is not an issuer identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIssuerUrl {
    /// Not a URL.
    #[error("{text:?} is not a URL: {reason}")]
    NotAUrl {
        /// What was given.
        text: String,
        /// Why.
        reason: url::ParseError,
    },
    /// Neither `https` nor, where that is accepted, `http`.
    #[error("{text:?} must begin with https://; http:// is for loopback, or with --allow-insecure-http")]
    Scheme {
        /// What was given.
        text: String,
    },
    /// A part that an issuer identifier does not have.
    #[error("{text:?} has {part}, which an issuer must not have (RFC 8414 section 2)")]
    Part {
        /// What was given.
        text: String,
        /// Which part.
        part: &'static str,
    },
    /// Another way to write the same URL, which others would rewrite.
    #[error("{text:?} is not in its normal form; write {normal:?}")]
    NotNormal {
        /// What was given.
        text: String,
        /// How to write it.
        normal: String,
    },
}

impl IssuerUrl {
    /// Reads an issuer identifier.
    ///
    /// # Errors
    /// [`InvalidIssuerUrl`] says what is wrong.
    pub fn parse(text: &str, allow_insecure_http: bool) -> Result<Self, InvalidIssuerUrl> {
        let given = || text.to_owned();
        let url = Url::parse(text).map_err(|reason| InvalidIssuerUrl::NotAUrl { text: given(), reason })?;
        match url.scheme() {
            "https" => {}
            "http" if allow_insecure_http || is_loopback(&url) => {}
            _ => return Err(InvalidIssuerUrl::Scheme { text: given() }),
        }
        let parts = [
            ("a query", url.query().is_some()),
            ("a fragment", url.fragment().is_some()),
            ("a user name or a password", !url.username().is_empty() || url.password().is_some()),
        ];
        if let Some((part, _)) = parts.into_iter().find(|(_, present)| *present) {
            return Err(InvalidIssuerUrl::Part { text: given(), part });
        }
        // The empty path is the one thing that a URL library writes otherwise.
        let normal = url.as_str();
        if normal != text && normal.strip_suffix('/') != Some(text) {
            return Err(InvalidIssuerUrl::NotNormal { text: given(), normal: normal.into() });
        }
        // An axum route would take these for a parameter.
        if url.path().contains(['{', '}', '*', ':']) {
            return Err(InvalidIssuerUrl::Part { text: given(), part: "'{', '}', '*' or ':' in its path" });
        }
        Ok(Self { text: text.into(), path: url.path().trim_end_matches('/').into() })
    }

    /// The identifier, as it was given.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.text
    }

    /// Its path without a slash at the end: empty, or `/…`.
    #[must_use]
    pub const fn path(&self) -> &str {
        &self.path
    }

    /// The URL of an endpoint whose path below the issuer is `path`.
    #[must_use]
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.text.trim_end_matches('/'))
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for IssuerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_byte_for_byte() {
        for text in [
            "https://id.example",
            "https://id.example/",
            "https://id.example:8443/tenant",
            "https://id.example/tenant/",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "http://localhost:8080",
        ] {
            assert_eq!(IssuerUrl::parse(text, false).unwrap().as_str(), text);
        }
    }

    #[test]
    fn endpoints_have_no_double_slash() {
        let issuer = IssuerUrl::parse("https://id.example/tenant/", false).unwrap();
        assert_eq!(issuer.path(), "/tenant");
        assert_eq!(issuer.endpoint("/oauth2/token"), "https://id.example/tenant/oauth2/token");
    }

    #[test]
    fn what_others_would_rewrite_is_refused() {
        for text in [
            "https://ID.example",
            "https://id.example:443",
            "https://id.example/a/../b",
            "HTTPS://id.example",
        ] {
            let error = IssuerUrl::parse(text, false).unwrap_err();
            assert!(matches!(error, InvalidIssuerUrl::NotNormal { .. }), "{text}: {error}");
        }
        for text in
            ["https://id.example?x", "https://id.example#x", "https://u@id.example", "https://id.example/{x}"]
        {
            let error = IssuerUrl::parse(text, false).unwrap_err();
            assert!(
                matches!(error, InvalidIssuerUrl::Part { .. } | InvalidIssuerUrl::NotNormal { .. }),
                "{text}"
            );
        }
    }

    #[test]
    fn plain_http_only_on_loopback_unless_allowed() {
        for text in ["http://id.example", "http://10.0.0.1", "http://localhost.example", "ftp://id.example"] {
            let error = IssuerUrl::parse(text, false).unwrap_err();
            assert!(matches!(error, InvalidIssuerUrl::Scheme { .. }), "{text}: {error}");
        }
        assert!(IssuerUrl::parse("http://id.example", true).is_ok());
        assert!(IssuerUrl::parse("ftp://id.example", true).is_err());
        assert!(IssuerUrl::parse("id.example", true).is_err());
    }
}
