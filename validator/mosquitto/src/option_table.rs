//! What the plugin's options are: the one list behind its error messages, the
//! configuration that `fleetbadge-validator config mosquitto` prints, and its
//! lint.

use crate::options::Options;

/// One option, `plugin_opt_NAME VALUE` in the broker's configuration.
#[derive(Clone, Copy, Debug)]
pub struct PluginOption {
    /// Its name, without the prefix.
    pub name: &'static str,
    /// What it is, with the unit, as the rest of a sentence.
    pub meaning: &'static str,
    /// What it is an option of.
    pub scope: OptionScope,
    /// What holds without it.
    pub default: OptionDefault,
    /// A value as an operator would write it.
    pub example: &'static str,
}

/// What an option is an option of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionScope {
    /// All authenticators together.
    Plugin,
    /// An authenticator; several may have it in common, then it is given once,
    /// without a name before it.
    Shared,
    /// The issuer of one authenticator.
    Issuer,
    /// An authenticator that has a name: it is always given with it.
    Named,
}

/// What holds when an option is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionDefault {
    /// The plugin does not start, always or as these words say.
    Required(&'static str),
    /// This value; leaving it out and giving it are the same.
    Value(&'static str),
    /// Something that is no value of the option, in words.
    Described(&'static str),
}

/// Every option there is, those that must be given first.
pub const OPTIONS: [PluginOption; 19] = {
    use OptionDefault::{Described, Required, Value};
    use OptionScope::{Issuer, Named, Plugin, Shared};
    const fn option(
        scope: OptionScope,
        name: &'static str,
        default: OptionDefault,
        example: &'static str,
        meaning: &'static str,
    ) -> PluginOption {
        PluginOption { name, meaning, scope, default, example }
    }
    [
        option(
            Issuer,
            "issuer",
            Required("required"),
            "https://id.example",
            "the issuer, as in the tokens' iss, byte for byte",
        ),
        option(
            Shared,
            "audience",
            Required("required"),
            "mqtt",
            "what the tokens for this broker have as aud",
        ),
        option(
            Issuer,
            "jwks_url",
            Required("this or jwks_file"),
            "https://id.example/oauth2/jwks",
            "where the issuer publishes its keys; HTTPS, or plain HTTP to this machine",
        ),
        option(
            Issuer,
            "jwks_file",
            Required("this or jwks_url"),
            "/etc/mosquitto/jwks.json",
            "a file with the keys instead of jwks_url; read again at SIGHUP, a bad one changes nothing",
        ),
        option(
            Shared,
            "state_dir",
            Required("required with jwks_url or credentials_file"),
            "/var/lib/mosquitto/fleetbadge",
            "a folder that only the broker may write; keeps the last good keys and revocations",
        ),
        option(
            Issuer,
            "credentials_file",
            Described("none: what is revoked is good until it ends"),
            "/etc/mosquitto/fleetbadge.json",
            "what `fleetbadge-issuer broker add --json` prints: with it the plugin follows the issuer's \
             revocations and reports which keys it holds and who is connected; others must not be able to read it",
        ),
        option(
            Issuer,
            "revocations_url",
            Described("ISSUER/oauth2/revocations"),
            "https://id.example/oauth2/revocations",
            "where the issuer's feed of revocations is; needs credentials_file",
        ),
        option(
            Issuer,
            "reports_url",
            Described("ISSUER/oauth2/reports"),
            "https://id.example/oauth2/reports",
            "where the issuer takes reports; needs credentials_file",
        ),
        option(
            Issuer,
            "status_file",
            Described("none"),
            "/run/mosquitto/fleetbadge.json",
            "a small JSON file for monitoring, replaced every two seconds if something has changed: keys held, how \
             many clients are connected, let in and denied",
        ),
        option(
            Shared,
            "max_staleness_s",
            Value("86400"),
            "86400",
            "how many seconds the last good keys from jwks_url and revocations count without news from the \
             issuer, 30 to 604800; after that nobody new is let in",
        ),
        option(
            Shared,
            "ca_file",
            Described("the system's"),
            "/etc/mosquitto/issuer-ca.pem",
            "certificates (PEM) to trust for all these URLs instead of the system's",
        ),
        option(
            Shared,
            "allow_insecure_http",
            Value("false"),
            "false",
            "whether plain HTTP to another machine is allowed: true or false",
        ),
        option(
            Plugin,
            "token_from",
            Value("username"),
            "username",
            "the field of CONNECT with the token: username, password, or either of them",
        ),
        option(Shared, "skew_s", Value("5"), "5", "by how many seconds the clocks may differ, at most 300"),
        option(Shared, "max_lifetime_s", Value("86400"), "86400", "the longest life of a token, in seconds"),
        option(
            Plugin,
            "authenticators",
            Described("none: one issuer, whose options have no name before them"),
            "fleet factory hand_on",
            "the names of several authenticators, in their order: for each issuer one, whose options are then \
             given as NAME.OPTION; hand_on, as the last, leaves what is no token to the broker's other plugins \
             and password files",
        ),
        option(
            Named,
            "kind",
            Value("jwt"),
            "jwt",
            "jwt, for the tokens of an issuer, or static_password, for passwords that the issuer exchanges for \
             tokens (Mosquitto 2.1)",
        ),
        option(Named, "enabled", Value("true"), "true", "whether the authenticator lets anybody in"),
        option(
            Named,
            "token_url",
            Described("ISSUER/oauth2/token"),
            "https://id.example/oauth2/token",
            "where the issuer exchanges static passwords; for kind static_password",
        ),
    ]
};

impl PluginOption {
    /// Its name as an operator would write it, without `plugin_opt_`.
    #[must_use]
    pub fn written(&self) -> String {
        match self.scope {
            OptionScope::Named => format!("fleet.{}", self.name),
            OptionScope::Plugin | OptionScope::Shared | OptionScope::Issuer => self.name.into(),
        }
    }
}

/// The option of this name, which may have that of an authenticator before it.
#[must_use]
pub fn find(name: &str) -> Option<&'static PluginOption> {
    let (authenticator, name) =
        name.split_once('.').map_or((None, name), |(before, name)| (Some(before), name));
    OPTIONS.iter().find(|option| {
        option.name == name
            && match option.scope {
                OptionScope::Plugin => authenticator.is_none(),
                OptionScope::Shared | OptionScope::Issuer => true,
                OptionScope::Named => authenticator.is_some(),
            }
    })
}

/// Whether the plugin would take these options, each a name without its prefix
/// and a value. Nothing that they name is opened.
///
/// # Errors
/// What the broker's log would say.
pub fn check(given: impl IntoIterator<Item = (String, String)>) -> Result<(), RefusedOption> {
    Options::parse(given).map(drop).map_err(|error| RefusedOption(error.to_string()))
}

/// The plugin would not start with such options. The text names the option.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RefusedOption(String);

#[cfg(test)]
mod tests {
    use super::*;

    /// What each option is given beside, so that the whole is accepted.
    fn around(name: &str) -> Vec<(String, String)> {
        let beside: &[&str] = match name {
            "jwks_file" => &["issuer", "audience"],
            _ => &["issuer", "audience", "jwks_url", "state_dir", "credentials_file"],
        };
        let beside = OPTIONS.iter().filter(|option| option.name != name && beside.contains(&option.name));
        let given = |option: &PluginOption| (option.name.to_owned(), option.example.to_owned());
        let mut options: Vec<_> = beside.map(given).collect();
        let Some(PluginOption { scope: OptionScope::Named, .. }) =
            OPTIONS.iter().find(|one| one.name == name)
        else {
            return options;
        };
        for (name, _) in &mut options {
            name.insert_str(0, "fleet.");
        }
        options.push(("authenticators".into(), "fleet".into()));
        options
    }

    #[test]
    fn every_example_is_accepted_and_every_default_changes_nothing() {
        // They need more than one authenticator; see the tests of the options.
        let apart = ["authenticators", "token_url"];
        for option in OPTIONS.iter().filter(|option| !apart.contains(&option.name)) {
            let with = |value: &str| [around(option.name), vec![(option.written(), value.into())]].concat();
            Options::parse(with(option.example)).unwrap_or_else(|error| panic!("{}: {error}", option.name));
            if let OptionDefault::Value(value) = option.default {
                let [given, left_out] = [with(value), around(option.name)]
                    .map(|options| format!("{:?}", Options::parse(options).unwrap()));
                assert_eq!(given, left_out, "{}", option.name);
            }
        }
    }

    #[test]
    fn what_is_required_is_required() {
        for option in OPTIONS.iter().filter(|option| option.default == OptionDefault::Required("required")) {
            let error = check(around(option.name)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("plugin_opt_{} is missing", option.name)), "{error}");
        }
    }

    #[test]
    fn the_manual_has_every_option() {
        let manual = include_str!("../README.md");
        for option in OPTIONS {
            let row = manual.lines().find(|line| line.starts_with(&format!("| `{}` |", option.name)));
            let row = row.unwrap_or_else(|| panic!("no row of {} in README.md", option.name));
            let default = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
            let (OptionDefault::Required(words)
            | OptionDefault::Value(words)
            | OptionDefault::Described(words)) = option.default;
            assert_eq!(default.trim().replace('`', ""), words, "{}", option.name);
        }
    }
}
