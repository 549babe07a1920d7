//! The options of the plugin: `plugin_opt_NAME VALUE` in the broker's
//! configuration.
//!
//! A plugin that guesses what was meant is an open door: an option that is
//! unknown, doubled, malformed, missing or without effect stops the broker's
//! start, with a line that names it and says what to do.

use std::path::PathBuf;
use std::str::FromStr;

use fleetbadge_validator::freshness::Freshness;
use fleetbadge_validator::keys::remote::RemoteKeysConfig;
use fleetbadge_validator::remote::RemoteError;
use fleetbadge_validator::remote::http::{self, Endpoint, HttpSetupError};
use fleetbadge_validator::reports::REPORTS_PATH;
use fleetbadge_validator::reports::remote::ReporterConfig;
use fleetbadge_validator::revocations::FEED_PATH;
use fleetbadge_validator::revocations::remote::RemoteRevocationsConfig;
use fleetbadge_validator::verify::Verifier;
use url::Url;

use crate::keys::KeysConfig;
use crate::revocations::FeedConfig;
use crate::status::SOFTWARE;

/// What the operator wants.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) verifier: Verifier,
    pub(crate) token_from: TokenFrom,
    pub(crate) keys: KeysConfig,
    pub(crate) feed: Option<FeedConfig>,
    pub(crate) status_file: Option<PathBuf>,
}

/// Where in a CONNECT the token stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TokenFrom {
    /// The user name. The password is ignored: some clients insist on one.
    #[default]
    Username,
    /// The password. The user name is ignored: MQTT 3.1.1 insists on one.
    Password,
    /// Whichever of the two looks like a token.
    Either,
}

