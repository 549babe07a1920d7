//! The options of an authenticator for the tokens of one issuer.

use std::path::PathBuf;

use fleetbadge_validator::freshness::Freshness;
use fleetbadge_validator::keys::remote::RemoteKeysConfig;
use fleetbadge_validator::remote::http::{self, Endpoint};
use fleetbadge_validator::reports::REPORTS_PATH;
use fleetbadge_validator::reports::remote::ReporterConfig;
use fleetbadge_validator::revocations::FEED_PATH;
use fleetbadge_validator::revocations::remote::RemoteRevocationsConfig;
use fleetbadge_validator::verify::Verifier;
use url::Url;

use super::given::OptionsOf;
use super::{InvalidOption, JwtOptions};
use crate::keys::KeysConfig;
use crate::revocations::FeedConfig;
use crate::status::SOFTWARE;

const ISSUER_EXPECTED: &str = "a URL, as in the tokens' iss";

/// Reads them.
pub(super) fn read(options: &OptionsOf<'_>) -> Result<JwtOptions, InvalidOption> {
    let issuer = issuer(options)?;
    let audience = options.required("audience", "what the tokens for this broker have as aud")?;
    let mut verifier = Verifier::new(issuer, audience);
    let max_skew_s = |skew_s: &u64| *skew_s <= Verifier::MAX_SKEW_S;
    if let Some(skew_s) = options.parsed("skew_s", "seconds, at most 300", max_skew_s)? {
        verifier.skew_s = skew_s;
    }
    let min_lifetime_s = |lifetime_s: &u64| *lifetime_s >= 1;
    if let Some(max_lifetime_s) = options.parsed("max_lifetime_s", "seconds, at least 1", min_lifetime_s)? {
        verifier.max_lifetime_s = max_lifetime_s;
    }
    let keys_from = KeysFrom::read(options)?;
    let credentials_file = options.own("credentials_file").map(PathBuf::from);
    // Where nothing comes over the network, none of this has an effect.
    let network = match (&keys_from, &credentials_file) {
        (KeysFrom::File(_), None) => None,
        (KeysFrom::File(_) | KeysFrom::Url(_), _) => Some(Network::read(options)?),
    };
    let keys = match (keys_from, &network) {
        (KeysFrom::File(path), _) => KeysConfig::File { issuer: issuer.into(), path },
        (KeysFrom::Url(url), Some(network)) => KeysConfig::Remote(RemoteKeysConfig {
            issuer: issuer.into(),
            endpoint: network.endpoint(url),
            state_dir: network.state_dir.clone(),
            max_staleness_s: network.max_staleness_s,
            cool_down: RemoteKeysConfig::DEFAULT_COOL_DOWN,
        }),
        (KeysFrom::Url(_), None) => return Err(missing_state_dir(options)),
    };
    let feed = feed(options, issuer, credentials_file, network.as_ref())?;
    let state_in = network.and_then(|network| network.state_in);
    let status_file = options.own("status_file").map(PathBuf::from);
    Ok(JwtOptions { verifier, keys, feed, state_in, status_file, prefix: options.prefix.clone() })
}

/// The issuer that is named.
pub(super) fn issuer<'a>(options: &OptionsOf<'a>) -> Result<&'a str, InvalidOption> {
    let named = options.own("issuer").filter(|value| !value.is_empty());
    let issuer = named
        .ok_or_else(|| options.missing("issuer", "the identifier of the issuer, as in the tokens' iss"))?;
    if Url::parse(issuer).is_err() || issuer.contains(char::is_whitespace) {
        return Err(issuer_malformed(options, issuer));
    }
    Ok(issuer)
}

fn issuer_malformed(options: &OptionsOf<'_>, issuer: &str) -> InvalidOption {
    InvalidOption::Malformed {
        name: options.name("issuer"),
        value: issuer.into(),
        expected: ISSUER_EXPECTED.into(),
    }
}

/// A place of the issuer: as given, or where every Fleetbadge issuer has it.
pub(super) fn url_at_issuer(
    options: &OptionsOf<'_>,
    issuer: &str,
    given: Option<Url>,
    path: &str,
) -> Result<Url, InvalidOption> {
    match given {
        Some(url) => Ok(url),
        None => http::url_at_issuer(issuer, path).map_err(|_| issuer_malformed(options, issuer)),
    }
}

fn missing_state_dir(options: &OptionsOf<'_>) -> InvalidOption {
    options
        .missing("state_dir", "a folder that the broker may write, where what the issuer said last is kept")
}

enum KeysFrom {
    Url(Url),
    File(PathBuf),
}

