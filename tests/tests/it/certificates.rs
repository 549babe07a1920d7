//! Tokens that are bound to a certificate (RFC 8705 §3): good over a
//! connection with that certificate, and nowhere else.

use std::fs;

use fleetbadge_tests::auth_client::AuthClient;
use fleetbadge_tests::authority::{Authority, ClientCertificate};
use fleetbadge_tests::badges::{Badges, plugged};
use fleetbadge_tests::broker::{Mosquitto, MosquittoBuilder, MosquittoVersion};
use fleetbadge_tests::{on_every_mosquitto, ports};
use serde_json::{Value, json};

on_every_mosquitto!(
    bound_token_is_good_with_its_certificate_alone,
    bound_token_is_refused_where_nobody_shows_certificates,
    bound_token_by_websocket,
    listeners_with_settings_of_their_own,
);

/// A listener with TLS; `asks` for certificates of clients or does not.
fn with_tls(broker: MosquittoBuilder, authority: &Authority, asks: bool) -> MosquittoBuilder {
    let copy = |name: &str, file| broker.dir().write(name, &fs::read(file).expect("a file"));
    let files = [
        ("cafile", copy("ca.pem", authority.certificate_of_authority())),
        ("certfile", copy("server.pem", authority.certificate())),
        ("keyfile", copy("server.key", authority.key())),
    ];
    let broker = files
        .iter()
        .fold(broker, |broker, (name, path)| broker.config_line(&format!("{name} {}", path.display())));
    if asks { broker.config_line("require_certificate true") } else { broker }
}

fn bound(badges: &Badges, to: &ClientCertificate) -> String {
    badges.token_with("pump-1", &json!({"cnf": {"x5t#S256": to.thumbprint}}))
}

/// How to connect as `pump-1`, over TLS with a certificate.
fn over_tls(authority: &Authority, certificate: Option<&ClientCertificate>) -> Value {
    let mut connect = json!({"client_id": "pump-1", "authority": authority.certificate_of_authority()});
    if let Some(ClientCertificate { certificate, key, .. }) = certificate {
        connect["certificate"] = json!(certificate);
        connect["key"] = json!(key);
    }
    connect
}

/// Connects with a token by each way that there is, and returns the reason
/// that all of them have got.
fn reason(port: u16, connect: &Value, token: &str) -> Value {
    let answers = [json!({"username": token}), json!({"method": "OAUTH2-JWT", "data": token})].map(|way| {
        let mut connect = connect.clone();
        connect.as_object_mut().unwrap().extend(way.as_object().unwrap().clone());
        let (_, answer) = AuthClient::connect(port, &connect);
        assert_eq!(answer["packet"], "CONNACK", "{answer}");
        answer["reason"].clone()
    });
    assert_eq!(answers[0], answers[1]);
    answers[0].clone()
}

