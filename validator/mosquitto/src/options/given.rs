//! The options that were given, and which of them anybody has read.

use std::cell::Cell;
use std::str::FromStr;

use url::Url;

use super::{HAND_ON, InvalidOption, Prefix};
use crate::option_table::{self, OPTIONS, OptionScope, PluginOption};

/// All of them.
pub(super) struct Given(Vec<GivenOption>);

struct GivenOption {
    name: String,
    value: String,
    /// Whether anybody has read it.
    used: Cell<bool>,
}

/// The options of one authenticator, or those without a name.
pub(super) struct OptionsOf<'a> {
    given: &'a Given,
    authenticator: Option<&'a str>,
    pub(super) prefix: Prefix,
}

impl Given {
    pub(super) fn collect(given: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidOption> {
        let mut known: Vec<GivenOption> = Vec::new();
        for (name, value) in given {
            if option_table::find(&name).is_none() {
                let mut options = OPTIONS.map(|option| option.name);
                options.sort_unstable();
                return Err(InvalidOption::Unknown { name, options: options.join(", ") });
            }
            if known.iter().any(|before| before.name == name) {
                return Err(InvalidOption::Twice { name });
            }
            known.push(GivenOption { name, value, used: Cell::new(false) });
        }
        Ok(Self(known))
    }

    /// The names of the authenticators, if they have any.
    pub(super) fn names(&self) -> Result<Option<Vec<&str>>, InvalidOption> {
        let name = "authenticators";
        let list = self.take(name);
        let names: Vec<&str> = list.unwrap_or_default().split_ascii_whitespace().collect();
        let is_name = |name: &&str| {
            let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
            (1..=32).contains(&name.len()) && name.bytes().all(allowed)
        };
        let repeated =
            |(index, name): (usize, &&str)| names.iter().skip(index + 1).any(|other| other == name);
        let hands_on_last = match names.iter().position(|name| *name == HAND_ON) {
            None => !names.is_empty(),
            Some(position) => position > 0 && position + 1 == names.len(),
        };
        if let Some(value) = list
            && (!hands_on_last || !names.iter().all(is_name) || names.iter().enumerate().any(repeated))
        {
            return Err(InvalidOption::Malformed {
                name: name.into(),
                value: value.into(),
                expected:
                    "different names of 1 to 32 characters of a-z, 0-9 and _, with spaces between them, \
                           and hand_on only as the last of several"
                        .into(),
            });
        }
        for given in &self.0 {
            let Some((authenticator, _)) = given.name.split_once('.') else { continue };
            if !names.contains(&authenticator) {
                let (name, authenticator) = (given.name.clone(), authenticator.to_owned());
                return Err(InvalidOption::NotListed { name, authenticator });
            }
        }
        Ok(list.map(|_| names))
    }

    /// Those without a name.
    pub(super) fn plain(&self) -> OptionsOf<'_> {
        OptionsOf { given: self, authenticator: None, prefix: Prefix::default() }
    }

    /// Those of one authenticator.
    pub(super) fn of<'a>(&'a self, authenticator: &'a str) -> OptionsOf<'a> {
        OptionsOf { given: self, authenticator: Some(authenticator), prefix: Prefix::of(authenticator) }
    }

    fn take(&self, name: &str) -> Option<&str> {
        let given = self.0.iter().find(|given| given.name == name)?;
        given.used.set(true);
        Some(&given.value)
    }

    /// Whether each has an effect.
    pub(super) fn expect_all_used(&self) -> Result<(), InvalidOption> {
        let Some(GivenOption { name, .. }) = self.0.iter().find(|given| !given.used.get()) else {
            return Ok(());
        };
        let name = name.clone();
        let (prefix, option) =
            name.rsplit_once('.').map_or(("", &*name), |(prefix, option)| (prefix, option));
        let dot = if prefix.is_empty() { "" } else { "." };
        if prefix.is_empty()
            && option_table::find(option).is_some_and(|option| option.scope == OptionScope::Issuer)
            && let Some(names) = self.names()?
            && let Some(first) = names.first()
        {
            return Err(InvalidOption::WhoseIsIt { authenticator: (*first).into(), name });
        }
        let without = match option {
            "allow_insecure_http" | "ca_file" | "state_dir" | "max_staleness_s" => {
                format!("plugin_opt_{prefix}{dot}jwks_url or plugin_opt_{prefix}{dot}credentials_file")
            }
            _ => "an authenticator that uses it".into(),
        };
        Err(InvalidOption::NoEffect { name, without })
    }
}

impl<'a> OptionsOf<'a> {
    /// The authenticator, if it has a name.
    pub(super) const fn authenticator(&self) -> Option<&'a str> {
        self.authenticator
    }

    /// An option's full name.
    pub(super) fn name(&self, option: &str) -> String {
        format!("{}{option}", self.prefix)
    }

    /// An option that belongs to this authenticator alone.
    pub(super) fn own(&self, option: &str) -> Option<&'a str> {
        self.given.take(&self.name(option))
    }

    /// An option of this authenticator, or else what all have in common.
    fn find(&self, option: &str) -> Option<(String, &'a str)> {
        let name = self.name(option);
        if let Some(value) = self.own(option) {
            return Some((name, value));
        }
        let is_shared = |option: &PluginOption| option.scope == OptionScope::Shared;
        let common = self.authenticator.is_some() && option_table::find(option).is_some_and(is_shared);
        Some((option.to_owned(), common.then(|| self.given.take(option))??))
    }

    /// As it was given.
    pub(super) fn text(&self, option: &str) -> Option<&'a str> {
        self.find(option).map(|(_, value)| value)
    }

    pub(super) fn required(&self, option: &str, what: &str) -> Result<&'a str, InvalidOption> {
        self.text(option).filter(|value| !value.is_empty()).ok_or_else(|| self.missing(option, what))
    }

    pub(super) fn missing(&self, option: &str, what: &str) -> InvalidOption {
        InvalidOption::Missing { name: self.name(option), what: what.into() }
    }

    pub(super) fn parsed<T: FromStr>(
        &self,
        option: &str,
        expected: &str,
        in_range: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, InvalidOption> {
        let Some((name, value)) = self.find(option) else { return Ok(None) };
        match value.parse().ok().filter(in_range) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(InvalidOption::Malformed { name, value: value.into(), expected: expected.into() }),
        }
    }

    pub(super) fn url(&self, option: &str, expected: &str) -> Result<Option<Url>, InvalidOption> {
        self.parsed(option, expected, |_: &Url| true)
    }
}