/// An option stops the start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidOption {
    #[error("plugin_opt_{name} is not an option; the options are {}", NAMES.join(", "))]
    Unknown { name: String },
    #[error("plugin_opt_{name} is given twice; leave one")]
    Twice { name: &'static str },
    #[error("plugin_opt_{name} is missing; it is {what}")]
    Missing { name: &'static str, what: &'static str },
    #[error("plugin_opt_{name} is {value:?}; it must be {expected}")]
    Malformed { name: &'static str, value: String, expected: &'static str },
    #[error("plugin_opt_{name} has no effect without plugin_opt_{without}; leave it out")]
    NoEffect { name: &'static str, without: &'static str },
    #[error("plugin_opt_jwks_url and plugin_opt_jwks_file are both given; leave one")]
    KeysFromTwoPlaces,
    #[error("plugin_opt_{name}: {}: {reason}", path.display())]
    File { name: &'static str, path: PathBuf, reason: String },
    #[error("{}{error}", option_of(url_option, error))]
    Remote { url_option: &'static str, error: RemoteError },
    #[error("an option is not UTF-8")]
    NotUtf8,
}

const ISSUER_EXPECTED: &str = "a URL, as in the tokens' iss";

const NAMES: [&str; 15] = [
    "allow_insecure_http",
    "audience",
    "ca_file",
    "credentials_file",
    "issuer",
    "jwks_file",
    "jwks_url",
    "max_lifetime_s",
    "max_staleness_s",
    "reports_url",
    "revocations_url",
    "skew_s",
    "state_dir",
    "status_file",
    "token_from",
];

impl Options {
    /// Reads the options as the broker gives them, without the prefix.
    pub(crate) fn parse(given: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidOption> {
        let mut given = Given::collect(given)?;
        let issuer = given.required("issuer", "the identifier of the issuer, as in the tokens' iss")?;
        if Url::parse(&issuer).is_err() || issuer.contains(char::is_whitespace) {
            return Err(InvalidOption::Malformed {
                name: "issuer",
                value: issuer,
                expected: ISSUER_EXPECTED,
            });
        }
        let audience = given.required("audience", "what the tokens for this broker have as aud")?;
        let mut verifier = Verifier::new(&issuer, &audience);
        if let Some(skew_s) =
            given.parsed("skew_s", "seconds, at most 300", |skew_s: &u64| *skew_s <= Verifier::MAX_SKEW_S)?
        {
            verifier.skew_s = skew_s;
        }
        if let Some(max_lifetime_s) =
            given.parsed("max_lifetime_s", "seconds, at least 1", |lifetime_s: &u64| *lifetime_s >= 1)?
        {
            verifier.max_lifetime_s = max_lifetime_s;
        }
        let token_from = given
            .parsed("token_from", "username, password or either", |_: &TokenFrom| true)?
            .unwrap_or_default();
        let network = given.network()?;
        let keys = given.keys(&issuer, &network)?;
        let feed = given.feed(&issuer, &network)?;
        if let (KeysConfig::File { .. }, None) = (&keys, &feed) {
            network.expect_nothing()?;
        }
        let status_file = given.take("status_file").map(PathBuf::from);
        Ok(Self { verifier, token_from, keys, feed, status_file })
    }
}

impl FromStr for TokenFrom {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "username" => Ok(Self::Username),
            "password" => Ok(Self::Password),
            "either" => Ok(Self::Either),
            _ => Err(()),
        }
    }
}

/// The options that were given and not read yet.
struct Given(Vec<(&'static str, String)>);

impl Given {
    fn collect(given: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidOption> {
        let mut known: Vec<(&'static str, String)> = Vec::new();
        for (name, value) in given {
            let Some(name) = NAMES.into_iter().find(|known| *known == name) else {
                return Err(InvalidOption::Unknown { name });
            };
            if known.iter().any(|(before, _)| *before == name) {
                return Err(InvalidOption::Twice { name });
            }
            known.push((name, value));
        }
        Ok(Self(known))
    }

    fn take(&mut self, name: &'static str) -> Option<String> {
        let index = self.0.iter().position(|(given, _)| *given == name)?;
        Some(self.0.swap_remove(index).1)
    }

    fn required(&mut self, name: &'static str, what: &'static str) -> Result<String, InvalidOption> {
        self.take(name).filter(|value| !value.is_empty()).ok_or(InvalidOption::Missing { name, what })
    }

    fn parsed<T: FromStr>(
        &mut self,
        name: &'static str,
        expected: &'static str,
        in_range: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, InvalidOption> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.parse().ok().filter(in_range) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(InvalidOption::Malformed { name, value, expected }),
        }
    }

    fn url(&mut self, name: &'static str, expected: &'static str) -> Result<Option<Url>, InvalidOption> {
        self.parsed(name, expected, |_: &Url| true)
    }

    fn network(&mut self) -> Result<Network, InvalidOption> {
        Ok(Network {
            allow_insecure_http: self.parsed("allow_insecure_http", "true or false", |_: &bool| true)?,
            ca_file: self.take("ca_file").map(Into::into),
            state_dir: self.take("state_dir").map(Into::into),
            max_staleness_s: self.parsed("max_staleness_s", "30 to 604800 seconds", |s: &u64| {
                (30..=Freshness::MAX_STALENESS_S).contains(s)
            })?,
        })
    }

    fn keys(&mut self, issuer: &str, network: &Network) -> Result<KeysConfig, InvalidOption> {
        let issuer = issuer.to_owned();
        match (self.url("jwks_url", "the URL of a JWK Set")?, self.take("jwks_file")) {
            (Some(_), Some(_)) => Err(InvalidOption::KeysFromTwoPlaces),
            (None, None) => Err(InvalidOption::Missing {
                name: "jwks_url",
                what: "where the issuer publishes its keys; or give plugin_opt_jwks_file, a file with them",
            }),
            (None, Some(path)) => Ok(KeysConfig::File { issuer, path: path.into() }),
            (Some(url), None) => Ok(KeysConfig::Remote(RemoteKeysConfig {
                issuer,
                endpoint: network.endpoint(url),
                state_dir: network.state_dir()?,
                max_staleness_s: network.max_staleness_s(),
                cool_down: RemoteKeysConfig::DEFAULT_COOL_DOWN,
            })),
        }
    }

    /// With credentials the feed is followed and reports are sent, by default
    /// where every Fleetbadge issuer has them.
    fn feed(&mut self, issuer: &str, network: &Network) -> Result<Option<FeedConfig>, InvalidOption> {
        let feed_url = self.url("revocations_url", "the URL of the issuer's feed of revocations")?;
        let reports_url = self.url("reports_url", "the URL of the issuer's place for reports")?;
        let Some(credentials_file) = self.take("credentials_file").map(PathBuf::from) else {
            return match feed_url.or(reports_url) {
                None => Ok(None),
                Some(_) => Err(InvalidOption::Missing {
                    name: "credentials_file",
                    what: "what fleetbadge-issuer broker add --json prints; plugin_opt_revocations_url and \
                           plugin_opt_reports_url need it",
                }),
            };
        };
        let at_issuer = |path| {
            http::url_at_issuer(issuer, path).map_err(|_| InvalidOption::Malformed {
                name: "issuer",
                value: issuer.to_owned(),
                expected: ISSUER_EXPECTED,
            })
        };
        let feed_url = feed_url.map_or_else(|| at_issuer(FEED_PATH), Ok)?;
        let reports_url = reports_url.map_or_else(|| at_issuer(REPORTS_PATH), Ok)?;
        let state_dir = network.state_dir()?;
        Ok(Some(FeedConfig {
            feed: RemoteRevocationsConfig {
                issuer: issuer.to_owned(),
                endpoint: network.endpoint(feed_url),
                credentials_file: credentials_file.clone(),
                state_dir: state_dir.clone(),
                max_staleness_s: network.max_staleness_s(),
                first_retry: RemoteRevocationsConfig::DEFAULT_FIRST_RETRY,
                silence: RemoteRevocationsConfig::DEFAULT_SILENCE,
            },
            reports: ReporterConfig {
                endpoint: network.endpoint(reports_url),
                credentials_file,
                state_dir,
                software: SOFTWARE.into(),
                every: ReporterConfig::DEFAULT_EVERY,
                change_delay: ReporterConfig::DEFAULT_CHANGE_DELAY,
            },
        }))
    }
}

/// The options that whatever comes over the network shares.
struct Network {
    allow_insecure_http: Option<bool>,
    ca_file: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    max_staleness_s: Option<u64>,
}

impl Network {
    fn endpoint(&self, url: Url) -> Endpoint {
        let allow_insecure_http = self.allow_insecure_http.unwrap_or(false);
        Endpoint { url, ca_file: self.ca_file.clone(), allow_insecure_http }
    }

    fn state_dir(&self) -> Result<PathBuf, InvalidOption> {
        self.state_dir.clone().ok_or(InvalidOption::Missing {
            name: "state_dir",
            what: "a folder that the broker may write, where what the issuer said last is kept",
        })
    }

    fn max_staleness_s(&self) -> u64 {
        self.max_staleness_s.unwrap_or(Freshness::DEFAULT_MAX_STALENESS_S)
    }

    /// Nothing comes over the network.
    fn expect_nothing(&self) -> Result<(), InvalidOption> {
        let given = [
            ("allow_insecure_http", self.allow_insecure_http.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("state_dir", self.state_dir.is_some()),
            ("max_staleness_s", self.max_staleness_s.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => {
                Err(InvalidOption::NoEffect { name, without: "jwks_url or plugin_opt_credentials_file" })
            }
            None => Ok(()),
        }
    }
}

/// Which option an error is about.
fn option_of(url_option: &str, error: &RemoteError) -> String {
    match error {
        RemoteError::Http(HttpSetupError::InsecureUrl { .. }) => {
            format!("plugin_opt_{url_option} (or plugin_opt_allow_insecure_http): ")
        }
        RemoteError::Http(HttpSetupError::CaFile { .. }) => "plugin_opt_ca_file: ".into(),
        RemoteError::StateDir { .. } => "plugin_opt_state_dir: ".into(),
        RemoteError::Credentials(_) => "plugin_opt_credentials_file: ".into(),
        RemoteError::Http(HttpSetupError::Client { .. }) | RemoteError::Start { .. } => String::new(),
    }
}

#[cfg(test)]
mod tests;
