//! A guarded Mosquitto beside one that lets everybody in: what connecting and
//! publishing costs, and how long a fleet that goes holds up others:
//! `cargo bench -p fleetbadge-mosquitto`, with versions of Mosquitto after `--`
//! for those alone. The broker has one core, the load the other.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench"
)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_ratio::{PAIRS, Target, compare_runs, report};
use fleetbadge_tests::badges::{ISSUER, following, plugged};
use fleetbadge_tests::broker::{Mosquitto, MosquittoBuilder, MosquittoVersion};
use fleetbadge_tests::wire::{Connect, Protocol};
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::test_support::feed_server::FeedServer;
use fleetbadge_validator::test_support::{TestKey, claims};
use fleetbadge_validator::time::{Clock as _, SystemClock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

mod load;

/// Connections in a turn.
const TURN: usize = 2_000;
/// How many clients go at once, or as many as the machine lets a process have
/// files, but for those that others need.
const FLEET: usize = 50_000;
const OTHER_FILES: usize = 1_000;
/// How long the tokens of a fleet live that is to go by itself: long enough to
/// connect all of it.
const LIFE_S: u64 = 40;

const VERSIONS: [(&str, MosquittoVersion); 3] = [
    ("2.0.11", MosquittoVersion::V2_0_11),
    ("2.0.21", MosquittoVersion::V2_0_21),
    ("2.1", MosquittoVersion::V2_1),
];

fn main() {
    load::stay_off_the_brokers_core();
    let files = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).unwrap();
    let fleet = files.map_or(FLEET, |files| FLEET.min(files as usize - OTHER_FILES));
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let signers = [Signer::es256(), Signer::rs256()];
    for (name, version) in VERSIONS {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            println!("Mosquitto {name}");
            let open = start(Mosquitto::builder(version).config_line("allow_anonymous true"));
            connecting(version, &open, &signers);
            publishing(version, &open, &signers[0]);
            leaving(version, &signers[0], fleet);
        }
    }
}

/// What signs the tokens.
enum Signer {
    Es256(TestKey),
    Rs256(RsaKeyPair),
}

impl Signer {
    fn es256() -> Self {
        Self::Es256(TestKey::generate())
    }

