use super::*;

fn options(toml: &str) -> Options {
    toml::from_str(toml).unwrap()
}

fn refused(toml: &str) -> String {
    options(toml).over(options("data_dir = 'x'")).resolve().unwrap_err().to_string()
}

#[test]
fn the_defaults() {
    let config = options("data_dir = 'x'").resolve().unwrap();
    assert_eq!(config.issuer.as_str(), "http://127.0.0.1:8080");
    assert_eq!(config.key_announce_s, 600);
    assert_eq!((config.key_rotation_s, config.key_confirm_deadline_s), (2_592_000, 86_400));
    // A token, the brokers' skew, and what a node that has not heard may add.
    assert_eq!(config.key_timing().publish_retired_s, 86_400 + 5 + 7);
}

#[test]
fn what_is_in_force_reads_as_itself() {
    let config = options(
        "data_dir = 'x'\nlisten = '[::1]:1'\nops_listen = '127.0.0.1:2'\nissuer = 'https://id.example/'\n\
         log_format = 'json'\njwks_max_age_s = 60",
    )
    .resolve()
    .unwrap();
    assert_eq!(options(&config.to_toml().unwrap()).resolve().unwrap(), config);
}

#[test]
fn the_stronger_word_wins_and_silence_does_not() {
    let strong = options("skew_s = 1");
    let merged = strong.over(options("skew_s = 2\nlisten = '127.0.0.1:9'"));
    assert_eq!((merged.skew_s, merged.listen.map(|a| a.port())), (Some(1), Some(9)));
}

#[test]
fn wrong_values_name_their_field() {
    assert!(refused("listen = '0.0.0.0:80'").starts_with("listen: 0.0.0.0:80"));
    assert!(refused("ops_listen = '10.0.0.1:80'").starts_with("ops_listen: "));
    assert!(refused("listen = '127.0.0.1:0'").starts_with("issuer: is missing"));
    assert!(refused("issuer = 'http://id.example'").starts_with("issuer: "));
    assert!(refused("max_token_lifetime_s = 0").starts_with("max_token_lifetime_s: 0"));
    assert!(refused("key_announce_s = 599").starts_with("key_announce_s: 599"));
    assert!(refused("key_confirm_deadline_s = 599").starts_with("key_confirm_deadline_s: 599"));
    assert!(refused("key_rotation_s = 599").starts_with("key_rotation_s: 599"));
    assert!(refused("device_cache_capacity = 0").starts_with("device_cache_capacity: 0"));
    assert!(refused("device_cache_capacity = 10000001").starts_with("device_cache_capacity: 1"));
    assert!(refused("log = 'a=b=c'").starts_with("log: "));
    assert!(refused("jwks_max_age_s = 0").starts_with("jwks_max_age_s: 0"));
    assert!(Options::default().resolve().unwrap_err().to_string().starts_with("data_dir: "));
}

#[test]
fn a_rotation_may_be_left_to_hands_and_its_deadline_follows_the_announcement() {
    let config = options("data_dir = 'x'\nkey_rotation_s = 0\nkey_announce_s = 90000").resolve().unwrap();
    let timing = config.key_timing();
    assert_eq!((timing.rotation_s, timing.confirm_deadline_s), (None, 90_000));
}

#[test]
fn unknown_and_mistyped_fields_are_refused() {
    for toml in ["lisen = '127.0.0.1:1'", "token_lifetime = 5", "skew_s = '5'", "skew_s = -1", "[listen]"] {
        assert!(toml::from_str::<Options>(toml).is_err(), "{toml}");
    }
}

#[test]
fn beyond_loopback_only_when_told() {
    let toml = "data_dir = 'x'\nlisten = '0.0.0.0:80'\nissuer = 'http://id.example'\n\
                allow_insecure_http = true\ntrusted_proxy = ['10.0.0.1']";
    assert!(options(toml).resolve().is_ok());
    let without_issuer =
        "data_dir = 'x'\nlisten = '0.0.0.0:80'\nallow_insecure_http = true\ntrusted_proxy = ['::1']";
    assert!(options(without_issuer).resolve().is_err());
}
