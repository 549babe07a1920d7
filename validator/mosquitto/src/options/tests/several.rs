//! Options of several authenticators.

use super::*;

const TWO: [(&str, &str); 6] = [
    ("authenticators", "fleet factory"),
    ("audience", "mqtt"),
    ("fleet.issuer", "https://id.example"),
    ("fleet.jwks_file", "/etc/fleet.json"),
    ("factory.issuer", "https://factory.example"),
    ("factory.jwks_file", "/etc/factory.json"),
];

/// The authenticators for tokens, by their names.
fn jwt(options: Options) -> Vec<(Box<str>, bool, JwtOptions)> {
    let of = |AuthenticatorOptions { name, enabled, kind }| match kind {
        AuthenticatorKind::Jwt(jwt) => Some((name, enabled, *jwt)),
        AuthenticatorKind::StaticPassword(_) | AuthenticatorKind::HandOn => None,
    };
    options.authenticators.into_iter().filter_map(of).collect()
}

#[test]
fn each_has_its_own_options_and_shares_what_has_no_name() {
    let more = [
        ("fleet.skew_s", "7"),
        ("skew_s", "9"),
        ("factory.audience", "machines"),
        ("factory.credentials_file", "/etc/factory-broker.json"),
        ("state_dir", "/var/lib/mosquitto/fleetbadge"),
        ("factory.kind", "jwt"),
        ("factory.enabled", "false"),
    ];
    let jwt = jwt(parse(&[&TWO, &more]).unwrap());
    let [(fleet, true, fleets), (factory, false, factorys)] = &*jwt else { panic!("{jwt:?}") };
    assert_eq!((&**fleet, &**factory), ("fleet", "factory"));
    assert_eq!((&*fleets.verifier.issuer, &*fleets.verifier.audience), ("https://id.example", "mqtt"));
    assert_eq!((fleets.verifier.skew_s, factorys.verifier.skew_s), (7, 9));
    assert_eq!(&*factorys.verifier.audience, "machines");
    assert!(fleets.feed.is_none());
    let state = Path::new("/var/lib/mosquitto/fleetbadge");
    assert_eq!(factorys.state_in.as_deref(), Some(state));
    let FeedConfig { feed, reports } = factorys.feed.as_ref().unwrap();
    assert_eq!((&*feed.state_dir, &*reports.state_dir), (&*state.join("factory"), &*state.join("factory")));
    assert_eq!(feed.endpoint.url.as_str(), "https://factory.example/oauth2/revocations");
}

#[test]
fn whatever_could_be_meant_otherwise_is_refused_by_name() {
    let with = |more: &[(&str, &str)]| refused(&[&TWO, more]);
    let listing = |list: &str| refused(&[&[("authenticators", list)], &TWO[1..]]);
    for list in ["", "Fleet factory", "fleet factory fleet", "fleet,factory", "fleet fäctory"] {
        assert!(listing(list).starts_with("plugin_opt_authenticators is "), "{list}: {}", listing(list));
    }
    assert!(listing(&format!("fleet factory {}", "a".repeat(33))).contains("1 to 32 characters"));
    let unlisted = listing("fleet");
    assert!(unlisted.starts_with("plugin_opt_factory.issuer: factory is not among"), "{unlisted}");
    let unlisted = refused(&[&GOOD, &[("fleet.skew_s", "1")]]);
    assert!(unlisted.starts_with("plugin_opt_fleet.skew_s: fleet is not among"), "{unlisted}");
    for unknown in ["fleet.isuer", "fleet.token_from", "fleet.a.issuer", "kind", "enabled"] {
        assert!(with(&[(unknown, "x")]).starts_with(&format!("plugin_opt_{unknown} is not an option")));
    }
    for own in ["issuer", "jwks_url", "jwks_file", "credentials_file", "revocations_url", "reports_url"] {
        let error = with(&[(own, "https://id.example")]);
        assert!(error.starts_with(&format!("plugin_opt_{own} belongs to no authenticator")), "{error}");
        assert!(error.contains(&format!("plugin_opt_fleet.{own}")), "{error}");
    }
    assert!(with(&[("fleet.issuer", "x")]).starts_with("plugin_opt_fleet.issuer is given twice"));
    assert!(with(&[("fleet.kind", "ldap")]).starts_with("plugin_opt_fleet.kind is \"ldap\""));
    assert!(with(&[("fleet.enabled", "yes")]).starts_with("plugin_opt_fleet.enabled is \"yes\""));
    assert!(with(&[("fleet.skew_s", "301")]).starts_with("plugin_opt_fleet.skew_s is \"301\""));
    assert!(with(&[("skew_s", "301")]).starts_with("plugin_opt_skew_s is \"301\""), "as it was given");
    assert!(with(&[("fleet.ca_file", "/x")]).starts_with("plugin_opt_fleet.ca_file has no effect"));
    assert!(with(&[("state_dir", "/x")]).starts_with("plugin_opt_state_dir has no effect"), "nobody uses it");
    assert!(
        with(&[("fleet.audience", "a"), ("factory.audience", "b")])
            .contains("plugin_opt_audience has no effect")
    );
    assert!(refused(&[&TWO[..2], &TWO[3..]]).starts_with("plugin_opt_fleet.issuer is missing"));
    assert!(refused(&[&TWO[..1], &TWO[2..]]).starts_with("plugin_opt_fleet.audience is missing"));
    assert!(refused(&[&TWO[..3], &TWO[4..]]).starts_with("plugin_opt_fleet.jwks_url is missing"));
}