    fn rs256() -> Self {
        Self::Rs256(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn jwks(&self) -> String {
        match self {
            Self::Es256(key) => key.jwks(),
            Self::Rs256(key) => {
                // RFC 8017 A.1.1, in DER: a header of 9 bytes, the modulus of
                // 2048 bits, the exponent.
                let n = URL_SAFE_NO_PAD.encode(&key.public_key().as_ref()[9..265]);
                json!({"keys": [{"kty": "RSA", "alg": "RS256", "kid": "rsa", "n": n, "e": "AQAB"}]})
                    .to_string()
            }
        }
    }

    fn sign(&self, claims: &Value) -> String {
        match self {
            Self::Es256(key) => key.token(claims),
            Self::Rs256(key) => {
                let header = json!({"alg": "RS256", "typ": "at+jwt", "kid": "rsa"}).to_string();
                let [header, payload] = [header, claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
                let signed = format!("{header}.{payload}");
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
                format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
            }
        }
    }

    /// The CONNECT of a client with a new token, which has three rules.
    fn connect(&self, client: &str, jti: usize, life_s: u64) -> Vec<u8> {
        let now = SystemClock.now();
        let mut claims = claims(client, now.minus(1).0, now.plus(life_s).0);
        claims["jti"] = json!(format!("{client}-{jti}"));
        let filters =
            [format!("commands/{client}/#"), "fleet/+/status".into(), format!("devices/{client}/#")];
        claims["acl"] = json!({"pub": filters, "sub": filters});
        claims["groups"] = json!([client.split('-').next()]);
        let token = self.sign(&claims);
        Connect { client_id: client, username: Some(&token), ..Connect::default() }.to_bytes(Protocol::V5)
    }

    fn connects(&self, clients: usize, jti: usize, life_s: u64) -> Vec<Vec<u8>> {
        (0..clients).map(|n| self.connect(&format!("device-{n:05}"), jti, life_s)).collect()
    }

    fn guarded(&self, version: MosquittoVersion) -> MosquittoBuilder {
        let broker = Mosquitto::builder(version);
        let jwks = broker.dir().write("jwks.json", self.jwks().as_bytes());
        plugged(broker, ISSUER).plugin_opt("jwks_file", &jwks.to_string_lossy())
    }
}

fn start(broker: MosquittoBuilder) -> Mosquitto {
    let broker = broker.logging_little().start();
    load::give_core(&broker);
    broker
}

fn connecting(version: MosquittoVersion, open: &Mosquitto, signers: &[Signer; 2]) {
    let anonymous: Vec<Vec<u8>> = (0..TURN)
        .map(|n| {
            Connect { client_id: &format!("device-{n:05}"), ..Connect::default() }.to_bytes(Protocol::V5)
        })
        .collect();
    let anonymous = || load::connect_rate(open.port(), &anonymous);
    let first_seen = ["first-seen ES256 / anonymous connections", "first-seen RS256 / anonymous connections"];
    for ((signer, name), at_least) in signers.iter().zip(first_seen).zip([0.55, 0.78]) {
        let guarded = start(signer.guarded(version));
        let turns: Vec<_> = (0..PAIRS).map(|turn| signer.connects(TURN, turn, 900)).collect();
        let turn = Cell::new(0);
        let connecting = || load::connect_rate(guarded.port(), &turns[turn.replace(turn.get() + 1)]);
        compare_runs(connecting, anonymous).report(name, Target::AtLeast(at_least));
        assert_eq!(turn.get(), PAIRS, "each turn had tokens of its own");
        if matches!(signer, Signer::Es256(_)) {
            let again = || load::connect_rate(guarded.port(), &turns[0]);
            compare_runs(again, anonymous)
                .report("tokens seen before / anonymous connections", Target::AtLeast(0.95));
        }
    }
}

fn publishing(version: MosquittoVersion, open: &Mosquitto, signer: &Signer) {
    let guarded = start(signer.guarded(version));
    let connect = signer.connect("publisher", 0, 900);
    let topic = "devices/publisher/temperature";
    let at_least = if matches!(version, MosquittoVersion::V2_1) { 0.88 } else { 0.95 };
    compare_runs(
        || load::publish_rate(guarded.port(), &connect, topic),
        || load::publish_rate(open.port(), &connect, topic),
    )
    .report("publishing with topics checked / without a plugin", Target::AtLeast(at_least));
}

/// A whole fleet that is asked for at a reload, whose tokens end, and whose
/// tokens are revoked.
fn leaving(version: MosquittoVersion, signer: &Signer, clients: usize) {
    let feed = FeedServer::start(Duration::from_secs(1));
    let broker = following(signer.guarded(version), &feed).config_line("max_connections -1");
    let mut broker = start(broker);
    broker.wait_for_log("revocations");
    let port = broker.port();
    let pinging = signer.connect("pinging", 0, 900);

    let began = Instant::now();
    let connects = signer.connects(clients, 0, LIFE_S);
    let fleet = load::connect_all(port, &connects);
    println!("  {clients} clients connected within {:.0} s", began.elapsed().as_secs_f64());
    told("SIGHUP", &load::pings_during(port, &pinging, || broker.signal_hup()));
    let left = Duration::from_secs(LIFE_S).saturating_sub(began.elapsed());
    std::thread::sleep(left);
    told("all tokens end", &load::pings_during(port, &pinging, || load::wait_for_the_end_of(&fleet)));
    drop(fleet);

    let fleet = load::connect_all(port, &signer.connects(clients, 1, 900));
    let revoked = load::pings_during(port, &pinging, || {
        let now = SystemClock.now();
        feed.revoke(Revocation::of_group("device", now.plus(1), now.plus(900)));
        load::wait_for_the_end_of(&fleet);
    });
    told("all tokens are revoked", &revoked);
}

fn told(event: &str, pings: &[f64]) {
    let at = |share: f64| pings[((pings.len() - 1) as f64 * share) as usize];
    println!("  {event}: {} pings, p50 {:.2} ms, most {:.1} ms", pings.len(), at(0.5), at(1.0));
    report("p99 of a ping in ms meanwhile", at(0.99), Target::AtMost(50.0));
}
