//! OAuth clients that are not ours, Authlib and PyJWT, against the running
//! issuer.

use std::time::Duration;

use fleetbadge_tests::device::{Response, curl};
use fleetbadge_tests::issuer::Issuer;
use fleetbadge_tests::patience::{Deadline, PATIENCE};
use fleetbadge_tests::python::oauth;
use serde_json::{Value, json};

#[test]
fn authlib_gets_tokens_by_secret_that_pyjwt_verifies() {
    let issuer = Issuer::start();
    let device = issuer.add_device("pump-1");
    for method in ["client_secret_basic", "client_secret_post"] {
        let ask = |secret: &str| {
            oauth(&json!({"do": "token_by_secret", "issuer": issuer.url(), "method": method,
                          "client_id": "pump-1", "client_secret": secret, "scope": "mqtt.connect"}))
        };
        let granted = ask(&device.client_secret);
        assert_eq!(
            (granted["token_type"].as_str(), granted["scope"].as_str()),
            (Some("Bearer"), Some("mqtt.connect"))
        );
        let verified = verify(&issuer, &granted, "mqtt");
        assert_eq!(verified["header"]["alg"], "ES256");
        assert_eq!(verified["claims"]["sub"], "pump-1", "{method}");
        assert_eq!(verify(&issuer, &granted, "elsewhere")["error"], "InvalidAudienceError");
        assert_eq!(
            ask("fbs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")["error"],
            "invalid_client",
            "{method}"
        );
    }
}

#[test]
fn pyjwt_verifies_tokens_of_each_algorithm() {
    let issuer = Issuer::start();
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let name = algorithm.to_lowercase();
        let _: Value = issuer.json(&[
            "broker",
            "add",
            &name,
            "--audience",
            &name,
            "--profile",
            "fleetbadge",
            "--algorithm",
            algorithm,
        ]);
        let _: Value = issuer.json(&["group", "set", &name, "--audience", &name]);
        let device = format!("pump-{name}");
        let device = issuer.json(&["device", "add", &device, "--group", &name]);
        // RSA keys are made in the background: until then there is a 503.
        let deadline = Deadline::after(3 * PATIENCE);
        let granted = loop {
            let response = issuer.request_token(&serde_json::from_value(device.clone()).unwrap(), &[]);
            if response.status == 200 {
                break response.json();
            }
            assert_eq!(
                (response.status, response.header("retry-after").is_some()),
                (503, true),
                "{response:?}"
            );
            assert!(deadline.left().is_some(), "{algorithm}: {response:?}\n{}", issuer.log());
            std::thread::sleep(Duration::from_millis(200));
        };
        let verified = verify(&issuer, &granted, &name);
        assert_eq!(verified["header"]["alg"], algorithm, "{verified}");
        assert_eq!(verified["claims"]["client_id"], device["client_id"], "{verified}");
    }
}

#[test]
fn authlib_introspects_for_its_own_audience_alone() {
    let issuer = Issuer::start();
    let broker =
        |name: &str| issuer.json(&["broker", "add", name, "--audience", name, "--profile", "fleetbadge"]);
    let (mqtt, other) = (broker("mqtt"), broker("other"));
    let token = issuer.token(&issuer.add_device("pump-1"));
    let introspect = |broker: &Value, secret: &Value, token: &str| {
        oauth(&json!({"do": "introspect", "issuer": issuer.url(), "client_id": broker["client_id"],
                      "client_secret": secret, "token": token}))
    };
    let active = introspect(&mqtt, &mqtt["client_secret"], &token);
    assert_eq!(
        (active["status"].as_u64(), active["body"]["active"].as_bool()),
        (Some(200), Some(true)),
        "{active}"
    );
    assert_eq!(active["body"]["client_id"], "pump-1");
    let (mut tampered, last) = (token.clone(), token.chars().last());
    tampered.pop();
    tampered.push(if last == Some('A') { 'Q' } else { 'A' });
    for (broker, token) in [(&other, token.as_str()), (&mqtt, &tampered), (&mqtt, "nothing")] {
        let inactive = introspect(broker, &broker["client_secret"], token);
        assert_eq!(inactive, json!({"status": 200, "body": {"active": false}}));
    }
    let stranger = introspect(&mqtt, &other["client_secret"], &token);
    assert_eq!(
        (stranger["status"].as_u64(), stranger["body"]["error"].as_str()),
        (Some(401), Some("invalid_client"))
    );
}