impl KeysFrom {
    fn read(options: &OptionsOf<'_>) -> Result<Self, InvalidOption> {
        match (options.url("jwks_url", "the URL of a JWK Set")?, options.own("jwks_file")) {
            (Some(_), Some(_)) => Err(InvalidOption::KeysFromTwoPlaces {
                name: options.name("jwks_url"),
                other: options.name("jwks_file"),
            }),
            (None, None) => {
                let file = options.name("jwks_file");
                let what = format!(
                    "where the issuer publishes its keys; or give plugin_opt_{file}, a file with them"
                );
                Err(options.missing("jwks_url", &what))
            }
            (None, Some(path)) => Ok(Self::File(path.into())),
            (Some(url), None) => Ok(Self::Url(url)),
        }
    }
}

/// With credentials the feed is followed and reports are sent.
fn feed(
    options: &OptionsOf<'_>,
    issuer: &str,
    credentials_file: Option<PathBuf>,
    network: Option<&Network>,
) -> Result<Option<FeedConfig>, InvalidOption> {
    let feed_url = options.url("revocations_url", "the URL of the issuer's feed of revocations")?;
    let reports_url = options.url("reports_url", "the URL of the issuer's place for reports")?;
    let Some(credentials_file) = credentials_file else {
        return match feed_url.or(reports_url) {
            None => Ok(None),
            Some(_) => {
                let [feed, reports] = ["revocations_url", "reports_url"].map(|option| options.name(option));
                let what = format!(
                    "what fleetbadge-issuer broker add --json prints; plugin_opt_{feed} and \
                     plugin_opt_{reports} need it"
                );
                Err(options.missing("credentials_file", &what))
            }
        };
    };
    let Some(network) = network else { return Err(missing_state_dir(options)) };
    let feed_url = url_at_issuer(options, issuer, feed_url, FEED_PATH)?;
    let reports_url = url_at_issuer(options, issuer, reports_url, REPORTS_PATH)?;
    Ok(Some(FeedConfig {
        feed: RemoteRevocationsConfig {
            issuer: issuer.to_owned(),
            endpoint: network.endpoint(feed_url),
            credentials_file: credentials_file.clone(),
            state_dir: network.state_dir.clone(),
            max_staleness_s: network.max_staleness_s,
            first_retry: RemoteRevocationsConfig::DEFAULT_FIRST_RETRY,
            silence: RemoteRevocationsConfig::DEFAULT_SILENCE,
        },
        reports: ReporterConfig {
            endpoint: network.endpoint(reports_url),
            credentials_file,
            state_dir: network.state_dir.clone(),
            software: SOFTWARE.into(),
            every: ReporterConfig::DEFAULT_EVERY,
            change_delay: ReporterConfig::DEFAULT_CHANGE_DELAY,
        },
    }))
}

/// How the issuer is reached.
pub(super) struct Reach {
    allow_insecure_http: bool,
    ca_file: Option<PathBuf>,
}

impl Reach {
    pub(super) fn read(options: &OptionsOf<'_>) -> Result<Self, InvalidOption> {
        let allow_insecure_http = options.parsed("allow_insecure_http", "true or false", |_: &bool| true)?;
        Ok(Self {
            allow_insecure_http: allow_insecure_http.unwrap_or(false),
            ca_file: options.text("ca_file").map(Into::into),
        })
    }

    pub(super) fn endpoint(&self, url: Url) -> Endpoint {
        Endpoint { url, ca_file: self.ca_file.clone(), allow_insecure_http: self.allow_insecure_http }
    }
}

/// What all that comes over the network has in common.
struct Network {
    reach: Reach,
    /// Where state is kept.
    state_dir: PathBuf,
    /// In which folder that one must be made.
    state_in: Option<PathBuf>,
    max_staleness_s: u64,
}

impl Network {
    fn read(options: &OptionsOf<'_>) -> Result<Self, InvalidOption> {
        let reach = Reach::read(options)?;
        let given: PathBuf = options.text("state_dir").ok_or_else(|| missing_state_dir(options))?.into();
        let (state_dir, state_in) = match options.authenticator() {
            None => (given, None),
            Some(name) => (given.join(name), Some(given)),
        };
        let range = |s: &u64| (30..=Freshness::MAX_STALENESS_S).contains(s);
        let max_staleness_s = options.parsed("max_staleness_s", "30 to 604800 seconds", range)?;
        let max_staleness_s = max_staleness_s.unwrap_or(Freshness::DEFAULT_MAX_STALENESS_S);
        Ok(Self { reach, state_dir, state_in, max_staleness_s })
    }

    fn endpoint(&self, url: Url) -> Endpoint {
        self.reach.endpoint(url)
    }
}
