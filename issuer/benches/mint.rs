//! What minting costs beyond the signature: `cargo bench -p fleetbadge-issuer
//! --bench mint`.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_issuer::mint::{TokenId, mint};
use fleetbadge_issuer::policy::{Policy, PolicyDocument, RefreshWindow, Request, Subject};
use fleetbadge_issuer::profile::{Content, Profile};
use fleetbadge_issuer::root_key::RootKey;
use fleetbadge_issuer::signing_keys::SigningKey;
use fleetbadge_issuer::store::Attributes;
use fleetbadge_ratio::{Target, compare};
use fleetbadge_validator::time::UnixSeconds;

fn main() {
    let random = SystemRandom::new();
    let (key, _) = SigningKey::generate(&RootKey::generate(&random).unwrap().key_sealer()).unwrap();
    let document = PolicyDocument {
        publish: vec!["devices/${clientid}/#".into(), "fleet/${group}/${device}/telemetry".into()],
        subscribe: vec!["commands/${clientid}/#".into()],
        scope: "mqtt.connect mqtt.publish mqtt.subscribe".into(),
        audiences: vec!["mqtt".into()],
        token_lifetime_s: 900,
        refresh_window: RefreshWindow::default(),
        static_passwords: false,
        device_password_grant: false,
    };
    let policy = Policy::from_document(&document, 86_400).unwrap();
    let (device, group) = ("pump-1".parse().unwrap(), "pumps".parse().unwrap());
    let ids = ["pump-1".parse().unwrap()];
    let attributes = Attributes::default();
    let subject = Subject { device: &device, group: &group, mqtt_client_ids: &ids, attributes: &attributes };
    let decide_and_mint = || {
        let grant = policy.grant(&subject, &Request::default()).unwrap();
        let content = Content {
            grant: &grant,
            issuer: "https://id.example",
            audience: "mqtt",
            token_id: TokenId::generate(&random).unwrap(),
            now: UnixSeconds(1_800_000_000),
            lifetime_s: 900,
            certificate: None,
        };
        mint(&content, &Profile::Fleetbadge, &key).unwrap()
    };

    let token = decide_and_mint();
    let mut segments = token.split('.');
    let header = segments.next().unwrap();
    let payload = URL_SAFE_NO_PAD.decode(segments.next().unwrap()).unwrap();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let sign_and_encode = || {
        let mut token = String::with_capacity(1024);
        token.push_str(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
        let signature = pair.sign(&random, token.as_bytes()).unwrap();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    };
    println!("a token of {} bytes with three rules", token.len());
    compare(decide_and_mint, sign_and_encode)
        .report("policy and mint / raw signature and encoding", Target::AtMost(1.10));
}
