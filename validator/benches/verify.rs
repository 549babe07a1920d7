//! What a verification costs beyond the signature, and what it costs when the
//! token was seen before:
//! `cargo bench -p fleetbadge-validator --features test-support`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a bench"
)]

use std::alloc::System;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetbadge_ratio::{Target, allocations, compare, report};
use fleetbadge_validator::access::Action;
use fleetbadge_validator::freshness::Freshness;
use fleetbadge_validator::jwk::PublicKey;
use fleetbadge_validator::keys::KeySet;
use fleetbadge_validator::memory::Memory;
use fleetbadge_validator::revocations::Revocation;
use fleetbadge_validator::revocations::RevocationState::{self, NotFollowed};
use fleetbadge_validator::test_support::{TestKey, claims};
use fleetbadge_validator::time::UnixSeconds;
use fleetbadge_validator::verify::Verifier;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: UnixSeconds = UnixSeconds(1_000_060);

fn main() {
    let key = TestKey::generate();
    let mut claims = claims("pump-1", 1_000_000, 1_000_900);
    claims["acl"] =
        json!({"pub": ["devices/pump-1/#", "fleet/+/pump-1/telemetry"], "sub": ["commands/pump-1/#"]});
    let token = key.token(&claims);
    let (keys, _) = KeySet::from_json("https://id.example", key.jwks().as_bytes()).unwrap();
    let verifier = Verifier::new("https://id.example", "mqtt");
    let verify = || verifier.verify(&token, "pump-1", &keys, &NotFollowed, NOW).unwrap();

    let PublicKey::P256 { x, y } = key.public() else { panic!("it is a P-256 key") };
    let raw_key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4][..], &x, &y].concat()).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let raw = || raw_key.verify_sig(message.as_bytes(), &signature).unwrap();

    println!(
        "a token of {} bytes with three rules; {} bytes in memory",
        token.len(),
        verify().signed().size()
    );
    compare(verify, raw).report("verify / raw ES256 check", Target::AtMost(1.08));
    let count = || ALLOCATOR.stats().allocations + ALLOCATOR.stats().reallocations;
    let raw_allocations = allocations(count, raw);
    println!(
        "allocations: {} (≤ 12), of which the raw check makes {raw_allocations}",
        allocations(count, verify)
    );

    let revoke = |n: u64| Revocation::of_device(&format!("other-{n}"), UnixSeconds(n), NOW);
    let revocations = RevocationState::Known {
        revocations: Arc::new((0..1_000).map(revoke).collect()),
        freshness: Freshness { confirmed_at: NOW, max_staleness_s: 60 },
    };
    let followed = || verifier.verify(&token, "pump-1", &keys, &revocations, NOW).unwrap();
    compare(followed, verify).report("verify with 1,000 revocations / without", Target::AtMost(1.02));
    println!("allocations with revocations: {} (as many as without)", allocations(count, followed));

    let mut memory = Memory::default();
    let mut again =
        || verifier.verify_remembered(&token, "pump-1", &keys, &revocations, &mut memory, NOW).unwrap();
    again();
    compare(again, verify).report("a token seen before / verify", Target::AtMost(1.0 / 40.0));

    bytes_remembered(&key, &claims, |token, client, memory| {
        verifier.verify_remembered(token, client, &keys, &NotFollowed, memory, NOW).map(drop).unwrap();
    });

    let verified = verify();
    let topics = ["fleet/north/pump-1/telemetry", "devices/pump-2/temperature", "devices/pump-1/temperature"];
    let rules = ["devices/pump-1/#", "fleet/+/pump-1/telemetry", "commands/pump-1/#"];
    compare(
        || topics.map(|topic| verified.allows(Action::Publish, topic, NOW).is_ok()),
        || topics.map(|topic| rules.into_iter().take(2).any(|rule| split_and_compare(rule, topic))),
    )
    .report("three topics checked / naive split and compare", Target::AtMost(1.0));
}

/// How much memory a token takes that was seen before, all of it: what is
/// allocated for many, shared by their number.
fn bytes_remembered(key: &TestKey, claims: &Value, mut verify: impl FnMut(&str, &str, &mut Memory)) {
    const TOKENS: usize = 10_000;
    let like = |n: usize| {
        let client = format!("pump-{n:05}");
        let claims = claims.to_string().replace("pump-1", &client);
        (key.token(&serde_json::from_str(&claims).unwrap()), client)
    };
    let tokens: Vec<_> = (0..TOKENS).map(like).collect();
    let held = || {
        let stats = ALLOCATOR.stats();
        stats.bytes_allocated - stats.bytes_deallocated
    };
    let (before, mut memory) = (held(), Memory::default());
    for (token, client) in &tokens {
        verify(token, client, &mut memory);
    }
    assert_eq!(memory.len(), TOKENS);
    let bytes = (held() - before) as f64 / TOKENS as f64;
    report("bytes of memory for a token seen before", bytes, Target::AtMost(600.0));
}

/// The plainest way: split both, compare level by level.
fn split_and_compare(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(other)) if level == other => {}
            _ => return false,
        }
    }
}
