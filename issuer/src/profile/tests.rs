use fleetbadge_validator::scope::Scope;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::{PolicyDocument, RefreshWindow, Request, Subject};
use crate::store::Attributes;

mod as_brokers_compare;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn rabbitmq() -> Profile {
    Profile::Rabbitmq { vhost: "/".into() }
}

fn native() -> [Profile; 5] {
    [Profile::Emqx, rabbitmq(), Profile::Rmqtt, Profile::Hivemq, Profile::AzureEventGrid]
}

fn policy(publish: &[&str], subscribe: &[&str]) -> Option<Policy> {
    let owned = |filters: &[&str]| filters.iter().map(|filter| (*filter).to_owned()).collect();
    let document = PolicyDocument {
        publish: owned(publish),
        subscribe: owned(subscribe),
        scope: Scope::ALL.to_string(),
        audiences: vec!["fleet".into()],
        token_lifetime_s: 900,
        refresh_window: RefreshWindow::default(),
        static_passwords: false,
        device_password_grant: false,
    };
    Policy::from_document(&document, 86_400).ok()
}

/// A device for which a token is asked.
struct Device {
    name: &'static str,
    client_id: &'static str,
    group: &'static str,
    site: &'static str,
    scope: Option<&'static str>,
}

const PUMP: Device = Device { name: "pump-1", client_id: "c~1", group: "pumps", site: "north", scope: None };

impl Device {
    /// What a broker of this profile finds in the token, if there is one.
    fn claims(&self, profile: &Profile, policy: &Policy) -> Result<Value, Misread> {
        let (device, group) = (self.name.parse().unwrap(), self.group.parse().unwrap());
        let ids = [self.client_id.parse().unwrap()];
        let attributes: Attributes = [("site".parse().unwrap(), self.site.parse().unwrap())].into();
        let subject =
            Subject { device: &device, group: &group, mqtt_client_ids: &ids, attributes: &attributes };
        let grant = policy.grant(&subject, &Request { scope: self.scope, mqtt_client_id: None }).unwrap();
        profile.check_grant(&grant)?;
        let content = Content {
            grant: &grant,
            issuer: "https://id.example",
            audience: "fleet",
            token_id: TokenId::from_bytes([0; 16]),
            now: NOW,
            lifetime_s: 900,
            certificate: None,
        };
        Ok(serde_json::from_slice(&profile.write(&content).unwrap()).unwrap())
    }
}

fn refused(profile: &Profile, publish: &[&str], subscribe: &[&str]) -> Option<Inexpressible> {
    profile.check_policy(&policy(publish, subscribe).unwrap()).err()
}

#[test]
fn each_name_reads_as_its_profile() {
    for name in Profile::NAMES {
        assert_eq!(Profile::from_parts(name, None).unwrap().as_str(), name);
    }
    assert_eq!(Profile::from_parts("rabbitmq", None).unwrap().vhost(), Some("/"));
    assert_eq!(Profile::from_parts("rabbitmq", Some("eu".into())).unwrap().vhost(), Some("eu"));
    for vhost in ["", "a{b}", "a\n", &"x".repeat(256)] {
        assert_eq!(Profile::from_parts("rabbitmq", Some(vhost.into())).unwrap_err().field(), "vhost");
    }
    assert_eq!(Profile::from_parts("hivemq", Some("/".into())).unwrap_err().field(), "vhost");
    assert_eq!(Profile::from_parts("RabbitMQ", None).unwrap_err().field(), "profile");
}

/// What is in the database must be read for ever.
#[test]
fn profiles_are_kept_as_they_were() {
    let kept = |profile: &Profile| serde_json::to_value(profile).unwrap();
    assert_eq!(kept(&Profile::AzureEventGrid), json!("azure-event-grid"));
    assert_eq!(kept(&rabbitmq()), json!({"rabbitmq": {"vhost": "/"}}));
    for name in Profile::NAMES {
        let profile = Profile::from_parts(name, None).unwrap();
        assert_eq!(serde_json::from_value::<Profile>(kept(&profile)).unwrap(), profile);
    }
}

#[test]
fn type_and_algorithms_are_what_the_broker_takes() {
    for profile in native() {
        let azure = profile == Profile::AzureEventGrid;
        assert_eq!(profile.token_type(), if azure { TokenType::Jwt } else { TokenType::AccessToken });
        assert_eq!(profile.algorithms()[0], if azure { Algorithm::RS256 } else { Algorithm::ES256 });
        assert_eq!(profile.algorithms().contains(&Algorithm::ES256), !azure);
        assert!(!profile.checks_confirmation(), "a bound token would be taken for one that anybody may bear");
    }
    assert!(Profile::Fleetbadge.checks_confirmation());
}