#[test]
fn no_two_that_are_on_share_an_issuer_or_its_keys() {
    let same = |option: &str, value: &str, more: &[(&str, &str)]| {
        let name = format!("factory.{option}");
        let others: Vec<_> = TWO.into_iter().filter(|(given, _)| *given != name).collect();
        parse(&[&others, &[(&name, value)], more])
    };
    for (option, value) in [("issuer", "https://id.example"), ("jwks_file", "/etc/fleet.json")] {
        let error = same(option, value, &[]).unwrap_err().to_string();
        let start = format!("plugin_opt_fleet.{option} and plugin_opt_factory.{option} are the same");
        assert!(error.starts_with(&start), "{error}");
        assert!(same(option, value, &[("factory.enabled", "false")]).is_ok(), "one of them is off");
    }
    assert!(same("issuer", "https://id.example/", &[]).is_ok(), "byte for byte");
    let off = [("fleet.enabled", "false"), ("factory.enabled", "false")];
    assert!(refused(&[&TWO, &off]).starts_with("no authenticator is enabled"));
}

#[test]
fn hand_on_stands_last_and_has_nothing_but_a_switch() {
    let listing = |list: &str, more: &[(&str, &str)]| {
        parse(&[&[("authenticators", list)], &TWO[1..], more]).map(|options| {
            let last = options.authenticators.last().unwrap();
            (matches!(last.kind, AuthenticatorKind::HandOn), last.enabled)
        })
    };
    assert_eq!(listing("fleet factory hand_on", &[]).unwrap(), (true, true));
    assert_eq!(listing("fleet factory hand_on", &[("hand_on.enabled", "false")]).unwrap(), (true, false));
    for list in ["hand_on", "hand_on fleet factory", "fleet hand_on factory", "fleet factory hand_on hand_on"]
    {
        let error = listing(list, &[]).unwrap_err().to_string();
        assert!(error.starts_with("plugin_opt_authenticators is "), "{error}");
        assert!(error.contains("hand_on only as the last"), "{error}");
    }
    for option in ["hand_on.issuer", "hand_on.kind", "hand_on.audience"] {
        let error = listing("fleet factory hand_on", &[(option, "x")]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("plugin_opt_{option} has no effect")), "{error}");
    }
}

#[test]
fn a_static_password_needs_whoever_judges_the_token() {
    let password = [
        ("old.kind", "static_password"),
        ("old.issuer", "https://id.example"),
        ("old.credentials_file", "/etc/broker.json"),
    ];
    let list = [("authenticators", "fleet factory old")];
    let read = |password: &[(&str, &str)], more: &[(&str, &str)]| {
        parse(&[&list, &TWO[1..], password, more]).map_err(|error| error.to_string())
    };
    let options = read(&password, &[]).unwrap();
    let AuthenticatorKind::StaticPassword(old) = &options.authenticators[2].kind else {
        panic!("it is last")
    };
    assert_eq!(old.exchange.endpoint.url.as_str(), "https://id.example/oauth2/token");
    let more = [("old.token_url", "http://127.0.0.1:1/t"), ("old.ca_file", "/etc/ca.pem")];
    let options = read(&password, &more).unwrap();
    let AuthenticatorKind::StaticPassword(old) = &options.authenticators[2].kind else {
        panic!("it is last")
    };
    assert_eq!(old.exchange.endpoint.url.as_str(), "http://127.0.0.1:1/t");
    assert!(old.exchange.endpoint.ca_file.is_some());

    assert!(read(&password[..2], &[]).unwrap_err().starts_with("plugin_opt_old.credentials_file is missing"));
    let no_issuer = [password[0], password[2]];
    assert!(read(&no_issuer, &[]).unwrap_err().starts_with("plugin_opt_old.issuer is missing"));
    for option in ["old.jwks_url", "old.audience", "old.skew_s", "old.state_dir", "fleet.token_url"] {
        let error = read(&password, &[(option, "https://id.example")]).unwrap_err();
        assert!(error.starts_with(&format!("plugin_opt_{option} has no effect")), "{error}");
    }
    let off = read(&password, &[("fleet.enabled", "false")]).unwrap_err();
    assert!(off.starts_with("plugin_opt_old.issuer has no effect without an enabled"), "{off}");
    assert!(read(&password, &[("fleet.enabled", "false"), ("old.enabled", "false")]).is_ok());
    let second: Vec<_> = [
        ("authenticators", "fleet factory old older"),
        ("older.kind", "static_password"),
        ("older.issuer", "https://factory.example"),
        ("older.credentials_file", "/etc/other.json"),
    ]
    .into();
    let error = refused(&[&TWO[1..], &password, &second]);
    assert!(error.starts_with("plugin_opt_old.kind and plugin_opt_older.kind are both"), "{error}");
}
