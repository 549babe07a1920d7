use super::*;

const END: UnixSeconds = UnixSeconds(2_000);

fn token(iat: u64) -> TokenFacts<'static> {
    TokenFacts { jti: "j", device: "pump-1", kid: "k", iat: UnixSeconds(iat) }
}

fn found(revocation: Revocation, iat: u64) -> bool {
    Revocations::from_iter([revocation]).find(&token(iat), ["pumps"]).is_some()
}

#[test]
fn each_target_names_its_tokens_and_no_others() {
    let before = UnixSeconds(1_000);
    for (revocation, same_time_is_spared) in [
        (Revocation::of_token("j", END), false),
        (Revocation::of_key("k", END), false),
        (Revocation::of_device("pump-1", before, END), true),
        (Revocation::of_group("pumps", before, END), true),
        (Revocation::of_all(before, END), true),
    ] {
        assert!(found(revocation.clone(), 999), "{revocation:?}");
        assert_eq!(found(revocation.clone(), 1_000), !same_time_is_spared, "{revocation:?}");
    }
    for other in [
        Revocation::of_token("J", END),
        Revocation::of_token("pump-1", END),
        Revocation::of_key("j", END),
        Revocation::of_device("pump-10", before, END),
        Revocation::of_device("pumps", before, END),
        Revocation::of_group("pump-1", before, END),
    ] {
        assert!(!found(other.clone(), 1), "{other:?}");
    }
}

#[test]
fn a_device_is_told_from_when_on_its_tokens_are_good() {
    let at = UnixSeconds;
    let revocations: Revocations = [
        Revocation::of_device("pump-1", at(1_000), END),
        Revocation::of_group("pumps", at(1_001), END),
        Revocation::of_token("valve-1", END),
    ]
    .into_iter()
    .collect();
    for (device, group, good_from) in [
        ("pump-1", "valves", Some(at(1_000))),
        ("pump-1", "pumps", Some(at(1_001))),
        ("pump-2", "pumps", Some(at(1_001))),
        ("valve-1", "valves", None),
    ] {
        assert_eq!(revocations.good_from(device, group), good_from, "{device} {group}");
        let named = |iat| revocations.find(&TokenFacts { device, ..token(iat) }, [group]).is_some();
        assert!(good_from.is_none_or(|from| named(from.0 - 1) && !named(from.0)), "{device} {group}");
    }
    let all = Revocations::from_iter([Revocation::of_all(at(1_002), END)]);
    assert_eq!(all.good_from("pump-1", "pumps"), Some(at(1_002)));
}

#[test]
fn the_wider_of_two_counts() {
    let device = |before| Revocation::of_device("pump-1", UnixSeconds(before), UnixSeconds(before + 10));
    for order in [[500, 900], [900, 500]] {
        let revocations: Revocations = order.map(device).into_iter().collect();
        assert_eq!(revocations.iter().collect::<Vec<_>>(), [device(900)]);
    }
}

#[test]
fn what_names_only_dead_tokens_is_forgotten() {
    let before = UnixSeconds(1_000);
    let all = [
        Revocation::of_all(before, END),
        Revocation::of_key("k", END),
        Revocation::of_group("pumps", before, END),
        Revocation::of_device("pump-1", before, END),
        Revocation::of_token("j", END),
    ];
    let mut revocations = Revocations::from_iter(all.clone());
    revocations.forget_expired(END.minus(1));
    assert_eq!(revocations.iter().collect::<Vec<_>>(), all);
    revocations.forget_expired(END);
    assert!(revocations.is_empty());
}

#[test]
fn the_wire_form_is_stable_and_strict() {
    for (revocation, json) in [
        (Revocation::of_token("j", END), r#"{"jti":"j","expires_at":2000}"#),
        (Revocation::of_key("k", END), r#"{"kid":"k","expires_at":2000}"#),
        (Revocation::of_device("d", UnixSeconds(9), END), r#"{"device":"d","before":9,"expires_at":2000}"#),
        (Revocation::of_group("g", UnixSeconds(9), END), r#"{"group":"g","before":9,"expires_at":2000}"#),
        (Revocation::of_all(UnixSeconds(9), END), r#"{"all":true,"before":9,"expires_at":2000}"#),
    ] {
        assert_eq!(serde_json::to_string(&revocation).unwrap(), json);
        assert_eq!(serde_json::from_str::<Revocation>(json).unwrap(), revocation);
    }
    for (json, reason) in [
        (r#"{"expires_at":1}"#, InvalidRevocation::NoTarget),
        (r#"{"fleet":"x","expires_at":1}"#, InvalidRevocation::NoTarget),
        (r#"{"all":false,"before":1,"expires_at":1}"#, InvalidRevocation::NoTarget),
        (r#"{"jti":"j","kid":"k","expires_at":1}"#, InvalidRevocation::SeveralTargets),
        (r#"{"device":"d","expires_at":1}"#, InvalidRevocation::NoBefore),
        (r#"{"all":true,"expires_at":1}"#, InvalidRevocation::NoBefore),
        (r#"{"jti":"j","before":1,"expires_at":1}"#, InvalidRevocation::Before),
    ] {
        let error = serde_json::from_str::<Revocation>(json).unwrap_err().to_string();
        assert!(error.contains(&reason.to_string()), "{json}: {error}");
    }
    let later = r#"{"jti":"j","expires_at":2000,"reason":"lost"}"#;
    assert_eq!(serde_json::from_str::<Revocation>(later).unwrap(), Revocation::of_token("j", END));
}