#[test]
fn the_claims_are_exact() {
    let topics = policy(&["up/${clientid}/x"], &["down/${attr.site}/#"]).unwrap();
    let none = policy(&[], &[]).unwrap();
    let common = |more: Value| {
        let mut claims = json!({
            "iss": "https://id.example", "sub": "pump-1", "aud": "fleet", "exp": NOW.0 + 900, "iat": NOW.0,
            "nbf": NOW.0, "jti": "AAAAAAAAAAAAAAAAAAAAAA", "client_id": "pump-1", "mqtt_client_id": "c~1",
            "scope": "mqtt.connect mqtt.publish mqtt.subscribe", "groups": ["pumps"],
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    assert_eq!(
        PUMP.claims(&Profile::Emqx, &topics).unwrap(),
        common(json!({"acl": {"pub": ["up/c~1/x"], "sub": ["down/north/#"]}}))
    );
    let rule =
        |permission, action, topic| json!({"permission": permission, "action": action, "topic": topic});
    assert_eq!(
        PUMP.claims(&Profile::Rmqtt, &topics).unwrap(),
        common(json!({"acl": [
            rule("allow", "publish", "up/c~1/x"), rule("allow", "subscribe", "down/north/#"),
            rule("deny", "all", "#"), rule("deny", "all", "+/#"), rule("deny", "all", "$SYS/#"),
        ]}))
    );
    let scope = "mqtt.connect mqtt.publish mqtt.subscribe \
                 fleet.write:%2F/amq.topic/up.c~1.x \
                 fleet.read:%2F/amq.topic/down.north fleet.read:%2F/amq.topic/down.north.* \
                 fleet.configure:%2F/mqtt-subscription-c~1qos0 fleet.write:%2F/mqtt-subscription-c~1qos0 \
                 fleet.read:%2F/mqtt-subscription-c~1qos0 \
                 fleet.configure:%2F/mqtt-subscription-c~1qos1 fleet.write:%2F/mqtt-subscription-c~1qos1 \
                 fleet.read:%2F/mqtt-subscription-c~1qos1";
    assert_eq!(PUMP.claims(&rabbitmq(), &topics).unwrap(), common(json!({"scope": scope})));
    assert_eq!(PUMP.claims(&Profile::AzureEventGrid, &none).unwrap(), common(json!({})));
    let pump = Device { client_id: "pump-1", ..PUMP };
    assert_eq!(
        pump.claims(&Profile::Hivemq, &none).unwrap(),
        json!({"iss": "https://id.example", "sub": "pump-1", "aud": "fleet", "exp": NOW.0 + 900, "iat": NOW.0,
               "scope": "mqtt.connect mqtt.publish mqtt.subscribe"})
    );
}

#[test]
fn a_virtual_host_is_one_part_of_a_scope() {
    let profile = Profile::Rabbitmq { vhost: "eu/*:1 +".into() };
    let claims = PUMP.claims(&profile, &policy(&["a b/ü"], &[]).unwrap()).unwrap();
    let scope = claims["scope"].as_str().unwrap();
    assert!(scope.contains(" fleet.write:eu%2F%2A%3A1%20%2B/amq.topic/a%20b.%C3%BC "), "{scope}");
}

#[test]
fn less_scope_is_fewer_topics_but_never_the_right_to_connect() {
    let topics = policy(&["up"], &["down"]).unwrap();
    let publisher = Device { scope: Some("mqtt.connect mqtt.publish"), ..PUMP };
    let scope = publisher.claims(&rabbitmq(), &topics).unwrap()["scope"].as_str().unwrap().to_owned();
    assert!(scope.contains("amq.topic/up") && !scope.contains("amq.topic/down"), "{scope}");
    assert_eq!(publisher.claims(&Profile::Rmqtt, &topics).unwrap()["acl"].as_array().unwrap().len(), 4);
    let without = Device { scope: Some("mqtt.publish"), client_id: "pump-1", ..PUMP };
    for profile in native() {
        let policy = if profile.carries_topics() { &topics } else { &policy(&[], &[]).unwrap() };
        let error = without.claims(&profile, policy).unwrap_err();
        assert_eq!(error, Misread::NoConnect { profile: profile.as_str() });
    }
    assert!(without.claims(&Profile::Fleetbadge, &topics).is_ok(), "the validator looks");
}

#[test]
fn names_that_a_broker_would_misread_get_no_token() {
    let topics = policy(&["up/${group}/${attr.site}"], &[]).unwrap();
    let misread = |device: Device| device.claims(&rabbitmq(), &topics).unwrap_err().to_string();
    assert!(PUMP.claims(&rabbitmq(), &topics).is_ok());
    assert_eq!(
        misread(Device { name: "pump.1", ..PUMP }),
        "the device pump.1 has '.' or ':', which mean something to this broker (rabbitmq)"
    );
    assert!(misread(Device { name: "eu:pump", ..PUMP }).starts_with("the device eu:pump"));
    assert!(misread(Device { client_id: "c.1", ..PUMP }).starts_with("mqtt_client_id c.1"));
    assert!(misread(Device { group: "a.b", ..PUMP }).contains("up/a.b/north"));
    assert!(misread(Device { site: "a.b", ..PUMP }).contains("up/pumps/a.b"));
    let none = policy(&[], &[]).unwrap();
    let error = PUMP.claims(&Profile::Hivemq, &none).unwrap_err();
    assert!(error.to_string().contains("can only bind a token to the device's name"), "{error}");
    assert!(PUMP.claims(&Profile::AzureEventGrid, &none).is_ok());
}

#[test]
fn rules_that_a_broker_cannot_express_are_refused_with_the_reason() {
    let (emqx, rabbitmq, rmqtt) = (Profile::Emqx, rabbitmq(), Profile::Rmqtt);
    let (hivemq, azure) = (Profile::Hivemq, Profile::AzureEventGrid);
    for (profile, filter, reason) in [
        (&emqx, "eq a/+/b", "what comes after \"eq \" literally"),
        (&emqx, "${attr.site} /b", "what comes after \"eq \" literally"),
        (&emqx, "#", "reach $-topics"),
        (&emqx, "+/a", "reach $-topics"),
        (&emqx, "a/+", "\"#\" in place of the last \"+\""),
        (&emqx, "a/+/#", "\"#\" in place of the last \"+\""),
        (&rmqtt, "eq a", "literally"),
        (&rmqtt, "+", "would take a level that begins with '$'"),
        (&rmqtt, "a/+", "would take a level that begins with '$'"),
        (&rmqtt, "a/$b", "behind the first"),
        (&rabbitmq, "a/+/b", "cannot express \"+\""),
        (&rabbitmq, "#", "reach $-topics"),
        (&rabbitmq, "a.b", "'.' in a topic for '/'"),
        (&rabbitmq, "a*", "a wildcard"),
        (&rabbitmq, "a/{vhost}", "a variable"),
        (&hivemq, "a", "HiveMQ's own permissions"),
        (&azure, "a", "permission bindings"),
    ] {
        let found = refused(profile, &[], &["fine", filter]).or_else(|| refused(profile, &[], &[filter]));
        let Some(Inexpressible { field, rule, reason: found }) = found else {
            panic!("{} takes {filter}", profile.as_str());
        };
        assert_eq!(field, "subscribe");
        assert!(rule == filter || !profile.carries_topics(), "{rule}");
        assert!(found.contains(reason), "{}: {filter}: {found}", profile.as_str());
        assert!(refused(&Profile::Fleetbadge, &[filter], &[filter]).is_none());
    }
    // What is published to has no wildcard.
    assert_eq!(refused(&emqx, &["a/+"], &[]), None);
    // Placeholders have braces and dots that are none of the topic's.
    for profile in [emqx, rabbitmq, rmqtt] {
        assert_eq!(refused(&profile, &["a/${attr.site}/#"], &["${device}/${group}", "$sys/a"]), None);
    }
}

/// Levels of filters and topics, the awkward ones among them.
fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "a", "b", "", "$a", "+", "+", "#", "a b", "é", "eq a", "%2F", "*", "q~1"])
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5).prop_map(|levels| levels.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, max_global_rejects: 2_000_000, ..ProptestConfig::default() })]

    /// The same topics, and the same subscriptions: not one more, not one less.
    #[test]
    fn what_is_written_means_what_was_granted(rule in text(), asked in text()) {
        for profile in [Profile::Emqx, rabbitmq(), Profile::Rmqtt] {
            let publish = policy(&[&rule], &[]).filter(|policy| profile.check_policy(policy).is_ok());
            if let Some(policy) = publish {
                let claims = PUMP.claims(&profile, &policy).unwrap();
                as_brokers_compare::publish(&profile, &claims, &rule, &asked)?;
            }
            let subscribe = policy(&[], &[&rule]).filter(|policy| profile.check_policy(policy).is_ok());
            if let Some(policy) = subscribe {
                let claims = PUMP.claims(&profile, &policy).unwrap();
                as_brokers_compare::subscribe(&profile, &claims, &rule, &asked)?;
            }
        }
    }
}
