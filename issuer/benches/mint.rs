//! What minting costs beyond the signature, for each algorithm: `cargo bench -p
//! fleetbadge-issuer --bench mint`.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_issuer::mint::{TokenId, mint};
use fleetbadge_issuer::policy::{Policy, PolicyDocument, RefreshWindow, Request, Subject};
use fleetbadge_issuer::profile::{Content, Profile};
use fleetbadge_issuer::root_key::RootKey;
use fleetbadge_issuer::signing_keys::SigningKey;
use fleetbadge_issuer::store::Attributes;
use fleetbadge_ratio::{Target, compare};
use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::time::UnixSeconds;

fn main() {
    let random = SystemRandom::new();
    let sealer = RootKey::generate(&random).unwrap().key_sealer();
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
    let decide_and_mint = |key: &SigningKey| {
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
        mint(&content, &Profile::Fleetbadge, key).unwrap()
    };

    for (algorithm, target) in [
        (Algorithm::ES256, Target::AtMost(1.10)),
        (Algorithm::RS256, Target::AtMost(1.02)),
        (Algorithm::EdDSA, Target::AtMost(1.20)),
    ] {
        let (key, _) = SigningKey::generate(algorithm, &sealer).unwrap();
        let token = decide_and_mint(&key);
        let mut segments = token.split('.');
        let header = segments.next().unwrap();
        let payload = URL_SAFE_NO_PAD.decode(segments.next().unwrap()).unwrap();
        let sign = raw_signature(algorithm);
        let sign_and_encode = || {
            let mut token = String::with_capacity(2048);
            token.push_str(header);
            token.push('.');
            URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
            let signature = sign(token.as_bytes());
            token.push('.');
            URL_SAFE_NO_PAD.encode_string(signature, &mut token);
            token
        };
        let name = algorithm.as_str();
        println!("{name}: a token of {} bytes with three rules", token.len());
        compare(|| decide_and_mint(&key), sign_and_encode)
            .report(&format!("{name}: policy and mint / raw signature and encoding"), target);
    }
}

type Sign = dyn Fn(&[u8]) -> Vec<u8>;

/// The cryptographic library alone, with a key that is parsed.
fn raw_signature(algorithm: Algorithm) -> Box<Sign> {
    let random = SystemRandom::new();
    match algorithm {
        Algorithm::ES256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            Box::new(move |message| pair.sign(&random, message).unwrap().as_ref().to_vec())
        }
        Algorithm::RS256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            Box::new(move |message| {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            })
        }
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::generate().unwrap();
            Box::new(move |message| pair.sign(message).as_ref().to_vec())
        }
    }
}
