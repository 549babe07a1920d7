use std::path::Path;

use super::*;

mod several;

const GOOD: [(&str, &str); 3] =
    [("issuer", "https://id.example"), ("audience", "mqtt"), ("jwks_file", "/etc/jwks.json")];
const REMOTE: [(&str, &str); 4] = [
    ("issuer", "https://id.example"),
    ("audience", "mqtt"),
    ("jwks_url", "https://id.example/oauth2/jwks"),
    ("state_dir", "/var/lib/mosquitto"),
];

fn parse(options: &[&[(&str, &str)]]) -> Result<Options, InvalidOption> {
    Options::parse(options.concat().into_iter().map(|(name, value)| (name.into(), value.into())))
}

/// The only authenticator.
fn parse_one(options: &[&[(&str, &str)]]) -> Result<JwtOptions, InvalidOption> {
    let mut authenticators = parse(options)?.authenticators;
    let (only, more) = (authenticators.pop().unwrap(), authenticators.len());
    assert_eq!((&*only.name, only.enabled, more), (ONLY, true, 0));
    let AuthenticatorKind::Jwt(only) = only.kind else { panic!("{only:?}") };
    Ok(*only)
}

fn refused(options: &[&[(&str, &str)]]) -> String {
    parse(options).unwrap_err().to_string()
}

#[test]
fn the_defaults() {
    assert_eq!(parse(&[&GOOD]).unwrap().token_from, TokenFrom::Username);
    let options = parse_one(&[&GOOD]).unwrap();
    assert_eq!(options.verifier, Verifier::new("https://id.example", "mqtt"));
    assert!(matches!(options.keys, KeysConfig::File { path, .. } if path == Path::new("/etc/jwks.json")));
}