#[test]
fn device_enrols_with_a_proof_by_pyjwt_and_gets_tokens_by_its_key_with_authlib() {
    let issuer = Issuer::start();
    let enrolment = issuer.json(&[
        "enrolment",
        "create",
        "--group",
        "default",
        "--name-pattern",
        "pump-*",
        "--uses",
        "1",
        "--expires",
        "1h",
    ]);
    let enrol = |changes: Value| {
        let mut step = json!({"do": "enrol", "issuer": issuer.url(), "token": enrolment["enrolment_token"],
                              "client_name": "pump-7"});
        step.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        oauth(&step)
    };
    for (what, proof) in [
        ("by another key", json!({"signed_by_another": true})),
        ("for another endpoint", json!({"htu": issuer.url() + "/oauth2/token"})),
        ("for another method", json!({"htm": "PUT"})),
        ("for another token", json!({"ath": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})),
        ("old", json!({"iat": 1_700_000_000})),
    ] {
        let refused = enrol(json!({"proof": proof}));
        assert!((400..=401).contains(&refused["status"].as_u64().unwrap()), "{what}: {refused}");
    }
    assert_ne!(
        enrol(json!({"client_name": "boiler-7"}))["status"],
        201,
        "a name that the pattern does not have"
    );
    let device = enrol(json!({}));
    assert_eq!(device["status"], 201, "refusals have used nothing up: {device}");
    assert_eq!(
        (&device["body"]["client_id"], &device["body"]["group"]),
        (&json!("pump-7"), &json!("default"))
    );
    assert_ne!(enrol(json!({"client_name": "pump-8"}))["status"], 201, "it was good for one device");

    let ask = |changes: Value| {
        let mut step = json!({"do": "token_by_key", "issuer": issuer.url(), "client_id": "pump-7",
                              "key": device["key"], "aud": issuer.url()});
        step.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        oauth(&step)
    };
    let granted = ask(json!({"jti": "only-once"}));
    let verified = verify(&issuer, &granted, "mqtt");
    assert_eq!(verified["claims"]["mqtt_client_id"], "pump-7", "{granted}");
    let stranger = json!({"key": enrol(json!({"client_name": "pump-9"}))["key"]});
    for (what, changes) in [
        ("used before", json!({"jti": "only-once"})),
        ("aud is the token endpoint, as Authlib has it by default", json!({"aud": null})),
        ("good for an hour, as Authlib has it by default", json!({"lifetime_s": null})),
        ("over", json!({"lifetime_s": -60})),
        ("by a key that was refused", stranger),
        ("of another device", json!({"client_id": "pump-8"})),
    ] {
        assert_eq!(ask(changes)["error"], "invalid_client", "{what}");
    }
    assert!(ask(json!({}))["access_token"].is_string(), "its key is still good");
}

/// What firmware does that was written for any other server: its password, and
/// nothing else of it.
#[test]
fn old_firmware_exchanges_its_password_by_curl_where_its_group_says_so() {
    let issuer = Issuer::start();
    let set = |option: &str| assert_eq!(issuer.command(&["group", "set", "default", option]).code, Some(0));
    set("--static-passwords");
    let _device = issuer.add_device("p3");
    let _other = issuer.add_device("p4");
    let password = issuer.json(&["device", "password", "set", "p3"])["password"].as_str().unwrap().to_owned();
    let url = issuer.url() + "/oauth2/token";
    let ask = |client_id: &str, username: &str, password: &str| {
        let [client_id, username] = [format!("client_id={client_id}"), format!("username={username}")];
        let password = format!("password={password}");
        curl(["-d", "grant_type=password", "-d", &client_id, "-d", &username, "-d", &password, &url])
    };
    let refused = |response: Response| {
        assert_eq!((response.status, &response.json()["error"]), (401, &json!("invalid_client")));
        response.body
    };
    let not_allowed = refused(ask("p3", "p3", &password));
    set("--device-password-grant");
    let granted = ask("p3", "p3", &password);
    assert_eq!(granted.status, 200, "{granted:?}");
    assert_eq!(verify(&issuer, &granted.json(), "mqtt")["claims"]["mqtt_client_id"], "p3");
    for (client_id, username, password) in
        [("p3", "p3", "wrong"), ("p4", "p3", &*password), ("p3", "p4", &password), ("p4", "p4", &password)]
    {
        let wrong = refused(ask(client_id, username, password));
        assert_eq!(wrong, not_allowed, "{client_id} {username}: nobody learns which it was");
    }
    set("--device-password-grant=false");
    refused(ask("p3", "p3", &password));
}

/// What PyJWT makes of a token that was granted.
fn verify(issuer: &Issuer, granted: &Value, audience: &str) -> Value {
    let step = json!({"do": "verify", "issuer": issuer.url(), "token": granted["access_token"], "audience": audience});
    oauth(&step)
}
