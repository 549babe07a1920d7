//! The options of the plugin: `plugin_opt_NAME VALUE` in the broker's
//! configuration.
//!
//! A plugin that guesses what was meant is an open door: an option that is
//! unknown, doubled, malformed, missing or without effect stops the broker's
//! start, with a line that names it and says what to do.
//!
//! Without `authenticators` there is one authenticator, for the tokens of one
//! issuer, and the options are its own. With it there are several, in this
//! order; `NAME.OPTION` is the option of one of them, and what all may have in
//! common may also be given once, without a name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use fleetbadge_validator::remote::RemoteError;
use fleetbadge_validator::remote::http::HttpSetupError;
use fleetbadge_validator::remote::password_exchange::PasswordExchangeConfig;
use fleetbadge_validator::verify::Verifier;

use self::given::Given;
use crate::keys::KeysConfig;
use crate::revocations::FeedConfig;

mod given;
mod jwt;
mod static_password;

/// What the operator wants.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) token_from: TokenFrom,
    /// In their order.
    pub(crate) authenticators: Vec<AuthenticatorOptions>,
}

/// What the operator wants of one authenticator.
#[derive(Clone, Debug)]
pub(crate) struct AuthenticatorOptions {
    pub(crate) name: Box<str>,
    /// One that is not keeps its place and its options, which must be good,
    /// and lets nobody in.
    pub(crate) enabled: bool,
    pub(crate) kind: AuthenticatorKind,
}

/// What an authenticator goes by.
#[derive(Clone, Debug)]
pub(crate) enum AuthenticatorKind {
    /// Tokens of one issuer.
    Jwt(Box<JwtOptions>),
    /// The exchange of static passwords for tokens.
    StaticPassword(Box<StaticPasswordOptions>),
    /// Nothing: what is no token is for who comes next in the broker.
    HandOn,
}

/// What the operator wants of an authenticator for the tokens of an issuer.
#[derive(Clone, Debug)]
pub(crate) struct JwtOptions {
    pub(crate) verifier: Verifier,
    pub(crate) keys: KeysConfig,
    pub(crate) feed: Option<FeedConfig>,
    /// In which folder it must make itself one of its own, named like itself.
    pub(crate) state_in: Option<PathBuf>,
    /// Where it is to write what it does.
    pub(crate) status_file: Option<PathBuf>,
    /// What stands before the names of its options.
    pub(crate) prefix: Prefix,
}

/// What the operator wants of an authenticator for static passwords.
#[derive(Clone, Debug)]
pub(crate) struct StaticPasswordOptions {
    pub(crate) exchange: PasswordExchangeConfig,
    /// Whose authenticator judges the tokens.
    pub(crate) issuer: Box<str>,
    /// What stands before the names of its options.
    pub(crate) prefix: Prefix,
}

/// What stands before the name of an option: whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefix(String);

impl Prefix {
    fn of(authenticator: &str) -> Self {
        Self(format!("{authenticator}."))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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
    #[error("plugin_opt_{name} is not an option; the options are {options}")]
    Unknown { name: String, options: String },
    #[error(
        "plugin_opt_{name} belongs to no authenticator; write its name before it, as in \
         plugin_opt_{authenticator}.{name}"
    )]
    WhoseIsIt { name: String, authenticator: Box<str> },
    #[error("plugin_opt_{name}: {authenticator} is not among the names in plugin_opt_authenticators")]
    NotListed { name: String, authenticator: String },
    #[error("plugin_opt_{name} is given twice; leave one")]
    Twice { name: String },
    #[error("plugin_opt_{name} is missing; it is {what}")]
    Missing { name: String, what: String },
    #[error("plugin_opt_{name} is {value:?}; it must be {expected}")]
    Malformed { name: String, value: String, expected: String },
    #[error("plugin_opt_{name} has no effect without {without}; leave it out")]
    NoEffect { name: String, without: String },
    #[error("plugin_opt_{name} and plugin_opt_{other} are both given; leave one")]
    KeysFromTwoPlaces { name: String, other: String },
    #[error("plugin_opt_{name} and plugin_opt_{other} are the same; each has its own")]
    Shared { name: String, other: String },
    #[error("plugin_opt_{name} and plugin_opt_{other} are both static_password; enable one")]
    TwoExchanges { name: String, other: String },
    #[error(
        "plugin_opt_{name} is static_password, which needs Mosquitto 2.1: plugins of this one cannot wait \
         for the issuer; give the client a token instead"
    )]
    CannotWait { name: String },
    #[error("no authenticator is enabled, and nobody could connect; set one of plugin_opt_NAME.enabled")]
    NoneEnabled,
    #[error("plugin_opt_{name}: {}: {reason}", path.display())]
    File { name: String, path: PathBuf, reason: String },
    #[error("{}{error}", option_of(prefix, url_option, error))]
    Remote { prefix: Prefix, url_option: &'static str, error: RemoteError },
    #[error("an option is not UTF-8")]
    NotUtf8,
}

/// The name of the only authenticator, if none has one.
pub(crate) const ONLY: &str = "jwt";

/// The name that hands on what is no token.
pub(crate) const HAND_ON: &str = "hand_on";

