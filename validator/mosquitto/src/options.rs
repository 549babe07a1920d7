//! The options of the plugin: `plugin_opt_NAME VALUE` in the broker's
//! configuration.
//!
//! A plugin that guesses what was meant is an open door: an option that is
//! unknown, doubled, malformed, missing or without effect stops the broker's
//! start, with a line that names it and says what to do.

use std::path::PathBuf;
use std::str::FromStr;

use fleetbadge_validator::keys::http::HttpSetupError;
use fleetbadge_validator::keys::remote::{RemoteKeysConfig, RemoteKeysError};
use fleetbadge_validator::verify::Verifier;
use url::Url;

use crate::keys::KeysConfig;

/// What the operator wants.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) verifier: Verifier,
    pub(crate) token_from: TokenFrom,
    pub(crate) keys: KeysConfig,
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
    #[error("{}{error}", option_of(error))]
    RemoteKeys {
        #[from]
        error: RemoteKeysError,
    },
    #[error("an option is not UTF-8")]
    NotUtf8,
}

const NAMES: [&str; 10] = [
    "allow_insecure_http",
    "audience",
    "ca_file",
    "issuer",
    "jwks_file",
    "jwks_url",
    "max_lifetime_s",
    "skew_s",
    "state_dir",
    "token_from",
];

impl Options {
    /// Reads the options as the broker gives them, without the prefix.
    pub(crate) fn parse(given: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidOption> {
        let mut given = Given::collect(given)?;
        let issuer = given.required("issuer", "the identifier of the issuer, as in the tokens' iss")?;
        if Url::parse(&issuer).is_err() || issuer.contains(char::is_whitespace) {
            let expected = "a URL, as in the tokens' iss";
            return Err(InvalidOption::Malformed { name: "issuer", value: issuer, expected });
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
        Ok(Self { verifier, token_from, keys: given.keys(issuer)? })
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

    fn keys(mut self, issuer: String) -> Result<KeysConfig, InvalidOption> {
        let allow_insecure_http = self.parsed("allow_insecure_http", "true or false", |_: &bool| true)?;
        let (ca_file, state_dir) = (self.take("ca_file"), self.take("state_dir"));
        match (self.take("jwks_url"), self.take("jwks_file")) {
            (Some(_), Some(_)) => Err(InvalidOption::KeysFromTwoPlaces),
            (None, None) => Err(InvalidOption::Missing {
                name: "jwks_url",
                what: "where the issuer publishes its keys; or give plugin_opt_jwks_file, a file with them",
            }),
            (None, Some(path)) => {
                let without_effect = [
                    ("allow_insecure_http", allow_insecure_http.is_some()),
                    ("ca_file", ca_file.is_some()),
                    ("state_dir", state_dir.is_some()),
                ];
                match without_effect.into_iter().find(|(_, given)| *given) {
                    Some((name, _)) => Err(InvalidOption::NoEffect { name, without: "jwks_url" }),
                    None => Ok(KeysConfig::File { issuer, path: path.into() }),
                }
            }
            (Some(value), None) => {
                let url = Url::parse(&value).map_err(|_| InvalidOption::Malformed {
                    name: "jwks_url",
                    value,
                    expected: "the URL of a JWK Set",
                })?;
                let state_dir = state_dir.ok_or(InvalidOption::Missing {
                    name: "state_dir",
                    what: "a folder that the broker may write, where the last good keys are kept",
                })?;
                Ok(KeysConfig::Remote(RemoteKeysConfig {
                    issuer,
                    url,
                    state_dir: state_dir.into(),
                    ca_file: ca_file.map(Into::into),
                    allow_insecure_http: allow_insecure_http.unwrap_or(false),
                    cool_down: RemoteKeysConfig::DEFAULT_COOL_DOWN,
                }))
            }
        }
    }
}

/// Which option an error of the keys is about.
fn option_of(error: &RemoteKeysError) -> &'static str {
    match error {
        RemoteKeysError::Http(HttpSetupError::InsecureUrl { .. }) => {
            "plugin_opt_jwks_url (or plugin_opt_allow_insecure_http): "
        }
        RemoteKeysError::Http(HttpSetupError::CaFile { .. }) => "plugin_opt_ca_file: ",
        RemoteKeysError::StateDir { .. } => "plugin_opt_state_dir: ",
        RemoteKeysError::Http(HttpSetupError::Client { .. }) | RemoteKeysError::Start { .. } => "",
    }
}

#[cfg(test)]
mod tests;