fn bound_token_is_good_with_its_certificate_alone(version: MosquittoVersion) {
    let (badges, authority) = (Badges::new(), Authority::new());
    let (own, other) = (authority.client("pump-1"), authority.client("pump-2"));
    let mut broker = with_tls(badges.guarded(version), &authority, true).start();
    let (bound, port) = (bound(&badges, &own), broker.port());
    let twice = badges.token_with("pump-1", &json!({"cnf": {"x5t#S256": own.thumbprint, "jkt": "x"}}));
    for _ in 0..2 {
        for (token, certificate, expected) in [
            (&bound, &own, 0),
            (&bound, &other, 0x87),
            (&badges.token("pump-1"), &other, 0),
            (&badges.token("pump-2"), &own, 0x87),
            (&twice, &own, 0x87),
        ] {
            let connect = over_tls(&authority, Some(certificate));
            assert_eq!(reason(port, &connect, token), json!(expected));
        }
    }
    broker.wait_for_log("(certificate_differs)");
    broker.wait_for_log("(confirmation_unproven)");

    // A new token of the connection in use needs it too.
    let connect = |certificate, token: &str| {
        let mut connect = over_tls(&authority, Some(certificate));
        connect["method"] = json!("OAUTH2-JWT");
        connect["data"] = json!(token);
        let (client, answer) = AuthClient::connect(port, &connect);
        assert_eq!(answer["reason"], 0);
        client
    };
    let mut client = connect(&own, &bound);
    assert_eq!(client.reauthenticate(&bound)["packet"], "AUTH");
    assert_eq!(client.subscribe("devices/pump-1/#", 0), 0);
    assert_eq!(client.publish("devices/pump-1/x", "21"), 0);
    let mut client = connect(&other, &badges.token("pump-1"));
    assert_eq!(client.reauthenticate(&bound)["reason"], 0x87);
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

fn bound_token_is_refused_where_nobody_shows_certificates(version: MosquittoVersion) {
    let (badges, authority) = (Badges::new(), Authority::new());
    let own = authority.client("pump-1");
    let bound = bound(&badges, &own);
    let plain = badges.guarded(version).start();
    assert_eq!(reason(plain.port(), &json!({"client_id": "pump-1"}), &bound), json!(0x87));
    plain.wait_for_log("(certificate_missing)");
    // TLS without a question for certificates.
    let tls = with_tls(badges.guarded(version), &authority, false).start();
    let connect = over_tls(&authority, Some(&own));
    assert_eq!(reason(tls.port(), &connect, &badges.token("pump-1")), json!(0));
    assert_eq!(reason(tls.port(), &connect, &bound), json!(0x87));
    tls.wait_for_log("(certificate_missing)");
}

/// Debian 12's own Mosquitto has no WebSockets over TLS.
fn bound_token_by_websocket(version: MosquittoVersion) {
    let (badges, authority) = (Badges::new(), Authority::new());
    let (own, other) = (authority.client("pump-1"), authority.client("pump-2"));
    let broker = badges.guarded(version).config_line("protocol websockets");
    let broker = with_tls(broker, &authority, true);
    if version == MosquittoVersion::V2_0_11 {
        assert!(broker.fails_to_start().stderr.contains("Unable to start any listening sockets"));
        return;
    }
    let broker = broker.start();
    let ask = |certificate, token: &str| {
        let mut connect = over_tls(&authority, Some(certificate));
        connect["websocket"] = json!(true);
        reason(broker.port(), &connect, token)
    };
    let bound = bound(&badges, &own);
    assert_eq!(ask(&own, &badges.token("pump-1")), json!(0));
    assert_eq!(ask(&own, &badges.token("pump-2")), json!(0x87));
    assert_eq!(ask(&own, &bound), json!(0));
    assert_eq!(ask(&other, &bound), json!(0x87));
    broker.wait_for_log("(certificate_differs)");
}

fn listeners_with_settings_of_their_own(version: MosquittoVersion) {
    let (badges, authority) = (Badges::new(), Authority::new());
    let own = authority.client("pump-1");
    let bound = bound(&badges, &own);
    let [tls_port, ws_port] = [ports::free(), ports::free()];
    let broker = badges.guarded(version).global_config_line("per_listener_settings true");
    let jwks = broker.dir().write("jwks.json", badges.jwks().as_bytes());
    let guarded = |broker| {
        plugged(broker, fleetbadge_tests::badges::ISSUER).plugin_opt("jwks_file", &jwks.to_string_lossy())
    };
    let broker = broker.config_line(&format!("listener {tls_port} 127.0.0.1"));
    let broker = with_tls(guarded(broker), &authority, true);
    let broker = broker.config_line(&format!("listener {ws_port} 127.0.0.1"));
    let mut broker: Mosquitto = guarded(broker.config_line("protocol websockets")).start();
    let plain = json!({"client_id": "pump-1"});
    let by_websocket = json!({"client_id": "pump-1", "websocket": true});
    for round in 0..2 {
        let good = badges.token("pump-1");
        for (port, connect, bound_too) in [
            (broker.port(), &plain, false),
            (tls_port, &over_tls(&authority, Some(&own)), true),
            (ws_port, &by_websocket, false),
        ] {
            assert_eq!(reason(port, connect, &good), json!(0), "{round} {connect}");
            let expected = if bound_too { 0 } else { 0x87 };
            assert_eq!(reason(port, connect, &bound), json!(expected), "{round} {connect}");
            let mut connect = connect.clone();
            connect["method"] = json!("OAUTH2-JWT");
            connect["data"] = json!(good);
            let (mut client, answer) = AuthClient::connect(port, &connect);
            assert_eq!(answer["reason"], 0);
            assert_eq!(client.reauthenticate(&good)["packet"], "AUTH");
            assert_eq!(client.publish("devices/pump-1/x", "21"), 0x10);
            client.reauthenticate("rubbish");
            client.last_words();
        }
        broker.signal_hup();
    }
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