impl Options {
    /// Reads the options as the broker gives them, without the prefix.
    pub(crate) fn parse(given: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidOption> {
        let given = Given::collect(given)?;
        let token_from = given
            .plain()
            .parsed("token_from", "username, password or either", |_: &TokenFrom| true)?
            .unwrap_or_default();
        let authenticators = match given.names()? {
            None => {
                let kind = AuthenticatorKind::Jwt(jwt::read(&given.plain())?.into());
                vec![AuthenticatorOptions { name: ONLY.into(), enabled: true, kind }]
            }
            Some(names) => {
                let read = |name: &&str| AuthenticatorOptions::read(&given, name);
                names.iter().map(read).collect::<Result<_, _>>()?
            }
        };
        given.expect_all_used()?;
        let options = Self { token_from, authenticators };
        options.expect_apart()?;
        options.expect_one_exchange()?;
        Ok(options)
    }

    /// Those that are enabled and go by tokens.
    fn enabled_jwt(&self) -> impl Iterator<Item = &JwtOptions> {
        self.authenticators.iter().filter(|authenticator| authenticator.enabled).filter_map(|authenticator| {
            match &authenticator.kind {
                AuthenticatorKind::Jwt(jwt) => Some(&**jwt),
                AuthenticatorKind::StaticPassword(_) | AuthenticatorKind::HandOn => None,
            }
        })
    }

    /// Those that are enabled and go by static passwords.
    fn enabled_static_password(&self) -> impl Iterator<Item = &StaticPasswordOptions> {
        self.authenticators.iter().filter(|authenticator| authenticator.enabled).filter_map(|authenticator| {
            match &authenticator.kind {
                AuthenticatorKind::StaticPassword(options) => Some(&**options),
                AuthenticatorKind::Jwt(_) | AuthenticatorKind::HandOn => None,
            }
        })
    }

    /// Whether the token of a static password finds its judge, and no password
    /// goes to an issuer whose it may not be.
    fn expect_one_exchange(&self) -> Result<(), InvalidOption> {
        let mut exchanges = self.enabled_static_password();
        let Some(StaticPasswordOptions { issuer, prefix, .. }) = exchanges.next() else { return Ok(()) };
        if let Some(other) = exchanges.next() {
            let (name, other) = (format!("{prefix}kind"), format!("{}kind", other.prefix));
            return Err(InvalidOption::TwoExchanges { name, other });
        }
        if self.enabled_jwt().any(|jwt| jwt.verifier.issuer == *issuer) {
            return Ok(());
        }
        let without = "an enabled authenticator of kind jwt with the same issuer, which judges the tokens";
        Err(InvalidOption::NoEffect { name: format!("{prefix}issuer"), without: without.into() })
    }

    /// Whether the broker can do what is asked: let connections wait.
    pub(crate) fn expect_waiting(&self, can_wait: bool) -> Result<(), InvalidOption> {
        match self.enabled_static_password().next().filter(|_| !can_wait) {
            Some(options) => Err(InvalidOption::CannotWait { name: format!("{}kind", options.prefix) }),
            None => Ok(()),
        }
    }

    /// Whether no two authenticators could take the tokens of one for those of
    /// the other.
    fn expect_apart(&self) -> Result<(), InvalidOption> {
        let shared = |one: &JwtOptions, other: &JwtOptions, option| InvalidOption::Shared {
            name: format!("{}{option}", one.prefix),
            other: format!("{}{option}", other.prefix),
        };
        for (index, one) in self.enabled_jwt().enumerate() {
            for other in self.enabled_jwt().skip(index + 1) {
                if one.verifier.issuer == other.verifier.issuer {
                    return Err(shared(one, other, "issuer"));
                }
                if one.status_file.is_some() && one.status_file == other.status_file {
                    return Err(shared(one, other, "status_file"));
                }
                match (&one.keys, &other.keys) {
                    (KeysConfig::Remote(keys), KeysConfig::Remote(others))
                        if keys.endpoint.url == others.endpoint.url =>
                    {
                        return Err(shared(one, other, "jwks_url"));
                    }
                    (KeysConfig::File { path, .. }, KeysConfig::File { path: others, .. })
                        if path == others =>
                    {
                        return Err(shared(one, other, "jwks_file"));
                    }
                    (KeysConfig::Remote(_) | KeysConfig::File { .. }, _) => {}
                }
            }
        }
        if self.authenticators.iter().any(|authenticator| authenticator.enabled) {
            Ok(())
        } else {
            Err(InvalidOption::NoneEnabled)
        }
    }
}

impl AuthenticatorOptions {
    fn read(given: &Given, name: &str) -> Result<Self, InvalidOption> {
        let options = given.of(name);
        let enabled = options.parsed("enabled", "true or false", |_: &bool| true)?.unwrap_or(true);
        if name == HAND_ON {
            return Ok(Self { name: name.into(), enabled, kind: AuthenticatorKind::HandOn });
        }
        let kind = match options.own("kind") {
            None | Some("jwt") => AuthenticatorKind::Jwt(jwt::read(&options)?.into()),
            Some("static_password") => {
                AuthenticatorKind::StaticPassword(static_password::read(&options)?.into())
            }
            Some(value) => {
                return Err(InvalidOption::Malformed {
                    name: options.name("kind"),
                    value: value.into(),
                    expected: "jwt or static_password".into(),
                });
            }
        };
        Ok(Self { name: name.into(), enabled, kind })
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

/// Which option an error is about.
fn option_of(prefix: &Prefix, url_option: &str, error: &RemoteError) -> String {
    match error {
        RemoteError::Http(HttpSetupError::InsecureUrl { .. }) => {
            format!("plugin_opt_{prefix}{url_option} (or plugin_opt_{prefix}allow_insecure_http): ")
        }
        RemoteError::Http(HttpSetupError::CaFile { .. }) => format!("plugin_opt_{prefix}ca_file: "),
        RemoteError::StateDir { .. } => format!("plugin_opt_{prefix}state_dir: "),
        RemoteError::Credentials(_) => format!("plugin_opt_{prefix}credentials_file: "),
        RemoteError::Http(HttpSetupError::Client { .. }) | RemoteError::Start { .. } => String::new(),
    }
}

#[cfg(test)]
mod tests;