#[test]
fn every_option_is_read() {
    let more = [
        ("skew_s", "0"),
        ("max_lifetime_s", "3600"),
        ("token_from", "either"),
        ("ca_file", "/etc/ca.pem"),
        ("allow_insecure_http", "true"),
        ("max_staleness_s", "7200"),
    ];
    assert_eq!(parse(&[&REMOTE, &more]).unwrap().token_from, TokenFrom::Either);
    let options = parse_one(&[&REMOTE, &more]).unwrap();
    assert_eq!((options.verifier.skew_s, options.verifier.max_lifetime_s), (0, 3600));
    let KeysConfig::Remote(keys) = options.keys else { panic!("keys come over HTTP") };
    assert_eq!(keys.issuer, "https://id.example");
    assert_eq!(keys.endpoint.url.as_str(), "https://id.example/oauth2/jwks");
    assert_eq!(keys.state_dir, Path::new("/var/lib/mosquitto"));
    assert_eq!(keys.endpoint.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert!(keys.endpoint.allow_insecure_http);
    assert_eq!(keys.max_staleness_s, 7_200);

    let KeysConfig::Remote(keys) = parse_one(&[&REMOTE]).unwrap().keys else { panic!("keys come over HTTP") };
    assert!(!keys.endpoint.allow_insecure_http);
    assert_eq!(keys.max_staleness_s, 86_400);
}

#[test]
fn a_status_file_is_kept_with_and_without_credentials() {
    assert_eq!(parse_one(&[&GOOD]).unwrap().status_file, None);
    let status_file = [("status_file", "/run/mosquitto/fleetbadge.json")];
    for options in [&[&GOOD[..], &status_file][..], &[&REMOTE, &CREDENTIALS[..1], &status_file]] {
        let path = parse_one(options).unwrap().status_file.unwrap();
        assert_eq!(path, Path::new("/run/mosquitto/fleetbadge.json"));
    }
}

#[test]
fn a_misspelt_option_is_named_with_the_ones_there_are() {
    let error = refused(&[&GOOD, &[("isuer", "x")]]);
    assert!(error.starts_with("plugin_opt_isuer is not an option"), "{error}");
    assert!(error.contains("issuer") && error.contains("token_from"), "{error}");
}

#[test]
fn what_is_missing_doubled_or_contradictory_is_refused_by_name() {
    assert!(refused(&[&GOOD[1..]]).starts_with("plugin_opt_issuer is missing"));
    assert!(refused(&[&GOOD[..1], &GOOD[2..]]).starts_with("plugin_opt_audience is missing"));
    assert!(refused(&[&GOOD[1..], &[("issuer", "")]]).starts_with("plugin_opt_issuer is missing"));
    assert!(refused(&[&GOOD[..2]]).starts_with("plugin_opt_jwks_url is missing"));
    assert!(refused(&[&REMOTE[..3]]).starts_with("plugin_opt_state_dir is missing"));
    assert!(refused(&[&GOOD, &GOOD[1..2]]).starts_with("plugin_opt_audience is given twice"));
    assert!(refused(&[&GOOD, &REMOTE[2..3]]).contains("both given"));
    for name in ["ca_file", "state_dir"] {
        let error = refused(&[&GOOD, &[(name, "/x")]]);
        assert!(error.starts_with(&format!("plugin_opt_{name} has no effect")), "{error}");
    }
    for (name, value) in [("allow_insecure_http", "true"), ("max_staleness_s", "60")] {
        assert!(refused(&[&GOOD, &[(name, value)]]).contains("no effect"), "{name}");
    }
}

#[test]
fn a_malformed_value_is_shown_with_what_it_must_be() {
    let malformed = [
        ("skew_s", "-1"),
        ("skew_s", "301"),
        ("skew_s", "5s"),
        ("max_lifetime_s", "0"),
        ("max_staleness_s", "29"),
        ("max_staleness_s", "1 day"),
        ("token_from", "Username"),
    ];
    for (name, value) in malformed {
        let error = refused(&[&REMOTE, &[(name, value)]]);
        assert!(error.starts_with(&format!("plugin_opt_{name} is {value:?}; it must be ")), "{error}");
    }
    let error = refused(&[&REMOTE, &[("allow_insecure_http", "yes")]]);
    assert_eq!(error, "plugin_opt_allow_insecure_http is \"yes\"; it must be true or false");
    let error = refused(&[&GOOD[1..], &[("issuer", "id.example")]]);
    assert!(error.starts_with("plugin_opt_issuer is \"id.example\""), "{error}");
    let error = refused(&[&REMOTE[..2], &REMOTE[3..], &[("jwks_url", "id.example/jwks")]]);
    assert!(error.starts_with("plugin_opt_jwks_url is \"id.example/jwks\""), "{error}");
}

const CREDENTIALS: [(&str, &str); 2] =
    [("credentials_file", "/etc/broker.json"), ("state_dir", "/var/lib/mosquitto")];

#[test]
fn with_credentials_the_feed_is_followed_and_reports_are_sent() {
    assert!(parse_one(&[&GOOD]).unwrap().feed.is_none());
    for options in [&[&GOOD[..], &CREDENTIALS][..], &[&REMOTE, &CREDENTIALS[..1]]] {
        let FeedConfig { feed, reports } = parse_one(options).unwrap().feed.unwrap();
        assert_eq!(feed.endpoint.url.as_str(), "https://id.example/oauth2/revocations");
        assert_eq!(reports.endpoint.url.as_str(), "https://id.example/oauth2/reports");
        assert_eq!(feed.credentials_file, Path::new("/etc/broker.json"));
        assert_eq!((feed.max_staleness_s, &*feed.issuer), (86_400, "https://id.example"));
        assert!(reports.software.starts_with("fleetbadge-mosquitto/"));
    }
    let more = [
        ("revocations_url", "http://127.0.0.1:1/r"),
        ("reports_url", "http://127.0.0.1:1/p"),
        ("max_staleness_s", "30"),
        ("allow_insecure_http", "true"),
        ("ca_file", "/etc/ca.pem"),
    ];
    let FeedConfig { feed, reports } = parse_one(&[&GOOD, &CREDENTIALS, &more]).unwrap().feed.unwrap();
    assert_eq!(feed.endpoint.url.as_str(), "http://127.0.0.1:1/r");
    assert_eq!(reports.endpoint.url.as_str(), "http://127.0.0.1:1/p");
    assert_eq!(feed.max_staleness_s, 30);
    assert!(feed.endpoint.allow_insecure_http && reports.endpoint.ca_file.is_some());
}

#[test]
fn what_a_feed_needs_is_named() {
    for name in ["revocations_url", "reports_url"] {
        let error = refused(&[&GOOD, &[(name, "https://id.example/x")]]);
        assert!(error.starts_with("plugin_opt_credentials_file is missing"), "{error}");
        assert!(error.contains("broker add --json"), "{error}");
        let error = refused(&[&GOOD, &CREDENTIALS, &[(name, "id.example")]]);
        assert!(error.starts_with(&format!("plugin_opt_{name} is \"id.example\"")), "{error}");
    }
    let error = refused(&[&GOOD, &CREDENTIALS[..1]]);
    assert!(error.starts_with("plugin_opt_state_dir is missing"), "{error}");
}
